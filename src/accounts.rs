//! What operators do to built-in accounts. Blocking, removing and a new password also end the account's sessions.
//!
//! Must not see a password: whoever calls has hashed it.

mod change;
mod checks;

use std::sync::Arc;

use crate::clock::Clock;
use crate::login::local::{MAX_USERNAME, PROVIDER};
use crate::session::{By, Ending, Reason, Sessions};
use crate::store::{Account, Replaced, Store, StoreError, Stored};

use change::each_once;
pub use change::{AccountChange, Changed, Part};
use checks::{MAX_GROUPS, MAX_TEXT, check, check_hash, check_parts};

/// How often a change is tried anew because the account was changed by others.
const TRIES: usize = 16;

/// Why an account was not changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The name is in use, perhaps in another case.
    #[error(
        "there is an account of that name already, in this or another case; see: vestibule user list"
    )]
    Taken,
    /// Nobody has this name.
    #[error("there is no account of that name; see: vestibule user list")]
    Unknown,
    /// A name that cannot be told from another, or that is too long.
    #[error(
        "a name has 1 to {MAX_USERNAME} bytes, no control characters, and no space at either end"
    )]
    Name,
    /// Not an e-mail address.
    #[error("an e-mail address has an @ and no spaces, and at most {MAX_TEXT} bytes")]
    Email,
    /// A display name that could not be sent on.
    #[error("a display name has 1 to {MAX_TEXT} bytes and no control characters")]
    DisplayName,
    /// A group that upstreams could read as several, or that is too long.
    #[error(
        "a group has 1 to {MAX_TEXT} bytes, no comma, no control characters, and no space at either end; an account has at most {MAX_GROUPS}"
    )]
    Group,
    /// Not an argon2id hash.
    #[error("the password hash is no argon2id hash in PHC format")]
    Hash,
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A new account, as an operator describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAccount {
    /// Unique in any case.
    pub name: String,
    /// E-mail address.
    pub email: Option<String>,
    /// Display name.
    pub display_name: Option<String>,
    /// Groups; duplicates are dropped.
    pub groups: Vec<String>,
    /// From [`crate::login::local::hash_password`].
    pub password_hash: String,
}

/// The operations.
pub struct Accounts {
    store: Arc<dyn Store>,
    sessions: Arc<Sessions>,
    clock: Clock,
}

impl Accounts {
    /// Over one store, and the sessions on it.
    pub fn new(store: Arc<dyn Store>, sessions: Arc<Sessions>, clock: Clock) -> Self {
        Accounts {
            store,
            sessions,
            clock,
        }
    }

    /// All of them, by name.
    pub async fn list(&self) -> Result<Vec<Account>, AccountError> {
        Ok(self.store.accounts().await?)
    }

    /// Makes one.
    pub async fn add(&self, new: NewAccount) -> Result<(), AccountError> {
        check(&new)?;
        let groups = each_once(new.groups);
        let now = self.clock.now();
        let account = Account {
            name: new.name,
            email: new.email,
            display_name: new.display_name,
            groups,
            password_hash: new.password_hash,
            blocked: false,
            created_at: now,
            password_changed_at: now,
        };
        match self.store.create_account(&account).await? {
            Replaced::Committed(_) => Ok(()),
            Replaced::Conflict | Replaced::Missing => Err(AccountError::Taken),
        }
    }

    /// Sets a new password and ends the account's sessions.
    pub async fn set_password(
        &self,
        name: &str,
        hash: &str,
        by: By,
    ) -> Result<Changed, AccountError> {
        check_hash(hash)?;
        let now = self.clock.now();
        let changed = self
            .change(name, |account| {
                account.password_hash = hash.to_owned();
                account.password_changed_at = now;
            })
            .await?;
        self.end_sessions(changed, Reason::PasswordChanged, by)
            .await
    }

    /// Changes what apps learn about a person; the account's sessions have it from their next renewal on.
    pub async fn revise(
        &self,
        name: &str,
        change: &AccountChange,
    ) -> Result<Changed, AccountError> {
        self.change(name, |account| change.apply(account)).await
    }

    /// Keeps an account from signing in and ends its sessions.
    pub async fn block(&self, name: &str, by: By) -> Result<Changed, AccountError> {
        let changed = self.change(name, |account| account.blocked = true).await?;
        self.end_sessions(changed, Reason::Blocked, by).await
    }

    /// Lets a blocked account sign in again.
    pub async fn unblock(&self, name: &str) -> Result<Changed, AccountError> {
        self.change(name, |account| account.blocked = false).await
    }

    /// Removes an account and ends its sessions.
    pub async fn remove(&self, name: &str, by: By) -> Result<Changed, AccountError> {
        let account = self.find(name).await?.record;
        if !self.store.remove_account(name).await? {
            return Err(AccountError::Unknown);
        }
        let changed = Changed {
            name: account.name,
            ..Changed::default()
        };
        self.end_sessions(changed, Reason::Removed, by).await
    }

    /// The name as it was written when the account was made, which its sessions carry.
    pub async fn written_name(&self, name: &str) -> Result<String, AccountError> {
        Ok(self.find(name).await?.record.name)
    }

    async fn find(&self, name: &str) -> Result<Stored<Account>, AccountError> {
        self.store.account(name).await?.ok_or(AccountError::Unknown)
    }

    async fn change(
        &self,
        name: &str,
        change: impl Fn(&mut Account),
    ) -> Result<Changed, AccountError> {
        for _ in 0..TRIES {
            let Stored {
                record: before,
                revision,
            } = self.find(name).await?;
            let mut account = before.clone();
            change(&mut account);
            let changed = Changed::between(&before, &account);
            if account == before {
                return Ok(changed);
            }
            let told = |field: &&str| matches!(*field, "email" | "name" | "groups");
            if changed.fields.iter().any(told) {
                check_parts(
                    account.email.as_deref(),
                    account.display_name.as_deref(),
                    &account.groups,
                )?;
            }
            match self.store.replace_account(&account, revision).await? {
                Replaced::Committed(_) => return Ok(changed),
                Replaced::Missing => return Err(AccountError::Unknown),
                Replaced::Conflict => {}
            }
        }
        Err(busy())
    }

    async fn end_sessions(
        &self,
        mut changed: Changed,
        reason: Reason,
        by: By,
    ) -> Result<Changed, AccountError> {
        let ending = Ending::new(reason, by);
        let ended = self.sessions.end_user(PROVIDER, &changed.name, ending);
        changed.sessions = ended.await?;
        Ok(changed)
    }
}

fn busy() -> AccountError {
    StoreError::Unavailable("the account is changing too fast".to_owned()).into()
}
