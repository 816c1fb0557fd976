//! Token makers of others for tests: keys of every kind, and JWTs with whatever header and claims a test wants.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self as sig, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaKeyPair,
};
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::auth::foreign_keys::Algorithm;

/// Somebody's signing key.
pub(crate) enum Maker {
    Rsa(Box<RsaKeyPair>, Algorithm),
    Ec(Box<EcdsaKeyPair>, Algorithm),
    Ed(Ed25519KeyPair),
    Secret(Vec<u8>, Algorithm),
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Maker {
    /// A fresh key for `algorithm`; RSA with 2048 bits.
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        use Algorithm as A;
        let ec = |kind: &'static EcdsaSigningAlgorithm| {
            Maker::Ec(Box::new(EcdsaKeyPair::generate(kind).unwrap()), algorithm)
        };
        match algorithm {
            A::RS256 | A::RS384 | A::RS512 | A::PS256 | A::PS384 | A::PS512 => Maker::Rsa(
                Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
                algorithm,
            ),
            A::ES256 => ec(&sig::ECDSA_P256_SHA256_FIXED_SIGNING),
            A::ES384 => ec(&sig::ECDSA_P384_SHA384_FIXED_SIGNING),
            A::ES512 => ec(&sig::ECDSA_P521_SHA512_FIXED_SIGNING),
            A::EdDSA => Maker::Ed(Ed25519KeyPair::generate().unwrap()),
            A::HS256 | A::HS384 | A::HS512 => {
                let mut secret = vec![0; 64];
                aws_lc_rs::rand::fill(&mut secret).unwrap();
                Maker::Secret(secret, algorithm)
            }
        }
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        match self {
            Maker::Rsa(_, algorithm) | Maker::Ec(_, algorithm) | Maker::Secret(_, algorithm) => {
                *algorithm
            }
            Maker::Ed(_) => Algorithm::EdDSA,
        }
    }

    /// The public key as a JWK with the members of `more` (`"kid":"a"`), which may be empty.
    pub(crate) fn jwk(&self, more: &str) -> String {
        let more = match more {
            "" => String::new(),
            more => format!(",{more}"),
        };
        match self {
            Maker::Rsa(pair, _) => {
                let (n, e) = rsa_numbers(pair.public_key().as_ref());
                format!(r#"{{"kty":"RSA","n":"{}","e":"{}"{more}}}"#, b64(n), b64(e))
            }
            Maker::Ec(pair, algorithm) => {
                let curve = match algorithm {
                    Algorithm::ES384 => "P-384",
                    Algorithm::ES512 => "P-521",
                    _ => "P-256",
                };
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                format!(
                    r#"{{"kty":"EC","crv":"{curve}","x":"{}","y":"{}"{more}}}"#,
                    b64(x),
                    b64(y)
                )
            }
            Maker::Ed(pair) => {
                let x = b64(pair.public_key());
                format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"{more}}}"#)
            }
            Maker::Secret(secret, _) => {
                format!(r#"{{"kty":"oct","k":"{}"{more}}}"#, b64(secret))
            }
        }
    }

    /// The public key in SubjectPublicKeyInfo, DER.
    pub(crate) fn spki(&self) -> Vec<u8> {
        let der = match self {
            Maker::Rsa(pair, _) => pair.public_key().as_der(),
            Maker::Ec(pair, _) => pair.public_key().as_der(),
            Maker::Ed(pair) => pair.public_key().as_der(),
            Maker::Secret(..) => panic!("a secret has no public key"),
        };
        der.unwrap().as_ref().to_vec()
    }

    /// The public key in PEM.
    pub(crate) fn pem(&self) -> String {
        let text = STANDARD.encode(self.spki());
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    }

    /// Signs any bytes.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Maker::Rsa(pair, algorithm) => {
                let padding: &'static dyn sig::RsaEncoding = match algorithm {
                    Algorithm::RS256 => &sig::RSA_PKCS1_SHA256,
                    Algorithm::RS384 => &sig::RSA_PKCS1_SHA384,
                    Algorithm::RS512 => &sig::RSA_PKCS1_SHA512,
                    Algorithm::PS256 => &sig::RSA_PSS_SHA256,
                    Algorithm::PS384 => &sig::RSA_PSS_SHA384,
                    _ => &sig::RSA_PSS_SHA512,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signature)
                    .unwrap();
                signature
            }
            Maker::Ec(pair, _) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Maker::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Maker::Secret(secret, algorithm) => {
                let hash = match algorithm {
                    Algorithm::HS384 => hmac::HMAC_SHA384,
                    Algorithm::HS512 => hmac::HMAC_SHA512,
                    _ => hmac::HMAC_SHA256,
                };
                let key = hmac::Key::new(hash, secret);
                hmac::sign(&key, message).as_ref().to_vec()
            }
        }
    }

    /// A JWT with exactly this header and these claims.
    pub(crate) fn raw(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", b64(header), b64(claims));
        let signature = b64(self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// A JWT with the plainest header that names the key.
    pub(crate) fn jwt(&self, kid: &str, claims: &str) -> String {
        let alg = self.algorithm();
        self.raw(
            &format!(r#"{{"alg":"{alg}","kid":"{kid}","typ":"JWT"}}"#),
            claims,
        )
    }
}

/// A JWK Set of these keys.
pub(crate) fn jwks(keys: &[String]) -> Vec<u8> {
    format!(r#"{{"keys":[{}]}}"#, keys.join(",")).into_bytes()
}

/// Half of a SHA-256, as in `at_hash`.
#[allow(dead_code, reason = "for the tests of sign-in")]
pub(crate) fn half_hash(text: &str) -> String {
    b64(&digest::digest(&digest::SHA256, text.as_bytes()).as_ref()[..16])
}

/// Modulus and exponent of a PKCS#1 RSAPublicKey: a SEQUENCE of two INTEGERs.
fn rsa_numbers(der: &[u8]) -> (Vec<u8>, Vec<u8>) {
    fn read(tag: u8, der: &[u8]) -> (&[u8], &[u8]) {
        assert_eq!(der[0], tag);
        let (length, start) = match der[1] {
            short @ ..0x80 => (usize::from(short), 2),
            long => {
                let bytes = usize::from(long & 0x7f);
                let length = der[2..2 + bytes]
                    .iter()
                    .fold(0, |sum, &byte| sum << 8 | usize::from(byte));
                (length, 2 + bytes)
            }
        };
        (&der[start..start + length], &der[start + length..])
    }
    let (sequence, _) = read(0x30, der);
    let (n, rest) = read(0x02, sequence);
    let (e, _) = read(0x02, rest);
    let trim = |number: &[u8]| number.iter().copied().skip_while(|&b| b == 0).collect();
    (trim(n), trim(e))
}
