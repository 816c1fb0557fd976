//! Requests to a provider's token endpoint, and how the gateway proves there which client it is (RFC 6749 section 2.3.1,
//! OpenID Connect Core section 9, RFC 7523). Must not send anything.

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method, Request};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};

use super::settings::ClientAuth;
use crate::clock::Timestamp;
use crate::units::Secret;

/// How this gateway calls itself; some services answer nobody without a name.
pub const AGENT: &str = concat!("vestibule/", env!("CARGO_PKG_VERSION"));
/// How long a client assertion may be used, in seconds.
const ASSERTION_LIFE: i64 = 60;

/// A private key that proves to be the client (`private_key_jwt`).
#[derive(Clone)]
pub struct ClientKey {
    key: EncodingKey,
    algorithm: Algorithm,
    kid: Option<String>,
}

/// The PEM text holds no key that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it holds no private key that can sign: RSA of 2048 bits or more, P-256, P-384 or Ed25519, in PKCS #8 PEM"
)]
pub struct UnusableKey;

/// A request could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The client assertion could not be signed.
    #[error("the client assertion cannot be signed")]
    Sign,
    /// An address or a token that no header or URL can hold.
    #[error("the request cannot be written")]
    Malformed,
}

impl ClientKey {
    /// Reads a PEM text; what it can sign is tried out.
    pub fn from_pem(pem: &Secret, kid: Option<&str>) -> Result<Self, UnusableKey> {
        let pem = pem.expose();
        let tries = [
            (Algorithm::ES256, EncodingKey::from_ec_pem(pem)),
            (Algorithm::ES384, EncodingKey::from_ec_pem(pem)),
            (Algorithm::EdDSA, EncodingKey::from_ed_pem(pem)),
            (Algorithm::RS256, EncodingKey::from_rsa_pem(pem)),
        ];
        for (algorithm, key) in tries {
            let Ok(key) = key else { continue };
            let signed = jsonwebtoken::crypto::sign(b"a trial", &key, algorithm);
            let Ok(signed) = signed else { continue };
            // A signature of RSA is as long as its modulus: 2048 bits are 256 bytes (RFC 8725 section 3.5).
            let long_enough = algorithm != Algorithm::RS256
                || URL_SAFE_NO_PAD
                    .decode(signed)
                    .is_ok_and(|bytes| bytes.len() >= 256);
            if long_enough {
                return Ok(ClientKey {
                    key,
                    algorithm,
                    kid: kid.map(str::to_owned),
                });
            }
        }
        Err(UnusableKey)
    }

    /// A client assertion (RFC 7523 section 3). `audience` is the provider's issuer: with anything that the provider itself
    /// names, a dishonest one could have an assertion made for an honest one.
    fn assertion(
        &self,
        client_id: &str,
        audience: &str,
        now: Timestamp,
    ) -> Result<String, RequestError> {
        #[derive(Serialize)]
        struct Claims<'a> {
            iss: &'a str,
            sub: &'a str,
            aud: &'a str,
            jti: String,
            iat: i64,
            exp: i64,
        }
        let mut jti = [0; 16];
        rand::fill(&mut jti).map_err(|_| RequestError::Sign)?;
        let mut header = Header::new(self.algorithm);
        header.kid.clone_from(&self.kid);
        let claims = Claims {
            iss: client_id,
            sub: client_id,
            aud: audience,
            jti: URL_SAFE_NO_PAD.encode(jti),
            iat: now.as_secs(),
            exp: now.as_secs().saturating_add(ASSERTION_LIFE),
        };
        jsonwebtoken::encode(&header, &claims, &self.key).map_err(|_| RequestError::Sign)
    }
}

/// Who asks a token endpoint.
#[derive(Clone, Copy)]
pub struct Client<'a> {
    /// `client_id`.
    pub id: &'a str,
    /// How it proves so.
    pub auth: &'a ClientAuth,
    /// `aud` of a client assertion.
    pub audience: &'a str,
}

/// A request to a token endpoint with these parameters.
pub fn token_request(
    endpoint: &Url,
    client: Client<'_>,
    parameters: &[(&str, &str)],
    now: Timestamp,
) -> Result<Request<Bytes>, RequestError> {
    let mut form = Serializer::new(String::new());
    form.extend_pairs(parameters);
    let mut basic = None;
    match client.auth {
        ClientAuth::SecretBasic(secret) => {
            // Each half is form-encoded before (RFC 6749 section 2.3.1), which many forget.
            let half = |bytes: &[u8]| byte_serialize(bytes).collect::<String>();
            let pair = format!("{}:{}", half(client.id.as_bytes()), half(secret.expose()));
            basic = Some(format!("Basic {}", STANDARD.encode(pair)));
        }
        ClientAuth::SecretPost(secret) => {
            let secret =
                std::str::from_utf8(secret.expose()).map_err(|_| RequestError::Malformed)?;
            form.append_pair("client_id", client.id)
                .append_pair("client_secret", secret);
        }
        ClientAuth::PrivateKeyJwt(key) => {
            let assertion = key.assertion(client.id, client.audience, now)?;
            form.append_pair("client_id", client.id)
                .append_pair(
                    "client_assertion_type",
                    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                )
                .append_pair("client_assertion", &assertion);
        }
        ClientAuth::None => {
            form.append_pair("client_id", client.id);
        }
    }
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(endpoint.as_str())
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, AGENT);
    if let Some(basic) = basic {
        request = request.header(AUTHORIZATION, sensitive(&basic)?);
    }
    request
        .body(Bytes::from(form.finish()))
        .map_err(|_| RequestError::Malformed)
}

/// A request for what an access token gives a right to see (RFC 6750 section 2.1).
pub fn bearer_request(
    endpoint: &Url,
    access_token: &Secret,
) -> Result<Request<Bytes>, RequestError> {
    let token = std::str::from_utf8(access_token.expose()).map_err(|_| RequestError::Malformed)?;
    Request::builder()
        .method(Method::GET)
        .uri(endpoint.as_str())
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, AGENT)
        .header(AUTHORIZATION, sensitive(&format!("Bearer {token}"))?)
        .body(Bytes::new())
        .map_err(|_| RequestError::Malformed)
}

fn sensitive(text: &str) -> Result<HeaderValue, RequestError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| RequestError::Malformed)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    pub(in crate::login::oidc) fn pem(algorithm: &'static rcgen::SignatureAlgorithm) -> Secret {
        let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
        Secret::new(pair.serialize_pem().into_bytes())
    }

    fn asked(auth: &ClientAuth, id: &str) -> (Option<String>, BTreeMap<String, String>) {
        let request = token_request(
            &Url::parse("https://id.example.com/token").unwrap(),
            Client {
                id,
                auth,
                audience: "https://id.example.com",
            },
            &[("grant_type", "authorization_code"), ("code", "a&b")],
            NOW,
        )
        .unwrap();
        assert_eq!(request.method(), Method::POST);
        assert_eq!(request.uri(), "https://id.example.com/token");
        assert_eq!(request.headers()[ACCEPT], "application/json");
        let header = request.headers().get(AUTHORIZATION).map(|value| {
            assert!(value.is_sensitive());
            value.to_str().unwrap().to_owned()
        });
        let form: BTreeMap<String, String> = url::form_urlencoded::parse(request.body())
            .into_owned()
            .collect();
        assert_eq!(form["code"], "a&b");
        (header, form)
    }

    #[test]
    fn a_secret_travels_where_it_was_configured_to() {
        let secret = || Secret::new("p:ä+ %".as_bytes());
        let (header, form) = asked(&ClientAuth::SecretBasic(secret()), "a:b c");
        let header = header.unwrap();
        let pair = STANDARD.decode(header.strip_prefix("Basic ").unwrap());
        assert_eq!(pair.unwrap(), b"a%3Ab+c:p%3A%C3%A4%2B+%25");
        assert!(!form.contains_key("client_secret") && !form.contains_key("client_id"));

        let (header, form) = asked(&ClientAuth::SecretPost(secret()), "a:b c");
        assert_eq!(header, None);
        assert_eq!(form["client_secret"], "p:ä+ %");
        assert_eq!(form["client_id"], "a:b c");

        let (header, form) = asked(&ClientAuth::None, "public");
        assert_eq!((header, form["client_id"].as_str()), (None, "public"));
        assert_eq!(form.len(), 3);
    }

    #[test]
    fn an_assertion_is_for_this_issuer_short_lived_and_never_the_same() {
        let pem = pem(&rcgen::PKCS_ECDSA_P256_SHA256);
        let key = ClientKey::from_pem(&pem, Some("k1")).unwrap();
        let auth = ClientAuth::PrivateKeyJwt(key);
        let (header, form) = asked(&auth, "vestibule");
        assert_eq!(header, None);
        assert_eq!(
            form["client_assertion_type"],
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        );
        let parts: Vec<serde_json::Value> = form["client_assertion"]
            .split('.')
            .take(2)
            .map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
            .collect();
        assert_eq!(parts[0]["alg"], "ES256");
        assert_eq!(parts[0]["kid"], "k1");
        assert_eq!(parts[1]["iss"], "vestibule");
        assert_eq!(parts[1]["sub"], "vestibule");
        assert_eq!(parts[1]["aud"], "https://id.example.com");
        assert_eq!(parts[1]["iat"], 1_800_000_000);
        assert_eq!(parts[1]["exp"], 1_800_000_060);
        let (_, again) = asked(&auth, "vestibule");
        assert_ne!(form["client_assertion"], again["client_assertion"]);
    }

    #[test]
    fn keys_are_tried_out_and_short_ones_refused() {
        for algorithm in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ED25519,
        ] {
            assert!(ClientKey::from_pem(&pem(algorithm), None).is_ok());
        }
        for bad in [
            "",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            let pem = Secret::new(bad.as_bytes());
            assert!(ClientKey::from_pem(&pem, None).is_err());
        }
    }

    #[test]
    fn a_token_that_is_no_header_text_is_not_sent() {
        let endpoint = Url::parse("https://id.example.com/me").unwrap();
        let request = bearer_request(&endpoint, &Secret::new(*b"t0ken")).unwrap();
        assert_eq!(request.headers()[AUTHORIZATION], "Bearer t0ken");
        for bad in [&b"a\r\nb"[..], &[0xff]] {
            assert!(bearer_request(&endpoint, &Secret::new(bad)).is_err());
        }
    }
}
