//! What a deployer may get wrong, and what is said of it.

use super::*;

const EVERY_PROBLEM: &str = r#"error: unknown key `lisen` in [server]
 --> gateway.toml:2:1
  |
2 | lisen = ["0.0.0.0:443"]
  | ^^^^^
  |
  = help: did you mean `listen`?

error: `server.origin` is not an https origin
 --> gateway.toml:3:10
  |
3 | origin = "http://app.example.com"
  |          ^^^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: it begins with https:// - session cookies exist on https only; for a trial, [tls] self_signed = true

error: "10.0.0.0/33" is not a network
 --> gateway.toml:4:20
  |
4 | trusted_proxies = ["10.0.0.0/33"]
  |                    ^^^^^^^^^^^^^
  |
  = help: write an address with a prefix length: "10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"

warning: the certificate is self-signed: for development only
 --> gateway.toml:7:1
  |
7 | self_signed = true
  | ^^^^^^^^^^^
  |
  = help: browsers will warn; use [[tls.certificate]] for real users

error: `session.access_ttl` must be a text with a unit, found a whole number
  --> gateway.toml:10:14
   |
10 | access_ttl = 300
   |              ^^^
   |
   = help: write `access_ttl = "300s"`, or another unit: ms, s, m, h, d, w

error: "http://127.0.0.1:3000/app" is not the address of an upstream
  --> gateway.toml:14:7
   |
14 | url = "http://127.0.0.1:3000/app"
   |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^
   |
   = help: no path, query or fragment: the request's own path is forwarded byte for byte; choose paths with [[route]]

error: there is no upstream "ap"
  --> gateway.toml:17:12
   |
17 | upstream = "ap"
   |            ^^^^
   |
   = help: did you mean "app"?

error: `route.step_up` is not available in this version
  --> gateway.toml:18:1
   |
18 | step_up = "5m"
   | ^^^^^^^
   |
   = help: it stands for: a second factor not older than this; remove it

error: unknown key `logging` at the top level
  --> gateway.toml:20:2
   |
20 | [logging]
   |  ^^^^^^^
   |
   = help: known here: server, tls, session, store, secret, login, external, bearer, upstream, route, admin, log

gateway.toml: 8 errors, 1 warning"#;

#[test]
fn every_problem_is_reported_at_once_with_its_line() {
    let text = r#"[server]
lisen = ["0.0.0.0:443"]
origin = "http://app.example.com"
trusted_proxies = ["10.0.0.0/33"]

[tls]
self_signed = true

[session]
access_ttl = 300

[[upstream]]
name = "app"
url = "http://127.0.0.1:3000/app"

[[route]]
upstream = "ap"
step_up = "5m"

[logging]
"#;
    let report = parse(text, "gateway.toml").unwrap_err();
    assert_eq!(report.render(false), EVERY_PROBLEM, "{report}");
}

/// The minimal file with one line put in place of another, and what is said of it.
#[test]
fn one_problem_at_a_time() {
    let check = |from: &str, to: &str, want: &[&str]| {
        assert!(MINIMAL.contains(from), "{from:?}");
        let found = problems(&MINIMAL.replacen(from, to, 1));
        assert_eq!(found, want, "{to:?}");
    };
    let route = "[[route]]\nupstream = \"app\"\n";
    let in_route = |line: &str| format!("{route}{line}\n");
    let session = |lines: &str| format!("[session]\n{lines}\n[login.local]\n");
    check(
        route,
        &in_route("acces = \"public\""),
        &["11:1 unknown key `acces` in [route] | did you mean `access`?"],
    );
    check(
        route,
        &in_route("access = \"publik\""),
        &["11:10 `route.access` cannot be \"publik\" | did you mean \"public\"?"],
    );
    check(
        route,
        &in_route("listen = \"x\""),
        &["11:1 unknown key `listen` in [route] | `listen` belongs in [server]"],
    );
    check(
        route,
        &in_route("host = \"https://app.example.com\""),
        &[
            "11:8 \"https://app.example.com\" is not a host | write the host alone, without scheme and path",
        ],
    );
    check(
        route,
        &in_route("path = \"api\""),
        &["11:8 \"api\" is not a path | it begins with `/`"],
    );
    check(
        route,
        &in_route("path = \"/api/*\""),
        &[
            "11:8 \"/api/*\" is not a plain path | a path is a prefix on segment boundaries: \"/api\" covers /api and /api/…; write it decoded, without `*`, `?`, `#`, `%` and `;`",
        ],
    );
    check(
        route,
        &in_route("path = \"/a/../b\""),
        &[
            "11:8 \"/a/../b\" can never match | requests with dot segments, `//`, backslashes or control characters are refused before any route",
        ],
    );
    check(
        route,
        &in_route("path = \"/.auth/x\""),
        &[
            "11:8 \"/.auth/x\" belongs to the gateway | paths below /.auth/ are the sign-in pages and never reach an upstream",
        ],
    );
    check(
        route,
        &in_route("methods = [\"get\"]"),
        &["11:12 the method \"get\" is not written in capitals | did you mean \"GET\"?"],
    );
    check(
        route,
        &in_route("methods = []"),
        &["11:11 `route.methods` is empty | leave it out for all methods"],
    );
    check(
        route,
        &in_route("methods = \"GET\""),
        &[
            "11:11 `route.methods` must be a list of texts, found a text | write `methods = [\"GET\"]`",
        ],
    );
    check(
        route,
        &in_route("access = \"public\"\nallow.groups = [\"staff\"]"),
        &[
            "12:1 `allow` on a route that people need not sign in for | it would admit everybody all the same: set `access = \"authenticated\"`, or remove `allow`",
        ],
    );
    for allow in [
        "allow = {}",
        "allow = { groups = [] }",
        "allow = { groups = [], users = [], emails = [] }",
        "allow.users = []",
    ] {
        check(
            route,
            &in_route(allow),
            &[
                "11:1 `route.allow` names nobody | name groups, users, emails or scopes; leave `allow` out to admit everybody who is signed in",
            ],
        );
    }
    check(
        route,
        &in_route("allow = { groups = [\"staff\"], users = [] }"),
        &[],
    );
    check(
        route,
        &in_route("step_up = \"5m\""),
        &[
            "11:1 `route.step_up` is not available in this version | it stands for: a second factor not older than this; remove it",
        ],
    );
    check(
        route,
        &in_route("[[route]]\nupstream = \"app\"\npath = \"/\"\nmethods = [\"GET\"]"),
        &[
            "11:1 two routes for app.example.com/ with a method in common | nobody could say which rule holds: change host, path or methods, or remove one",
        ],
    );
    check(
        "upstream = \"app\"",
        "",
        &["9:1 `route.upstream` is missing | add `upstream = \"…\"`: name of an upstream"],
    );
    check(
        "upstream = \"app\"",
        "upstream = \"apq\"",
        &["10:12 there is no upstream \"apq\" | did you mean \"app\"?"],
    );
    check(
        "[[route]]",
        "[route]",
        &["9:1 `route` must be a list of tables, found a table | write `[[route]]`, once for each"],
    );
    check(
        "[tls]\n",
        "",
        &[
            "1:1 there is no certificate | add [[tls.certificate]] with cert and key, or [tls] self_signed = true for development",
            "3:1 unknown key `self_signed` in [server] | `self_signed` belongs in [tls]",
        ],
    );
    check(
        "self_signed = true",
        "self_signed = false",
        &[
            "3:1 there is no certificate | add [[tls.certificate]] with cert and key, or [tls] self_signed = true for development",
        ],
    );
    check(
        "self_signed = true",
        "[[tls.certificate]]\ncert = \"/nowhere/c.pem\"\nkey = \"gateway.toml\"",
        &[
            "5:8 the certificate /nowhere/c.pem cannot be read: No such file or directory (os error 2) | relative paths start at the folder of this file; the user who runs vestibule must be able to read it",
            "6:7 gateway.toml has no private key | it must be a PEM file with a private key; are cert and key swapped?",
        ],
    );
    check(
        "self_signed = true",
        "[tls.acme]\ndomains = [\"a.example.com\"]",
        &[
            "4:6 `tls.acme` is not available in this version | it stands for: certificates from an ACME service; remove it",
        ],
    );
    check(
        "[login.local]",
        "",
        &[
            "1:1 nobody can sign in: no way to do so is configured | add [login.local] for built-in accounts, then `vestibule user add NAME`; or [login.oidc.NAME] for an OpenID provider",
        ],
    );
    check(
        "[login.local]",
        "[login.local]\n[store]\nkind = \"rediss\"",
        &["7:8 `store.kind` cannot be \"rediss\" | did you mean \"redis\"?"],
    );
    check(
        "[login.local]",
        "[login.local]\n[store]\nurl = \"redis://x\"",
        &["7:1 `store.url` belongs to a shared store | add `kind = \"redis\"`, or remove it"],
    );
    check(
        "[login.local]",
        "[login.local]\n[store]\nkind = \"redis\"",
        &[
            "6:1 `store.url` is missing | add `url = \"…\"`: redis://host, redis+sentinel://host,host/master, redis+cluster://host,host; rediss: over TLS",
            "6:1 a shared store needs `[secret]`: all nodes seal with the same master key | add [secret] with `file = \"/run/secrets/vestibule\"`; make one with `openssl rand -base64 48`",
        ],
    );
    check(
        "[login.local]",
        "[login.local]\n[secret]\nenv = \"PATH\"\n[store]\nkind = \"redis\"\nurl = \"redis://a,b\"\npassword_env = \"VESTIBULE_NOT_SET\"\nca = \"/nowhere/ca\"\nreplicas = 10",
        &[
            "10:7 `store.url` is no address of a store: several hosts need redis+sentinel:// or redis+cluster:// | rediss://host:6379, rediss+sentinel://host,host/master or rediss+cluster://host,host",
            "11:16 the environment variable VESTIBULE_NOT_SET is not set | set it for the process that runs vestibule, or use `file`",
            "12:6 the file /nowhere/ca cannot be read: No such file or directory (os error 2) | name the PEM file of the authority that signed the store's certificate",
            "13:12 `store.replicas` is out of bounds | from 0 to 9",
        ],
    );
    check(
        "[login.local]",
        "[login.local]\n[secret]\nenv = \"PATH\"\n[store]\nkind = \"redis\"\nurl = \"redis://u:pw@a\"",
        &[
            "10:7 a password does not belong into this file | use `password_file` or `password_env`, or the whole address from `url_env`",
        ],
    );
    check(
        "[login.local]",
        "[login.local]\n[secret]\nfile = \"/nowhere/secret\"",
        &[
            "7:8 the secret /nowhere/secret cannot be read: No such file or directory (os error 2) | make one with `openssl rand -base64 48`, readable by the user who runs vestibule alone",
        ],
    );
    check(
        "[login.local]",
        "[login.local]\n[secret]\nenv = \"VESTIBULE_NOT_SET\"",
        &[
            "7:7 the environment variable VESTIBULE_NOT_SET is not set | set it for the process that runs vestibule, or use `file`",
        ],
    );
    check(
        "[login.local]",
        "[login.local]\n[secret]\nfile = \"gateway.toml\"\nenv = \"PATH\"",
        &["8:7 [secret] has both `file` and `env` | keep one of them"],
    );
    check(
        "[login.local]",
        "[login.local]\n[admin]\nlisten = \"9091\"",
        &[
            "7:10 \"9091\" is not an address to listen on | write \"0.0.0.0:9091\" for all addresses, \"127.0.0.1:9091\" for this machine alone",
        ],
    );
    check(
        "[login.local]",
        "[login.local]\n[admin]\nlisten = \"0.0.0.0:9091\"",
        &[
            "7:10 the admin listener can be reached from other machines | it has no sign-in: keep it on 127.0.0.1, or let a firewall guard it; its API stays closed without `token_file`",
        ],
    );
    check(
        "[login.local]",
        &session("access_ttl = \"1s\""),
        &["6:14 `session.access_ttl` is out of bounds | from 2s to 1d"],
    );
    check(
        "[login.local]",
        &session("access_ttl = \"5 minutes\""),
        &[
            "6:14 `session.access_ttl` is not a duration | write a number and a unit, such as \"30s\", \"5m\", \"2h\" or \"14d\"",
        ],
    );
    check(
        "[login.local]",
        &session("access_ttl = \"20s\"\nreplay_grace = \"11s\""),
        &[
            "7:16 `session.replay_grace` is more than half of `session.access_ttl` | access_ttl is 20s: at most 10s, or leave it out",
        ],
    );
    check(
        "[login.local]",
        &session("replay_grace = \"9s\""),
        &[
            "6:16 `session.replay_grace` is shorter than a third of `session.redelivery_window` | redelivery_window is 30s: at least 10s, or requests in flight sign people out",
        ],
    );
    check(
        "[login.local]",
        &session("redelivery_window = \"2m\""),
        &[
            "6:21 `session.replay_grace` is shorter than a third of `session.redelivery_window` | redelivery_window is 2m: at least 40s, or requests in flight sign people out",
        ],
    );
    check(
        "[login.local]",
        &session("idle_ttl = \"91d\""),
        &[
            "6:12 `session.idle_ttl` is longer than `session.absolute_ttl` | idle_ttl is 91d, absolute_ttl is 90d",
        ],
    );
    check(
        "[login.local]",
        &session("same_site = \"Laxx\""),
        &["6:13 `session.same_site` cannot be \"Laxx\" | did you mean \"lax\"?"],
    );
    check(
        "[login.local]",
        &session("cookie_domain = \"example.org\""),
        &[
            "6:17 `session.cookie_domain` does not contain the origin's host | the origin is on app.example.com; write it or a domain above it",
        ],
    );
    check(
        "[login.local]",
        &session("cookie_domain = \"com\""),
        &[
            "6:17 `session.cookie_domain` cannot have hosts below it | browsers refuse such a cookie; write a domain of yours such as \"example.com\", or leave it out",
        ],
    );
    check(
        "[login.local]",
        "[server.limits]\nheader_bytes = \"64\"\n[login.local]",
        &[
            "6:16 `server.limits.header_bytes` is not a size | write a number and a unit, such as \"512B\", \"64KiB\" or \"10MiB\", or \"unlimited\"",
        ],
    );
    check(
        "[login.local]",
        "[server.limits]\nheader_bytes = \"1KiB\"\n[login.local]",
        &["6:16 `server.limits.header_bytes` is out of bounds | from 8KiB to 1MiB"],
    );
    check(
        "[login.local]",
        "[server.limits]\nconnections = 0\n[login.local]",
        &["6:15 `server.limits.connections` is out of bounds | from 1 to 10000000"],
    );
    check(
        "[login.local]",
        "[server.limits]\nheaders = \"100\"\n[login.local]",
        &[
            "6:11 `server.limits.headers` must be a whole number, found a text | write digits, without quotes",
        ],
    );
    check(
        "origin = \"https://app.example.com\"",
        "",
        &[
            "1:1 `server.origin` is missing | add `origin = \"…\"`: what users type; redirects and cookies are built from it, never from Host",
        ],
    );
    check(
        "origin = ",
        "listen = [\":443\"]\norigin = ",
        &[
            "2:11 \":443\" is not an address to listen on | write \"0.0.0.0:443\" for all addresses, \"127.0.0.1:443\" for this machine alone",
        ],
    );
    check(
        "origin = ",
        "listen = \"0.0.0.0:443\"\norigin = ",
        &[
            "2:10 `server.listen` must be a list of texts, found a text | write `listen = [\"0.0.0.0:443\"]`",
        ],
    );
    check(
        "origin = ",
        "listen = []\norigin = ",
        &["2:10 `server.listen` is empty | name at least one address: [\"0.0.0.0:443\"]"],
    );
    check(
        "origin = ",
        "redirect_http = \"0.0.0.0:443\"\norigin = ",
        &[
            "2:17 0.0.0.0:443 is already used by another listener | plain http and https cannot share a port: http is mostly on port 80",
        ],
    );
    check(
        "origin = ",
        "trusted_proxies = [\"10.0.0.0/40\"]\norigin = ",
        &[
            "2:20 \"10.0.0.0/40\" is not a network | write an address with a prefix length: \"10.0.0.0/8\", \"192.0.2.7/32\", \"2001:db8::/32\"",
        ],
    );
    check(
        "url = \"http://127.0.0.1:3000\"",
        "",
        &[
            "6:1 `upstream.url` is missing | add `url = \"http://127.0.0.1:3000\"`: where the app listens",
        ],
    );
    check(
        "url = ",
        "urls = [\"http://a\"]\nurl = ",
        &["8:8 this upstream has both `url` and `urls` | keep one of them"],
    );
    check(
        "url = \"http://127.0.0.1:3000\"",
        "url = \"http://127.0.0.1:3000/app\"",
        &[
            "8:7 \"http://127.0.0.1:3000/app\" is not the address of an upstream | no path, query or fragment: the request's own path is forwarded byte for byte; choose paths with [[route]]",
        ],
    );
    check(
        "url = \"http://127.0.0.1:3000\"",
        "url = \"127.0.0.1:3000\"",
        &[
            "8:7 \"127.0.0.1:3000\" is not the address of an upstream | write http://host:port, https://host:port, h2c://host:port or unix:/path",
        ],
    );
    check(
        "url = ",
        "headers = \"remot\"\nurl = ",
        &["8:11 `upstream.headers` cannot be \"remot\" | did you mean \"remote\"?"],
    );
    check(
        "url = ",
        "headers = { \"X-User\" = \"usr\" }\nurl = ",
        &["8:24 there is no claim \"usr\" | did you mean \"user\"?"],
    );
    check(
        "url = ",
        "headers = { Cookie = \"user\" }\nurl = ",
        &[
            "8:13 the header Cookie has another meaning | choose a name of your own, such as \"X-Forwarded-User\" or \"Remote-User\"",
        ],
    );
    check(
        "url = ",
        "headers = { X-User = \"user\", x_user = \"email\" }\nurl = ",
        &[
            "8:30 \"x_user\" can be read as another header of this table | `_`, `.` and `-` are the same to many apps, and so is the case: keep one",
        ],
    );
    check(
        "url = ",
        "health = { path = \"/\" }\nurl = ",
        &[
            "8:1 `upstream.health` is not available in this version | it stands for: health checks; remove it",
        ],
    );
    check(
        "name = \"app\"",
        "name = \"app\"\nurl = \"http://b\"\n[[upstream]]\nname = \"app\"",
        &[
            "10:8 there are two upstreams called \"app\" | give each its own name; for several places of one app use `urls`",
        ],
    );
    check(
        "[tls]",
        "[tls",
        &[
            "3:5 this is not TOML: unclosed table, expected `]` | a line is `key = value`, `[table]` or `[[table]]`; texts are in \"quotes\"",
        ],
    );
    check(
        "self_signed = true",
        "self_signed = true\nself_signed = true",
        &[
            "5:1 this is not TOML: duplicate key | a key or table can be there once; lists of tables are written [[upstream]]",
        ],
    );
    check(
        "self_signed = true",
        "self_signed = yes",
        &[
            "4:15 this is not TOML: string values must be quoted, expected literal string | a line is `key = value`, `[table]` or `[[table]]`; texts are in \"quotes\"",
        ],
    );
}

/// A key that is missing because its name, its table's name or its value has a slip is told of once.
#[test]
fn one_slip_is_one_problem() {
    let file = |from: &str, to: &str| {
        assert!(MINIMAL.contains(from), "{from:?}");
        MINIMAL.replacen(from, to, 1)
    };
    let check = |text: String, want: &[&str]| {
        let found = problems(&text);
        let alike = found.len() == want.len() && found.iter().zip(want).all(|(a, b)| a.contains(b));
        assert!(alike, "{text}\n{found:#?}");
    };
    for (from, to, want) in [
        ("origin", "orign", "unknown key `orign`"),
        ("[server]", "[sever]", "unknown key `sever`"),
        ("self_signed", "selfsigned", "unknown key `selfsigned`"),
        ("= true", "= \"yes\"", "`tls.self_signed` must be true or"),
        ("[tls]", "[tsl]", "unknown key `tsl`"),
        ("url =", "ulr =", "unknown key `ulr`"),
        ("name =", "nmae =", "unknown key `nmae`"),
        ("[[upstream]]", "[[upstraem]]", "unknown key `upstraem`"),
        ("[[route]]", "[[rout]]", "unknown key `rout`"),
        ("upstream = ", "upstraem = ", "unknown key `upstraem`"),
        ("[login.local]", "[login.locl]", "unknown key `locl`"),
        ("[login.local]", "[logn.local]", "unknown key `logn`"),
    ] {
        check(file(from, to), &[want]);
    }
    let oidc = "[login.oidc.corp]\nissuer = \"https://id.example.com\"\nclient_id = \"v\"\n";
    let with = |line: &str| file("[login.local]\n", &format!("{oidc}{line}\n"));
    check(
        with("client_secret_fil = \"x\""),
        &["unknown key `client_secret_fil`"],
    );
    let external = "[external]\naccess_cookie = \"a\"\nrefresh_cookie = \"r\"\nlogin_url = \"https://id.example.com/in\"\nissuer = \"i\"\naudience = \"a\"\n";
    let with = |lines: &str| file("[login.local]\n", &format!("{external}{lines}\n"));
    check(
        with("algoritms = [\"HS256\"]\nsecret_evn = \"PATH\""),
        &["unknown key `algoritms`", "unknown key `secret_evn`"],
    );
    let shared =
        "[login.local]\n[store]\nkind = \"redis\"\nurl = \"rediss://x\"\n[secret]\nfiel = \"x\"\n";
    check(file("[login.local]\n", shared), &["unknown key `fiel`"]);
    // What is missing besides is told all the same.
    check(
        file("origin = ", "lisen = "),
        &["`server.origin` is missing", "unknown key `lisen`"],
    );
}

#[test]
fn an_upstream_that_no_route_leads_to_is_a_warning() {
    let warnings = |text: &str| parse(text, "gateway.toml").map(|config| config.warnings);
    let one = "[server]\norigin = \"https://app.example.com\"\n[tls]\nself_signed = true\n[login.local]\n\
        [[upstream]]\nname = \"app\"\nurl = \"http://127.0.0.1:3000\"\n[[route]]\nupstream = \"app\"\n";
    assert_eq!(warnings(one).unwrap().warnings(), 1, "self-signed");
    let two = format!("{one}[[upstream]]\nname = \"b\"\nurl = \"http://127.0.0.1:3001\"\n");
    let report = warnings(&two).unwrap();
    assert_eq!(report.warnings(), 2, "{report}");
    assert!(
        report
            .to_string()
            .contains("no route leads to the upstream \"b\""),
        "{report}"
    );
    // A route that is wrong itself is no reason to doubt the upstream.
    let slip = two.replace("upstream = \"app\"", "upstream = \"ap\"");
    assert_eq!(warnings(&slip).unwrap_err().warnings(), 1);
}

#[test]
fn a_renamed_key_names_the_new_one() {
    let key = defaults::Key {
        status: defaults::Status::Renamed("session.access_ttl"),
        ..*defaults::find("session.idle_ttl").unwrap()
    };
    assert_eq!(
        survey::unavailable(&key).unwrap().0,
        "`session.idle_ttl` is now called `session.access_ttl`"
    );
}
