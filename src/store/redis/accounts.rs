//! Built-in accounts: few, so one hash by name in lower case.

use super::names;
use super::store::{Redis, format, fresh_revision, read, replaced};
use crate::store::{Account, Replaced, Revision, StoreError, Stored, record};

/// How often a removal is tried anew because the account changed meanwhile.
const TRIES: usize = 8;

impl Redis {
    pub(super) async fn read_account(
        &self,
        name: &str,
    ) -> Result<Option<Stored<Account>>, StoreError> {
        let mut command = redis::cmd("HGET");
        command.arg(names::ACCOUNTS).arg(folded(name));
        let bytes: Option<Vec<u8>> = read(self.link.send(&command).await?)?;
        bytes.map(|bytes| record::decode(&bytes)).transpose()
    }

    pub(super) async fn all_accounts(&self) -> Result<Vec<Account>, StoreError> {
        let mut command = redis::cmd("HGETALL");
        command.arg(names::ACCOUNTS);
        let mut rows: Vec<(String, Vec<u8>)> = read(self.link.send(&command).await?)?;
        rows.sort();
        rows.into_iter()
            .map(|(_, bytes)| Ok(record::decode::<Account>(&bytes)?.record))
            .collect()
    }

    pub(super) async fn make_account(&self, account: &Account) -> Result<Replaced, StoreError> {
        let revision = fresh_revision()?;
        let bytes = record::encode(account, revision)?;
        let name = folded(&account.name);
        let said = self
            .link
            .write(
                &self.scripts.create_account,
                &[names::ACCOUNTS],
                &[format().as_bytes(), name.as_bytes(), &bytes],
            )
            .await?;
        replaced(said, revision)
    }

    pub(super) async fn change_account(
        &self,
        account: &Account,
        expected: Revision,
    ) -> Result<Replaced, StoreError> {
        let revision = fresh_revision()?;
        let bytes = record::encode(account, revision)?;
        let name = folded(&account.name);
        let said = self
            .link
            .write(
                &self.scripts.replace_account,
                &[names::ACCOUNTS],
                &[
                    format().as_bytes(),
                    name.as_bytes(),
                    &bytes,
                    &expected.0.to_be_bytes(),
                ],
            )
            .await?;
        replaced(said, revision)
    }

    pub(super) async fn drop_account(&self, name: &str) -> Result<bool, StoreError> {
        for _ in 0..TRIES {
            let Some(stored) = self.read_account(name).await? else {
                return Ok(false);
            };
            let expected = stored.revision.0.to_be_bytes();
            let folded = folded(name);
            let said = self
                .link
                .write(
                    &self.scripts.remove_account,
                    &[names::ACCOUNTS],
                    &[format().as_bytes(), folded.as_bytes(), &expected],
                )
                .await?;
            match replaced(said, Revision::NONE)? {
                Replaced::Committed(_) => return Ok(true),
                Replaced::Missing => return Ok(false),
                Replaced::Conflict => {}
            }
        }
        Err(StoreError::Unavailable(
            "the account is changing too fast".to_owned(),
        ))
    }
}

fn folded(name: &str) -> String {
    name.to_lowercase()
}
