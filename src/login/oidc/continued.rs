//! What userinfo alone says of somebody who has signed in before -> who that is by now. A refresh need not bring an ID token, nor
//! one that says more than who it is (OpenID Connect Core section 12.2); silence about a claim takes nothing away then. Must not
//! ask anybody.

use super::person::{PersonError, admitted, is_verified};
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
    admitted(settings, identity)
}

/// Whether an ID token that came with a refresh says of somebody no more than who it is, although they were known by more: then
/// it leaves that out (section 12.2 lets it), and to be silent denies nothing. One that says anything of the person is read like
/// that of a sign-in, because many providers leave out a claim that has become empty: silence about groups is how somebody's
/// last one is taken away.
pub fn is_only_proof(settings: &Settings, id_token: &ClaimSet, before: &Identity) -> bool {
    let map = &settings.claims.map;
    let said = [&map.email, &map.name, &map.preferred_username, &map.groups];
    let known = [&before.email, &before.name, &before.preferred_username];
    known.into_iter().any(Option::is_some) && !said.into_iter().any(|path| id_token.has_at(path))
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

    #[test]
    fn groups_that_nothing_here_can_ask_for_are_left_out_here_too() {
        let settings = Settings {
            useful_groups: Some(["staff".to_owned()].into()),
            ..openid()
        };
        let json = r#"{"sub":"s1","groups":["a","staff","z"]}"#;
        assert_eq!(read_one(&settings, json).unwrap().groups, ["staff"]);
    }

    #[test]
    fn an_id_token_that_says_less_than_was_known_is_proof_alone() {
        let check = |json: &str, before: &Identity, want: bool| {
            let token = ClaimSet::from_json(json.as_bytes()).unwrap();
            assert_eq!(is_only_proof(&openid(), &token, before), want, "{json}");
        };
        let known = before();
        let by_groups_alone = Identity {
            email: None,
            name: None,
            preferred_username: None,
            ..before()
        };
        for proof in [
            r#"{"sub":"s1"}"#,
            r#"{"sub":"s1","email_verified":true,"sid":"x"}"#,
        ] {
            check(proof, &known, true);
            // Nothing shows that it leaves anything out: somebody's last group may be gone.
            check(proof, &by_groups_alone, false);
        }
        for says in [
            r#"{"sub":"s1","name":"Ada"}"#,
            r#"{"sub":"s1","email":"a@example.com"}"#,
            r#"{"sub":"s1","preferred_username":"ada"}"#,
            r#"{"sub":"s1","groups":[]}"#,
            r#"{"sub":"s1","groups":null}"#,
        ] {
            check(says, &known, false);
        }
    }
}
