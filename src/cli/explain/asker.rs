//! Whom the explained request is from: nobody, or somebody that options describe. Must not look into the store.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::auth::decision::{AnonymousReason, Decision, beside_stranger};
use crate::auth::route::Access;
use crate::auth::subject::{ForeignProof, Proof};
use crate::auth::{AccessClaims, Generation, Identity, SessionId, Subject};
use crate::cli::foreign::person;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::config::report::suggest;
use crate::external;

/// Who asks.
#[derive(Debug, Default, Args)]
pub(super) struct Options {
    /// Signed in as this user
    #[arg(long)]
    user: Option<String>,
    /// By which they signed in: `local`, the NAME of a provider, `external`, or with --bearer an issuer
    #[arg(long, value_name = "PROVIDER", requires = "user")]
    provider: Option<String>,
    /// A group of theirs; may be repeated
    #[arg(long = "group", value_name = "GROUP", requires = "user")]
    groups: Vec<String>,
    /// Their e-mail address
    #[arg(long, requires = "user")]
    email: Option<String>,
    /// Their name
    #[arg(long, requires = "user")]
    name: Option<String>,
    /// Not by a session, but by a bearer token of a configured issuer
    #[arg(long, requires = "user")]
    bearer: bool,
    /// A scope of that token; may be repeated
    #[arg(long = "scope", value_name = "SCOPE", requires = "bearer")]
    scopes: Vec<String>,
}

/// Whom the request is from.
pub(super) struct Asker {
    /// In words.
    pub(super) who: String,
    /// What the credentials come to.
    pub(super) found: Found,
    /// Whether they are in `Authorization`.
    pub(super) by_token: bool,
    /// What should be said beside the outcome.
    pub(super) notes: Vec<String>,
}

/// What credentials come to.
pub(super) enum Found {
    /// As the request path would find it.
    Decided(Decision),
    /// A token of nobody who is known here: what that means depends on the route.
    Stranger,
    /// A token whose keys cannot be had.
    Unjudged,
}

impl Asker {
    pub(super) fn nobody() -> Self {
        Self::unknown(
            "not signed in".to_owned(),
            anonymous(AnonymousReason::NoCredentials),
        )
    }

    /// Nobody who is signed in.
    pub(super) fn unknown(who: String, found: Found) -> Self {
        Asker {
            who,
            found,
            by_token: false,
            notes: Vec::new(),
        }
    }

    /// `tell` whose name it is.
    pub(super) fn somebody(subject: Arc<Subject>, tell: bool) -> Self {
        Asker {
            who: in_words(&subject, tell),
            by_token: !subject.travels_by_cookie(),
            found: Found::Decided(Decision::SignedIn(subject)),
            notes: Vec::new(),
        }
    }

    /// What it means on a route; `None` = the token cannot be judged now.
    pub(super) fn decision_on(&self, access: Access) -> Option<Decision> {
        let none = Decision::Anonymous(AnonymousReason::NoCredentials);
        match &self.found {
            // Nobody is asked who they are there.
            _ if access == Access::Public => Some(none),
            Found::Decided(decision) => Some(decision.clone()),
            Found::Stranger => Some(beside_stranger(none, access)),
            Found::Unjudged => None,
        }
    }
}

impl Options {
    /// Whom the options mean; `Err` = they do not go together with the configuration, and why.
    pub(super) fn resolve(&self, config: &Config) -> Result<Asker, String> {
        let Some(user) = &self.user else {
            return Ok(Asker::nobody());
        };
        let ways = match self.bearer {
            true => issuers(config),
            false => logins(config),
        };
        let Some(first) = ways.first() else {
            return Err(match self.bearer {
                true => "there is no [[bearer]] whose token it could be".to_owned(),
                false => {
                    "nobody can sign in here: there is neither [login] nor [external]".to_owned()
                }
            });
        };
        let provider = match &self.provider {
            None => *first,
            Some(typed) => ways.iter().find(|way| *way == typed).ok_or_else(|| {
                let hint = suggest(typed, ways.iter().copied());
                format!("nobody signs in by {typed:?}: {hint}")
            })?,
        };
        let identity = Identity {
            user: user.clone(),
            email: self.email.clone(),
            name: self.name.clone(),
            preferred_username: None,
            groups: self.groups.clone(),
            provider: provider.to_owned(),
            auth_time: Timestamp::EPOCH,
            amr: Vec::new(),
        };
        let subject = match (self.bearer, &config.external) {
            (true, _) => Subject::of(Proof::Bearer(proof(identity, self.scopes.clone()))),
            (false, Some(_)) => Subject::of(Proof::External(proof(identity, Vec::new()))),
            (false, None) => by_session(identity),
        };
        let mut asker = Asker::somebody(Arc::new(subject), several_ways(config));
        if self.groups.is_empty() {
            asker.notes.push(
                "no account is looked up: name the person's groups with --group, the address with --email".to_owned(),
            );
        }
        let named = std::iter::once(user).chain(&self.groups);
        for name in named.filter(|name| is_behind(name, provider)) {
            asker.notes.push(format!(
                "{name:?} is taken for the whole name: rules put \"{provider}:\" before it, people and groups are called without"
            ));
        }
        if self.provider.is_none() && ways.len() > 1 {
            asker.notes.push(format!(
                "taken for somebody of {provider}; with --provider for one of: {}",
                ways.join(", ")
            ));
        }
        Ok(asker)
    }
}

pub(super) fn anonymous(reason: AnonymousReason) -> Found {
    Found::Decided(Decision::Anonymous(reason))
}

/// Whether there are several ways to be somebody here, so that a name alone does not say whose it is.
pub(super) fn several_ways(config: &Config) -> bool {
    logins(config).len() + issuers(config).len() > 1
}

/// Whether a name is written as in a rule.
fn is_behind(name: &str, provider: &str) -> bool {
    name.strip_prefix(provider)
        .is_some_and(|rest| rest.starts_with(':'))
}

/// The ways in which people sign in, as identities call them.
pub(in crate::cli) fn logins(config: &Config) -> Vec<&str> {
    let local = config.local.as_ref().map(|_| crate::login::local::PROVIDER);
    let external = config.external.as_ref().map(|_| external::PROVIDER);
    let providers = config.providers.iter().map(|one| one.name.as_str());
    local.into_iter().chain(providers).chain(external).collect()
}

fn issuers(config: &Config) -> Vec<&str> {
    let bearers = config.bearers.iter();
    bearers.map(|one| one.issuer.as_str()).collect()
}

fn proof(identity: Identity, scopes: Vec<String>) -> ForeignProof {
    ForeignProof {
        identity,
        scopes,
        expires_at: Timestamp::EPOCH.plus(Duration::from_secs(1)),
    }
}

pub(super) fn by_session(identity: Identity) -> Subject {
    Subject::new(AccessClaims {
        identity,
        session: SessionId::from_bytes([0; 16]),
        generation: Generation(0),
        began_at: Timestamp::EPOCH,
        issued_at: Timestamp::EPOCH,
        expires_at: Timestamp::EPOCH.plus(Duration::from_secs(1)),
        token_id: String::new(),
    })
}

fn in_words(subject: &Subject, tell: bool) -> String {
    let mut text = person(subject.identity(), tell);
    match subject.scopes() {
        Some([]) => text.push_str(", by a bearer token without scopes"),
        Some(scopes) => text.push_str(&format!(
            ", by a bearer token with the scopes {}",
            scopes.join(", ")
        )),
        None => {}
    }
    text
}
