//! `Authorization: Bearer` (RFC 6750): what a request brings, why it is refused, and what a token's claims say of its use.
//!
//! Pure. Must not choose the issuer or verify anything; the engine does, with the rules of [`crate::auth::foreign_token`].

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use crate::auth::Identity;
use crate::auth::claims::ClaimSet;
use crate::auth::foreign_token::ForeignTokenError;

/// Longest identity that is carried, as JSON, in bytes: what still fits into an assertion with everything around it.
pub const MAX_IDENTITY: usize = 2600;

/// Most scopes of one token that are looked at, and the longest one.
const MAX_SCOPES: usize = 256;
const MAX_SCOPE: usize = 256;

/// Why a bearer token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BearerRefusal {
    /// `Authorization` is there more than once.
    Several,
    /// Of an issuer that is not configured, or no JWT at all.
    Stranger,
    /// It did not verify.
    Token(ForeignTokenError),
    /// It verified, and the claim for this part of the identity cannot be used.
    Claim(&'static str),
    /// It verified, and says more about somebody than can be passed on.
    TooLarge,
}

impl BearerRefusal {
    /// In a few words without quotes, for `error_description` (RFC 6750 section 3) and the access line. Nothing of the token.
    pub const fn words(self) -> &'static str {
        use ForeignTokenError as E;
        match self {
            BearerRefusal::Several => "Authorization is there more than once",
            BearerRefusal::Stranger => "the token is of no issuer that is accepted here",
            BearerRefusal::Claim(_) => "the token does not say who it is about in a usable way",
            BearerRefusal::TooLarge => {
                "the token says more about its subject than can be passed on"
            }
            BearerRefusal::Token(error) => match error {
                E::Malformed => "the token is no signed JWT",
                E::Encrypted => "encrypted tokens are not supported",
                E::TooLarge => "the token is too large",
                E::Header(_) => "the token has a header member that is not accepted",
                E::Critical => "the token has a critical header that is not understood",
                E::Algorithm => "the algorithm is not the one of the key",
                E::UnknownKey => "the token is signed by a key that is not known",
                E::SeveralKeys => "the token names no key, and the issuer has several",
                E::Signature => "the signature is wrong",
                E::Type | E::OtherKind(_) => "the token is of another kind",
                E::Issuer => "the issuer is wrong",
                E::Audience => "the token is not meant for this audience",
                E::Expired => "the token expired",
                E::NotYetValid => "the token is not valid yet",
                E::Backwards => "the token expires before it is issued",
                E::Lifetime => "the token lives longer than is accepted",
                E::Bound => "the token is bound to a key, which is not checked here",
                E::Claim(_) => "a claim is missing or malformed",
            },
        }
    }
}

/// The tokens of every `Authorization: Bearer` line, and `None` for each line of another scheme.
pub fn tokens(headers: &HeaderMap) -> impl Iterator<Item = Option<&str>> {
    headers.get_all(AUTHORIZATION).iter().map(token)
}

/// RFC 9110 section 11.4: the scheme has no case, blanks separate.
fn token(line: &HeaderValue) -> Option<&str> {
    let line = line.to_str().ok()?;
    let (scheme, token) = line.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("Bearer")
        .then(|| token.trim_matches(' '))
}

/// What the token may be used for: `scope` (RFC 8693 section 4.2, RFC 9068 section 2.2.3), or `scp`, as two large providers
/// call it; each a text with blanks in between, or a list. Each scope once; what is no scope token is left out.
pub fn scopes(claims: &ClaimSet) -> Vec<String> {
    let mut scopes: Vec<String> = Vec::new();
    for name in ["scope", "scp"] {
        let listed = match claims.text(name) {
            Some(text) => text.split(' ').collect(),
            None => claims.texts(name).unwrap_or_default(),
        };
        for scope in listed {
            let good = !scope.is_empty()
                && scope.len() <= MAX_SCOPE
                && scope.bytes().all(|byte| byte.is_ascii_graphic());
            if good && scopes.len() < MAX_SCOPES && !scopes.iter().any(|one| one == scope) {
                scopes.push(scope.to_owned());
            }
        }
    }
    scopes
}

/// Whether an identity can be passed on whole.
pub fn can_be_carried(identity: &Identity) -> bool {
    serde_json::to_string(identity).is_ok_and(|json| json.len() <= MAX_IDENTITY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::test_support::alice;

    #[test]
    fn tokens_stand_behind_their_scheme() {
        let check = |lines: &[&'static str], want: &[Option<&str>]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(AUTHORIZATION, HeaderValue::from_static(line));
            }
            assert_eq!(tokens(&headers).collect::<Vec<_>>(), want, "{lines:?}");
        };
        check(&[], &[]);
        check(&["Bearer a.b.c"], &[Some("a.b.c")]);
        check(&["bearer  a.b.c "], &[Some("a.b.c")]);
        check(&["BEARER x"], &[Some("x")]);
        check(&["Basic dTpw"], &[None]);
        check(&["Bearer"], &[None]);
        check(&["Bearer "], &[Some("")]);
        check(&["Bearerx y"], &[None]);
        check(&["Bearer\tx"], &[None]);
        check(&["Basic dTpw", "Bearer x"], &[None, Some("x")]);
    }

    #[test]
    fn scopes_are_read_from_what_providers_write() {
        let check = |json: &str, want: &[&str]| {
            let claims = ClaimSet::from_json(json.as_bytes()).unwrap();
            assert_eq!(scopes(&claims), want, "{json}");
        };
        check(r#"{"scope":"read  write read"}"#, &["read", "write"]);
        check(r#"{"scope":["read","write"]}"#, &["read", "write"]);
        check(
            r#"{"scp":"User.Read Mail.Send"}"#,
            &["User.Read", "Mail.Send"],
        );
        check(r#"{"scp":["a"],"scope":"b"}"#, &["b", "a"]);
        check(r#"{}"#, &[]);
        check(r#"{"scope":5}"#, &[]);
        check(r#"{"scope":["a",5]}"#, &[]);
        check(r#"{"scope":"a\nb é ok"}"#, &["ok"]);
    }

    #[test]
    fn an_identity_that_fits_into_no_assertion_is_too_large() {
        let mut identity = alice();
        assert!(can_be_carried(&identity));
        identity.groups = vec!["g".repeat(100); 25];
        assert!(!can_be_carried(&identity));
    }

    #[test]
    fn a_description_has_only_characters_that_rfc6750_allows() {
        use BearerRefusal as R;
        use ForeignTokenError as E;
        for refusal in [
            R::Several,
            R::Stranger,
            R::TooLarge,
            R::Claim("user"),
            R::Token(E::Header("jku")),
            R::Token(E::Expired),
        ] {
            let words = refusal.words();
            assert!(
                words.bytes().all(|byte| matches!(byte, 0x20..=0x7e)),
                "{words}"
            );
            assert!(!words.contains(['"', '\\']), "{words}");
        }
    }
}
