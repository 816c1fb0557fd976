//! The development certificate: ECDSA P-256, made on this machine, kept so that a browser's exception survives a
//! restart. Must never be used when certificates are configured.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;
use super::names::{Names, validity};
use crate::clock::Timestamp;

/// Names that are always in it.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Browsers refuse certificates that live longer than 398 days.
const LIFE: Duration = Duration::from_secs(397 * 86_400);
const FILE: &str = "self-signed.pem";

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The kept certificate when it still serves, else a new one.
pub(super) fn load_or_make(
    names: &[String],
    cache_dir: Option<&Path>,
    now: Timestamp,
) -> Result<Pair, TlsError> {
    let mut wanted: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
    for local in LOCAL {
        if !wanted.iter().any(|name| name == local) {
            wanted.push(local.to_owned());
        }
    }
    let path = cache_dir.map(|dir| dir.join(FILE));
    if let Some(kept) = path.as_deref().and_then(|path| kept(path, &wanted, now)) {
        return Ok(kept);
    }
    let pem = zeroize::Zeroizing::new(make(wanted, now)?);
    if let Some(path) = &path {
        keep(path, &pem).map_err(|source| TlsError::File {
            path: path.clone(),
            source,
        })?;
    }
    parse(&pem).ok_or(TlsError::SelfSigned(rcgen::Error::CouldNotParseCertificate))
}

fn make(names: Vec<String>, now: Timestamp) -> Result<String, rcgen::Error> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = rcgen::CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "Vestibule, self-signed");
    let (year, month, day) = date(now.minus(Duration::from_secs(86_400)));
    params.not_before = rcgen::date_time_ymd(year, month, day);
    let (year, month, day) = date(now.plus(LIFE));
    params.not_after = rcgen::date_time_ymd(year, month, day);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key)?;
    Ok(certificate.pem() + &key.serialize_pem())
}

/// Year, month and day, as `rcgen::date_time_ymd` wants them.
fn date(moment: Timestamp) -> (i32, u8, u8) {
    let date = jiff::Timestamp::from_second(moment.as_secs())
        .unwrap_or_default()
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date();
    (
        i32::from(date.year()),
        date.month().unsigned_abs(),
        date.day().unsigned_abs(),
    )
}

fn kept(path: &Path, wanted: &[String], now: Timestamp) -> Option<Pair> {
    let pem = zeroize::Zeroizing::new(std::fs::read_to_string(path).ok()?);
    let pair = parse(&pem)?;
    let leaf = pair.0.first()?;
    let (_, not_after) = validity(leaf)?;
    if now.plus(Duration::from_secs(86_400)) > not_after {
        return None;
    }
    let mut names = Names::default();
    names.add(leaf, 0)?;
    let covered = |name: &String| {
        // IP addresses are not DNS names: those of this machine are in every certificate made here.
        LOCAL.contains(&name.as_str())
            || names.find(name).is_some()
            || name
                .strip_prefix('*')
                .is_some_and(|parent| names.find(&format!("x{parent}")).is_some())
    };
    wanted.iter().all(covered).then_some(pair)
}

fn parse(pem: &str) -> Option<Pair> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .ok()?;
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()?;
    (!chain.is_empty()).then_some((chain, key))
}

/// Written beside and renamed, so that a crash never leaves half a key.
fn keep(path: &Path, pem: &str) -> std::io::Result<()> {
    let fresh = path.with_extension("pem.new");
    let _ = std::fs::remove_file(&fresh);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)
}
