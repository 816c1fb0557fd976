//! Who may import whom: the table of ARCHITECTURE.md, held against every `crate::` path in `src/`.

use std::path::{Path, PathBuf};

/// What each module may use of the crate. `error` belongs to the gateway.
const MAY_USE: &[(&str, &[&str])] = &[
    ("headers", &[]),
    ("body", &[]),
    ("clock", &[]),
    ("deadline", &[]),
    ("door", &[]),
    ("impatient", &["deadline"]),
    ("listening", &[]),
    ("units", &[]),
    ("token_cache", &[]),
    ("pauses", &[]),
    ("patience", &["clock"]),
    ("outbound", &["units"]),
    ("auth", &["headers", "clock", "units"]),
    ("issuer", &["auth", "outbound", "clock", "pauses", "units"]),
    ("store", &["auth", "clock", "units"]),
    (
        "bearer",
        &["auth", "issuer", "outbound", "token_cache", "clock"],
    ),
    (
        "session",
        &["auth", "store", "token_cache", "clock", "pauses", "units"],
    ),
    // Accounts are a source of identities for renewals: login implements a trait of the session engine.
    (
        "login",
        &[
            "auth", "issuer", "outbound", "session", "store", "headers", "body", "clock",
            "patience", "units",
        ],
    ),
    (
        "upstream",
        &[
            "auth",
            "headers",
            "body",
            "clock",
            "deadline",
            "impatient",
            "units",
        ],
    ),
    // Whose tokens are believed, whose keys are needed.
    (
        "external",
        &[
            "auth", "issuer", "outbound", "headers", "clock", "patience", "units",
        ],
    ),
    ("observe", &["auth", "clock", "units"]),
    ("audit", &["auth", "observe", "clock", "units"]),
    (
        "server",
        &[
            "auth",
            "headers",
            "body",
            "observe",
            "clock",
            "deadline",
            "door",
            "impatient",
            "listening",
            "units",
        ],
    ),
    // The admin API does what commands do, by the same requests.
    (
        "admin",
        &[
            "auth",
            "body",
            "control",
            "door",
            "listening",
            "observe",
            "session",
            "clock",
            "units",
        ],
    ),
    (
        "accounts",
        &["auth", "store", "session", "login", "clock", "units"],
    ),
    (
        "control",
        &[
            "accounts", "audit", "auth", "store", "session", "login", "door", "clock", "units",
        ],
    ),
    // Asks by the engines' own ways of asking; judges nothing that they judge.
    (
        "online",
        &[
            "auth", "bearer", "config", "external", "issuer", "login", "outbound", "store",
            "upstream", "clock", "units",
        ],
    ),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The source without its tests, which may use whatever they need.
fn production(path: &Path) -> String {
    let name = path.to_string_lossy();
    let tests = [
        "/tests",
        "test_support",
        "conformance",
        "/auth/rotation/model/",
        "/auth/rotation/histories/",
    ];
    if tests.iter().any(|part| name.contains(part)) {
        return String::new();
    }
    without_tests(&std::fs::read_to_string(path).unwrap())
}

/// Leaves out every item under `#[cfg(test)]`: a line, or what ends with a brace as far to the left as the attribute.
fn without_tests(text: &str) -> String {
    const ATTRIBUTE: &str = "#[cfg(test)]";
    let mut kept = String::new();
    let mut left = text;
    while let Some(at) = left.find(ATTRIBUTE) {
        let (before, item) = left.split_at(at);
        kept.push_str(before);
        let indent = before.rsplit('\n').next().unwrap_or_default();
        let brace = item.find('{').unwrap_or(item.len());
        left = match item.find(';') {
            Some(line) if line < brace => &item[line + 1..],
            _ => {
                let last = format!("\n{indent}}}");
                let end = item.find(&last).expect("the end of the item");
                &item[end + last.len()..]
            }
        };
    }
    kept + left
}

#[test]
fn only_tests_are_left_out() {
    let text = "use crate::a;\n#[cfg(test)]\nmod tests;\nuse crate::b;\nimpl X {\n    #[cfg(test)]\n    fn t() {\n        crate::t();\n    }\n    fn u() { crate::c(); }\n}\n#[cfg(test)]\nmod tests {\n    use crate::t;\n}\n";
    assert_eq!(used(&without_tests(text)), ["a", "b", "c"]);
}

/// Every module that is named as `crate::NAME` or within `use crate::{…}`, comments aside.
fn used(text: &str) -> Vec<String> {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let mut names = Vec::new();
    for rest in code.split("crate::").skip(1) {
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            for c in list.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => names.push(std::mem::take(&mut name)),
                    c if depth == 0 => name.push(c),
                    _ => {}
                }
            }
            names.push(name);
        } else {
            names.push(rest.to_owned());
        }
    }
    names
        .iter()
        .map(|name| {
            name.trim()
                .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .filter(|name| !name.is_empty())
        .collect()
}

fn files_of(module: &str) -> Vec<PathBuf> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let file = src.join(format!("{module}.rs"));
    if file.exists() {
        found.push(file);
    }
    let folder = src.join(module);
    if folder.exists() {
        sources(&folder, &mut found);
    }
    assert!(!found.is_empty(), "there is no module {module}");
    found
}

#[test]
fn lower_never_imports_higher_and_engines_are_strangers() {
    let mut problems = Vec::new();
    let mut seen = 0;
    for (module, allowed) in MAY_USE {
        for path in files_of(module) {
            for name in used(&production(&path)) {
                seen += 1;
                if name != *module && !allowed.contains(&name.as_str()) {
                    problems.push(format!("{}: {module} uses {name}", path.display()));
                }
            }
        }
    }
    assert!(seen > 30, "only {seen} imports were found");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn each_module_stands_in_the_code_map() {
    let read = |name: &str| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
    };
    let (map, text) = (read("ARCHITECTURE.md"), read("src/lib.rs"));
    let map = map.split("## Code map").nth(1).expect("the code map");
    let map = map.split("\n## ").next().unwrap_or_default();
    let mut seen = 0;
    for line in text.lines() {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        let Some(module) = line
            .strip_prefix("mod ")
            .and_then(|rest| rest.strip_suffix(';'))
        else {
            continue;
        };
        seen += 1;
        let row = |name: String| {
            map.lines()
                .any(|row| row.starts_with('|') && row.contains(&name))
        };
        assert!(
            row(format!("`src/{module}`")) || row(format!("`src/{module}.rs`")),
            "the code map of ARCHITECTURE.md lacks src/{module}"
        );
    }
    assert!(seen > 20, "only {seen} modules were found");
}

#[test]
fn the_pure_core_knows_no_clock_no_runtime_no_log_and_no_file() {
    for path in files_of("auth") {
        let text = production(&path);
        let code: String = text
            .lines()
            .map(|line| line.split("//").next().unwrap_or_default())
            .collect::<Vec<_>>()
            .join("\n");
        for word in [
            "tokio",
            "tracing",
            "SystemTime",
            "Instant",
            "std::fs",
            "std::env",
            "std::net::Tcp",
            "async fn",
            "println",
        ] {
            assert!(!code.contains(word), "{} mentions {word}", path.display());
        }
    }
}
