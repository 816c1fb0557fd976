//! The documents say what is so: their links lead somewhere, their configuration is accepted, their lists are complete.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use vestibule::observe::Metrics;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every page of documentation.
fn documents() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in ["", "docs/"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                found.push(format!("{folder}{name}"));
            }
        }
    }
    assert!(found.len() > 10, "only {found:?} were found");
    found
}

/// What `](…)` in a text leads to.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let ends = text.split("](").skip(1);
    ends.filter_map(|rest| rest.split(')').next())
        .filter(|target| !target.starts_with("http"))
}

/// The headings of a page as links call them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let mut found = Vec::new();
    for heading in headings {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter_map(|c| match c {
            ' ' => Some('-'),
            '-' | '_' => Some(c),
            c => c.is_alphanumeric().then_some(c),
        });
        found.push(kept.collect());
    }
    found
}

#[test]
fn every_link_into_the_repository_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut paths, mut places) = (0, 0);
    for document in documents() {
        let text = read(&document);
        for target in links(&text) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = match file {
                "" => root.join(&document),
                file => root.join(&document).parent().unwrap().join(file),
            };
            assert!(path.exists(), "{document} links to {target}");
            paths += 1;
            if !anchor.is_empty() {
                let there = anchors(&std::fs::read_to_string(&path).unwrap());
                assert!(
                    there.iter().any(|one| one == anchor),
                    "{document} links to {target}"
                );
                places += 1;
            }
        }
    }
    assert!(
        paths > 30 && places > 10,
        "only {paths} and {places} links were found"
    );
}

#[test]
fn the_readme_leads_to_every_page() {
    let readme = read("README.md");
    let led_to: BTreeSet<&str> = links(&readme)
        .filter_map(|target| target.split('#').next())
        .collect();
    for document in documents() {
        let there = document == "README.md" || led_to.contains(document.as_str());
        assert!(there, "the README does not link to {document}");
    }
}

#[test]
fn every_source_path_that_is_named_exists() {
    let mut seen = 0;
    for document in documents() {
        let text = read(&document);
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
fn every_configuration_in_the_documents_is_accepted() {
    let all: String = documents().iter().map(|document| read(document)).collect();
    let blocks: Vec<&str> = all
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(blocks.len() > 8, "only {} were found", blocks.len());
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
fn every_metric_is_listed_and_no_other() {
    let page = read("docs/watching.md");
    let table = page
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
    let issuer = ["bearer", "https://id.example.com"];
    metrics.issuer(issuer, 1, Some(Duration::ZERO), (1, 0));
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
fn the_readme_says_which_rust_it_needs() {
    let version = env!("CARGO_PKG_RUST_VERSION");
    assert!(
        read("README.md").contains(&format!("Rust {version} or newer")),
        "the README should ask for Rust {version} or newer, as Cargo.toml does"
    );
}

#[test]
fn every_key_is_listed_with_its_default() {
    let page = read("docs/configuration.md");
    let listed = page
        .split("<!-- keys -->\n")
        .nth(1)
        .and_then(|rest| rest.split("<!-- /keys -->").next())
        .expect("the table of keys");
    let table = vestibule::config::defaults::markdown();
    assert!(
        listed == table,
        "docs/configuration.md should say:\n{table}"
    );
}
