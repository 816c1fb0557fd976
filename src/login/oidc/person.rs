//! What a provider says of somebody -> who that is here, or why they may not come in. Must not ask anybody.

use serde::Deserialize;
use serde_json::json;

use super::settings::{Allow, ClaimPaths, Settings};
use crate::auth::Identity;
use crate::auth::claims::{ClaimError, ClaimMap, ClaimPath, ClaimProblem, ClaimSet};
use crate::clock::Timestamp;

/// The member that stands for the address of a list, named after the key that leads to it.
const LISTED: &str = "emails_url";
/// Whether there is one.
const LISTED_VERIFIED: &str = "email_verified";

/// Somebody whom a provider signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Who they are to apps.
    pub identity: Identity,
    /// Who they are to the provider: never changes, never given to somebody else.
    pub subject: String,
}

/// Why a provider's account is nobody here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PersonError {
    /// A claim is missing or cannot be carried.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// Nothing that never changes.
    #[error("the claim {0:?} (for subject) is missing")]
    NoSubject(String),
    /// The user is the e-mail address, and the provider does not say that it is verified.
    #[error(
        "`claims.user` is the e-mail address, and the provider does not say that it is verified"
    )]
    UnverifiedUser,
    /// None of those that `allow` names.
    #[error("`allow` admits neither their groups, user nor verified e-mail address{}", NothingOfGroups(.0))]
    NotAllowed(Refused),
}

/// Somebody who is known, and not admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Who it is, by `claims.user`; an e-mail address only if it is verified.
    pub user: String,
    /// The claim that `claims.groups` names, where `allow` asks for groups and nothing is known of them.
    pub no_groups: Option<String>,
}

struct NothingOfGroups<'a>(&'a Refused);

impl std::fmt::Display for NothingOfGroups<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0.no_groups {
            Some(claim) => write!(f, "; the claim {claim:?} (for groups) is missing"),
            None => Ok(()),
        }
    }
}

/// Reads an account. `claims` are the ID token's, completed by userinfo; `sources` are both of them by themselves, because an
/// address is verified only if one of them says so of that very address.
pub fn read(
    settings: &Settings,
    claims: &ClaimSet,
    sources: &[&ClaimSet],
    now: Timestamp,
) -> Result<Person, PersonError> {
    let paths = &settings.claims;
    let subject = claims
        .text_at(&paths.subject)
        .ok_or_else(|| PersonError::NoSubject(paths.subject.to_string()))?;
    let mut identity = identity(settings, &paths.map, claims, now)?;
    let address = identity.email.as_deref();
    if !is_verified(sources, settings, address) {
        // Apps and rules take an address for a name of its owner (ASVS 10.3.3): one that anybody may have typed is none.
        identity.email = None;
        if paths.map.user == paths.map.email {
            return Err(PersonError::UnverifiedUser);
        }
    }
    let identity = admitted(settings, claims, identity)?;
    Ok(Person { identity, subject })
}

/// What claims say by themselves, as yet with whatever address they name.
pub(super) fn identity(
    settings: &Settings,
    map: &ClaimMap,
    claims: &ClaimSet,
    now: Timestamp,
) -> Result<Identity, PersonError> {
    let identity = map.identity(claims, &settings.name, now);
    identity.map_err(|error| match error.problem {
        ClaimProblem::Unverified => PersonError::UnverifiedUser,
        _ => error.into(),
    })
}

/// Somebody whom `allow` lets in, with the groups that a session keeps; their address has been found to be verified. `claims` are
/// what was said.
pub(super) fn admitted(
    settings: &Settings,
    claims: &ClaimSet,
    mut identity: Identity,
) -> Result<Identity, PersonError> {
    let allow = &settings.allow;
    if !admits(allow, &identity) {
        let path = &settings.claims.map.groups;
        let is_silent = identity.groups.is_empty() && !claims.has_at(path);
        return Err(PersonError::NotAllowed(Refused {
            user: identity.user,
            no_groups: (is_silent && !allow.groups.is_empty()).then(|| path.to_string()),
        }));
    }
    // Some people are in hundreds of groups, and a cookie has 4 KiB.
    if let Some(useful) = &settings.useful_groups {
        identity.groups.retain(|group| useful.contains(group));
    }
    Ok(identity)
}

/// The account with the address of a list as GitHub gives it (`email`, `primary`, `verified`): the primary one if it is
/// verified, else the first that is, else none; and where it is found there, whatever the configured paths are, because it lies
/// at none of them. `None` when it is no such list.
pub fn with_verified_email(
    account: &ClaimSet,
    list: &[u8],
    paths: &ClaimPaths,
) -> Option<(ClaimSet, ClaimPaths)> {
    #[derive(Deserialize)]
    struct Address {
        email: String,
        #[serde(default)]
        primary: bool,
        #[serde(default)]
        verified: bool,
    }
    let addresses: Vec<Address> = serde_json::from_slice(list).ok()?;
    let mut verified: Vec<&Address> = addresses.iter().filter(|one| one.verified).collect();
    verified.sort_by_key(|one| !one.primary);
    let found = verified.first().map(|one| one.email.as_str());
    let said = json!({ LISTED: found, LISTED_VERIFIED: found.is_some() });
    let said = ClaimSet::from_json(said.to_string().as_bytes())?;
    let mut listed = paths.clone();
    listed.map.email = ClaimPath::parse(LISTED).ok()?;
    listed.email_verified = ClaimPath::parse(LISTED_VERIFIED).ok()?;
    if paths.map.user == paths.map.email {
        listed.map.user.clone_from(&listed.map.email);
    }
    Some((said.completed_by(account), listed))
}

/// Whether a source that has this address says that it is verified (or all of the provider's are trusted), and none denies it.
pub(super) fn is_verified(
    sources: &[&ClaimSet],
    settings: &Settings,
    address: Option<&str>,
) -> bool {
    let paths = &settings.claims;
    let mut said = sources
        .iter()
        .filter(|source| source.text_at(&paths.map.email).as_deref() == address)
        .filter_map(|source| source.flag_at(&paths.email_verified))
        .peekable();
    address.is_some() && (settings.trust_email || said.peek().is_some()) && said.all(|said| said)
}

/// Whether `allow` lets somebody in; their address has been found to be verified.
fn admits(allow: &Allow, identity: &Identity) -> bool {
    if *allow == Allow::default() {
        return true;
    }
    let email = identity.email.as_deref();
    // What stands behind the last `@` is the domain. RFC 5321 section 4.1.2 allows others before it in quotes only; what is no
    // address belongs to no domain.
    let domain = email
        .and_then(|email| email.rsplit_once('@'))
        .filter(|(local, _)| {
            let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
            !local.is_empty() && (quoted || !local.contains('@'))
        })
        .map(|(_, domain)| domain);
    let same = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
    domain.is_some_and(|domain| allow.email_domains.iter().any(|known| same(known, domain)))
        || email.is_some_and(|email| allow.emails.iter().any(|known| same(known, email)))
        || allow.users.contains(&identity.user)
        || identity
            .groups
            .iter()
            .any(|group| allow.groups.contains(group))
}

#[cfg(test)]
mod tests {
    use super::super::settings::tests::{oauth2, openid};
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn set(json: &str) -> ClaimSet {
        ClaimSet::from_json(json.as_bytes()).unwrap()
    }

    fn read_one(settings: &Settings, json: &str) -> Result<Person, PersonError> {
        let claims = set(json);
        read(settings, &claims, &[&claims], NOW)
    }

    #[test]
    fn an_account_is_known_by_its_subject_and_named_as_configured() {
        let mut settings = openid();
        let json = r#"{"sub":"s1","preferred_username":"ada","email":"a@example.com","email_verified":true,"groups":["g"]}"#;
        let person = read_one(&settings, json).unwrap();
        assert_eq!(
            (person.subject.as_str(), person.identity.user.as_str()),
            ("s1", "s1")
        );
        assert_eq!(person.identity.provider, "corp");
        assert_eq!(person.identity.email.as_deref(), Some("a@example.com"));
        settings.claims.map.user = ClaimPath::parse("preferred_username").unwrap();
        let person = read_one(&settings, json).unwrap();
        assert_eq!(
            (person.subject.as_str(), person.identity.user.as_str()),
            ("s1", "ada")
        );
        let hub = read_one(&oauth2(), r#"{"id":7,"login":"octo"}"#).unwrap();
        assert_eq!(
            (hub.subject.as_str(), hub.identity.user.as_str()),
            ("7", "7")
        );
        assert!(matches!(
            read_one(&oauth2(), r#"{"login":"octo"}"#),
            Err(PersonError::NoSubject(_))
        ));
    }

    #[test]
    fn a08_what_no_header_can_hold_is_nobody() {
        for json in [
            "{\"sub\":\"a\\r\\nX-Role: admin\"}",
            "{\"sub\":\"a\",\"name\":\"x\\u0000\"}",
            r#"{"sub":"a","groups":[7]}"#,
        ] {
            let error = read_one(&openid(), json).unwrap_err();
            assert!(matches!(error, PersonError::Claim(_)), "{json}: {error}");
        }
        let long = format!(r#"{{"sub":"a","name":"{}"}}"#, "x".repeat(20_000));
        assert!(read_one(&openid(), &long).is_err());
    }

    #[test]
    fn an_address_counts_only_where_somebody_says_that_it_is_verified() {
        let mut settings = openid();
        let email = |settings: &Settings, id: &str, userinfo: &str| {
            let (id, userinfo) = (set(id), set(userinfo));
            let both = id.clone().completed_by(&userinfo);
            let person = read(settings, &both, &[&id, &userinfo], NOW).unwrap();
            person.identity.email.is_some()
        };
        let check = |settings: &Settings, id: &str, userinfo: &str, want: bool| {
            assert_eq!(email(settings, id, userinfo), want, "{id} {userinfo}");
        };
        let plain = r#"{"sub":"a"}"#;
        let said = r#"{"sub":"a","email":"a@b.c","email_verified":true}"#;
        let silent = r#"{"sub":"a","email":"a@b.c"}"#;
        let other = r#"{"sub":"a","email":"x@y.z","email_verified":true}"#;
        let denied = r#"{"sub":"a","email":"a@b.c","email_verified":false}"#;
        check(&settings, said, plain, true);
        check(&settings, plain, said, true);
        check(&settings, silent, said, true);
        check(&settings, silent, plain, false);
        check(
            &settings,
            silent,
            r#"{"sub":"a","email_verified":true}"#,
            false,
        );
        check(&settings, silent, other, false);
        check(&settings, denied, plain, false);
        check(&settings, said, denied, false);
        settings.trust_email = true;
        check(&settings, silent, plain, true);
        check(&settings, denied, plain, false);
        settings.trust_email = false;
        settings.claims.map.user = ClaimPath::parse("email").unwrap();
        assert_eq!(
            read_one(&settings, silent),
            Err(PersonError::UnverifiedUser)
        );
        assert_eq!(read_one(&settings, said).unwrap().identity.user, "a@b.c");
    }

    #[test]
    fn the_verified_address_of_a_list_counts_and_no_other() {
        let paths = oauth2().claims;
        let mut nested = paths.clone();
        nested.map.email = ClaimPath::parse("profile.email").unwrap();
        nested.email_verified = ClaimPath::parse("profile.verified").unwrap();
        nested.map.name = ClaimPath::parse("profile.name").unwrap();
        let account = set(
            r#"{"id":7,"login":"octo","email":"shown@x.y","email_verified":true,"profile":{"name":"Octo","verified":true}}"#,
        );
        let read_list = |list: &str, paths: &ClaimPaths| {
            let found = with_verified_email(&account, list.as_bytes(), paths);
            let (claims, paths) = found.unwrap();
            let settings = Settings {
                claims: paths,
                ..oauth2()
            };
            read(&settings, &claims, &[&claims], NOW).unwrap()
        };
        let check = |list: &str, want: Option<&str>| {
            let person = read_list(list, &paths);
            assert_eq!(person.identity.email.as_deref(), want, "{list}");
            assert_eq!(person.subject, "7");
            let person = read_list(list, &nested);
            assert_eq!(person.identity.email.as_deref(), want, "{list}");
            assert_eq!(person.identity.name.as_deref(), Some("Octo"));
        };
        let one = r#"{"email":"a@x.y","verified":true,"primary":false,"visibility":null}"#;
        let primary = r#"{"email":"b@x.y","verified":true,"primary":true}"#;
        let unverified = r#"{"email":"c@x.y","verified":false,"primary":true}"#;
        check(&format!("[{one},{primary}]"), Some("b@x.y"));
        check(&format!("[{unverified},{one}]"), Some("a@x.y"));
        check(&format!("[{unverified}]"), None);
        check("[]", None);
        for bad in ["{}", "null", r#"["a@x.y"]"#, r#"[{"verified":true}]"#, ""] {
            assert!(with_verified_email(&account, bad.as_bytes(), &paths).is_none());
        }
    }

    #[test]
    fn allow_lets_in_whoever_matches_any_of_its_lists() {
        let said = |email: &str| {
            format!(r#"{{"sub":"s1","groups":["staff"],"email":"{email}","email_verified":true}}"#)
        };
        let check = |allow: Allow, json: &str, want: bool| {
            let mut settings = openid();
            settings.allow = allow.clone();
            let found = read_one(&settings, json);
            assert_eq!(found.is_ok(), want, "{allow:?} {json}");
        };
        let domains = |domain: &str| Allow {
            email_domains: vec![domain.to_owned()],
            ..Allow::default()
        };
        check(Allow::default(), r#"{"sub":"s1"}"#, true);
        check(domains("example.com"), &said("a@example.com"), true);
        check(domains("example.com"), &said("a@EXAMPLE.com"), true);
        check(
            domains("example.com"),
            r#"{"sub":"s1","email":"a@example.com"}"#,
            false,
        );
        for other in [
            "a@sub.example.com",
            "a@evil-example.com",
            "a@example.com.evil",
            "example.com",
            "a@example.com@evil",
            "a@evil@example.com",
            "@example.com",
            "a@example.com ",
        ] {
            check(domains("example.com"), &said(other), false);
        }
        let one = |field: &str| {
            let list = vec![field.to_owned()];
            [
                Allow {
                    groups: list.clone(),
                    ..Allow::default()
                },
                Allow {
                    users: list.clone(),
                    ..Allow::default()
                },
                Allow {
                    emails: list,
                    ..Allow::default()
                },
            ]
        };
        let json = said("Bo@example.org");
        let [groups, users, emails] = one("staff");
        check(groups, &json, true);
        check(users, &json, false);
        check(emails, &json, false);
        let [groups, users, _] = one("s1");
        check(groups, &json, false);
        check(users, &json, true);
        let [_, _, emails] = one("bo@example.org");
        check(emails.clone(), &json, true);
        check(
            emails,
            r#"{"sub":"s1","email":"bo@example.org","email_verified":false}"#,
            false,
        );
    }

    #[test]
    fn a_refusal_says_who_it_was_and_whether_nothing_was_said_of_groups() {
        let refused = |allow: Allow, json: &str| {
            let mut settings = openid();
            settings.allow = allow;
            match read_one(&settings, json).unwrap_err() {
                PersonError::NotAllowed(refused) => refused,
                other => panic!("{other}"),
            }
        };
        let groups = Allow {
            groups: vec!["staff".to_owned()],
            ..Allow::default()
        };
        let silent = refused(groups.clone(), r#"{"sub":"s1"}"#);
        assert_eq!(silent.user, "s1");
        let words = PersonError::NotAllowed(silent).to_string();
        assert!(
            words.ends_with("; the claim \"groups\" (for groups) is missing"),
            "{words}"
        );
        for said in [
            r#"{"sub":"s1","groups":[]}"#,
            r#"{"sub":"s1","groups":["a"]}"#,
        ] {
            assert_eq!(refused(groups.clone(), said).no_groups, None, "{said}");
        }
        let users = Allow {
            users: vec!["s2".to_owned()],
            ..Allow::default()
        };
        assert_eq!(refused(users, r#"{"sub":"s1"}"#).no_groups, None);
    }

    #[test]
    fn groups_that_nothing_here_can_ask_for_are_left_out_after_the_rules_were_asked() {
        let mut settings = openid();
        settings.allow.groups = vec!["people".to_owned()];
        let json = r#"{"sub":"s1","groups":["a","people","staff","z"]}"#;
        let groups = |settings: &Settings| read_one(settings, json).unwrap().identity.groups;
        assert_eq!(groups(&settings), ["a", "people", "staff", "z"]);
        settings.useful_groups = Some(["staff".to_owned(), "none".to_owned()].into());
        assert_eq!(groups(&settings), ["staff"]);
    }
}
