//! Makes tokens by hand, from bytes: an independent maker of everything the gateway must refuse.
//!
//! Knows RFC 7515 and RFC 7519 and nothing of the gateway's own code; it is only handed the gateway's private key.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::ORIGIN;
use super::gateway::Gateway;
use super::prepared::prepared;

pub struct Forge {
    pub kid: String,
    key: Ed25519KeyPair,
}

impl Forge {
    /// With the gateway's own signing key: signatures are right, only the content can be wrong.
    pub fn insider() -> Self {
        let stored = &prepared().key;
        Forge {
            kid: stored.kid.clone(),
            key: Ed25519KeyPair::from_pkcs8(stored.pkcs8.expose()).unwrap(),
        }
    }

    /// With a key of its own under the gateway's key id.
    pub fn stranger() -> Self {
        Forge {
            kid: prepared().key.kid.clone(),
            key: Ed25519KeyPair::generate().unwrap(),
        }
    }

    pub fn public_key(&self) -> Vec<u8> {
        self.key.public_key().as_ref().to_vec()
    }

    pub fn header(&self) -> Value {
        json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": self.kid })
    }

    /// Claims as the gateway issues them.
    pub fn claims(&self, gateway: &Gateway, user: &str) -> Value {
        let now = gateway.now();
        json!({
            "iss": ORIGIN, "aud": ORIGIN, "sub": user, "sid": random(16), "gen": 0,
            "iat": now - 1, "exp": now + 240, "jti": random(16), "client_id": ORIGIN,
            "auth_time": now - 1, "amr": ["pwd"], "provider": "local",
        })
    }

    pub fn sign(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", b64(header.as_bytes()), b64(payload.as_bytes()));
        let signature = self.key.sign(signed.as_bytes());
        format!("{signed}.{}", b64(signature.as_ref()))
    }

    pub fn token(&self, header: &Value, claims: &Value) -> String {
        self.sign(&header.to_string(), &claims.to_string())
    }

    /// A token that is right in everything but, perhaps, the key.
    pub fn access_for(&self, gateway: &Gateway, user: &str) -> String {
        self.token(&self.header(), &self.claims(gateway, user))
    }
}

pub fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub fn unb64(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

pub fn random(len: usize) -> String {
    let mut bytes = vec![0; len];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    b64(&bytes)
}

/// As long as a real one: key id, session id, generation, time and MAC, all of them noise.
pub fn made_up_refresh_token() -> String {
    random(4 + 16 + 4 + 8 + 32)
}
