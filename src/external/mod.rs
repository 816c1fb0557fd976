//! Tokens that a service of the deployer's issues (`[external]`): its access cookie says who is asking, its refresh cookie
//! is spent in the browser's name when that has run out.
//!
//! One call for all requests that present the same refresh token, and its outcome for those that come after: a service
//! that rotates takes a second use for theft. What may have been spent is never sent again; only the service's own refusal
//! ends a sign-in; anything else is "try again". Must not issue a token, decide who may, or keep anything on disk.

mod answer;
mod call;
mod check;
mod cookies;
mod memory;
mod renew;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Uri};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::auth::claims::ClaimMap;
use crate::auth::credentials::CookieNames;
use crate::auth::decision::{AccessFinding, RefreshFinding};
use crate::auth::foreign_keys::{Algorithm, ForeignKeys};
use crate::auth::route::UpstreamId;
use crate::auth::{ClientAddr, Subject};
use crate::clock::{Clock, Timestamp};
use crate::headers::cookie::CookieStyle;
use crate::issuer;
use crate::outbound::Outbound;
use crate::patience::{Patience, Rate};
use crate::units::Secret;

pub use check::{CheckError, PROVIDER, judge};
pub use cookies::Sent;

use check::Checker;
use memory::{Key, Memory};

/// Calls to the service at once; others wait.
const CALLS: usize = 64;
/// How many refresh tokens one address may have under way or refused: made-up ones must not keep the service busy, nor the
/// calls that others wait for. Fewer than there are at once for all.
const MADE_UP: Rate = Rate {
    burst: 40,
    refill: Duration::from_secs(1),
};
/// Most networks that are remembered.
const MOST_NETWORKS: usize = 10_000;

/// What the service does, and how it is asked; owned by this engine, filled by the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `iss` of its access tokens, exact.
    pub issuer: String,
    /// What `aud` must name.
    pub audience: String,
    /// What they are verified with; the algorithm is pinned to the key.
    pub keys: KeySource,
    /// Longest life of an access token that is believed.
    pub max_access_life: Duration,
    /// Which claim is what.
    pub claims: ClaimMap,
    /// The names of its two cookies.
    pub cookies: CookieNames,
    /// How its tokens are renewed; `None`: not here.
    pub refresh: Option<Refresh>,
    /// Where people sign in: a path of the same origin, or an https URL.
    pub login_url: String,
    /// Where people sign out, if there is such a page.
    pub logout_url: Option<String>,
    /// The upstreams that get its cookies: the service itself.
    pub cookies_to: Vec<UpstreamId>,
    /// How long the outcome of a renewal is remembered for the token that was spent.
    pub replay_grace: Duration,
    /// How long a request waits for a renewal.
    pub wait: Duration,
    /// How long the call itself may take before the token counts as lost.
    pub refresh_timeout: Duration,
    /// The origin's host, for the service's eyes.
    pub host: String,
}

/// Where the service's keys come from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// The configuration.
    Fixed(Arc<ForeignKeys>),
    /// A JWK Set, fetched and kept fresh.
    Url {
        /// Absolute.
        url: Uri,
        /// What its keys may be used for.
        algorithms: Vec<Algorithm>,
    },
}

/// The service's keys could not be fetched: nobody can tell what its tokens are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the keys of the external service cannot be fetched")]
pub struct KeysUnavailable;

/// How a refresh token is spent.
#[derive(Clone, Debug)]
pub enum Refresh {
    /// `POST` with the refresh cookie; the answer sets cookies.
    Cookies {
        /// Absolute.
        url: Uri,
    },
    /// An RFC 6749 token endpoint (section 6); the answer is JSON, and the cookies are written here.
    TokenEndpoint {
        /// Absolute.
        url: Uri,
        /// Which client the gateway is.
        client_id: String,
        /// Its secret, sent by HTTP Basic (RFC 6749 section 2.3.1); `None` for a public client.
        client_secret: Option<Secret>,
        /// How the cookies are written.
        style: CookieStyle,
        /// `Max-Age` of the refresh cookie where the answer does not say.
        refresh_life: Duration,
    },
}

/// Something that operators want counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExternalEvent {
    /// A refresh token was spent for new tokens.
    Renewed,
    /// A request with a spent token got what it was spent for.
    Served,
    /// The service refused a refresh token.
    Refused,
    /// The service could not be asked, or could not do it now.
    Unavailable,
    /// A refresh token may have been spent in vain.
    Lost,
}

/// Whoever counts.
pub trait Observer: Send + Sync + 'static {
    /// Must not block.
    fn observe(&self, event: ExternalEvent);
}

/// On whose behalf the service is asked.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Where the browser is.
    pub client: ClientAddr,
    /// Its `User-Agent`, empty where it says none.
    pub user_agent: &'a [u8],
    /// The request that waits first.
    pub request_id: &'a str,
}

/// Who spent a token: what tells one browser from another, here as for sessions of our own ([`crate::auth::Client`]).
#[derive(Clone, Copy, PartialEq, Eq)]
struct Spender {
    addr: ClientAddr,
    agent: Key,
}

impl Spender {
    fn new(addr: ClientAddr, user_agent: &[u8]) -> Self {
        Spender {
            addr,
            agent: Key::of(user_agent),
        }
    }
}

/// What a refresh token was spent for.
pub struct Pair {
    /// Who it is now.
    pub subject: Arc<Subject>,
    access: String,
    /// The successor, and its place in the memory; `None`: the token that was sent goes on.
    refresh: Option<(String, Key)>,
    lines: Vec<HeaderValue>,
    spender: Spender,
}

/// What a renewal gives one request.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Who it is, and the tokens.
    pub pair: Arc<Pair>,
    /// Whether the request is of the browser that spent the very token it presents. Only then may the answer carry the new
    /// cookies, and the service see the new refresh token: a spent one may have been stolen.
    own: bool,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pair(…)")
    }
}

/// What a renewal came to, for one request.
pub enum Renewal {
    /// Go on as this person; the browser gets the cookies if it spent the token and they are still the newest when the
    /// answer leaves.
    Renewed(Grant),
    /// The service refuses: sign in again. What it said about the cookies.
    Refused(Arc<[HeaderValue]>),
    /// Try again after this; the cookies stay as they are.
    Unavailable(Duration),
    /// Too many tokens from this address are under way or were refused; try again after this. Nothing was sent.
    Throttled(Duration),
    /// The token may have been spent in vain and is not sent again: sign in again. The cookies stay as they are.
    Lost,
}

/// A cookie's value as a token; an empty one, or bytes that are no text, are none.
fn text(token: &[u8]) -> Option<&str> {
    std::str::from_utf8(token)
        .ok()
        .filter(|token| !token.is_empty())
}

/// The engine of one node.
pub struct External {
    settings: Settings,
    checker: Checker,
    memory: Memory,
    /// Charged for a call with a token that is not the service's for all we know; given back unless it refuses it.
    patience: Patience,
    outbound: Outbound,
    clock: Clock,
    observer: Arc<dyn Observer>,
    /// Where calls run, which outlive the request that began them.
    control: Handle,
    calls: Semaphore,
}

impl External {
    /// Ready to work; asks nobody.
    pub fn new(
        settings: Settings,
        outbound: Outbound,
        clock: Clock,
        observer: Arc<dyn Observer>,
        control: Handle,
    ) -> Arc<Self> {
        Arc::new(External {
            checker: Checker::new(&settings, &outbound, &control),
            memory: Memory::new(settings.replay_grace),
            patience: Patience::new(MADE_UP, MOST_NETWORKS),
            settings,
            outbound,
            clock,
            observer,
            control,
            calls: Semaphore::new(CALLS),
        })
    }

    /// The names of the service's cookies.
    pub fn cookie_names(&self) -> &CookieNames {
        &self.settings.cookies
    }

    /// What a refresh cookie is worth: only the service can say, if it can be asked.
    pub fn find_refresh(&self, token: &[u8]) -> RefreshFinding {
        match self.settings.refresh.is_some() && text(token).is_some() {
            true => RefreshFinding::Foreign,
            false => RefreshFinding::Absent,
        }
    }

    /// Where people sign in.
    pub fn login_url(&self) -> &str {
        &self.settings.login_url
    }

    /// Where people sign out.
    pub fn logout_url(&self) -> Option<&str> {
        self.settings.logout_url.as_deref()
    }

    /// Whether there is anything to wait for in [`Self::prepare`].
    pub fn fetches_keys(&self) -> bool {
        self.checker.fetches()
    }

    /// The service's issuer and what is known of its keys, where they are fetched.
    pub fn fetched_keys(&self) -> Option<(&str, issuer::Stats)> {
        Some((&self.settings.issuer, self.checker.fetched()?))
    }

    /// To be awaited before [`Self::check_access`]: where the service's keys are fetched, waits a bounded time for those that
    /// the token needs. Without any the token must not be judged: to take it for bad would spend a refresh token.
    pub async fn prepare(&self, token: &[u8], now: Timestamp) -> Result<(), KeysUnavailable> {
        let token = text(token).unwrap_or_default();
        match self.checker.check_patiently(token, now).await {
            Err(check::CheckError::NoKeys) => Err(KeysUnavailable),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Who an access token says it is.
    pub fn check_access(&self, token: &[u8], now: Timestamp) -> AccessFinding {
        match self.checker.check(text(token).unwrap_or_default(), now) {
            Ok(subject) => AccessFinding::Valid(subject),
            Err(error) => {
                let short = error.in_short();
                if let check::CheckError::Claim(error) = &error {
                    tracing::warn!(%error, "a token of the external service cannot be an identity");
                }
                AccessFinding::Bad(short)
            }
        }
    }

    /// Renewals under way, and outcomes remembered.
    pub fn held(&self) -> (usize, usize) {
        self.memory.held()
    }
}
