//! `[tls]`: where certificates come from; files are opened here so that `vestibule check` finds what `run` would.

use std::path::PathBuf;

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use toml::Spanned;

use super::Reader;
use crate::config::Origin;
use crate::config::file::Section;
use crate::server::tls::{CertificateFiles, Settings};

pub(super) fn settings(reader: &Reader<'_>, root: &Section<'_>, origin: &Origin) -> Settings {
    let table = root.section("tls");
    let self_signed = table.flag("self_signed").filter(|flag| *flag.get_ref());
    let certificates = table.sections("certificate");
    let acme = table.section("acme").is_present();
    let has_certificates = table.value("certificate").is_some();
    let sources =
        usize::from(self_signed.is_some()) + usize::from(has_certificates) + usize::from(acme);

    if sources == 0 {
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
        return Settings::Files(
            certificates
                .iter()
                .filter_map(|table| certificate(reader, table))
                .collect(),
        );
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

fn certificate(reader: &Reader<'_>, table: &Section<'_>) -> Option<CertificateFiles> {
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
    matching(reader, &cert, &key, chain, private);
    Some(files)
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
