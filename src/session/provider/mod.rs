//! What the engine needs of whoever talks to providers, and what sessions keep of them.
//!
//! Must not know OpenID Connect: it hands a refresh token to the [`ProviderTalker`] and lives by the answer.

mod call;
mod check;
mod logout;
mod seal;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use self::seal::{Kind, TokenSeal};
pub(super) use check::{Consulted, PATIENCE, Waited};
pub use logout::Logout;

use super::{BeginError, IdentitySource, IssueError};
use crate::auth::provider_session::{CheckTimes, ProviderSession};
use crate::auth::{Identity, SessionId};
use crate::clock::Timestamp;
use crate::units::Secret;

/// An ID token longer than this is not kept: it would only be a hint at logout.
const MAX_ID_TOKEN: usize = 8 * 1024;
/// A refresh token longer than this is not kept; the session then goes on as without one.
const MAX_REFRESH_TOKEN: usize = 16 * 1024;
/// How many calls to one provider are under way at once. A check that nobody waits for is put off to the next renewal.
const AT_ONCE: usize = 64;

/// Most logouts that wait for the store at once.
const LOGOUTS: usize = 1024;

/// Who talks to providers; a login method implements it.
pub trait ProviderTalker: Send + Sync + 'static {
    /// How often the provider of this name and `iss` is asked. `None`: there is none (any more), and its sessions end at their
    /// next renewal.
    fn times(&self, provider: &str, issuer: &str) -> Option<CheckTimes>;

    /// Asks once whether a person is still welcome (RFC 6749 section 6; OpenID Connect Core section 12). The refresh token
    /// may be spent by this: never sent twice, and the answer is waited for as long as the engine waits (a minute), since an
    /// answer that is not heard may have held the next refresh token.
    fn refresh<'a>(
        &'a self,
        question: ProviderQuestion<'a>,
    ) -> Pin<Box<dyn Future<Output = ProviderReply> + Send + 'a>>;
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct ProviderQuestion<'a> {
    /// The provider's configured name.
    pub provider: &'a str,
    /// Its `iss` at sign-in.
    pub issuer: &'a str,
    /// The person's `sub` there: an answer about anybody else is [`ProviderAnswer::Ended`].
    pub subject: &'a str,
    /// Who the session says it is, as of the last check.
    pub identity: &'a Identity,
    /// Whether userinfo has named groups of this person before.
    pub groups_at_userinfo: bool,
    /// The refresh token.
    pub refresh_token: &'a Secret,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct ProviderReply {
    /// The next refresh token, when there is one: kept whatever the answer is, because the former may be spent.
    pub refresh_token: Option<Secret>,
    /// A newer ID token.
    pub id_token: Option<Secret>,
    /// Whether userinfo named groups.
    pub groups_at_userinfo: bool,
    /// The answer.
    pub answer: ProviderAnswer,
}

/// The answer to whether a person is still welcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderAnswer {
    /// Yes, and this is who they are now; in force from the next token on.
    Welcome(Box<Identity>),
    /// No: the session ends.
    Ended(ProviderEnd),
    /// Nobody knows (5xx, 429, no answer in time, no address, an answer that cannot be read): the session goes on for its
    /// grace.
    Unknown {
        /// Why, for the log; without secrets.
        reason: String,
        /// When the provider wants to be asked again.
        retry_after: Option<Duration>,
    },
}

/// Why a provider's session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderEnd {
    /// `invalid_grant` (RFC 6749 section 5.2): signed out there, blocked, or consent taken back.
    InvalidGrant,
    /// The configured rules do not allow this person any more.
    NotAllowed,
    /// The provider answered for somebody else.
    SomebodyElse,
    /// It cannot be asked any more: no master key opens the refresh token, and the last answer is too old.
    Unreadable,
}

/// No providers are configured.
pub struct NoProviders;

impl ProviderTalker for NoProviders {
    fn times(&self, _: &str, _: &str) -> Option<CheckTimes> {
        None
    }

    fn refresh<'a>(
        &'a self,
        _: ProviderQuestion<'a>,
    ) -> Pin<Box<dyn Future<Output = ProviderReply> + Send + 'a>> {
        let answer = ProviderAnswer::Unknown {
            reason: "no provider is configured".to_owned(),
            retry_after: None,
        };
        Box::pin(std::future::ready(ProviderReply {
            refresh_token: None,
            id_token: None,
            groups_at_userinfo: false,
            answer,
        }))
    }
}

/// Who vouches for people when their sessions are renewed.
pub struct Sources {
    /// For sessions without a provider's part.
    pub accounts: Arc<dyn IdentitySource>,
    /// For the others.
    pub providers: Providers,
}

/// Accounts only.
impl From<Arc<dyn IdentitySource>> for Sources {
    fn from(accounts: Arc<dyn IdentitySource>) -> Self {
        Sources {
            accounts,
            providers: Providers::new(Arc::new(NoProviders), &Secret::new([]), &[]),
        }
    }
}

/// The providers, as the engine uses them.
pub struct Providers {
    talker: Arc<dyn ProviderTalker>,
    seal: TokenSeal,
    /// A room for each configured provider, so that one that hangs keeps nobody from the others.
    rooms: DashMap<String, Arc<Semaphore>>,
    /// Calls under way, and answers that the store has yet to take.
    tasks: TaskTracker,
    /// Room for logouts that the store has yet to confirm.
    logouts: Arc<Semaphore>,
}

impl Providers {
    /// Their tokens are sealed under `master`; those of `previous` still open.
    pub fn new(talker: Arc<dyn ProviderTalker>, master: &Secret, previous: &[Secret]) -> Self {
        let tasks = TaskTracker::new();
        tasks.close();
        Providers {
            talker,
            seal: TokenSeal::new(master, previous),
            rooms: DashMap::new(),
            tasks,
            logouts: Arc::new(Semaphore::new(LOGOUTS)),
        }
    }

    /// The room of a provider that is configured.
    fn room(&self, provider: &str) -> Arc<Semaphore> {
        if let Some(room) = self.rooms.get(provider) {
            return Arc::clone(&room);
        }
        let room = self.rooms.entry(provider.to_owned());
        Arc::clone(&room.or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))))
    }

    /// Resolves when no call is under way and every answer is kept, or after `patience`.
    pub(super) async fn settled(&self, patience: Duration) {
        let _ = tokio::time::timeout(patience, self.tasks.wait()).await;
    }

    /// What a new session keeps.
    pub(super) fn part(
        &self,
        session: &SessionId,
        there: SignedInThere,
        now: Timestamp,
    ) -> Result<ProviderSession, BeginError> {
        let keep = |kind, token: Option<Secret>, longest| match token {
            Some(token) if token.expose().len() <= longest => self
                .seal
                .seal(session, kind, &token)
                .map(Some)
                .ok_or(BeginError::Issue(IssueError::Random)),
            Some(_) | None => Ok(None),
        };
        if let Some(token) = &there.refresh_token {
            tell_too_long(&there.issuer, token);
        }
        Ok(ProviderSession {
            issuer: there.issuer,
            subject: there.subject,
            session: there.session,
            refresh_token: keep(Kind::Refresh, there.refresh_token, MAX_REFRESH_TOKEN)?,
            id_token: keep(Kind::Id, there.id_token, MAX_ID_TOKEN)?,
            groups_at_userinfo: there.groups_at_userinfo,
            checked_at: now,
            asking: None,
        })
    }
}

/// Tells operators when a provider can no longer be asked about a session.
fn tell_too_long(issuer: &str, token: &Secret) {
    let bytes = token.expose().len();
    if bytes > MAX_REFRESH_TOKEN {
        tracing::warn!(
            issuer,
            bytes,
            most = MAX_REFRESH_TOKEN,
            "a refresh token is too long to keep: this session lives on without asking its provider"
        );
    }
}

/// What a sign-in at a provider leaves behind, beside the identity.
#[derive(Clone, Debug)]
pub struct SignedInThere {
    /// The provider's `iss`.
    pub issuer: String,
    /// The person's `sub` there.
    pub subject: String,
    /// The provider's own session (`sid`), if it said so.
    pub session: Option<String>,
    /// With a refresh token the provider is asked from time to time; without one the session goes on until its own end.
    pub refresh_token: Option<Secret>,
    /// The ID token, as `id_token_hint` of a logout; dropped when it is longer than 8 KiB.
    pub id_token: Option<Secret>,
    /// Whether userinfo named groups.
    pub groups_at_userinfo: bool,
}

/// Where a session began, for a logout there.
#[derive(Clone, Debug)]
pub struct BeganThere {
    /// The provider's configured name.
    pub provider: String,
    /// Its `iss` at sign-in.
    pub issuer: String,
    /// The newest ID token, unless it was too long to keep.
    pub id_token: Option<Secret>,
}
