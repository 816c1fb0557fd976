//! What concerns all nodes and is announced to them: revocations and signing keys. And the probe.

use super::names;
use super::store::{Redis, SPARE, format, fresh_revision, millis, read, replaced};
use crate::auth::keyset::StoredKey;
use crate::clock::Timestamp;
use crate::store::seal::{OTHER_MASTER_KEY, SealedKey};
use crate::store::{Replaced, Revision, RevocationRecord, StoreError, Stored, record};

/// Records in one answer.
const GROUP: usize = 512;

impl Redis {
    pub(super) async fn keep_revocation(
        &self,
        revocation: &RevocationRecord,
    ) -> Result<(), StoreError> {
        let target = serde_json::to_string(&revocation.target)
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        // Its moment is its revision: see the script.
        let moment = Revision(u64::try_from(revocation.at.as_millis()).unwrap_or(0));
        let bytes = record::encode(revocation, moment)?;
        let said = self
            .link
            .write(
                &self.scripts.put_revocation,
                &[
                    names::REVOCATIONS,
                    names::REVOCATION_ENDS,
                    names::FEED,
                    names::FEED_COUNT,
                ],
                &[
                    format().as_bytes(),
                    target.as_bytes(),
                    &bytes,
                    millis(revocation.until).as_bytes(),
                    millis(self.clock.now()).as_bytes(),
                    self.long_over().as_bytes(),
                    SPARE.as_millis().to_string().as_bytes(),
                ],
            )
            .await?;
        replaced(said, moment).map(|_| ())
    }

    pub(super) async fn live_revocations(
        &self,
        now: Timestamp,
    ) -> Result<Vec<RevocationRecord>, StoreError> {
        let mut command = redis::cmd("ZRANGEBYSCORE");
        command.arg(names::REVOCATION_ENDS);
        command.arg(format!("({}", now.as_millis())).arg("+inf");
        let targets: Vec<Vec<u8>> = read(self.link.send(&command).await?)?;
        let mut found = Vec::with_capacity(targets.len());
        for group in targets.chunks(GROUP) {
            let mut command = redis::cmd("HMGET");
            command.arg(names::REVOCATIONS).arg(group);
            let records: Vec<Option<Vec<u8>>> = read(self.link.send(&command).await?)?;
            for bytes in records.into_iter().flatten() {
                let revocation = record::decode::<RevocationRecord>(&bytes)?.record;
                if now < revocation.until {
                    found.push(revocation);
                }
            }
        }
        Ok(found)
    }

    pub(super) async fn remove_revocations(&self, now: Timestamp) -> Result<usize, StoreError> {
        let mut removed = 0;
        loop {
            let (gone, _) = self
                .link
                .run(
                    &self.scripts.remove_revocations,
                    &[names::REVOCATIONS, names::REVOCATION_ENDS],
                    &[format().as_bytes(), millis(now).as_bytes()],
                )
                .await?;
            removed += usize::try_from(gone).unwrap_or(0);
            if gone == 0 {
                return Ok(removed);
            }
        }
    }

    /// The signing keys as they lie there; `None` when there never were any.
    pub(super) async fn sealed_keys(&self) -> Result<Option<Stored<Vec<SealedKey>>>, StoreError> {
        let mut command = redis::cmd("GET");
        command.arg(names::KEYS);
        let bytes: Option<Vec<u8>> = read(self.link.send(&command).await?)?;
        bytes.map(|bytes| record::decode(&bytes)).transpose()
    }

    pub(super) async fn read_keys(&self) -> Result<Stored<Vec<StoredKey>>, StoreError> {
        let Some(Stored { record, revision }) = self.sealed_keys().await? else {
            return Ok(Stored {
                record: Vec::new(),
                revision: Revision::NONE,
            });
        };
        let record = self
            .seal
            .open_all(record)
            .ok_or_else(|| StoreError::Unreadable {
                path: self.shown().to_owned(),
                reason: OTHER_MASTER_KEY.to_owned(),
            })?;
        Ok(Stored { record, revision })
    }

    pub(super) async fn change_keys(
        &self,
        keys: &[StoredKey],
        expected: Revision,
    ) -> Result<Replaced, StoreError> {
        let revision = fresh_revision()?;
        let bytes = record::encode(&self.seal.seal_all(keys)?, revision)?;
        let said = self
            .link
            .write(
                &self.scripts.replace_keys,
                &[names::KEYS, names::FEED, names::FEED_COUNT],
                &[format().as_bytes(), &bytes, &expected.0.to_be_bytes()],
            )
            .await?;
        replaced(said, revision)
    }

    /// Writes: a replica or a full server still reads.
    pub(super) async fn try_a_write(&self) -> Result<(), StoreError> {
        let mut command = redis::cmd("SET");
        command.arg(names::PROBE).arg("").arg("PX").arg(60_000);
        self.link.send(&command).await?;
        if !self.link.is_spread().await? {
            return Ok(());
        }
        // A node that is lost takes its share of the sessions with it. Each part is asked for by a key: what is addressed to
        // a lost node without one, the client sends to another, which answers.
        let parts = (0..=u8::MAX).map(|part| async move {
            let mut command = redis::cmd("EXISTS");
            command.arg(names::ends(part));
            self.link.send(&command).await
        });
        match futures_util::future::try_join_all(parts).await {
            Ok(_) => Ok(()),
            Err(StoreError::Unavailable(reason)) => Err(StoreError::Unavailable(format!(
                "a part of it is away: {reason}"
            ))),
            Err(error) => Err(error),
        }
    }
}
