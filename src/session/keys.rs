//! The signing keys in force: made at the first start, rotated with overlap, dropped when nothing they signed can live.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::end::MARGIN;
use super::{By, SessionEvent, Sessions};
use crate::auth::access_token::Expect;
use crate::auth::keyset::{KeyError, KeySet, StoredKey};
use crate::clock::Timestamp;
use crate::store::{Replaced, Revision, Store, StoreError, Stored};

/// Life of an assertion to an upstream; keys outlive it.
const ASSERTION_TTL: Duration = Duration::from_secs(60);
/// How often a change of the keys is made anew because another node changed them meanwhile.
const TRIES: usize = 8;

/// How long reading them anew may take.
const RELOAD_PATIENCE: Duration = Duration::from_secs(2);
/// How long a store that failed is left alone.
const AGAIN: Duration = Duration::from_secs(1);

/// Why the keys could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// The keys in force.
pub(super) struct Keys {
    set: ArcSwap<KeySet>,
    /// The list as stored; held while it changes.
    stored: tokio::sync::Mutex<Stored<Vec<StoredKey>>>,
}

impl Keys {
    /// Reads the keys, or makes the first one.
    pub(super) async fn open(store: &dyn Store, now: Timestamp) -> Result<Self, KeysError> {
        let (stored, _) = read_or_make(store, now).await?;
        Ok(Keys {
            set: ArcSwap::from_pointee(KeySet::new(&stored.record, now)?),
            stored: tokio::sync::Mutex::new(stored),
        })
    }
}

/// The list as it is stored, with a first key if there is none that signs: its id, when this call made it.
async fn read_or_make(
    store: &dyn Store,
    now: Timestamp,
) -> Result<(Stored<Vec<StoredKey>>, Option<String>), KeysError> {
    let mut stored = store.keys().await?;
    for _ in 0..TRIES {
        if stored.record.iter().any(|key| key.retires_at.is_none()) {
            return Ok((stored, None));
        }
        let first = StoredKey::generate(now)?;
        let kid = first.kid.clone();
        stored.record.push(first);
        match replace(store, stored.record, stored.revision).await? {
            Some(kept) => return Ok((kept, Some(kid))),
            // Another node was faster: its key is ours too.
            None => stored = store.keys().await?,
        }
    }
    Err(changing())
}

/// The list as it is stored now; `None` when it was changed since it was read.
async fn replace(
    store: &dyn Store,
    record: Vec<StoredKey>,
    expected: Revision,
) -> Result<Option<Stored<Vec<StoredKey>>>, StoreError> {
    Ok(match store.replace_keys(&record, expected).await? {
        Replaced::Committed(revision) => Some(Stored { record, revision }),
        Replaced::Conflict | Replaced::Missing => None,
    })
}

/// What may be told of a signing key.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KeyInfo {
    /// Its id.
    pub kid: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it verifies; `None` while it signs.
    pub retires_at: Option<Timestamp>,
}

impl From<&StoredKey> for KeyInfo {
    fn from(key: &StoredKey) -> Self {
        KeyInfo {
            kid: key.kid.clone(),
            created_at: key.created_at,
            retires_at: key.retires_at,
        }
    }
}

/// The list after a rotation: a new key signs, the old one verifies until nothing that it signed can live.
pub fn rotated(
    stored: &[StoredKey],
    access_ttl: Duration,
    now: Timestamp,
) -> Result<Vec<StoredKey>, KeyError> {
    let retires_at = now.plus(access_ttl.max(ASSERTION_TTL)).plus(MARGIN);
    let mut next: Vec<StoredKey> = stored
        .iter()
        .filter(|key| key.retires_at.is_none_or(|at| now < at))
        .cloned()
        .collect();
    for key in &mut next {
        key.retires_at = key.retires_at.or(Some(retires_at));
    }
    next.push(StoredKey::generate(now)?);
    Ok(next)
}

fn changing() -> KeysError {
    StoreError::Unavailable("the list of keys is changing too fast".to_owned()).into()
}

impl Sessions {
    /// The keys that tokens are signed and checked with now.
    pub fn keys(&self) -> Arc<KeySet> {
        self.keys.set.load_full()
    }

    /// What access tokens must match.
    pub fn expect(&self) -> &Expect {
        &self.expect
    }

    /// What may be told of the keys that sign or verify; those whose time is over lie in the store until the next sweep.
    pub async fn key_list(&self) -> Vec<KeyInfo> {
        let now = self.clock.now();
        let stored = self.keys.stored.lock().await;
        let in_force = |key: &&StoredKey| key.retires_at.is_none_or(|at| now < at);
        stored
            .record
            .iter()
            .filter(in_force)
            .map(Into::into)
            .collect()
    }

    /// Makes a new signing key and puts it in force; returns its id.
    pub async fn rotate_keys(&self, by: By, now: Timestamp) -> Result<String, KeysError> {
        let mut stored = self.keys.stored.lock().await;
        for _ in 0..TRIES {
            let next = rotated(&stored.record, self.settings.access_ttl, now)?;
            let set = KeySet::new(&next, now)?;
            let kid = next.last().map(|key| key.kid.clone()).unwrap_or_default();
            match self
                .timed(replace(&*self.store, next, stored.revision))
                .await?
            {
                Some(kept) => {
                    *stored = kept;
                    self.publish(set);
                    self.observer.observe(&SessionEvent::KeyRotated {
                        kid: kid.clone(),
                        by,
                    });
                    return Ok(kid);
                }
                None => *stored = self.timed(self.store.keys()).await?,
            }
        }
        Err(changing())
    }

    /// The node's time was set back: what was signed until now must not count again when its time comes a second time, nor
    /// what ran out in the time that was taken back. So there is one new key and no other; every browser renews. What is
    /// not stored yet is tried again for as long as it takes.
    pub async fn time_was_set_back(&self) {
        let now = self.clock.now();
        self.revocations.not_after(now);
        if let Err(error) = self.only_new_key(now).await {
            tracing::error!(%error, "no new signing key could be made");
        }
    }

    async fn only_new_key(&self, now: Timestamp) -> Result<(), KeyError> {
        let key = StoredKey::generate(now)?;
        self.publish(KeySet::new(std::slice::from_ref(&key), now)?);
        while let Err(error) = self.keep_only(&key).await {
            tracing::warn!(%error, "the new signing key could not be stored; trying again");
            tokio::time::sleep(AGAIN).await;
        }
        // Meanwhile another node's may have been read.
        self.publish(KeySet::new(std::slice::from_ref(&key), now)?);
        self.observer.observe(&SessionEvent::KeyRotated {
            kid: key.kid,
            by: By::Gateway,
        });
        Ok(())
    }

    async fn keep_only(&self, key: &StoredKey) -> Result<(), KeysError> {
        let mut stored = self.keys.stored.lock().await;
        for _ in 0..TRIES {
            let next = replace(&*self.store, vec![key.clone()], stored.revision);
            match self.timed(next).await? {
                Some(kept) => {
                    *stored = kept;
                    return Ok(());
                }
                None => *stored = self.timed(self.store.keys()).await?,
            }
        }
        Err(changing())
    }

    /// Drops keys whose time is over.
    pub(super) async fn retire_keys(&self, now: Timestamp) -> Result<(), KeysError> {
        let mut stored = self.keys.stored.lock().await;
        let over = |key: &StoredKey| key.retires_at.is_some_and(|at| at <= now);
        for _ in 0..TRIES {
            if !stored.record.iter().any(over) {
                return Ok(());
            }
            let left = stored.record.iter().filter(|key| !over(key));
            let next: Vec<StoredKey> = left.cloned().collect();
            // Not in force any more, whatever the store says to it.
            self.publish(KeySet::new(&next, now)?);
            match self
                .timed(replace(&*self.store, next, stored.revision))
                .await?
            {
                Some(kept) => *stored = kept,
                None => {
                    *stored = self.timed(self.store.keys()).await?;
                    self.publish(KeySet::new(&stored.record, now)?);
                }
            }
        }
        Err(changing())
    }

    /// Takes over what another node has put in force. A store that has lost its keys gets a new one, and with it every node.
    pub(super) async fn reload_keys(&self, now: Timestamp) -> Result<(), KeysError> {
        let mut stored = self.keys.stored.lock().await;
        let reading = read_or_make(&*self.store, now);
        let read = tokio::time::timeout(RELOAD_PATIENCE, reading).await;
        let (next, made) = read.unwrap_or_else(|_| {
            Err(StoreError::Unavailable("it did not answer in time".to_owned()).into())
        })?;
        if next.revision != stored.revision {
            self.publish(KeySet::new(&next.record, now)?);
            *stored = next;
        }
        if let Some(kid) = made {
            tracing::error!(
                "the store holds none of the signing keys that it held: it was emptied, or another one stands in its place; \
                 everybody has to sign in again, and accounts of [login.local] are gone"
            );
            let by = By::Gateway;
            self.observer.observe(&SessionEvent::KeyRotated { kid, by });
        }
        Ok(())
    }

    fn publish(&self, set: KeySet) {
        self.keys.set.store(Arc::new(set));
        self.verified.forget_all();
    }
}
