//! What an account may be called, and what may be said of it: nothing that an app could misread.

use super::{AccountError, NewAccount};
use crate::login::local::MAX_USERNAME;

/// Longest e-mail address, display name or group, in bytes.
pub(super) const MAX_TEXT: usize = 256;
/// Most groups of one account.
pub(super) const MAX_GROUPS: usize = 100;
/// Longest password hash in PHC format that is kept.
const MAX_HASH: usize = 512;
pub(super) fn check(new: &NewAccount) -> Result<(), AccountError> {
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

pub(super) fn check_parts(
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

/// Not empty, not too long, and nothing in it or around it that could not be seen.
fn word(text: &str, max: usize) -> bool {
    !text.is_empty() && text.len() <= max && text.trim() == text && !has_control(text)
}

pub(super) fn check_hash(hash: &str) -> Result<(), AccountError> {
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
