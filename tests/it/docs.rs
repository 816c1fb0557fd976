//! The documents say what is so: their links lead somewhere, their configuration is accepted, their lists are complete.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use vestibule::observe::Metrics;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

const DOCUMENTS: [&str; 5] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
];

#[test]
fn every_link_into_the_repository_leads_somewhere() {
    let mut seen = 0;
    for document in DOCUMENTS {
        let text = read(document);
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            if target.starts_with("http") || target.starts_with('#') {
                continue;
            }
            let path =
                Path::new(env!("CARGO_MANIFEST_DIR")).join(target.split('#').next().unwrap());
            assert!(path.exists(), "{document} links to {target}");
            seen += 1;
        }
    }
    assert!(seen > 10, "only {seen} links were found");
}

#[test]
fn every_source_path_that_is_named_exists() {
    let mut seen = 0;
    for document in DOCUMENTS {
        let text = read(document);
        for word in text.split(|c: char| c.is_whitespace() || "`()[],;|".contains(c)) {
            let word = word.trim_end_matches(['.', ':']);
            if word.starts_with("src/")
                || word.starts_with("tests/")
                || word.starts_with("benches/")
            {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(word);
                assert!(path.exists(), "{document} names {word}");
                seen += 1;
            }
        }
    }
    assert!(seen > 10, "only {seen} paths were found");
}

/// What every file needs, for examples of a part.
const AROUND: &str = "[server]\norigin = \"https://app.example.com\"\n[tls]\nself_signed = true\n[[upstream]]\nname = \"app\"\nurl = \"http://127.0.0.1:3000\"\n[[route]]\nupstream = \"app\"\n";

#[test]
fn every_configuration_in_the_readme_is_accepted() {
    let text = read("README.md");
    let blocks: Vec<&str> = text
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen_pair(folder.path());
        assert!(made, "a certificate for the example");
        let block = block.replace("/run/secrets/", &format!("{}/", folder.path().display()));
        // An example of a part stands for itself within the smallest file.
        let block = match block.contains("[server]") {
            true => block,
            false => format!("{AROUND}{block}"),
        };
        for name in [
            "vestibule",
            "redis",
            "oidc",
            "google",
            "entra",
            "github",
            "keycloak",
            "hs256.key",
        ] {
            std::fs::write(folder.path().join(name), "s".repeat(48)).unwrap();
        }
        let name = folder.path().join("gateway.toml");
        if let Err(report) = vestibule::config::parse(&block, name.to_str().unwrap()) {
            panic!("{}", report.render(false));
        }
    }
}

/// The files that the example names.
fn rcgen_pair(folder: &Path) -> bool {
    let Ok(made) = rcgen::generate_simple_self_signed(vec!["app.example.com".to_owned()]) else {
        return false;
    };
    std::fs::write(folder.join("fullchain.pem"), made.cert.pem()).is_ok()
        && std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).is_ok()
}

#[test]
fn the_readme_lists_every_metric_and_no_other() {
    let readme = read("README.md");
    let table = readme
        .split("<!-- metrics -->")
        .nth(1)
        .and_then(|rest| rest.split("<!-- /metrics -->").next())
        .expect("the table of metrics");
    let listed: BTreeSet<&str> = table
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("vestibule_"))
        .collect();

    let metrics = Metrics::default();
    metrics.route("a/").answered(200);
    metrics.upstream_error("app", "connect");
    metrics.provider_sign_in("corp", "signed_in");
    metrics.issuer("https://id.example.com", 1, Some(Duration::ZERO), (1, 0));
    let text = metrics.encode();
    let mut written = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            written.insert(format!("{name}{suffix}"));
        }
    }
    let written: BTreeSet<&str> = written.iter().map(String::as_str).collect();
    assert!(written.len() > 15, "{written:?}");
    assert_eq!(listed, written);
}

#[test]
fn the_readme_lists_every_key_with_its_default() {
    let readme = read("README.md");
    let listed = readme
        .split("<!-- keys -->\n")
        .nth(1)
        .and_then(|rest| rest.split("<!-- /keys -->").next())
        .expect("the table of keys");
    let table = vestibule::config::defaults::markdown();
    assert!(listed == table, "the README should say:\n{table}");
}
