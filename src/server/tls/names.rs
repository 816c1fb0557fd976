//! What a certificate says of itself: the names it is for and when it is valid. Must not judge trust.

use std::collections::HashMap;

use rustls_pki_types::CertificateDer;

use crate::clock::Timestamp;

/// DNS names -> index of the certificate. The first certificate that claims a name keeps it.
#[derive(Debug, Default)]
pub(super) struct Names {
    exact: HashMap<Box<str>, usize>,
    /// Keyed by what follows `*`, with its dot.
    wildcard: HashMap<Box<str>, usize>,
}

impl Names {
    /// Adds every DNS name of `der`; `None` when the certificate cannot be parsed.
    pub(super) fn add(&mut self, der: &CertificateDer<'_>, index: usize) -> Option<()> {
        let leaf = webpki::EndEntityCert::try_from(der).ok()?;
        for name in leaf.valid_dns_names() {
            let name = name.to_ascii_lowercase();
            match name.strip_prefix('*') {
                Some(parent) => self.wildcard.entry(parent.into()).or_insert(index),
                None => self.exact.entry(name.into()).or_insert(index),
            };
        }
        Some(())
    }

    /// Exact names first, then one wildcard label.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.exact.get(name).copied().or_else(|| {
            let dot = name.find('.')?;
            self.wildcard.get(name.get(dot..)?).copied()
        })
    }
}

/// Whether a certificate is for this host, a name or an address (RFC 9525).
pub(super) fn is_for(der: &CertificateDer<'_>, host: &str) -> bool {
    let (Ok(leaf), Ok(name)) = (
        webpki::EndEntityCert::try_from(der),
        rustls_pki_types::ServerName::try_from(host),
    ) else {
        return false;
    };
    leaf.verify_is_valid_for_subject_name(&name).is_ok()
}

/// Reads `Validity` of a certificate (RFC 5280 section 4.1.2.5); `None` when it cannot be read.
pub(super) fn validity(der: &[u8]) -> Option<(Timestamp, Timestamp)> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (_, certificate, _) = element(der)?;
    let (_, mut rest, _) = element(certificate)?;
    let (tag, _, after) = element(rest)?;
    if tag == VERSION {
        rest = after;
    }
    // serialNumber, signature, issuer
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (tag, validity, _) = element(rest)?;
    if tag != SEQUENCE {
        return None;
    }
    let (tag, not_before, rest) = element(validity)?;
    let not_before = time(tag, not_before)?;
    let (tag, not_after, _) = element(rest)?;
    Some((not_before, time(tag, not_after)?))
}

/// One DER element: tag, content, what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let count = usize::from(first & 0x7f);
        if count > 4 {
            return None;
        }
        let (digits, after) = rest.split_at_checked(count)?;
        length = digits
            .iter()
            .fold(0, |length, &digit| length << 8 | usize::from(digit));
        rest = after;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `UTCTime` (two-digit year) or `GeneralizedTime`, both in the form that RFC 5280 demands.
fn time(tag: u8, text: &[u8]) -> Option<Timestamp> {
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i16 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<i8>().ok();
    let moment =
        jiff::civil::DateTime::new(year, part(0)?, part(2)?, part(4)?, part(6)?, part(8)?, 0)
            .ok()?
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()?;
    Some(Timestamp::from_secs(moment.timestamp().as_second()))
}
