//! The authorization request: where the browser is sent, and with which parameters (RFC 6749 section 4.1.1, OpenID Connect
//! Core section 3.1.2.1, RFC 7636 section 4.3). Must not take anything from a browser's request but where to return to.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use url::Url;

use super::pending::Pending;
use super::provider::Beginning;
use super::settings::{Kind, Settings};

/// Parameters that the flow itself writes; the configuration cannot set them.
pub const RESERVED: [&str; 15] = [
    "response_type",
    "response_mode",
    "client_id",
    "client_secret",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "code",
    "prompt",
    "max_age",
    "request",
    "request_uri",
];

/// `code_challenge` of method S256 (RFC 7636 section 4.2): never `plain`.
pub fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()))
}

/// The whole address. `endpoint` may have a query of its own, which stays.
pub fn url(
    endpoint: &Url,
    settings: &Settings,
    pending: &Pending,
    beginning: Beginning<'_>,
) -> String {
    let mut url = endpoint.clone();
    url.set_fragment(None);
    {
        let mut query = url.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &settings.client_id)
            .append_pair("redirect_uri", beginning.redirect_uri);
        if !settings.scopes.is_empty() {
            query.append_pair("scope", &settings.scopes.join(" "));
        }
        query
            .append_pair("state", beginning.state)
            .append_pair("code_challenge", &challenge(&pending.verifier))
            .append_pair("code_challenge_method", "S256");
        let openid = matches!(settings.kind, Kind::OpenId { .. });
        if openid {
            query.append_pair("nonce", &pending.nonce);
            if let Some(max_age) = settings.max_age {
                query.append_pair("max_age", &max_age.as_secs().to_string());
            }
        }
        // Every OpenID provider knows `login` (section 3.1.2.1), few know `select_account`.
        let anew = (beginning.anew && openid).then_some("login");
        if let Some(prompt) = settings.prompt.as_deref().or(anew) {
            query.append_pair("prompt", prompt);
        }
        for (name, value) in &settings.extra {
            query.append_pair(name, value);
        }
    }
    url.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::super::settings::tests::{oauth2, openid};
    use super::*;
    use crate::clock::Timestamp;

    fn query(
        settings: &Settings,
        endpoint: &str,
        anew: bool,
    ) -> (String, BTreeMap<String, String>) {
        let pending = Pending::begin("corp", "/", Timestamp::EPOCH).unwrap();
        let endpoint = Url::parse(endpoint).unwrap();
        let beginning = Beginning {
            redirect_uri: "https://gw/.auth/callback/corp",
            state: "st",
            anew,
        };
        let url = url(&endpoint, settings, &pending, beginning);
        let parsed = Url::parse(&url).unwrap();
        let mut pairs = BTreeMap::new();
        for (name, value) in parsed.query_pairs() {
            let twice = pairs.insert(name.into_owned(), value.into_owned());
            assert!(twice.is_none(), "each parameter once");
        }
        assert_eq!(
            pairs.remove("code_challenge").unwrap(),
            challenge(&pending.verifier)
        );
        if let Some(nonce) = pairs.get_mut("nonce") {
            assert_eq!(*nonce, pending.nonce);
            nonce.clear();
        }
        assert!(!url.contains(&pending.verifier));
        (format!("{}{}", parsed.authority(), parsed.path()), pairs)
    }

    #[test]
    fn o02_the_challenge_is_that_of_rfc_7636_appendix_b() {
        assert_eq!(
            challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    #[test]
    fn the_request_has_every_parameter_once() {
        let mut settings = openid();
        settings.prompt = Some("login".to_owned());
        settings.max_age = Some(Duration::from_secs(90));
        settings.extra = vec![("acr_values".to_owned(), "a b&c".to_owned())];
        let (place, pairs) = query(
            &settings,
            "https://id.example.com/authorize?tenant=x#f",
            true,
        );
        assert_eq!(place, "id.example.com/authorize");
        let want = [
            ("acr_values", "a b&c"),
            ("client_id", "vestibule"),
            ("code_challenge_method", "S256"),
            ("max_age", "90"),
            ("nonce", ""),
            ("prompt", "login"),
            ("redirect_uri", "https://gw/.auth/callback/corp"),
            ("response_type", "code"),
            ("scope", "openid email"),
            ("state", "st"),
            ("tenant", "x"),
        ];
        let want: BTreeMap<String, String> = want
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(pairs, want);
    }

    #[test]
    fn another_account_means_signing_in_anew() {
        let prompt = |settings: &Settings, anew| {
            let (_, pairs) = query(settings, "https://id.example.com/authorize", anew);
            pairs.get("prompt").cloned()
        };
        let mut settings = openid();
        assert_eq!(prompt(&settings, false), None);
        assert_eq!(prompt(&settings, true).as_deref(), Some("login"));
        assert_eq!(prompt(&oauth2(), true), None);
        settings.prompt = Some("select_account".to_owned());
        assert_eq!(prompt(&settings, true).as_deref(), Some("select_account"));
    }

    #[test]
    fn oauth_2_has_no_nonce_and_no_max_age() {
        let mut settings = oauth2();
        settings.max_age = Some(Duration::from_secs(90));
        let (_, pairs) = query(&settings, "https://hub.example.com/authorize", true);
        assert!(!pairs.contains_key("nonce") && !pairs.contains_key("max_age"));
        assert_eq!(pairs["code_challenge_method"], "S256");
    }
}
