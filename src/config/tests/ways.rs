//! Several ways of signing in, and what their names meet.

use super::super::*;

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
        let problems = config.warnings.problems().iter();
        let found: Vec<_> = problems
            .filter(|problem| !problem.message.contains("self-signed"))
            .collect();
        assert_eq!(found.len(), want.len(), "{text}: {}", config.warnings);
        for (problem, words) in found.iter().zip(want) {
            assert!(
                problem.message.contains(words),
                "{text}: {}",
                config.warnings
            );
            assert!(problem.hint.is_some());
        }
    };
    let (users, app) = ("`allow.users` admits", "to the upstream \"app\"");
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
