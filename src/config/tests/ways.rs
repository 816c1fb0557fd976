//! Several ways of signing in, and what their names meet.

use super::*;

const SERVER: &str = "[server]\norigin = \"https://app.example.com\"\n[tls]\nself_signed = true\n";
const LOCAL: &str = "[login.local]\n";
const CORP: &str = "[login.oidc.corp]\nissuer = \"https://id.example.com\"\nclient_id = \"v\"\nclient_auth = \"none\"\n";
const OTHER: &str = "[login.oidc.other]\nissuer = \"https://id.example.org\"\nclient_id = \"v\"\nclient_auth = \"none\"\n";
const BEARER: &str = "[[bearer]]\nissuer = \"https://id.example.com\"\naudience = \"api\"\n";
const APP: &str = "[[upstream]]\nname = \"app\"\nurl = \"http://127.0.0.1:3000\"\n";
const ROUTE: &str = "[[route]]\nupstream = \"app\"\n";
const USERS: &str = "allow = { users = [\"alice\"] }\n";

#[test]
fn the_same_name_from_two_ways_is_warned_of_where_it_is_one_person() {
    let check = |parts: &[&str], want: &[&str]| {
        let text = format!("{SERVER}{}", parts.concat());
        let config = parse(&text, "gateway.toml").unwrap_or_else(|report| panic!("{report}"));
        let warnings = config.warnings.to_string();
        let found = said(Ok(config));
        assert_eq!(found.len(), want.len(), "{text}: {warnings}");
        for (one, words) in found.iter().zip(want) {
            assert!(one.message.contains(words), "{text}: {warnings}");
            assert!(!one.hint.is_empty());
        }
    };
    let (users, groups) = ("`allow.users` admits", "`allow.groups` admits");
    let app = "to the upstream \"app\"";
    for one in [LOCAL, CORP, BEARER] {
        check(&[one, APP, ROUTE, USERS], &[]);
    }
    for two in [
        [LOCAL, CORP],
        [CORP, OTHER],
        [LOCAL, BEARER],
        [OTHER, BEARER],
    ] {
        check(&[&two.concat(), APP, ROUTE], &[app]);
        check(&[&two.concat(), APP, "assertion = true\n", ROUTE], &[]);
        check(
            &[&two.concat(), APP, "assertion = true\n", ROUTE, USERS],
            &[users],
        );
        let staff = USERS.replace("users", "groups");
        check(
            &[&two.concat(), APP, "assertion = true\n", ROUTE, &staff],
            &[groups],
        );
        check(
            &[
                &two.concat(),
                APP,
                "headers = { X-Mail = \"email\" }\n",
                ROUTE,
            ],
            &[],
        );
    }
    // The same people, by a token and by a browser; other people where another claim is taken for who it is.
    check(&[CORP, BEARER, APP, ROUTE, USERS], &[]);
    let named = format!("{BEARER}claims = {{ user = \"preferred_username\" }}\n");
    check(&[CORP, &named, APP, ROUTE], &[app]);
}

/// The rule of the first route, or everything that is wrong with the file, each with its hint.
fn rule(ways: &str, allow: &str) -> Result<String, Vec<String>> {
    let text = format!("{SERVER}{ways}{APP}assertion = true\n{ROUTE}allow = {{ {allow} }}\n");
    match parse(&text, "gateway.toml") {
        Ok(config) => {
            let problems = config.warnings.problems().iter();
            let said = problems.filter(|problem| problem.message.contains("`allow."));
            let said: Vec<_> = said.map(|problem| problem.hint.clone().unwrap()).collect();
            match said.is_empty() {
                true => Ok(config.routes[0].allow.to_string()),
                false => Err(said),
            }
        }
        Err(report) => {
            let errors = report.problems().iter();
            let errors = errors.filter(|problem| problem.severity == report::Severity::Error);
            Err(errors
                .map(|error| format!("{} | {}", error.message, error.hint.as_deref().unwrap()))
                .collect())
        }
    }
}

#[test]
fn a_name_in_allow_can_say_whose_it_is() {
    let check = |ways: &str, allow: &str, want: &str| {
        assert_eq!(rule(ways, allow).unwrap(), want, "{allow}");
    };
    let both = format!("{LOCAL}{CORP}");
    check(
        &both,
        r#"users = ["corp:alice", "local:bob"], groups = ["corp:staff"]"#,
        ", groups corp:staff, users corp:alice or local:bob",
    );
    // What stands behind the first colon is the name, whatever is in it; no provider is needed where none could be meant.
    check(
        &both,
        r#"groups = ["corp:urn:x:staff"]"#,
        ", groups corp:urn:x:staff",
    );
    check(&both, r#"users = ["corp:corp:x"]"#, ", users corp:corp:x");
    check(CORP, r#"users = ["alice"]"#, ", users alice");
    // Issuers of tokens are told apart by their whole text.
    let issuers = format!("{BEARER}{}", BEARER.replace(".com", ".com:8443"));
    check(
        &issuers,
        r#"users = ["https://id.example.com:alice", "https://id.example.com:8443:alice"]"#,
        ", users https://id.example.com:alice or https://id.example.com:8443:alice",
    );
    let parsed = |allow: &str| {
        let text = format!("{SERVER}{issuers}{APP}{ROUTE}allow = {{ {allow} }}\n");
        let allow = &parse(&text, "gateway.toml").unwrap().routes[0].allow;
        allow.users[0].provider.clone().unwrap()
    };
    assert_eq!(
        parsed(r#"users = ["https://id.example.com:8443:alice"]"#),
        "https://id.example.com:8443"
    );
    assert_eq!(
        parsed(r#"users = ["https://id.example.com:alice"]"#),
        "https://id.example.com"
    );
}

#[test]
fn a_blank_around_a_name_is_told_because_nothing_is_trimmed() {
    let said = |allow: &str| -> Vec<String> {
        let text = format!("{SERVER}{CORP}{APP}{ROUTE}allow = {{ {allow} }}\n");
        let config = parse(&text, "gateway.toml").unwrap();
        let problems = config.warnings.problems().iter();
        let blanks = problems.filter(|problem| problem.message.contains("blank"));
        blanks.map(|problem| problem.message.clone()).collect()
    };
    for (allow, name) in [
        (r#"users = ["corp: alice"]"#, "corp: alice"),
        (r#"groups = ["staff "]"#, "staff "),
    ] {
        let want = format!("the name in {name:?} begins or ends with a blank");
        assert_eq!(said(allow), [want]);
    }
    assert_eq!(said(r#"groups = ["corp:the staff"]"#), [""; 0]);
}

#[test]
fn a_name_of_nobodys_provider_is_an_error_that_helps() {
    let both = format!("{LOCAL}{CORP}");
    let wrong = |ways: &str, allow: &str| -> String {
        let [one] = rule(ways, allow).unwrap_err().try_into().unwrap();
        one
    };
    assert_eq!(
        wrong(&both, r#"users = ["crop:alice"]"#),
        concat!(
            r#"nobody signs in by "crop", which "crop:alice" names | did you mean "corp:alice"? what stands before a colon "#,
            r#"is a provider; a name that has a colon itself is written behind its own: "local:crop:alice", "corp:crop:alice""#
        )
    );
    let urn = wrong(CORP, r#"groups = ["urn:x:staff"]"#);
    assert!(urn.starts_with(r#"nobody signs in by "urn""#), "{urn}");
    assert!(
        urn.ends_with(r#"behind its own: "corp:urn:x:staff""#),
        "{urn}"
    );
    assert_eq!(
        wrong(&both, r#"users = ["corp:"]"#),
        r#"there is no name behind "corp:" | write "corp:NAME""#
    );
    assert_eq!(
        wrong(&both, r#"users = ["corp: "]"#),
        r#"there is no name behind "corp: " | write "corp:NAME""#
    );
    // The warning can be copied from, and following it ends it.
    let hint = wrong(&format!("{both}{BEARER}"), r#"users = ["alice"]"#);
    let names = hint.split_once(": ").unwrap().1;
    assert_eq!(
        names,
        r#""local:alice", "corp:alice", "https://id.example.com:alice""#
    );
    assert!(rule(&format!("{both}{BEARER}"), &format!("users = [{names}]")).is_ok());
    let taken = BEARER.replace("https://id.example.com", "corp");
    let taken = format!("{both}{taken}jwks_url = \"https://id.example.com/keys\"\n");
    let same = wrong(&taken, r#"emails = ["a@example.com"]"#);
    assert!(
        same.starts_with(r#"the issuer "corp" is called as"#),
        "{same}"
    );
}

#[test]
fn groups_of_one_provider_are_no_use_to_another() {
    let text = format!(
        "{SERVER}{CORP}allow = {{ groups = [\"own\"] }}\n{OTHER}{APP}headers = {{ X-Mail = \"email\" }}\n{ROUTE}allow = {{ groups = [\"corp:staff\", \"other:dev\", \"all\"] }}\n"
    );
    let config = parse(&text, "gateway.toml").unwrap_or_else(|report| panic!("{report}"));
    let useful = |index: usize| {
        let groups = config.providers[index].useful_groups.clone().unwrap();
        groups.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(useful(0), ["all", "own", "staff"]);
    assert_eq!(useful(1), ["all", "dev"]);
}
