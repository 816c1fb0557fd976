//! Certificates and TLS configuration: rustls with aws-lc-rs, TLS 1.2+, AEAD + ECDHE only, hybrid post-quantum key
//! exchange, certificates by SNI. Must not fetch anything.

mod names;
mod self_signed;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::clock::{Clock, Timestamp};
use names::Names;

/// Where certificates come from.
#[derive(Clone, Debug)]
pub enum Settings {
    /// Made at start for these names; development only.
    SelfSigned {
        /// DNS names and IP addresses.
        names: Vec<String>,
    },
    /// From PEM files; the first is the default, others are chosen by SNI.
    Files(Vec<CertificateFiles>),
}

/// One certificate chain and its key.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// Chain, leaf first, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

/// Why certificates cannot be served; each message names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not PEM, or broken PEM.
    #[error("{path}: not a readable PEM file: {source}")]
    Pem {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: rustls_pki_types::pem::Error,
    },
    /// A certificate file without a certificate.
    #[error(
        "{path}: no certificate in this file: expected `-----BEGIN CERTIFICATE-----`, the leaf first"
    )]
    NoCertificate {
        /// Which file.
        path: PathBuf,
    },
    /// A key file without a key.
    #[error(
        "{path}: no private key in this file: expected `-----BEGIN PRIVATE KEY-----` or similar, unencrypted"
    )]
    NoKey {
        /// Which file.
        path: PathBuf,
    },
    /// The leaf cannot be parsed.
    #[error("{path}: the first certificate in this file cannot be read")]
    BadCertificate {
        /// Which file.
        path: PathBuf,
    },
    /// A key that cannot sign.
    #[error("{path}: this private key cannot be used: {source}")]
    BadKey {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// Key and leaf do not belong together.
    #[error("{key}: this key does not belong to the first certificate in {cert}")]
    KeyMismatch {
        /// The certificate file.
        cert: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// No certificate configured at all.
    #[error("no certificate is configured")]
    Nothing,
    /// The self-signed certificate could not be made.
    #[error("the self-signed certificate could not be made: {0}")]
    SelfSigned(#[from] rcgen::Error),
    /// rustls refused the configuration.
    #[error("TLS cannot be configured: {0}")]
    Rustls(#[from] rustls::Error),
}

/// A loaded TLS configuration: swapped whole on reload, taken once per connection.
#[derive(Debug)]
pub struct Config {
    /// What rustls serves with.
    pub(super) rustls: Arc<rustls::ServerConfig>,
    resolver: Arc<Resolver>,
}

impl Config {
    /// True when a request for `host` may be answered on a connection that was opened for `server_name`: both lead to
    /// the same certificate (RFC 9110 section 7.4).
    pub(super) fn covers(&self, server_name: &str, host: &str) -> bool {
        server_name == host || self.resolver.index(server_name) == self.resolver.index(host)
    }
}

/// When a certificate is valid: from and until; `None` when it does not say so readably.
pub fn validity(leaf: &CertificateDer<'_>) -> Option<(Timestamp, Timestamp)> {
    names::validity(leaf)
}

/// Whether a certificate is for this host, a name or an address without brackets.
pub fn is_for(leaf: &CertificateDer<'_>, host: &str) -> bool {
    names::is_for(leaf, host)
}

/// Loads certificates and builds the TLS configuration. A self-signed certificate is kept in `self_signed_cache_dir`
/// when given, so that an exception made in a browser survives a restart.
pub fn load(settings: &Settings, self_signed_cache_dir: Option<&Path>) -> Result<Config, TlsError> {
    load_at(settings, self_signed_cache_dir, Clock::System.now())
}

fn load_at(
    settings: &Settings,
    self_signed_cache_dir: Option<&Path>,
    now: Timestamp,
) -> Result<Config, TlsError> {
    let provider = Arc::new(provider());
    let mut resolver = Resolver {
        keys: Vec::new(),
        names: Names::default(),
    };
    match settings {
        Settings::SelfSigned { names } => {
            let (chain, key) = self_signed::load_or_make(names, self_signed_cache_dir, now)?;
            let place = Path::new("self-signed certificate");
            resolver.add(certified(chain, key, &provider, place, place)?, place)?;
        }
        Settings::Files(files) => {
            for file in files {
                let chain = read_chain(&file.cert)?;
                let key = read_key(&file.key)?;
                let leaf = certified(chain, key, &provider, &file.cert, &file.key)?;
                resolver.add(leaf, &file.cert)?;
            }
        }
    }
    if resolver.keys.is_empty() {
        return Err(TlsError::Nothing);
    }
    let resolver = Arc::new(resolver);
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&resolver) as Arc<dyn ResolvesServerCert>);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // The server's order counts: AES-128-GCM costs a fifth less per handshake than the clients' favourite.
    config.ignore_client_order = true;
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    // No 0-RTT: an early request could be replayed by anyone who recorded it.
    config.max_early_data_size = 0;
    Ok(Config {
        rustls: Arc::new(config),
        resolver,
    })
}

/// aws-lc-rs with our cipher order; key exchange groups stay at its default, X25519MLKEM768 first.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ],
        ..aws_lc_rs::default_provider()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::File {
        path: path.to_owned(),
        source,
    })
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let chain = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::Pem {
            path: path.to_owned(),
            source,
        })?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate {
            path: path.to_owned(),
        });
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = zeroize::Zeroizing::new(read(path)?);
    PrivateKeyDer::from_pem_slice(&text).map_err(|source| match source {
        rustls_pki_types::pem::Error::NoItemsFound => TlsError::NoKey {
            path: path.to_owned(),
        },
        source => TlsError::Pem {
            path: path.to_owned(),
            source,
        },
    })
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
    cert_path: &Path,
    key_path: &Path,
) -> Result<CertifiedKey, TlsError> {
    let signer = provider
        .key_provider
        .load_private_key(key)
        .map_err(|source| TlsError::BadKey {
            path: key_path.to_owned(),
            source,
        })?;
    let certified = CertifiedKey::new(chain, signer);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(certified)
        }
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err(TlsError::KeyMismatch {
                cert: cert_path.to_owned(),
                key: key_path.to_owned(),
            })
        }
        Err(_) => Err(TlsError::BadCertificate {
            path: cert_path.to_owned(),
        }),
    }
}

/// Chooses by SNI; no name or an unknown one gets the first certificate.
#[derive(Debug)]
struct Resolver {
    keys: Vec<Arc<CertifiedKey>>,
    names: Names,
}

impl Resolver {
    fn add(&mut self, leaf: CertifiedKey, path: &Path) -> Result<(), TlsError> {
        let index = self.keys.len();
        leaf.cert
            .first()
            .and_then(|der| self.names.add(der, index))
            .ok_or_else(|| TlsError::BadCertificate {
                path: path.to_owned(),
            })?;
        self.keys.push(Arc::new(leaf));
        Ok(())
    }

    fn index(&self, name: &str) -> usize {
        self.names.find(name).unwrap_or(0)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let index = hello.server_name().map_or(0, |name| self.index(name));
        self.keys.get(index).cloned()
    }
}

#[cfg(test)]
mod tests;
