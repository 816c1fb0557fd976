//! What userinfo alone says of somebody who has signed in before -> who that is by now. A refresh need not bring an ID token
//! (OpenID Connect Core section 12.2), and silence about a claim takes nothing away. Must not ask anybody.

use super::person::{PersonError, admits, is_verified};
use super::settings::Settings;
use crate::auth::Identity;
use crate::auth::claims::{ClaimMap, ClaimSet};
use crate::clock::Timestamp;

/// The identity of `before` with what `userinfo` says: a claim that is not there keeps its former value, and `allow` judges the
/// whole. The former address stays verified until somebody denies it or names another one.
pub fn read(
    settings: &Settings,
    userinfo: &ClaimSet,
    before: &Identity,
    now: Timestamp,
) -> Result<Identity, PersonError> {
    let paths = &settings.claims;
    let map = ClaimMap {
        // Always there; whether the configured one is, is looked at below.
        user: paths.subject.clone(),
        ..paths.map.clone()
    };
    let mut identity = map.identity(userinfo, &settings.name, now)?;
    let says_address = userinfo.has_at(&paths.map.email);
    let verified = match userinfo.flag_at(&paths.email_verified) {
        Some(false) => false,
        _ if !says_address || identity.email == before.email => true,
        _ => is_verified(&[userinfo], settings, identity.email.as_deref()),
    };
    if !says_address {
        identity.email.clone_from(&before.email);
    }
    if !verified {
        identity.email = None;
    }
    let user_is_address = paths.map.user == paths.map.email;
    if user_is_address && identity.email.is_none() {
        return Err(PersonError::UnverifiedUser);
    }
    identity.user = userinfo
        .text_at(&paths.map.user)
        .unwrap_or_else(|| before.user.clone());
    if !userinfo.has_at(&paths.map.name) {
        identity.name.clone_from(&before.name);
    }
    if !userinfo.has_at(&paths.map.preferred_username) {
        let former = &before.preferred_username;
        identity.preferred_username.clone_from(former);
    }
    if !userinfo.has_at(&paths.map.groups) {
        identity.groups.clone_from(&before.groups);
    }
    match admits(&settings.allow, &identity) {
        true => Ok(identity),
        false => Err(PersonError::NotAllowed),
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::Allow;
    use super::super::settings::tests::openid;
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn before() -> Identity {
        Identity {
            user: "s1".to_owned(),
            email: Some("a@example.com".to_owned()),
            name: Some("Ada".to_owned()),
            preferred_username: Some("ada".to_owned()),
            groups: vec!["staff".to_owned()],
            provider: "corp".to_owned(),
            auth_time: NOW,
            amr: Vec::new(),
        }
    }

    fn read_one(settings: &Settings, json: &str) -> Result<Identity, PersonError> {
        let userinfo = ClaimSet::from_json(json.as_bytes()).unwrap();
        read(settings, &userinfo, &before(), NOW)
    }

    #[test]
    fn silence_keeps_everything_and_signs_nobody_out() {
        let list = |one: &str| vec![one.to_owned()];
        let (groups, email_domains) = (list("staff"), list("example.com"));
        let allows = [
            Allow::default(),
            Allow {
                groups,
                ..Allow::default()
            },
            Allow {
                email_domains,
                ..Allow::default()
            },
            Allow {
                users: list("s1"),
                ..Allow::default()
            },
        ];
        for allow in allows {
            let settings = Settings { allow, ..openid() };
            for silent in [
                r#"{"sub":"s1"}"#,
                r#"{"sub":"s1","email":"a@example.com"}"#,
                r#"{"sub":"s1","email_verified":true}"#,
            ] {
                assert_eq!(read_one(&settings, silent).unwrap(), before(), "{silent}");
            }
        }
    }

    #[test]
    fn what_is_said_holds() {
        let mut settings = openid();
        let now = read_one(&settings, r#"{"sub":"s1","groups":["boss"],"name":"A"}"#).unwrap();
        assert_eq!(
            (now.groups, now.name.as_deref()),
            (vec!["boss".to_owned()], Some("A"))
        );
        let email = |json: &str| read_one(&openid(), json).unwrap().email;
        let other = r#"{"sub":"s1","email":"b@example.com","email_verified":true}"#;
        assert_eq!(email(other).as_deref(), Some("b@example.com"));
        for none in [
            r#"{"sub":"s1","email":"b@example.com"}"#,
            r#"{"sub":"s1","email":null}"#,
            r#"{"sub":"s1","email_verified":false}"#,
            r#"{"sub":"s1","email":"a@example.com","email_verified":false}"#,
        ] {
            assert_eq!(email(none), None, "{none}");
        }
        settings.allow.groups = vec!["staff".to_owned()];
        for gone in [
            r#"{"sub":"s1","groups":["x"]}"#,
            r#"{"sub":"s1","groups":null}"#,
        ] {
            assert_eq!(read_one(&settings, gone), Err(PersonError::NotAllowed));
        }
        settings.allow = Allow {
            email_domains: vec!["example.com".to_owned()],
            ..Allow::default()
        };
        let denied = r#"{"sub":"s1","email_verified":false}"#;
        assert_eq!(read_one(&settings, denied), Err(PersonError::NotAllowed));
    }
}
