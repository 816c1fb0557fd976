//! What operators do to built-in accounts. Blocking, removing and a new password also end the account's sessions.
//!
//! Must not see a password: whoever calls has hashed it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::login::local::{MAX_USERNAME, PROVIDER};
use crate::session::{By, Ending, Reason, Sessions};
use crate::store::{Account, Replaced, Store, StoreError, Stored};

/// Longest e-mail address, display name or group, in bytes.
const MAX_TEXT: usize = 256;
/// Most groups of one account.
const MAX_GROUPS: usize = 100;
/// Longest password hash in PHC format that is kept.
const MAX_HASH: usize = 512;
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

/// What becomes of a part of an account that may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// It stays as it is.
    #[default]
    Keep,
    /// It is removed.
    Remove,
    /// It becomes this.
    Set(String),
}

impl Part {
    fn apply(&self, part: &mut Option<String>) {
        match self {
            Part::Keep => {}
            Part::Remove => *part = None,
            Part::Set(text) => *part = Some(text.clone()),
        }
    }
}

/// What an operator changes of what apps learn about a person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountChange {
    /// E-mail address.
    pub email: Part,
    /// Display name.
    pub display_name: Part,
    /// All groups from now on, unless `None`.
    pub groups: Option<Vec<String>>,
    /// Groups to add, then.
    pub add_groups: Vec<String>,
    /// Groups to take away, last.
    pub remove_groups: Vec<String>,
}

impl AccountChange {
    fn apply(&self, account: &mut Account) {
        self.email.apply(&mut account.email);
        self.display_name.apply(&mut account.display_name);
        if let Some(groups) = &self.groups {
            account.groups.clone_from(groups);
        }
        account.groups.extend(self.add_groups.iter().cloned());
        account
            .groups
            .retain(|group| !self.remove_groups.contains(group));
        account.groups = each_once(std::mem::take(&mut account.groups));
    }
}

/// What became of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Its name as it was first written, which its sessions carry.
    pub name: String,
    /// Which parts are others now; none: it was so already, and nothing was written.
    pub fields: Vec<&'static str>,
    /// The groups that it is in since.
    pub groups_added: Vec<String>,
    /// The groups that it was in before.
    pub groups_removed: Vec<String>,
    /// How many live sessions were ended by it.
    pub sessions: usize,
}

impl Changed {
    fn between(before: &Account, after: &Account) -> Self {
        let differs = [
            ("email", before.email != after.email),
            ("name", before.display_name != after.display_name),
            ("groups", before.groups != after.groups),
            ("password", before.password_hash != after.password_hash),
            ("blocked", before.blocked != after.blocked),
        ];
        let missing = |from: &[String], what: &[String]| -> Vec<String> {
            let missing = what.iter().filter(|group| !from.contains(group));
            missing.cloned().collect()
        };
        Changed {
            name: after.name.clone(),
            fields: differs
                .iter()
                .filter(|(_, differs)| *differs)
                .map(|(field, _)| *field)
                .collect(),
            groups_added: missing(&before.groups, &after.groups),
            groups_removed: missing(&after.groups, &before.groups),
            sessions: 0,
        }
    }
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

fn check(new: &NewAccount) -> Result<(), AccountError> {
    if !word(&new.name, MAX_USERNAME) || new.name.to_lowercase().len() > MAX_USERNAME {
        return Err(AccountError::Name);
    }
    check_parts(
        new.email.as_deref(),
        new.display_name.as_deref(),
        &new.groups,
    )?;
    check_hash(&new.password_hash)
}

fn check_parts(
    email: Option<&str>,
    display_name: Option<&str>,
    groups: &[String],
) -> Result<(), AccountError> {
    if let Some(email) = email
        && !(word(email, MAX_TEXT) && email.contains('@') && !email.contains(char::is_whitespace))
    {
        return Err(AccountError::Email);
    }
    if let Some(name) = display_name
        && !word(name, MAX_TEXT)
    {
        return Err(AccountError::DisplayName);
    }
    check_groups(groups)
}

fn check_groups(groups: &[String]) -> Result<(), AccountError> {
    let good = |group: &String| word(group, MAX_TEXT) && !group.contains(',');
    if groups.len() > MAX_GROUPS || !groups.iter().all(good) {
        return Err(AccountError::Group);
    }
    Ok(())
}

fn each_once(groups: Vec<String>) -> Vec<String> {
    let mut once = Vec::with_capacity(groups.len());
    for group in groups {
        if !once.contains(&group) {
            once.push(group);
        }
    }
    once
}

/// Not empty, not too long, and nothing in it or around it that could not be seen.
fn word(text: &str, max: usize) -> bool {
    !text.is_empty() && text.len() <= max && text.trim() == text && !has_control(text)
}

fn check_hash(hash: &str) -> Result<(), AccountError> {
    if hash.starts_with("$argon2id$") && hash.len() <= MAX_HASH && hash.is_ascii() {
        Ok(())
    } else {
        Err(AccountError::Hash)
    }
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(name: &str) -> NewAccount {
        NewAccount {
            name: name.to_owned(),
            email: Some("a@example.com".to_owned()),
            display_name: None,
            groups: vec!["staff".to_owned()],
            password_hash: "$argon2id$v=19$m=1,t=1,p=1$c2FsdHNhbHQ$aGFzaA".to_owned(),
        }
    }

    #[test]
    fn what_upstreams_could_misread_is_refused() {
        assert!(check(&new("alice")).is_ok());
        assert!(check(&new("김민준")).is_ok());
        for name in ["", " alice", "alice ", "al\nice", &"a".repeat(257)] {
            assert!(
                matches!(check(&new(name)), Err(AccountError::Name)),
                "{name:?}"
            );
        }
        for email in ["", "alice", "a b@example.com", "a@example.com\r\nx: y"] {
            let mut account = new("alice");
            account.email = Some(email.to_owned());
            assert!(
                matches!(check(&account), Err(AccountError::Email)),
                "{email:?}"
            );
        }
        for group in ["", "staff,admin", " staff", "st\0aff"] {
            let mut account = new("alice");
            account.groups = vec![group.to_owned()];
            assert!(
                matches!(check(&account), Err(AccountError::Group)),
                "{group:?}"
            );
        }
        let mut plain = new("alice");
        plain.password_hash = "hunter2".to_owned();
        assert!(matches!(check(&plain), Err(AccountError::Hash)));
    }
}
