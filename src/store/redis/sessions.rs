//! Sessions: one key each, in 256 parts. Beside them two kinds of lists: the sessions of a part by their end, written
//! together with the record, and those of a user or of a name that a provider has for them, written before it.
//!
//! Such a list may name sessions that are not there; it never lacks one that is: it is written first, again at each
//! renewal, and entries without a record leave when they are found. Must not judge a session.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::names;
use super::store::{Redis, format, fresh_revision, millis, read, replaced};
use crate::auth::SessionId;
use crate::auth::provider_session::ProviderName;
use crate::auth::rotation::SessionRecord;
use crate::clock::Timestamp;
use crate::store::{Replaced, Revision, StoreError, Stored, listed, record, without_tokens};

/// How many commands of one caller are under way at once.
const AT_ONCE: usize = 32;
/// Records in one answer.
const GROUP: usize = 256;
/// An entry of such a list may be older than its record by less than this.
const LATE: Duration = Duration::from_secs(60);

impl Redis {
    pub(super) async fn read_session(
        &self,
        id: &SessionId,
    ) -> Result<Option<Stored<SessionRecord>>, StoreError> {
        let mut command = redis::cmd("GET");
        command.arg(names::session(id));
        let bytes: Option<Vec<u8>> = read(self.link.send(&command).await?)?;
        bytes.map(|bytes| record::decode(&bytes)).transpose()
    }

    pub(super) async fn make_session(
        &self,
        record: &SessionRecord,
    ) -> Result<Revision, StoreError> {
        self.list(record).await?;
        let revision = fresh_revision()?;
        let bytes = record::encode_session(record, revision)?;
        let (key, ends) = places(&record.id);
        let said = self
            .link
            .write(
                &self.scripts.create_session,
                &[&key, &ends],
                &[
                    format().as_bytes(),
                    &bytes,
                    self.kept(record.ends_at()).as_bytes(),
                    millis(record.ends_at()).as_bytes(),
                    record.id.to_string().as_bytes(),
                    self.long_over().as_bytes(),
                ],
            )
            .await?;
        match replaced(said, revision)? {
            Replaced::Committed(revision) => Ok(revision),
            Replaced::Conflict | Replaced::Missing => Err(StoreError::Unavailable(
                "the session id is taken".to_owned(),
            )),
        }
    }

    pub(super) async fn change_session(
        &self,
        record: &SessionRecord,
        expected: Revision,
    ) -> Result<Replaced, StoreError> {
        let revision = fresh_revision()?;
        let bytes = record::encode_session(record, revision)?;
        let (key, ends) = places(&record.id);
        let (format, kept, end) = (
            format(),
            self.kept(record.ends_at()),
            millis(record.ends_at()),
        );
        let (id, expected) = (record.id.to_string(), expected.0.to_be_bytes());
        let keys: [&str; 2] = [&key, &ends];
        let arguments: [&[u8]; 6] = [
            format.as_bytes(),
            &bytes,
            kept.as_bytes(),
            end.as_bytes(),
            id.as_bytes(),
            &expected,
        ];
        let change = self
            .link
            .write(&self.scripts.replace_session, &keys, &arguments);
        // A list that was lost with another part of the store comes back with its sessions' renewals; that it could not be
        // written now is no reason to refuse this one.
        let (said, _) = tokio::join!(change, self.list(record));
        replaced(said?, revision)
    }

    /// Puts a session on every list that it belongs to.
    async fn list(&self, record: &SessionRecord) -> Result<(), StoreError> {
        let provider = &record.identity.provider;
        let mut lists = vec![names::sessions_of(provider, &record.identity.user)];
        let at_provider = record.provider.iter().flat_map(|there| there.names());
        lists.extend(at_provider.map(|name| names::sessions_at(provider, name)));
        let puts = lists.iter().map(|list| self.put_on(list, record));
        futures_util::future::try_join_all(puts).await.map(drop)
    }

    async fn put_on(&self, list: &str, record: &SessionRecord) -> Result<(), StoreError> {
        let member = names::member(&record.id, record.created_at);
        let said = self
            .link
            .write(
                &self.scripts.put_on_list,
                &[list],
                &[
                    format().as_bytes(),
                    millis(record.absolute_expires_at).as_bytes(),
                    member.as_bytes(),
                    self.kept(record.absolute_expires_at).as_bytes(),
                    self.long_over().as_bytes(),
                ],
            )
            .await?;
        replaced(said, Revision::NONE).map(|_| ())
    }

    pub(super) async fn sessions_of(
        &self,
        provider: &str,
        user: &str,
        now: Timestamp,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        let list = names::sessions_of(provider, user);
        let is_theirs = |record: &SessionRecord| {
            record.identity.provider == provider && record.identity.user == user
        };
        self.on_list(&list, is_theirs, now).await
    }

    pub(super) async fn sessions_at(
        &self,
        provider: &str,
        name: ProviderName<'_>,
        now: Timestamp,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        let list = names::sessions_at(provider, name);
        let is_meant = |record: &SessionRecord| {
            record.identity.provider == provider
                && record
                    .provider
                    .as_ref()
                    .is_some_and(|there| there.names().any(|known| known == name))
        };
        self.on_list(&list, is_meant, now).await
    }

    /// The live sessions on a list that belong there.
    async fn on_list(
        &self,
        list: &str,
        belongs: impl Fn(&SessionRecord) -> bool,
        now: Timestamp,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        let mut command = redis::cmd("ZRANGEBYSCORE");
        command
            .arg(list)
            .arg(format!("({}", now.as_millis()))
            .arg("+inf");
        let members: Vec<String> = read(self.link.send(&command).await?)?;
        let looked: Vec<(String, Option<Stored<SessionRecord>>)> =
            stream::iter(members.into_iter().map(|member| async move {
                let found = match names::read_member(&member) {
                    Some((id, _)) => self.read_session(&id).await?,
                    None => None,
                };
                Ok::<_, StoreError>((member, found))
            }))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let mut live = Vec::new();
        let mut gone = Vec::new();
        for (member, found) in looked {
            match found {
                Some(stored) => live.push(without_tokens(stored.record)),
                None => gone.push(member),
            }
        }
        self.unlist(list, gone, now).await;
        live.retain(belongs);
        Ok(listed(live, now))
    }

    /// Takes entries without a record off a list; they do no harm if they stay.
    async fn unlist(&self, list: &str, mut gone: Vec<String>, now: Timestamp) {
        gone.retain(|member| {
            names::read_member(member).is_none_or(|(_, born)| now.since(born) > LATE)
        });
        if gone.is_empty() {
            return;
        }
        let mut command = redis::cmd("ZREM");
        command.arg(list).arg(gone);
        let _ = self.link.send(&command).await;
    }

    pub(super) async fn all_sessions(
        &self,
        now: Timestamp,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        let parts: Vec<Vec<SessionRecord>> = stream::iter((0..names::PARTS).map(|part| {
            let part = u8::try_from(part).unwrap_or(u8::MAX);
            self.sessions_in(part, now)
        }))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
        Ok(listed(parts.into_iter().flatten(), now))
    }

    async fn sessions_in(
        &self,
        part: u8,
        now: Timestamp,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        let mut command = redis::cmd("ZRANGEBYSCORE");
        command.arg(names::ends(part));
        command.arg(format!("({}", now.as_millis())).arg("+inf");
        let ids: Vec<String> = read(self.link.send(&command).await?)?;
        let mut found = Vec::with_capacity(ids.len());
        for group in ids.chunks(GROUP) {
            let mut command = redis::cmd("MGET");
            for id in group.iter().filter_map(|id| SessionId::parse(id)) {
                command.arg(names::session(&id));
            }
            let records: Vec<Option<Vec<u8>>> = read(self.link.send(&command).await?)?;
            for bytes in records.into_iter().flatten() {
                found.push(without_tokens(record::decode(&bytes)?.record));
            }
        }
        Ok(found)
    }

    pub(super) async fn remove_ended(&self, now: Timestamp) -> Result<usize, StoreError> {
        let removed: Vec<usize> = stream::iter((0..names::PARTS).map(|part| {
            let part = u8::try_from(part).unwrap_or(u8::MAX);
            self.remove_ended_in(part, now)
        }))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
        Ok(removed.into_iter().sum())
    }

    async fn remove_ended_in(&self, part: u8, now: Timestamp) -> Result<usize, StoreError> {
        let (ends, prefix) = (names::ends(part), names::session_prefix(part));
        let mut removed = 0;
        loop {
            let (gone, looked) = self
                .link
                .run(
                    &self.scripts.remove_ended,
                    &[&ends],
                    &[
                        format().as_bytes(),
                        millis(now).as_bytes(),
                        prefix.as_bytes(),
                        GROUP.to_string().as_bytes(),
                    ],
                )
                .await?;
            removed += usize::try_from(gone).unwrap_or(0);
            if usize::try_from(looked).unwrap_or(0) < GROUP {
                return Ok(removed);
            }
        }
    }
}

fn places(id: &SessionId) -> (String, String) {
    (names::session(id), names::ends(names::part(id)))
}
