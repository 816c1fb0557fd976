//! `[tls]`: where certificates come from; files are opened here so that `vestibule check` finds what `run` would.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use toml::Spanned;

use super::{Purpose, Reader, files, names};
use crate::clock::{Clock, Timestamp};
use crate::config::Origin;
use crate::config::file::Section;
use crate::server::tls::{self, CertificateFiles, Settings};

pub(super) fn settings(reader: &Reader<'_>, root: &Section<'_>, origin: &Origin) -> Settings {
    let table = root.section("tls");
    let self_signed = table.flag("self_signed").filter(|flag| *flag.get_ref());
    let certificates = table.sections("certificate");
    let acme = table.section("acme").is_present();
    let has_certificates = table.value("certificate").is_some();
    let sources =
        usize::from(self_signed.is_some()) + usize::from(has_certificates) + usize::from(acme);

    let flag_is_none = table.value("self_signed").is_some() && table.flag("self_signed").is_none();
    let explained = table.is_one_explained(&["self_signed", "certificate", "acme"]);
    if sources == 0 && !flag_is_none && !explained {
        let span = if table.is_present() {
            table.span()
        } else {
            0..0
        };
        reader.problems.error(
            span,
            "there is no certificate",
            "add [[tls.certificate]] with cert and key, or [tls] self_signed = true for development",
        );
    }
    if let Some(flag) = &self_signed {
        if sources > 1 {
            let other = certificates.first().map_or(table.span(), Section::span);
            reader.problems.clash(
                table.key_span("self_signed").unwrap_or(flag.span()),
                "[tls] has two sources of certificates",
                "keep either self_signed or [[tls.certificate]]",
                other,
                "the other one",
            );
        } else {
            reader.problems.warning(
                table.key_span("self_signed").unwrap_or(flag.span()),
                "the certificate is self-signed: for development only",
                "browsers will warn; use [[tls.certificate]] for real users",
            );
        }
    } else if sources > 1 {
        reader.problems.error(
            table.section("acme").span(),
            "[tls] has two sources of certificates",
            "keep either self_signed or [[tls.certificate]]",
        );
    }
    if has_certificates {
        if reader.purpose == Purpose::Operate {
            return Settings::Files(Vec::new());
        }
        let usable: Vec<Usable> = certificates
            .iter()
            .filter_map(|table| certificate(reader, table))
            .collect();
        if usable.len() == certificates.len() {
            every_host_is_covered(reader, root, &usable);
        }
        return Settings::Files(usable.into_iter().map(|usable| usable.files).collect());
    }
    Settings::SelfSigned {
        names: self_signed_names(origin),
    }
}

/// The origin's host, and what a developer types on the same machine.
fn self_signed_names(origin: &Origin) -> Vec<String> {
    let mut names = vec![origin.host.trim_matches(['[', ']']).to_owned()];
    for name in ["localhost", "127.0.0.1", "::1"] {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// A certificate that can be served.
struct Usable {
    files: CertificateFiles,
    leaf: CertificateDer<'static>,
}

fn certificate(reader: &Reader<'_>, table: &Section<'_>) -> Option<Usable> {
    let cert = reader.required(table, "cert");
    let key = reader.required(table, "key");
    let (cert, key) = (cert?, key?);
    let chain = readable(reader, &cert, "certificate", |path| {
        CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>()
    });
    let private = readable(reader, &key, "private key", |path| {
        PrivateKeyDer::from_pem_file(path)
    });
    let files = CertificateFiles {
        cert: reader.path(cert.get_ref()),
        key: reader.path(key.get_ref()),
    };
    let (chain, private) = (chain?, private?);
    if chain.is_empty() {
        reader.problems.error(
            cert.span(),
            format!("{} has no certificate", files.cert.display()),
            "it is the PEM file with -----BEGIN CERTIFICATE-----, the leaf first",
        );
        return None;
    }
    if !files::kept_from_others(reader, key.span(), &files.key) {
        return None;
    }
    let leaf = chain.first()?.clone();
    matching(reader, &cert, &key, chain, private);
    in_time(reader, &cert, &files, &leaf);
    Some(Usable { files, leaf })
}

/// How long before its end a certificate is warned about: time enough to renew it by hand.
const SOON: Duration = Duration::from_secs(14 * 86_400);

fn in_time(
    reader: &Reader<'_>,
    cert: &Spanned<&str>,
    files: &CertificateFiles,
    leaf: &CertificateDer<'_>,
) {
    let Some((not_before, not_after)) = tls::validity(leaf) else {
        return;
    };
    let now = Clock::System.now();
    let shown = files.cert.display();
    let (message, hint) = if now > not_after {
        (
            format!("the certificate {shown} expired on {}", day(not_after)),
            "browsers refuse it: renew it, then restart the gateway",
        )
    } else if now < not_before {
        (
            format!(
                "the certificate {shown} is not valid before {}",
                day(not_before)
            ),
            "browsers refuse it until then: look at this machine's clock, or use another certificate",
        )
    } else if now.plus(SOON) > not_after {
        (
            format!("the certificate {shown} expires on {}", day(not_after)),
            "renew it, then restart the gateway",
        )
    } else {
        return;
    };
    reader.problems.warning(cert.span(), message, hint);
}

/// A day in UTC.
fn day(at: Timestamp) -> String {
    jiff::Timestamp::from_second(at.as_secs()).map_or_else(
        |_| format!("{} s", at.as_secs()),
        |at| at.strftime("%Y-%m-%d").to_string(),
    )
}

/// The origin and every route's host are in some certificate, or browsers refuse what they get.
fn every_host_is_covered(reader: &Reader<'_>, root: &Section<'_>, usable: &[Usable]) {
    let mut hosts: Vec<(String, Range<usize>)> = Vec::new();
    if let Some(text) = root.section("server").text("origin")
        && let Ok(origin) = names::origin(text.get_ref())
    {
        hosts.push((origin.host, text.span()));
    }
    for route in root.sections("route") {
        if let Some(text) = route.text("host")
            && let Ok(host) = names::host(text.get_ref())
            && !hosts.iter().any(|(known, _)| *known == host)
        {
            hosts.push((host, text.span()));
        }
    }
    for (host, span) in hosts {
        let covered = usable
            .iter()
            .any(|usable| tls::is_for(&usable.leaf, host.trim_matches(['[', ']'])));
        if !covered {
            let files: Vec<_> = usable
                .iter()
                .map(|usable| usable.files.cert.display().to_string())
                .collect();
            reader.problems.warning(
                span,
                format!("no certificate is for {host}"),
                &format!(
                    "browsers refuse what they get for it: is another host meant, or another certificate than {}?",
                    files.join(", ")
                ),
            );
        }
    }
}

fn readable<T>(
    reader: &Reader<'_>,
    text: &Spanned<&str>,
    what: &str,
    read: impl FnOnce(&PathBuf) -> Result<T, pem::Error>,
) -> Option<T> {
    let path = reader.path(text.get_ref());
    let error = match read(&path) {
        Ok(read) => return Some(read),
        Err(error) => error,
    };
    let shown = path.display();
    if has_passphrase(&path) {
        reader.problems.error(
            text.span(),
            format!("the {what} {shown} has a passphrase"),
            &format!(
                "there is nobody to ask for it: write the key without one, `umask 077; openssl pkey -in {shown} -out NEW`, and name that file"
            ),
        );
        return None;
    }
    match error {
        pem::Error::Io(error) => reader.problems.error(
            text.span(),
            format!("the {what} {shown} cannot be read: {error}"),
            "relative paths start at the folder of this file; the user who runs vestibule must be able to read it",
        ),
        pem::Error::NoItemsFound => reader.problems.error(
            text.span(),
            format!("{shown} has no {what}"),
            &format!("it must be a PEM file with a {what}; are cert and key swapped?"),
        ),
        error => reader.problems.error(
            text.span(),
            format!("{shown} is not PEM: {error}"),
            &format!("it must be a PEM file with a {what}"),
        ),
    }
    None
}

/// Whether a file holds an encrypted private key, in the form of PKCS #8 or in the older one (RFC 1421 section 4.6.1.1).
fn has_passphrase(path: &Path) -> bool {
    use std::io::Read as _;
    let mut head = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(64 << 10).read_to_end(&mut head));
    let text = zeroize::Zeroizing::new(String::from_utf8_lossy(&head).into_owned());
    zeroize::Zeroize::zeroize(&mut head);
    read.is_ok()
        && text.lines().any(|line| {
            line.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----")
                || line.starts_with("Proc-Type: 4,ENCRYPTED")
        })
}

/// Whether the key belongs to the first certificate of the chain.
fn matching(
    reader: &Reader<'_>,
    cert: &Spanned<&str>,
    key: &Spanned<&str>,
    chain: Vec<CertificateDer<'static>>,
    private: PrivateKeyDer<'static>,
) {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let Ok(signing) = provider.key_provider.load_private_key(private) else {
        reader.problems.error(
            key.span(),
            "this private key cannot be used",
            "ECDSA (P-256, P-384), Ed25519 or RSA of 2048 bits and more, unencrypted PEM",
        );
        return;
    };
    match rustls::sign::CertifiedKey::new(chain, signing).keys_match() {
        Ok(()) => {}
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            reader.problems.clash(
                key.span(),
                "this private key does not belong to the certificate",
                "the certificate file begins with the server's own certificate, issued for this key",
                cert.span(),
                "the certificate",
            );
        }
        Err(rustls::Error::InconsistentKeys(_)) => {}
        Err(error) => reader.problems.error(
            cert.span(),
            format!("this certificate cannot be used: {error}"),
            "it is the PEM file with -----BEGIN CERTIFICATE-----, the leaf first",
        ),
    }
}
