//! Kinds of foreign tokens and the rules that keep them apart (RFC 8725 sections 3.11 and 3.12): what is accepted as one
//! kind is never accepted as another.

use super::{ForeignTokenError, optional_text};
use crate::auth::strict_json::Object;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ForeignKind {
    /// An access token in `Authorization: Bearer`: `typ` is `at+jwt` (RFC 9068: then `sub`, `client_id`, `iat` and `jti` are
    /// required), `JWT`, or absent.
    Bearer,
    /// An access token in the cookie of a service of ours (`[external]`): `typ` as for [`ForeignKind::Bearer`], without the
    /// further demands of RFC 9068.
    External,
    /// An OpenID Connect ID token: `typ` is `JWT` or absent; `sub` and `iat` are required. `nonce`, `azp` and `at_hash` are for
    /// the caller, who knows the sign-in.
    IdToken,
    /// A Back-Channel Logout token: `typ` is `logout+jwt`, `JWT`, or absent; `iat` and `jti` are required; `exp` may be missing.
    /// `events`, `nonce`, `sub` and `sid` are for the caller.
    Logout,
}

/// What the header's `typ` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Typ {
    /// Nothing, or no more than that it is a JWT.
    Plain,
    /// Exactly this kind.
    Exact,
}

/// Claims by which token makers say what a token is: Keycloak (`typ`), Amazon Cognito (`token_use`), and the common web
/// frameworks (`type`, `token_type`), whose refresh tokens are signed with the same secret as their access tokens.
const KIND_CLAIMS: &[&str] = &["typ", "type", "token_type", "token_use"];

/// Values of those that every access token may have.
const ACCESS: &[&str] = &["access", "access_token", "bearer", "at+jwt"];

/// Values of those that no access token has.
const NO_ACCESS: &[&str] = &[
    "id",
    "id_token",
    "refresh",
    "refresh_token",
    "offline",
    "logout",
    "logout_token",
];

/// What ID tokens carry (OpenID Connect Core sections 2 and 3.1.3.6) and access tokens have no use for.
const OF_ID_TOKENS: &[&str] = &["nonce", "at_hash", "c_hash", "s_hash"];

impl ForeignKind {
    /// What a `typ` header means for this kind; `None` when it is of another. Media types have no case, and `application/`
    /// may be left out (RFC 7515 section 4.1.9).
    pub(super) fn typ(self, typ: &str) -> Option<Typ> {
        let typ = match typ.get(..12) {
            Some(start) if start.eq_ignore_ascii_case("application/") => {
                typ.get(12..).unwrap_or_default()
            }
            _ => typ,
        };
        let exact = match self {
            ForeignKind::Bearer | ForeignKind::External => Some("at+jwt"),
            ForeignKind::IdToken => None,
            ForeignKind::Logout => Some("logout+jwt"),
        };
        if exact.is_some_and(|exact| typ.eq_ignore_ascii_case(exact)) {
            return Some(Typ::Exact);
        }
        typ.eq_ignore_ascii_case("JWT").then_some(Typ::Plain)
    }

    /// The rules that the claims alone can break.
    pub(super) fn judge(self, claims: &Object, typ: Typ) -> Result<(), ForeignTokenError> {
        use ForeignTokenError as E;
        let required = |names: &[&'static str]| {
            let missing = names.iter().find(|name| !claims.has(name));
            missing.map_or(Ok(()), |name| Err(E::Claim(name)))
        };
        match self {
            ForeignKind::Bearer | ForeignKind::External => {
                if claims.has("cnf") {
                    return Err(E::Bound);
                }
                no_other_kind(claims, typ)?;
                if self == ForeignKind::Bearer && typ == Typ::Exact {
                    required(&["sub", "client_id", "iat", "jti"])?;
                    optional_text(claims, "client_id")?;
                }
                Ok(())
            }
            ForeignKind::IdToken => {
                if claims.has("events") {
                    return Err(E::OtherKind("events"));
                }
                required(&["sub", "iat"])
            }
            ForeignKind::Logout => required(&["iat", "jti"]),
        }
    }
}

/// Whether the claims say that this is no access token.
fn no_other_kind(claims: &Object, typ: Typ) -> Result<(), ForeignTokenError> {
    let says = |name: &&&'static str, words: &[&str]| {
        claims
            .text(name)
            .is_some_and(|value| words.iter().any(|word| word.eq_ignore_ascii_case(value)))
    };
    if let Some(name) = KIND_CLAIMS.iter().find(|name| says(name, NO_ACCESS)) {
        return Err(ForeignTokenError::OtherKind(name));
    }
    // RFC 8417 section 2.2: a security event, which a logout token is.
    if claims.has("events") {
        return Err(ForeignTokenError::OtherKind("events"));
    }
    // Some providers copy `nonce` into access tokens, and say what those are.
    let is_access = typ == Typ::Exact || KIND_CLAIMS.iter().any(|name| says(&name, ACCESS));
    match OF_ID_TOKENS.iter().find(|name| claims.has(name)) {
        Some(name) if !is_access => Err(ForeignTokenError::OtherKind(name)),
        _ => Ok(()),
    }
}
