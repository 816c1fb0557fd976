//! What an operator changes of an account, and what that came to.

use serde::{Deserialize, Serialize};

use crate::store::Account;

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
    pub(super) fn apply(&self, account: &mut Account) {
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
    pub(super) fn between(before: &Account, after: &Account) -> Self {
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

pub(super) fn each_once(groups: Vec<String>) -> Vec<String> {
    let mut once = Vec::with_capacity(groups.len());
    for group in groups {
        if !once.contains(&group) {
            once.push(group);
        }
    }
    once
}
