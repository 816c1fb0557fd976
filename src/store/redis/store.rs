//! The store as others see it: each method of the trait, and what they share.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use redis::{FromRedisValue, Value};

use super::link::Link;
use super::scripts::{Said, Scripts};
use super::wire::Dialer;
use super::{Settings, feed};
use crate::auth::SessionId;
use crate::auth::keyset::StoredKey;
use crate::auth::provider_session::ProviderName;
use crate::auth::rotation::SessionRecord;
use crate::clock::{Clock, DOUBT, Timestamp};
use crate::store::record::FORMAT;
use crate::store::seal::KeySeal;
use crate::store::{
    Account, Feed, Replaced, Revision, RevocationRecord, Store, StoreError, StoreFuture, Stored,
};
use crate::units::Secret;

/// How long a start waits for the store: after a reboot of a machine that has both, the store may come second.
const START: Duration = Duration::from_secs(10);
/// How much longer than it matters a record is kept: nodes' clocks differ, and one that stands wrong must not make the store
/// forget what others still judge. As long as any step of a clock is in doubt.
pub(super) const SPARE: Duration = DOUBT;

/// A store on Redis or Valkey.
pub struct Redis {
    pub(super) link: Link,
    pub(super) scripts: Scripts,
    pub(super) seal: KeySeal,
    pub(super) clock: Clock,
    dialer: Arc<Dialer>,
    shown: String,
}

impl Redis {
    /// Connects; an error when that does not succeed within ten seconds. Signing keys are sealed under `master`; keys
    /// that were sealed under one of `previous` still open. To be called within the runtime that will carry the
    /// connection.
    pub async fn open(
        settings: Settings,
        master: &Secret,
        previous: &[Secret],
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let shown = settings.address.to_string();
        let dialer = Arc::new(Dialer::new(settings)?);
        let redis = Redis {
            link: Link::start(Arc::clone(&dialer)),
            scripts: Scripts::new(),
            seal: KeySeal::new(master, previous)?,
            clock,
            dialer,
            shown,
        };
        redis
            .link
            .connected(START)
            .await
            .map_err(|error| match error {
                StoreError::Unavailable(reason) => {
                    StoreError::Unavailable(format!("{}: {reason}", redis.shown))
                }
                other => other,
            })?;
        Ok(redis)
    }

    /// Where it is, without secrets.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// How long Redis keeps what is over at `end`, in milliseconds. From now on and not until a moment: Redis's clock is
    /// not the nodes'.
    pub(super) fn kept(&self, end: Timestamp) -> String {
        end.plus(SPARE)
            .since(self.clock.now())
            .max(SPARE)
            .as_millis()
            .to_string()
    }

    /// What has been over for so long that no clock can be wrong by it.
    pub(super) fn long_over(&self) -> String {
        millis(self.clock.witnessed().minus(SPARE))
    }
}

/// A number that no other write gets, not even after a failover that lost this one.
pub(super) fn fresh_revision() -> Result<Revision, StoreError> {
    let mut bytes = [0; 8];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| StoreError::Unavailable("no random numbers".to_owned()))?;
    // Zero is taken: of what was never written.
    Ok(Revision(u64::from_be_bytes(bytes).max(1)))
}

pub(super) fn format() -> String {
    FORMAT.to_string()
}

pub(super) fn millis(at: Timestamp) -> String {
    at.as_millis().to_string()
}

/// What a compare-and-set came to.
pub(super) fn replaced(said: Said, revision: Revision) -> Result<Replaced, StoreError> {
    match said {
        Said::Done => Ok(Replaced::Committed(revision)),
        Said::Conflict => Ok(Replaced::Conflict),
        Said::Missing => Ok(Replaced::Missing),
        Said::Newer(found) => Err(StoreError::NewerFormat {
            found,
            known: FORMAT,
        }),
        Said::Damaged => Err(StoreError::Unavailable("a record is damaged".to_owned())),
    }
}

pub(super) fn read<T: FromRedisValue>(value: Value) -> Result<T, StoreError> {
    redis::from_redis_value(value).map_err(|error| StoreError::Unavailable(error.to_string()))
}

impl Store for Redis {
    fn session<'a>(&'a self, id: &'a SessionId) -> StoreFuture<'a, Option<Stored<SessionRecord>>> {
        Box::pin(self.read_session(id))
    }

    fn create_session<'a>(&'a self, record: &'a SessionRecord) -> StoreFuture<'a, Revision> {
        Box::pin(self.make_session(record))
    }

    fn replace_session<'a>(
        &'a self,
        record: &'a SessionRecord,
        expected: Revision,
    ) -> StoreFuture<'a, Replaced> {
        Box::pin(self.change_session(record, expected))
    }

    fn sessions<'a>(
        &'a self,
        user: Option<(&'a str, &'a str)>,
        now: Timestamp,
    ) -> StoreFuture<'a, Vec<SessionRecord>> {
        Box::pin(async move {
            match user {
                Some((provider, user)) => self.sessions_of(provider, user, now).await,
                None => self.all_sessions(now).await,
            }
        })
    }

    fn sessions_at_provider<'a>(
        &'a self,
        provider: &'a str,
        name: ProviderName<'a>,
        now: Timestamp,
    ) -> StoreFuture<'a, Vec<SessionRecord>> {
        Box::pin(self.sessions_at(provider, name, now))
    }

    fn remove_expired(&self, now: Timestamp) -> StoreFuture<'_, usize> {
        Box::pin(
            async move { Ok(self.remove_ended(now).await? + self.remove_revocations(now).await?) },
        )
    }

    fn put_revocation<'a>(&'a self, revocation: &'a RevocationRecord) -> StoreFuture<'a, ()> {
        Box::pin(self.keep_revocation(revocation))
    }

    fn revocations(&self, now: Timestamp) -> StoreFuture<'_, Vec<RevocationRecord>> {
        Box::pin(self.live_revocations(now))
    }

    fn account<'a>(&'a self, name: &'a str) -> StoreFuture<'a, Option<Stored<Account>>> {
        Box::pin(self.read_account(name))
    }

    fn accounts(&self) -> StoreFuture<'_, Vec<Account>> {
        Box::pin(self.all_accounts())
    }

    fn create_account<'a>(&'a self, account: &'a Account) -> StoreFuture<'a, Replaced> {
        Box::pin(self.make_account(account))
    }

    fn replace_account<'a>(
        &'a self,
        account: &'a Account,
        expected: Revision,
    ) -> StoreFuture<'a, Replaced> {
        Box::pin(self.change_account(account, expected))
    }

    fn remove_account<'a>(&'a self, name: &'a str) -> StoreFuture<'a, bool> {
        Box::pin(self.drop_account(name))
    }

    fn keys_need_sealing_anew(&self) -> StoreFuture<'_, bool> {
        Box::pin(async move {
            let sealed = self.sealed_keys().await?;
            Ok(sealed.is_some_and(|keys| self.seal.needs_sealing_anew(&keys.record)))
        })
    }

    fn keys(&self) -> StoreFuture<'_, Stored<Vec<StoredKey>>> {
        Box::pin(self.read_keys())
    }

    fn replace_keys<'a>(
        &'a self,
        keys: &'a [StoredKey],
        expected: Revision,
    ) -> StoreFuture<'a, Replaced> {
        Box::pin(self.change_keys(keys, expected))
    }

    fn feed(&self) -> Option<Feed> {
        Some(feed::read(Arc::clone(&self.dialer)))
    }

    fn time(&self) -> StoreFuture<'_, Option<Timestamp>> {
        Box::pin(async move {
            let said = self.link.send(&redis::cmd("TIME")).await?;
            let (seconds, _): (i64, i64) = read(said)?;
            Ok(Some(Timestamp::from_secs(seconds)))
        })
    }

    fn probe(&self) -> StoreFuture<'_, ()> {
        Box::pin(self.try_a_write())
    }
}
