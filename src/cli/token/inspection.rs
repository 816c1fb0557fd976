//! A token in words. Must not read anything: keys and clock are given.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use crate::auth::keyset::TokenKind;
use crate::cli::table;
use crate::clock::Timestamp;
use crate::control::RefreshInfo;
use crate::units::format_duration;

/// What a token seems to be, before anybody judged it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Access,
    Assertion,
    /// Of an issuer that is not this gateway.
    Foreign,
    /// Of the service that signs people in in our place.
    External,
    OtherJwt,
    Refresh,
    Unknown,
}

/// A token in words.
#[derive(Debug)]
pub(super) struct Inspection {
    pub(super) kind: Kind,
    claims: Vec<(String, String)>,
}

impl Inspection {
    /// Whether the gateway could say more: it issues tokens of this kind.
    pub(super) fn can_be_judged(&self) -> bool {
        matches!(self.kind, Kind::Access | Kind::Assertion | Kind::Refresh)
    }

    /// Adds what only the master key could open.
    pub(super) fn add_refresh(&mut self, refresh: &RefreshInfo, now: Timestamp) {
        self.claims.extend([
            (meaning("sid"), refresh.session.to_string()),
            (meaning("gen"), refresh.generation.to_string()),
            ("issued".to_owned(), moment(refresh.issued_at, now)),
        ]);
    }

    fn kind_in_words(&self) -> &'static str {
        match self.kind {
            Kind::Access => "access token",
            Kind::Assertion => "assertion for an upstream",
            Kind::Foreign => "token of another issuer",
            Kind::External => "token of the external service",
            Kind::OtherJwt => "a JWT of another kind",
            Kind::Refresh => "refresh token",
            Kind::Unknown => "unknown",
        }
    }

    /// For people.
    pub(super) fn to_text(&self, valid: bool, why: &str) -> String {
        let mut text = format!("{:<23}{}\n", "kind", self.kind_in_words());
        for (name, value) in &self.claims {
            text.push_str(&format!("{name:<23}{value}\n"));
        }
        let verdict = if valid { "valid" } else { "not valid" };
        text.push_str(&format!("{verdict:<23}{}\n", table::visible(why)));
        text
    }

    /// For scripts.
    pub(super) fn to_json(&self, valid: bool, why: &str) -> Value {
        let claims: Map<String, Value> = self
            .claims
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        json!({ "kind": self.kind_in_words(), "claims": claims, "valid": valid, "why": why })
    }
}

/// Reads what can be read without any key.
pub(super) fn inspect(token: &str, now: Timestamp) -> Inspection {
    let parts: Vec<&str> = token.split('.').collect();
    if let [header, payload, _signature] = parts.as_slice()
        && let (Some(header), Some(payload)) = (object(header), object(payload))
    {
        return jwt(&header, &payload, now);
    }
    let kind = match URL_SAFE_NO_PAD.decode(token) {
        Ok(bytes) if bytes.len() == REFRESH_BYTES => Kind::Refresh,
        _ => Kind::Unknown,
    };
    Inspection {
        kind,
        claims: Vec::new(),
    }
}

/// Key id, session, generation, issue time, MAC.
const REFRESH_BYTES: usize = 4 + 16 + 4 + 8 + 32;

fn object(part: &str) -> Option<Map<String, Value>> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    match serde_json::from_slice(&bytes).ok()? {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

fn jwt(header: &Map<String, Value>, payload: &Map<String, Value>, now: Timestamp) -> Inspection {
    let typ = header.get("typ").and_then(Value::as_str).unwrap_or("");
    let typ = typ.strip_prefix("application/").unwrap_or(typ);
    let kind = if typ == TokenKind::Access.typ() {
        Kind::Access
    } else if typ == TokenKind::Assertion.typ() {
        Kind::Assertion
    } else {
        Kind::OtherJwt
    };
    let mut claims = Vec::new();
    for name in ["alg", "kid", "typ"] {
        if let Some(value) = header.get(name) {
            claims.push((format!("header {name}"), plain(value)));
        }
    }
    for (name, value) in payload {
        claims.push((meaning(name), in_words(name, value, now)));
    }
    Inspection { kind, claims }
}

fn meaning(name: &str) -> String {
    let words = match name {
        "iss" => "issued by",
        "aud" => "meant for",
        "sub" => "user",
        "sid" => "session",
        "gen" => "generation",
        "began" => "session began",
        "iat" => "issued",
        "nbf" => "not before",
        "exp" => "expires",
        "jti" => "token id",
        "auth_time" => "signed in",
        "amr" => "how",
        _ => return table::visible(name),
    };
    format!("{words} ({name})")
}

fn in_words(name: &str, value: &Value, now: Timestamp) -> String {
    match (name, value.as_i64()) {
        ("iat" | "nbf" | "exp" | "auth_time", Some(secs)) => {
            moment(Timestamp::from_secs(secs), now)
        }
        ("began", Some(millis)) => moment(Timestamp::from_millis(millis), now),
        _ => plain(value),
    }
}

/// Text as text, everything else as JSON; control characters never reach the terminal.
fn plain(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(list) if list.iter().all(Value::is_string) => list
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(", "),
        other => other.to_string(),
    };
    table::visible(&text)
}

/// `2026-11-22T01:00:00Z (5m ago)`.
fn moment(at: Timestamp, now: Timestamp) -> String {
    let written = crate::cli::date(at);
    let whole = |duration: std::time::Duration| {
        format_duration(std::time::Duration::from_secs(duration.as_secs()))
    };
    if at <= now {
        format!("{written} ({} ago)", whole(now.since(at)))
    } else {
        format!("{written} (in {})", whole(at.since(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::access_token;
    use crate::auth::test_support::{NOW, claims, expect, keys};

    #[test]
    fn an_access_token_in_words() {
        let (_, set) = keys();
        let token = access_token::issue(&claims(), &set, &expect()).unwrap();
        let inspection = inspect(&token, NOW);
        assert_eq!(inspection.kind, Kind::Access);
        let text = inspection.to_text(true, "because");
        assert!(text.contains("user (sub)             alice\n"), "{text}");
        assert!(text.contains("(in 5m)"), "{text}");
        assert!(text.ends_with("valid                  because\n"), "{text}");
        assert!(!text.contains(token.rsplit('.').next().unwrap()), "{text}");
    }

    #[test]
    fn kinds() {
        let check = |text: &str, want: Kind| assert_eq!(inspect(text, NOW).kind, want, "{text:?}");
        check(&URL_SAFE_NO_PAD.encode([7; REFRESH_BYTES]), Kind::Refresh);
        check("e30.e30.x", Kind::OtherJwt);
        check("eyJ0eXAiOiJqd3QifQ.e30.x", Kind::OtherJwt);
        for text in ["", "x", "a.b.c", "\u{1b}[31m", "....", "W10.e30.x"] {
            check(text, Kind::Unknown);
        }
    }
}
