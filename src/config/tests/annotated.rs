//! `gateway.toml` in the root of the repository: it works, it names every key, and every default in it is one.

use super::*;

pub(super) const ANNOTATED: &str = include_str!("../../../gateway.toml");

#[test]
fn the_annotated_file_can_be_used_as_it_stands() {
    let config = parse(ANNOTATED, "gateway.toml").unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(config.origin.to_string(), "https://app.example.com");
    assert_eq!(config.warnings.warnings(), 1, "{}", config.warnings);
    assert_eq!(config.store.path, PathBuf::from("data"));
    assert_eq!(
        config.admin,
        Some(admin::Settings {
            listen: DEFAULT_ADMIN,
            access: admin::Access::Loopback,
        })
    );
}

#[test]
fn the_annotated_file_names_every_key_with_its_default() {
    for key in defaults::KEYS {
        let last = key.path.rsplit('.').next().unwrap();
        let as_table = [format!("[{}", key.path), format!("[[{}", key.path)];
        let line = ANNOTATED
            .lines()
            .map(|line| line.trim_start_matches(['#', ' ']))
            .find(|line| {
                line.split_once('=')
                    .is_some_and(|(name, _)| name.trim() == last)
                    || as_table
                        .iter()
                        .any(|table| line.starts_with(table.as_str()))
                    || line.contains(&format!("{{ {last} ="))
                    || line.contains(&format!(", {last} ="))
            });
        let is_inner_table = key.path == "login" || key.path.ends_with(".NAME");
        assert!(
            line.is_some() || is_inner_table,
            "gateway.toml does not mention `{}`",
            key.path
        );
    }
    for key in defaults::KEYS {
        let defaults::Fallback::Value(value) = key.fallback else {
            continue;
        };
        let last = key.path.rsplit('.').next().unwrap();
        if value.is_empty() || matches!(key.path, "tls.self_signed") {
            continue;
        }
        let written = ANNOTATED
            .lines()
            .map(|line| line.trim_start_matches(['#', ' ']))
            .any(|line| {
                line.split_once('=')
                    .is_some_and(|(name, rest)| name.trim() == last && rest.contains(value))
            });
        assert!(
            written,
            "gateway.toml does not show the default {value} of `{}`",
            key.path
        );
    }
}

#[test]
fn the_annotated_file_says_the_same_with_every_default_written_out() {
    // What stands below a table that is commented out itself belongs nowhere by itself.
    let mut inside = true;
    let written_out: String = ANNOTATED
        .lines()
        .map(|line| {
            let bare = line.trim_start_matches('#').trim_start();
            if bare.starts_with('[') && bare.contains(']') {
                inside = !line.starts_with('#');
            }
            let name = bare.split_once(" = ").map(|(name, _)| name);
            let is_default = inside && name.is_some_and(|name| {
                defaults::KEYS.iter().any(|key| {
                    key.path.rsplit('.').next() == Some(name)
                        && matches!(key.fallback, defaults::Fallback::Value(value) if !value.is_empty()
                            && bare.split('#').next().is_some_and(|code| code.contains(value)))
                })
            });
            format!("{}\n", if is_default { bare } else { line })
        })
        .collect();
    assert!(
        written_out.contains("\naccess_ttl = \"5m\""),
        "{written_out}"
    );
    let implicit = parse(ANNOTATED, "gateway.toml").unwrap();
    let explicit = parse(&written_out, "gateway.toml").unwrap_or_else(|report| panic!("{report}"));
    let comparable = |mut config: Config| {
        config.warnings = Report::default();
        format!("{config:?}")
    };
    assert_eq!(comparable(implicit), comparable(explicit));
}
