//! Public keys in PEM: SubjectPublicKeyInfo, or the one inside a certificate (whose dates and issuer mean nothing here: the
//! file is trusted because it was configured).

use aws_lc_rs::signature::{self, ParsedPublicKey, RsaParameters, RsaSubjectPublicKey};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{PemObject as _, SectionKind};

use super::{Algorithm, ForeignKey, ForeignKeysError, Skipped, Verifier, rsa_size_is_good};

/// Every SubjectPublicKeyInfo of a file, in DER.
pub(super) fn public_keys(bytes: &[u8]) -> Result<Vec<Vec<u8>>, ForeignKeysError> {
    let mut found = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes) {
        match section.map_err(|_| ForeignKeysError::NotPem)? {
            (SectionKind::PublicKey, der) => found.push(der),
            (SectionKind::Certificate, der) => {
                let der = CertificateDer::from(der);
                let certificate =
                    webpki::EndEntityCert::try_from(&der).map_err(|_| ForeignKeysError::NotPem)?;
                found.push(certificate.subject_public_key_info().as_ref().to_vec());
            }
            (
                SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey,
                _,
            ) => return Err(ForeignKeysError::PrivateKey),
            _ => {}
        }
    }
    match found.is_empty() {
        true => Err(ForeignKeysError::NotPem),
        false => Ok(found),
    }
}

/// The key, pinned to the first of `allowed` that it can do. Whether it can is for the parser to say.
pub(super) fn key_of(spki: &[u8], allowed: &[Algorithm]) -> Result<ForeignKey, Skipped> {
    for &algorithm in allowed {
        if let Some(public) = read(spki, algorithm)? {
            return Ok(ForeignKey {
                kid: None,
                algorithm,
                verifier: Verifier::Public(public),
            });
        }
    }
    for &algorithm in Algorithm::ASYMMETRIC {
        if read(spki, algorithm)?.is_some() {
            return Err(Skipped::Algorithm);
        }
    }
    Err(Skipped::Type)
}

/// The key for that algorithm; `None` when it is of another type.
fn read(spki: &[u8], algorithm: Algorithm) -> Result<Option<ParsedPublicKey>, Skipped> {
    if let Some(parameters) = algorithm.rsa() {
        let Ok(key) = RsaSubjectPublicKey::from_der(spki) else {
            return Ok(None);
        };
        let bits = RsaParameters::public_modulus_len(key.as_ref()).unwrap_or(0);
        if !rsa_size_is_good(bits as usize) {
            return Err(Skipped::Size);
        }
        let parsed = ParsedPublicKey::new(parameters, spki).map_err(|_| Skipped::Malformed)?;
        return Ok(Some(parsed));
    }
    if let Some(parameters) = algorithm.ecdsa() {
        return Ok(ParsedPublicKey::new(parameters, spki).ok());
    }
    Ok(match algorithm {
        Algorithm::EdDSA => ParsedPublicKey::new(&signature::ED25519, spki).ok(),
        _ => None,
    })
}
