//! What a provider says of somebody who has signed in before -> who that is by now. A refresh need not bring an ID token, nor one
//! that says all that the first one said (OpenID Connect Core section 12.2), so silence is judged here and not taken for a no. Must
//! not ask anybody.

use super::person::{self, PersonError, admitted, is_verified};
use super::settings::Settings;
use crate::auth::Identity;
use crate::auth::claims::{ClaimMap, ClaimPath, ClaimSet};
use crate::clock::Timestamp;

/// What it means that nothing is said of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoGroups {
    /// That nothing was said.
    Silence,
    /// That there are none: many providers leave out a claim that has become empty, so this is how somebody's last one is taken away.
    Gone,
}

/// The identity of `before` with what is said now: a claim that is not there keeps its former value (of groups `no_groups` decides),
/// and so does a name that cannot be carried; `allow` judges the whole. The former address stays verified until somebody denies it or
/// names another one. `claims` are all that was said, `sources` by whom, as for [`person::read`].
pub fn read(
    settings: &Settings,
    claims: &ClaimSet,
    sources: &[&ClaimSet],
    before: &Identity,
    no_groups: NoGroups,
    now: Timestamp,
) -> Result<Identity, PersonError> {
    let paths = &settings.claims;
    let says_user = claims.has_at(&paths.map.user);
    // People choose their names themselves: one that cannot be carried keeps nothing else from being taken over.
    let says = |path: &ClaimPath| claims.has_at(path) && claims.is_carried_at(path);
    let says_name = says(&paths.map.name);
    let says_preferred = says(&paths.map.preferred_username);
    // What always can be read.
    let or_subject = |said: bool, path: &ClaimPath| match said {
        true => path.clone(),
        false => paths.subject.clone(),
    };
    let map = ClaimMap {
        user: or_subject(says_user, &paths.map.user),
        name: or_subject(says_name, &paths.map.name),
        preferred_username: or_subject(says_preferred, &paths.map.preferred_username),
        ..paths.map.clone()
    };
    let mut identity = person::identity(settings, &map, claims, now)?;
    if !says_user {
        identity.user.clone_from(&before.user);
    }
    if !says_name {
        identity.name.clone_from(&before.name);
    }
    if !says_preferred {
        let former = &before.preferred_username;
        identity.preferred_username.clone_from(former);
    }
    if !claims.has_at(&paths.map.groups) && no_groups == NoGroups::Silence {
        identity.groups.clone_from(&before.groups);
    }
    if !claims.has_at(&paths.map.email) {
        identity.email.clone_from(&before.email);
    }
    if !is_still_verified(sources, settings, before, identity.email.as_deref()) {
        identity.email = None;
        if paths.map.user == paths.map.email {
            return Err(PersonError::UnverifiedUser);
        }
    }
    admitted(settings, claims, identity)
}

/// Whether an address counts: the former one unless somebody denies it, another one as at a sign-in.
fn is_still_verified(
    sources: &[&ClaimSet],
    settings: &Settings,
    before: &Identity,
    address: Option<&str>,
) -> bool {
    if address.is_none() || address != before.email.as_deref() {
        return is_verified(sources, settings, address);
    }
    let paths = &settings.claims;
    // A source that says nothing of an address speaks of the former one.
    let of_it = sources.iter().filter(|source| {
        !source.has_at(&paths.map.email) || source.text_at(&paths.map.email).as_deref() == address
    });
    of_it
        .filter_map(|source| source.flag_at(&paths.email_verified))
        .all(|said| said)
}

/// Whether an ID token that came with a refresh says of somebody no more than who it is, although they were known by more: then
/// it leaves that out (section 12.2 lets it), and even to be silent about groups denies nothing. Where one says anything of the person
/// that is [`NoGroups::Gone`].
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
        read_both(settings, json, None, NoGroups::Silence)
    }

    fn read_both(
        settings: &Settings,
        id_token: &str,
        userinfo: Option<&str>,
        no_groups: NoGroups,
    ) -> Result<Identity, PersonError> {
        let set = |json: &str| ClaimSet::from_json(json.as_bytes()).unwrap();
        let (id_token, userinfo) = (set(id_token), userinfo.map(set));
        let all = match &userinfo {
            Some(userinfo) => id_token.clone().completed_by(userinfo),
            None => id_token.clone(),
        };
        let sources: Vec<&ClaimSet> = std::iter::once(&id_token).chain(&userinfo).collect();
        read(settings, &all, &sources, &before(), no_groups, NOW)
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
            let refused = read_one(&settings, gone);
            assert!(matches!(refused, Err(PersonError::NotAllowed(_))));
        }
        settings.allow = Allow {
            email_domains: vec!["example.com".to_owned()],
            ..Allow::default()
        };
        let denied = r#"{"sub":"s1","email_verified":false}"#;
        let refused = read_one(&settings, denied);
        assert!(matches!(refused, Err(PersonError::NotAllowed(_))));
    }

    #[test]
    fn an_id_token_that_says_less_than_the_first_takes_groups_away_and_nothing_else() {
        let gone = |id_token: &str, userinfo: Option<&str>| {
            read_both(&openid(), id_token, userinfo, NoGroups::Gone).unwrap()
        };
        let without_groups = Identity {
            groups: Vec::new(),
            ..before()
        };
        for id_token in [
            r#"{"sub":"s1","name":"Ada"}"#,
            r#"{"sub":"s1","preferred_username":"ada"}"#,
            r#"{"sub":"s1","email":"a@example.com"}"#,
        ] {
            assert_eq!(gone(id_token, None), without_groups, "{id_token}");
            let silent = Some(r#"{"sub":"s1"}"#);
            assert_eq!(gone(id_token, silent), without_groups, "{id_token}");
            let says = Some(r#"{"sub":"s1","groups":["staff"]}"#);
            assert_eq!(gone(id_token, says), before(), "{id_token}");
        }
        // What is denied by either of them is gone, and another address counts as at a sign-in.
        let named = r#"{"sub":"s1","email":"a@example.com"}"#;
        for (id_token, userinfo) in [
            (named, r#"{"sub":"s1","email_verified":false}"#),
            (
                r#"{"sub":"s1","name":"Ada"}"#,
                r#"{"sub":"s1","email_verified":false}"#,
            ),
            (
                named,
                r#"{"sub":"s1","email":"a@example.com","email_verified":false}"#,
            ),
            (
                r#"{"sub":"s1","email":"b@example.com"}"#,
                r#"{"sub":"s1","email_verified":true}"#,
            ),
            (
                r#"{"sub":"s1","name":"Ada"}"#,
                r#"{"sub":"s1","email":"b@example.com"}"#,
            ),
        ] {
            assert_eq!(
                gone(id_token, Some(userinfo)).email,
                None,
                "{id_token} {userinfo}"
            );
        }
        let other = r#"{"sub":"s1","email":"b@example.com","email_verified":true}"#;
        let now = gone(r#"{"sub":"s1","name":"Ada"}"#, Some(other));
        assert_eq!(now.email.as_deref(), Some("b@example.com"));
    }

    #[test]
    fn who_no_longer_says_which_user_they_are_is_the_one_of_before() {
        let mut settings = openid();
        settings.claims.map.user = ClaimPath::parse("preferred_username").unwrap();
        settings.allow.users = vec!["s1".to_owned()];
        let again = |json: &str| read_both(&settings, json, None, NoGroups::Gone);
        assert_eq!(again(r#"{"sub":"s2","name":"Ada"}"#).unwrap().user, "s1");
        let renamed = again(r#"{"sub":"s2","preferred_username":"eve"}"#);
        assert!(matches!(renamed, Err(PersonError::NotAllowed(_))));
        // Also where it is an address, which must not be denied then.
        settings.claims.map.user = settings.claims.map.email.clone();
        let again = |json: &str| read_both(&settings, json, None, NoGroups::Gone);
        assert_eq!(again(r#"{"sub":"s2","name":"Ada"}"#).unwrap().user, "s1");
        let denied = again(r#"{"sub":"s2","name":"Ada","email_verified":false}"#);
        assert_eq!(denied, Err(PersonError::UnverifiedUser));
    }

    #[test]
    fn a_name_that_cannot_be_carried_keeps_nothing_else_from_being_taken_over() {
        // People choose it themselves.
        let (long, tab) = ("x".repeat(2000), "a\\tb".to_owned());
        for name in [long, tab] {
            for claim in ["name", "preferred_username"] {
                let said = format!(r#"{{"sub":"s1","{claim}":"{name}","groups":["guests"]}}"#);
                let now = read_one(&openid(), &said).unwrap();
                let groups = vec!["guests".to_owned()];
                assert_eq!(now, Identity { groups, ..before() }, "{claim}");
            }
        }
        let denied = read_one(&openid(), r#"{"sub":"s1","name":null}"#).unwrap();
        assert_eq!(denied.name, None);
        // Of what rules are about nobody guesses.
        let wrong = read_one(&openid(), r#"{"sub":"s1","groups":[7]}"#);
        assert!(matches!(wrong, Err(PersonError::Claim(_))), "{wrong:?}");
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
