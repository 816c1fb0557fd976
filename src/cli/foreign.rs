//! A token of somebody else, judged as the running gateway would judge it: by the same engines, with keys that are read or fetched
//! here and now. Must not judge what this gateway issues itself: only a running one knows its keys and its sessions.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::operate::{OperateError, runtime};
use crate::auth::claims::{ClaimMap, ClaimPath, ClaimSet};
use crate::auth::foreign_keys::ForeignKeys;
use crate::auth::foreign_token::{ForeignTokenError, UnverifiedIssuer};
use crate::auth::{Identity, Subject};
use crate::bearer::{self, Bearers, Keys};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::external::{self, CheckError, KeySource};
use crate::outbound::Outbound;
use crate::units::format_duration;

/// Whose a token is, by its own word, and what it is worth there.
#[derive(Debug)]
pub(super) enum Judged {
    /// Of a `[[bearer]]`, in `Authorization`.
    Bearer(Result<Arc<Subject>, bearer::Why>),
    /// Of nobody but the service of `[external]`, in its access cookie.
    External(Result<Arc<Subject>, CheckError>),
}

/// Judges a token in every place where it could be presented; none = nothing here believes its issuer.
pub(super) fn judge(
    config: &Config,
    token: &str,
    now: Timestamp,
) -> Result<Vec<Judged>, OperateError> {
    let issuer = issuer_of(token);
    let runtime = runtime()?;
    runtime.block_on(async {
        let mut judged = Vec::new();
        let named = config.bearers.iter();
        let named = named.filter(|one| Some(&one.issuer) == issuer.as_ref());
        let bearers = Bearers::start(named.cloned().collect(), runtime.handle())?;
        judged.extend(bearers.explain(token, now).await.map(Judged::Bearer));
        // A cookie is the service's whatever is in it; only where the token names another that is known it was not meant to be.
        if let Some(external) = &config.external
            && (judged.is_empty() || issuer.as_ref() == Some(&external.settings.issuer))
        {
            let outbound = Outbound::new(external.outbound.clone())?;
            let settings = &external.settings;
            let found = external::judge(settings, &outbound, runtime.handle(), token, now);
            judged.push(Judged::External(found.await));
        }
        Ok(judged)
    })
}

/// Whom a token names, unverified.
pub(super) fn issuer_of(token: &str) -> Option<String> {
    UnverifiedIssuer::of(token).map(|named| named.0)
}

impl Judged {
    /// Whether it holds, and the words for it.
    pub(super) fn in_words(&self, config: &Config, token: &str) -> (bool, String) {
        let issuer = issuer_of(token).unwrap_or_default();
        let of_it = config.bearers.iter().find(|one| one.issuer == issuer);
        let settings = config.external.as_ref().map(|external| &external.settings);
        match self {
            Judged::Bearer(Ok(subject)) => {
                let scopes = subject.scopes().unwrap_or_default().join(" ");
                let with = match scopes.is_empty() {
                    true => "without scopes".to_owned(),
                    false => format!("with the scopes {scopes}"),
                };
                let user = &subject.identity().user;
                let note = of_it.and_then(|one| without_address(token, &one.claims, subject));
                let words = format!("a bearer token of {issuer} for the user {user}, {with}");
                (true, self::with(words, note))
            }
            Judged::Bearer(Err(why)) => {
                let hint = match why {
                    bearer::Why::Token(error) => of_it.and_then(|one| {
                        let life = ("max_lifetime of this [[bearer]]", one.max_lifetime);
                        let keys = fixed(&one.keys);
                        wanted(*error, &one.issuer, &one.audience, keys, life)
                    }),
                    _ => None,
                };
                let what = format!("refused as a bearer token of {issuer}: {why}");
                (false, with(what, hint))
            }
            Judged::External(Ok(subject)) => {
                let who = person(subject.identity(), false);
                let note = settings.and_then(|one| without_address(token, &one.claims, subject));
                let words = format!("the access token of [external] for the user {who}");
                (true, with(words, note))
            }
            Judged::External(Err(why)) => {
                let what = format!("refused as the access token of [external]: {why}");
                let hint = settings.and_then(|settings| external_hint(why, settings));
                (false, with(what, hint))
            }
        }
    }
}

fn with(what: String, hint: Option<String>) -> String {
    match hint {
        Some(hint) => format!("{what}; {hint}"),
        None => what,
    }
}

fn external_hint(why: &CheckError, settings: &external::Settings) -> Option<String> {
    let CheckError::Token(error) = why else {
        return None;
    };
    if *error == ForeignTokenError::Malformed {
        return Some("of a refresh token only the service can say what it is worth".to_owned());
    }
    if *error == ForeignTokenError::Expired && settings.refresh.is_some() {
        let cookie = &settings.cookies.refresh;
        return Some(format!("a browser that has {cookie} too gets a new one"));
    }
    let keys = match &settings.keys {
        KeySource::Fixed(keys) => Some(&**keys),
        KeySource::Url { .. } => None,
    };
    let life = ("max_access_life", settings.max_access_life);
    wanted(*error, &settings.issuer, &settings.audience, keys, life)
}

/// What would have been good instead.
fn wanted(
    error: ForeignTokenError,
    issuer: &str,
    audience: &str,
    keys: Option<&ForeignKeys>,
    (life, longest): (&str, Duration),
) -> Option<String> {
    use ForeignTokenError as E;
    match error {
        E::Issuer => Some(format!("it must be exactly {issuer}")),
        E::Lifetime => Some(format!("{life} is {}", format_duration(longest))),
        E::Audience => Some(format!("it must name {audience}")),
        E::Algorithm | E::UnknownKey | E::SeveralKeys => keys.map(|keys| {
            let keys = keys.describe().map(|(kid, algorithm)| match kid {
                Some(kid) => format!("{kid} ({})", algorithm.name()),
                None => algorithm.name().to_owned(),
            });
            format!("the keys here: {}", keys.collect::<Vec<_>>().join(", "))
        }),
        _ => None,
    }
}

/// That the token names an address which is nobody's here, and why.
fn without_address(token: &str, map: &ClaimMap, subject: &Subject) -> Option<String> {
    let payload = token.split('.').nth(1)?;
    let claims = ClaimSet::from_json(&URL_SAFE_NO_PAD.decode(payload).ok()?)?;
    if subject.identity().email.is_some() || claims.text_at(&map.email).is_none() {
        return None;
    }
    let path = ClaimPath::parse("email_verified").ok()?;
    let why = match claims.has_at(&path) {
        true => "email_verified denies it",
        false => "nothing says that it is verified (email_verified, or trust_email)",
    };
    Some(format!("its e-mail address is left out: {why}"))
}

fn fixed(keys: &Keys) -> Option<&ForeignKeys> {
    match keys {
        Keys::Fixed(keys) => Some(keys),
        Keys::Remote { .. } => None,
    }
}

/// Somebody in words; `tell` whose name it is.
pub(super) fn person(identity: &Identity, tell: bool) -> String {
    let mut text = identity.user.clone();
    if tell {
        text.push_str(&format!(" of {}", identity.provider));
    }
    if let Some(email) = &identity.email {
        text.push_str(&format!(" <{email}>"));
    }
    if !identity.groups.is_empty() {
        text.push_str(&format!(", groups {}", identity.groups.join(", ")));
    }
    text
}
