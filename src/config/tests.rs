//! The configuration as deployers meet it: whole files in, exact reports out.

use super::*;

mod annotated;
mod bearer;
mod external;
mod login;
mod slips;
mod ways;

const MINIMAL: &str = r#"[server]
origin = "https://app.example.com"
[tls]
self_signed = true
[login.local]
[[upstream]]
name = "app"
url = "http://127.0.0.1:3000"
[[route]]
upstream = "app"
"#;

#[test]
fn minimal_file() {
    let config =
        parse(MINIMAL, "/etc/vestibule/gateway.toml").unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(config.store.path, PathBuf::from("/etc/vestibule/data"));
    assert_eq!(config.admin, None);
    assert_eq!(config.server.limits, server::Limits::default());
    assert_eq!(config.routes.len(), 1);
    assert_eq!(config.routes[0].host, "app.example.com");
}

/// Every problem as `line:column message | hint`.
/// One error or warning.
struct Said {
    line: usize,
    column: usize,
    message: String,
    hint: String,
}

/// `LINE:COLUMN MESSAGE | HINT`.
impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Said {
            line,
            column,
            message,
            hint,
        } = self;
        write!(f, "{line}:{column} {message} | {hint}")
    }
}

/// Whatever is said of a file but that it signs its own certificate, as all examples do.
fn said(read: Result<Config, Report>) -> Vec<Said> {
    let report = match read {
        Ok(config) => config.warnings,
        Err(report) => report,
    };
    let problems = report.problems().iter();
    problems
        .filter(|problem| !problem.message.contains("self-signed"))
        .map(|problem| {
            let place = report.place(problem);
            Said {
                line: place.map_or(0, |place| place.line),
                column: place.map_or(0, |place| place.column),
                message: problem.message.clone(),
                hint: problem.hint.clone().unwrap_or_default(),
            }
        })
        .collect()
}

fn problems(text: &str) -> Vec<String> {
    let said = said(parse(text, "gateway.toml"));
    said.iter().map(Said::to_string).collect()
}

mod never_panics {
    use proptest::prelude::*;

    use super::annotated::ANNOTATED;
    use super::*;

    fn looked_at(text: &str) {
        let report = match parse(text, "gateway.toml") {
            Ok(config) => config.warnings,
            Err(report) => report,
        };
        let _ = (report.render(true), report.to_json());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn on_any_text(text in any::<String>()) {
            looked_at(&text);
        }

        #[test]
        fn on_toml_like_text(text in "(\\[{1,2}(server|tls|route|upstream|session|secret)\\]{1,2}|[a-z_.]{1,12} ?= ?[\"'{\\[]?[a-z0-9é:/\n, =]{0,12}[\"'}\\]]?|\n|\r\n|#|\u{feff}|\u{0}){0,20}") {
            looked_at(&text);
        }

        #[test]
        fn on_a_file_with_a_slip(at in 0..ANNOTATED.len(), length in 0usize..40, put in "[\\PC\n\"=\\[\\]]{0,8}") {
            let uncommented = ANNOTATED.replace("\n# ", "\n");
            for text in [ANNOTATED, uncommented.as_str()] {
                let mut bytes = text.as_bytes().to_vec();
                let start = at.min(bytes.len());
                let end = (start + length).min(bytes.len());
                bytes.splice(start..end, put.bytes());
                looked_at(&String::from_utf8_lossy(&bytes));
            }
        }

        #[test]
        fn on_a_value_of_another_shape(
            key in proptest::sample::select(defaults::KEYS),
            value in proptest::sample::select(&["1", "-1", "\"\"", "\"x\"", "[]", "[[1]]", "{}", "{ a = 1 }", "true", "1.5", "0xff",
                "99999999999999999999", "1979-05-27", "[\"\", 1]", "\"9999999999d\"", "[{ file = 1 }]", "inf"][..]),
        ) {
            looked_at(&format!("{} = {value}\n", key.path));
            looked_at(&MINIMAL.replace("[server]", &format!("{} = {value}\n[server]", key.path)));
        }
    }
}

#[test]
fn a_missing_file_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let report = load(&folder.path().join("gateway.toml")).unwrap_err();
    assert!(report.to_string().contains("cannot be read"), "{report}");
    assert!(
        report
            .to_string()
            .contains("copy the annotated gateway.toml"),
        "{report}"
    );
    std::fs::write(folder.path().join("g.toml"), b"\xff\xfe").unwrap();
    let report = load(&folder.path().join("g.toml")).unwrap_err();
    assert!(report.to_string().contains("not UTF-8"), "{report}");
}

/// A file that its owner alone can read.
fn private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn certificates_and_secrets_are_read_from_the_folder_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| private(&folder.path().join(name), text);
    let made = || rcgen::generate_simple_self_signed(["app.example.com".to_owned()]).unwrap();
    let (one, two) = (made(), made());
    write("cert.pem", &one.cert.pem());
    write("key.pem", &one.signing_key.serialize_pem());
    write("other.pem", &two.signing_key.serialize_pem());
    write("secret", &format!("{}\n", "s".repeat(32)));
    write("short", &format!("{}\n", "s".repeat(31)));
    let with = |key: &str, secret: &str| {
        let tls = format!("[[tls.certificate]]\ncert = \"cert.pem\"\nkey = \"{key}\"");
        let secret = format!(
            "[secret]\nfile = \"{secret}\"\nprevious = [\"secret\", {{ file = \"secret\" }}]\n[login.local]"
        );
        write(
            "gateway.toml",
            &MINIMAL
                .replace("self_signed = true", &tls)
                .replace("[login.local]", &secret),
        );
        load(&folder.path().join("gateway.toml"))
    };

    let config = with("key.pem", "secret").unwrap_or_else(|report| panic!("{report}"));
    assert!(config.warnings.is_empty(), "{}", config.warnings);
    assert_eq!(config.store.master.unwrap().expose(), [b's'; 32]);
    assert_eq!(config.store.previous.len(), 2);
    assert!(matches!(config.tls, server::tls::Settings::Files(files) if files.len() == 1));

    let made = crate::store::master_key(folder.path()).unwrap();
    let moved = with("key.pem", "master.key").unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(moved.store.master.unwrap().expose(), made.expose());

    let report = with("other.pem", "short").unwrap_err();
    let text = report.to_string();
    assert!(
        text.contains("this private key does not belong to the certificate"),
        "{text}"
    );
    assert!(text.contains("too short: 31 bytes, at least 32"), "{text}");
    assert_eq!(report.errors(), 2, "{text}");

    let report = with("cert.pem", "secret").unwrap_err();
    assert!(
        report.to_string().contains("has no private key"),
        "{report}"
    );
}

#[test]
fn a_shared_store_is_read_with_its_secrets_and_shows_none() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| private(&folder.path().join(name), text);
    write("secret", &"s".repeat(32));
    write("password", "hunter2\n");
    let authority = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap();
    write("ca.pem", &authority.cert.pem());
    let text = MINIMAL.replace(
        "[login.local]",
        "[store]\nkind = \"redis\"\nurl = \"rediss+sentinel://app@a,b:5000/main\"\npassword_file = \"password\"\n\
         sentinel_password_file = \"password\"\nca = \"ca.pem\"\nreplicas = 1\n\
         [secret]\nfile = \"secret\"\n[login.local]",
    );
    let name = folder.path().join("gateway.toml");
    let config = parse(&text, name.to_str().unwrap()).unwrap_or_else(|report| panic!("{report}"));
    let crate::store::Kind::Redis(settings) = &config.store.kind else {
        panic!("a shared store");
    };
    assert_eq!(
        settings.address.to_string(),
        "rediss+sentinel://a:26379,b:5000/main"
    );
    assert_eq!(settings.user.as_deref(), Some("app"));
    assert_eq!(settings.password.as_ref().unwrap().expose(), b"hunter2");
    assert_eq!(
        settings.sentinel_password.as_ref().unwrap().expose(),
        b"hunter2"
    );
    assert_eq!(settings.replicas, 1);
    assert!(settings.ca.is_some());
    assert!(!format!("{config:?}").contains("hunter2"));

    let plain = text.replace("rediss+", "redis+");
    let report = parse(&plain, name.to_str().unwrap()).unwrap_err();
    assert!(report.to_string().contains("not over TLS"), "{report}");
    let open = text.replace("app@", "app:hunter2@");
    let report = parse(&open, name.to_str().unwrap()).unwrap_err();
    assert!(!report.to_string().contains("hunter2"), "{report}");
    assert!(report.to_string().contains("does not belong"), "{report}");
}

#[test]
fn several_hosts_share_a_sign_in_below_the_cookie_domain() {
    let with = |host: &str| {
        parse(
            &MINIMAL
                .replace(
                    "[login.local]",
                    "[session]\ncookie_domain = \".Example.com\"\n[login.local]",
                )
                .replace(
                    "upstream = \"app\"",
                    &format!("upstream = \"app\"\nhost = \"{host}\""),
                ),
            "gateway.toml",
        )
    };
    let config = with("Other.example.com").unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(config.cookies.domain.as_deref(), Some("example.com"));
    assert_eq!(config.routes[0].host, "other.example.com");
    let report = with("example.org").unwrap_err();
    assert!(
        report.to_string().contains("does not lie within"),
        "{report}"
    );
}

#[test]
fn windows_shrink_with_a_short_access_token() {
    let text = MINIMAL.replace(
        "[login.local]",
        "[session]\naccess_ttl = \"20s\"\n[login.local]",
    );
    let config = parse(&text, "gateway.toml").unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(
        config.session.windows.redelivery,
        std::time::Duration::from_secs(10)
    );
    assert_eq!(
        config.session.windows.replay_grace,
        std::time::Duration::from_secs(10)
    );
}
