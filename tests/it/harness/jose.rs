//! Tokens that `jose` makes, the library from npm that the real provider signs with: good ones, and ones that are spoilt in
//! one thing. Whatever checks tokens is so never checked by our own cryptography and our own reading of RFC 7515 alone.
//!
//! Must not know what a gateway says to them.

use serde_json::{Value, json};

use super::provider::Provider;

/// A secret for HS256 and HS512.
pub const SECRET: &str = "a secret that jose and the gateway share: sixty-four bytes or more of it";
const OTHER_SECRET: &str = "a secret that nobody gave to the gateway, and as long as it has to be";

/// Every algorithm that is tried.
pub const ALGORITHMS: [&str; 6] = ["RS256", "PS256", "ES256", "ES384", "EdDSA", "HS256"];

/// By what a token is signed.
#[derive(Clone, Copy, Debug)]
pub enum By<'a> {
    /// The provider's key of the header's `alg`.
    Own,
    /// That key, under the id of the provider's key of this algorithm.
    Named(&'a str),
    /// A key that nobody published, under the id of the one that should have signed.
    Stranger,
    /// These bytes.
    Secret(&'a str),
}

/// The one thing that is wrong with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoilt {
    /// Signed by somebody else.
    Key,
    /// Signed by its issuer, by an algorithm that is not the key's.
    Algorithm,
    Expired,
    NoExpiry,
    NotYet,
    Audience,
    Issuer,
    /// A critical extension that nobody understands.
    Critical,
    /// It says that it is a logout token.
    Kind,
}

impl Spoilt {
    pub const ALL: [Spoilt; 9] = [
        Spoilt::Key,
        Spoilt::Algorithm,
        Spoilt::Expired,
        Spoilt::NoExpiry,
        Spoilt::NotYet,
        Spoilt::Audience,
        Spoilt::Issuer,
        Spoilt::Critical,
        Spoilt::Kind,
    ];
}

/// The algorithm of another key of the provider, or of none.
fn other(algorithm: &str) -> &'static str {
    match algorithm {
        "RS256" => "PS256",
        "PS256" => "RS256",
        "ES256" => "ES384",
        "HS256" => "HS512",
        _ => "ES256",
    }
}

impl Provider {
    /// A token with this header and these claims; `kid` is put in where a key signs.
    pub async fn jose(&self, by: By<'_>, header: Value, claims: Value) -> String {
        let mut order = json!({ "header": header, "claims": claims });
        match by {
            By::Own => {}
            By::Named(algorithm) => order["named"] = json!(algorithm),
            By::Stranger => order["stranger"] = json!(true),
            By::Secret(secret) => order["secret"] = json!(secret),
        }
        let token = self.order("sign", order).await;
        token.as_str().expect("a token").to_owned()
    }

    /// A good token with these claims: by the provider's key, for HS256 by [`SECRET`].
    pub async fn good(&self, algorithm: &str, claims: &Value) -> String {
        let by = match algorithm {
            "HS256" => By::Secret(SECRET),
            _ => By::Own,
        };
        let header = json!({ "alg": algorithm, "typ": "JWT" });
        self.jose(by, header, claims.clone()).await
    }

    /// The same, spoilt in one thing. The claims need `iat` and `exp`.
    pub async fn spoilt(&self, algorithm: &str, how: Spoilt, claims: &Value) -> String {
        let mut header = json!({ "alg": algorithm, "typ": "JWT" });
        let mut claims = claims.clone();
        let now = claims["iat"].as_i64().expect("iat");
        let secret = algorithm == "HS256";
        let mut by = match secret {
            true => By::Secret(SECRET),
            false => By::Own,
        };
        match how {
            Spoilt::Key if secret => by = By::Secret(OTHER_SECRET),
            Spoilt::Key => by = By::Stranger,
            Spoilt::Algorithm => {
                header["alg"] = json!(other(algorithm));
                if !secret {
                    by = By::Named(algorithm);
                }
            }
            Spoilt::Expired => {
                claims["iat"] = json!(now - 600);
                claims["exp"] = json!(now - 300);
            }
            Spoilt::NoExpiry => {
                claims.as_object_mut().unwrap().remove("exp");
            }
            Spoilt::NotYet => claims["nbf"] = json!(now + 200),
            Spoilt::Audience => claims["aud"] = json!("https://other.test"),
            Spoilt::Issuer => {
                claims["iss"] = json!(format!("{}/", claims["iss"].as_str().expect("iss")));
            }
            Spoilt::Critical => {
                header["crit"] = json!(["bork"]);
                header["bork"] = json!("x");
            }
            Spoilt::Kind => header["typ"] = json!("logout+jwt"),
        }
        self.jose(by, header, claims).await
    }
}
