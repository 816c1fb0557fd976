//! Certificate authorities of the deployer's own: a PEM file that must hold at least one certificate.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::Reader;
use super::secrets::public_file;
use crate::config::file::Section;

/// Those that a key names, to be believed by the one who calls `whose` address; none where the key is absent or wrong.
pub(super) fn certificates(
    reader: &Reader<'_>,
    table: &Section<'_>,
    key: &str,
    whose: &str,
) -> Vec<CertificateDer<'static>> {
    read(reader, table, key, whose).map_or(Vec::new(), |(_, certificates)| certificates)
}

/// The same as the text of the file, for libraries that parse it themselves.
pub(super) fn pem(
    reader: &Reader<'_>,
    table: &Section<'_>,
    key: &str,
    whose: &str,
) -> Option<Vec<u8>> {
    read(reader, table, key, whose).map(|(pem, _)| pem)
}

fn read(
    reader: &Reader<'_>,
    table: &Section<'_>,
    key: &str,
    whose: &str,
) -> Option<(Vec<u8>, Vec<CertificateDer<'static>>)> {
    let text = table.text(key)?;
    let hint = format!("name the PEM file of the authority that signed the {whose}'s certificate");
    let pem = public_file(reader, text.span(), text.get_ref(), &hint)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(certificates) if !certificates.is_empty() => Some((pem, certificates)),
        _ => {
            reader.problems.error(
                text.span(),
                "there is no certificate in it",
                "a PEM file has a line -----BEGIN CERTIFICATE-----",
            );
            None
        }
    }
}
