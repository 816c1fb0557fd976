//! Makes JSON Web Tokens of every algorithm from bytes, and publishes the keys: what other issuers do, well or badly.
//!
//! Knows RFC 7515, 7517 and 7518 and nothing of the gateway's code, and nothing of its libraries but the cryptography.
#![allow(dead_code, reason = "what a sign-in needs is built test by test")]

use std::sync::OnceLock;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};
use aws_lc_rs::{digest, hmac, rand};
use serde_json::{Value, json};

use super::forge::b64;

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alg {
    Rs256,
    Ps256,
    Es256,
    Es384,
    EdDsa,
}

impl Alg {
    pub const ALL: [Alg; 5] = [Alg::Rs256, Alg::Ps256, Alg::Es256, Alg::Es384, Alg::EdDsa];

    /// As in a token's `alg`.
    pub fn name(self) -> &'static str {
        match self {
            Alg::Rs256 => "RS256",
            Alg::Ps256 => "PS256",
            Alg::Es256 => "ES256",
            Alg::Es384 => "ES384",
            Alg::EdDsa => "EdDSA",
        }
    }

    fn hash(self) -> &'static digest::Algorithm {
        match self {
            Alg::Rs256 | Alg::Ps256 | Alg::Es256 => &digest::SHA256,
            Alg::Es384 => &digest::SHA384,
            Alg::EdDsa => &digest::SHA512,
        }
    }

    /// `at_hash` of an access token (OpenID Connect Core, section 3.1.3.6).
    pub fn half_hash(self, token: &str) -> String {
        let hash = digest::digest(self.hash(), token.as_bytes());
        b64(&hash.as_ref()[..hash.as_ref().len() / 2])
    }
}

/// One key pair of each kind.
pub struct Maker {
    /// Goes before the key ids.
    pub prefix: String,
    rsa: &'static RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

impl Maker {
    /// Fresh keys, whose ids are `PREFIX-RS256` and so on.
    pub fn new(prefix: &str) -> Self {
        Maker {
            prefix: prefix.to_owned(),
            rsa: rsa(0),
            p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
            ed: Ed25519KeyPair::generate().unwrap(),
        }
    }

    /// Other keys under the same ids.
    pub fn impostor(&self) -> Self {
        Maker {
            rsa: rsa(1),
            ..Maker::new(&self.prefix)
        }
    }

    pub fn kid(&self, alg: Alg) -> String {
        format!("{}-{}", self.prefix, alg.name())
    }

    /// The public key (RFC 7517, RFC 8037).
    pub fn jwk(&self, alg: Alg) -> Value {
        let mut jwk = match alg {
            Alg::Rs256 | Alg::Ps256 => {
                let public = self.rsa.public_key();
                let n = b64(public.modulus().big_endian_without_leading_zero());
                let e = b64(public.exponent().big_endian_without_leading_zero());
                json!({ "kty": "RSA", "n": n, "e": e })
            }
            Alg::Es256 => point(self.p256.public_key().as_ref(), "P-256"),
            Alg::Es384 => point(self.p384.public_key().as_ref(), "P-384"),
            Alg::EdDsa => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(self.ed.public_key().as_ref()) })
            }
        };
        jwk["kid"] = json!(self.kid(alg));
        jwk["alg"] = json!(alg.name());
        jwk["use"] = json!("sig");
        jwk
    }

    /// The public keys of these algorithms as a set.
    pub fn jwks(&self, algs: &[Alg]) -> Value {
        json!({ "keys": algs.iter().map(|alg| self.jwk(*alg)).collect::<Vec<_>>() })
    }

    /// The public key as `SubjectPublicKeyInfo`.
    pub fn spki(&self, alg: Alg) -> Vec<u8> {
        match alg {
            Alg::Rs256 | Alg::Ps256 => self.rsa.public_key().as_der().unwrap().as_ref().to_vec(),
            Alg::Es256 => self.p256.public_key().as_der().unwrap().as_ref().to_vec(),
            Alg::Es384 => self.p384.public_key().as_der().unwrap().as_ref().to_vec(),
            Alg::EdDsa => self.ed.public_key().as_der().unwrap().as_ref().to_vec(),
        }
    }

    /// [`Self::spki`] in PEM.
    pub fn pem(&self, alg: Alg) -> String {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(self.spki(alg));
        let lines: Vec<&str> = (0..text.len())
            .step_by(64)
            .map(|at| &text[at..text.len().min(at + 64)])
            .collect();
        format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            lines.join("\n")
        )
    }

    /// The signature over any bytes.
    pub fn signature(&self, alg: Alg, over: &[u8]) -> Vec<u8> {
        let random = rand::SystemRandom::new();
        match alg {
            Alg::Rs256 | Alg::Ps256 => {
                let padding: &dyn aws_lc_rs::signature::RsaEncoding = match alg {
                    Alg::Rs256 => &RSA_PKCS1_SHA256,
                    _ => &RSA_PSS_SHA256,
                };
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                self.rsa
                    .sign(padding, &random, over, &mut signature)
                    .unwrap();
                signature
            }
            Alg::Es256 => self.p256.sign(&random, over).unwrap().as_ref().to_vec(),
            Alg::Es384 => self.p384.sign(&random, over).unwrap().as_ref().to_vec(),
            Alg::EdDsa => self.ed.sign(over).as_ref().to_vec(),
        }
    }

    /// Header and payload as they are written here, signed.
    pub fn sign(&self, alg: Alg, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", b64(header.as_bytes()), b64(payload.as_bytes()));
        let signature = self.signature(alg, signed.as_bytes());
        format!("{signed}.{}", b64(&signature))
    }

    /// A token of this type with the right header.
    pub fn token(&self, alg: Alg, typ: &str, claims: &Value) -> String {
        let header = json!({ "alg": alg.name(), "typ": typ, "kid": self.kid(alg) });
        self.sign(alg, &header.to_string(), &claims.to_string())
    }
}

/// Header and payload under a shared secret (HS256).
pub fn sign_hs256(secret: &[u8], header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", b64(header.as_bytes()), b64(payload.as_bytes()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    format!(
        "{signed}.{}",
        b64(hmac::sign(&key, signed.as_bytes()).as_ref())
    )
}

/// Header and payload without any signature.
pub fn unsigned(header: &str, payload: &str) -> String {
    format!("{}.{}.", b64(header.as_bytes()), b64(payload.as_bytes()))
}

fn point(public: &[u8], curve: &str) -> Value {
    let (x, y) = public[1..].split_at((public.len() - 1) / 2);
    json!({ "kty": "EC", "crv": curve, "x": b64(x), "y": b64(y) })
}

/// Two pairs for the whole process, since they take long to find.
fn rsa(which: usize) -> &'static RsaKeyPair {
    static PAIRS: [OnceLock<RsaKeyPair>; 2] = [const { OnceLock::new() }; 2];
    PAIRS[which].get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
}
