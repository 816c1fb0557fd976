//! Ending what a provider wants ended (OpenID Connect Back-Channel Logout 1.0 section 2.7). Must not judge a logout token:
//! whoever calls has verified it.

use std::sync::Arc;

use crate::auth::SessionId;
use crate::auth::provider_session::ProviderName;
use crate::auth::rotation::SessionRecord;
use crate::clock::Timestamp;
use crate::session::late::PAUSES;
use crate::session::{CLOCK_LEEWAY, Ending, Sessions};
use crate::store::StoreError;

/// Sessions that are ended at once share commits.
const GROUP: usize = 256;

/// What a verified logout token names: `sub`, `sid`, or both.
#[derive(Clone, Copy, Debug)]
pub struct Logout<'a> {
    /// The provider's configured name.
    pub provider: &'a str,
    /// The token's `iss`.
    pub issuer: &'a str,
    /// Its `sub`.
    pub subject: Option<&'a str>,
    /// Its `sid`.
    pub session: Option<&'a str>,
    /// Its `iat`.
    pub issued_at: Timestamp,
}

impl Logout<'_> {
    /// Whether it means this session. One that began after the token was issued is not meant: so a token that comes again, on
    /// whichever node, ends nothing that it did not end the first time (but for clocks that differ).
    fn means(&self, record: &SessionRecord) -> bool {
        let Some(there) = &record.provider else {
            return false;
        };
        let is_named = match self.session {
            // Of a session that the provider gave no name, nobody can say that it is another one.
            Some(session) => match &there.session {
                Some(known) => known == session,
                None => self.subject.is_some(),
            },
            None => self.subject.is_some(),
        };
        is_named
            && there.issuer == self.issuer
            && self.subject.is_none_or(|subject| subject == there.subject)
            && record.created_at <= self.issued_at.plus(CLOCK_LEEWAY)
    }
}

impl Sessions {
    /// Ends the sessions that a provider wants ended; how many there were. Durable and told to all nodes before it returns.
    /// What failed is tried again until the store confirms it, because many providers say such a thing once.
    pub async fn end_at_provider(
        self: &Arc<Self>,
        logout: &Logout<'_>,
        ending: Ending,
    ) -> Result<usize, StoreError> {
        let ended = self.end_named(logout, ending.clone()).await;
        if ended.is_err() {
            self.end_named_later(logout, ending);
        }
        ended
    }

    /// Of several tries the first that the store confirms ends all that is meant; those beyond the room are left to the provider.
    fn end_named_later(self: &Arc<Self>, logout: &Logout<'_>, ending: Ending) {
        let Ok(place) = Arc::clone(&self.providers.logouts).try_acquire_owned() else {
            return;
        };
        let (provider, issuer) = (logout.provider.to_owned(), logout.issuer.to_owned());
        let subject = logout.subject.map(str::to_owned);
        let session = logout.session.map(str::to_owned);
        let issued_at = logout.issued_at;
        let sessions = Arc::downgrade(self);
        self.control.spawn(async move {
            let mut pauses = PAUSES;
            loop {
                tokio::time::sleep(pauses.pause()).await;
                let Some(sessions) = sessions.upgrade() else {
                    break;
                };
                let logout = Logout {
                    provider: &provider,
                    issuer: &issuer,
                    subject: subject.as_deref(),
                    session: session.as_deref(),
                    issued_at,
                };
                match sessions.end_named(&logout, ending.clone()).await {
                    Ok(_) => break,
                    Err(error) => {
                        tracing::warn!(%error, provider, "a provider's logout is not confirmed yet; trying again");
                    }
                }
            }
            drop(place);
        });
    }

    async fn end_named(
        self: &Arc<Self>,
        logout: &Logout<'_>,
        ending: Ending,
    ) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let session = logout.session.map(ProviderName::Session);
        let subject = logout.subject.map(ProviderName::Subject);
        let mut meant: Vec<SessionId> = Vec::new();
        for name in session.into_iter().chain(subject) {
            let named = self.store.sessions_at_provider(logout.provider, name, now);
            let named = self.timed(named).await?;
            meant.extend(named.iter().filter(|it| logout.means(it)).map(|it| it.id));
        }
        meant.sort_unstable();
        meant.dedup();
        let mut ended = 0;
        for group in meant.chunks(GROUP) {
            let ends = group.iter().map(|session| {
                let (sessions, session, ending) = (Arc::clone(self), *session, ending.clone());
                self.detached(async move { sessions.end_surely(session, ending).await })
            });
            for end in futures_util::future::join_all(ends).await {
                ended += usize::from(end?.is_some());
            }
        }
        Ok(ended)
    }
}
