//! Every key of the file that is unknown, misplaced, renamed, of the wrong shape or not in this version.
//!
//! Must not judge values or miss any that is not there: that is `check`.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::defaults::{self, Key, Shape, Status};
use super::file::{NAME, join, meant};
use super::report::Problems;

/// Reports every key that is not known here, and every value of the wrong shape.
pub(super) fn survey(root: &DeTable<'_>, problems: &Problems) {
    survey_table("", "", root, problems);
}

/// `path` = of the table in the table of defaults, `typed` = in the file.
fn survey_table(path: &str, typed: &str, table: &DeTable<'_>, problems: &Problems) {
    for (name, value) in table {
        match defaults::find(&join(path, name.get_ref())) {
            None => unknown(path, typed, name, problems),
            Some(key) => match unavailable(key) {
                Some((message, hint)) => problems.error(name.span(), message, &hint),
                None => {
                    survey_value(key, &join(typed, name.get_ref()), name, value, problems);
                }
            },
        }
    }
}

/// What to say of a key that is known and does not act, and how to mend it.
pub(super) fn unavailable(key: &Key) -> Option<(String, String)> {
    match key.status {
        Status::Here => None,
        Status::NotYet => Some((
            format!("`{}` is not available in this version", key.path),
            format!("it stands for: {}; remove it", key.meaning),
        )),
        Status::Renamed(to) => Some((
            format!("`{}` is now called `{to}`", key.path),
            format!("write `{to}`"),
        )),
    }
}

fn survey_value(
    key: &Key,
    typed: &str,
    name: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
    problems: &Problems,
) {
    let wrong = |expected: &str, found: &Spanned<DeValue<'_>>, hint: &str| {
        problems.error(
            found.span(),
            format!(
                "`{typed}` must be {expected}, found {}",
                called(found.get_ref())
            ),
            hint,
        );
    };
    let short = name.get_ref();
    match (key.shape, value.get_ref()) {
        (Shape::Table, DeValue::Table(table)) => survey_table(key.path, typed, table, problems),
        (Shape::Table, DeValue::Array(_)) => {
            wrong("one table", value, &format!("write `[{typed}]`, once"));
        }
        (Shape::Table, _) => wrong("a table", value, &format!("write `[{typed}]`")),
        (Shape::Tables, DeValue::Array(list)) => {
            for item in list.iter() {
                match item.get_ref() {
                    DeValue::Table(table) => survey_table(key.path, typed, table, problems),
                    _ => wrong(
                        "a list of tables",
                        item,
                        &format!("write `[[{}]]`", key.path),
                    ),
                }
            }
        }
        (Shape::Tables, _) => wrong(
            "a list of tables",
            value,
            &format!("write `[[{}]]`, once for each", key.path),
        ),
        (Shape::Texts, DeValue::Array(list)) => {
            for item in list.iter() {
                if !item.get_ref().is_str() {
                    wrong("a list of texts", item, "put each text in quotes");
                }
            }
        }
        (Shape::Texts, DeValue::String(text)) => wrong(
            "a list of texts",
            value,
            &format!("write `{short} = [{text:?}]`"),
        ),
        (Shape::Texts, _) => wrong(
            "a list of texts",
            value,
            &format!("write `{short} = [\"…\"]`"),
        ),
        (Shape::Sources, DeValue::Array(_)) => {}
        (Shape::Sources, _) => wrong(
            "a list",
            value,
            &format!("write `{short} = [{{ file = \"…\" }}, {{ env = \"…\" }}]`"),
        ),
        (Shape::Text | Shape::Duration | Shape::Size, DeValue::String(_)) => {}
        (Shape::Duration, DeValue::Integer(number)) => wrong(
            "a text with a unit",
            value,
            &format!("write `{short} = \"{number}s\"`, or another unit: ms, s, m, h, d, w"),
        ),
        (Shape::Size, DeValue::Integer(number)) => wrong(
            "a text with a unit",
            value,
            &format!("write `{short} = \"{number}B\"`, or another unit: KiB, MiB, GiB"),
        ),
        (Shape::Text | Shape::Duration | Shape::Size, _) => {
            wrong("a text", value, &format!("write `{short} = \"…\"`"));
        }
        (Shape::Flag, DeValue::Boolean(_)) | (Shape::Count, DeValue::Integer(_)) => {}
        (Shape::Flag, _) => wrong(
            "true or false",
            value,
            "write true or false, without quotes",
        ),
        (Shape::Count, _) => wrong("a whole number", value, "write digits, without quotes"),
        (Shape::TextOrTable, DeValue::String(_) | DeValue::Table(_)) => {}
        (Shape::TextOrTable, _) => wrong("a text or a table", value, key.meaning),
        (Shape::Names, DeValue::Table(named)) => {
            for (name, item) in named {
                match item.get_ref() {
                    DeValue::Table(table) => {
                        let path = join(key.path, NAME);
                        survey_table(&path, &join(typed, name.get_ref()), table, problems);
                    }
                    _ => problems.error(
                        name.span(),
                        format!("`{}.{}` must be a table", key.path, name.get_ref()),
                        &format!("write `[{}.NAME]` with a name of your choice", key.path),
                    ),
                }
            }
        }
        (Shape::Claims, DeValue::Table(_)) => {}
        (Shape::Names, _) => wrong(
            "a table for each name",
            value,
            &format!("write `[{}.NAME]` with a name of your choice", key.path),
        ),
        (Shape::Claims, _) => wrong("a table", value, key.meaning),
    }
}

fn unknown(
    table: &str,
    typed: &str,
    name: &Spanned<std::borrow::Cow<'_, str>>,
    problems: &Problems,
) {
    let word: &str = name.get_ref();
    let place = if table.is_empty() {
        "at the top level".to_owned()
    } else {
        format!("in [{typed}]")
    };
    let elsewhere = || {
        defaults::KEYS
            .iter()
            .find(|key| {
                key.path
                    .rsplit_once('.')
                    .is_some_and(|(parent, last)| last == word && parent != table)
            })
            .and_then(|key| key.path.rsplit_once('.'))
    };
    let hint = if let Some(near) = meant(table, word) {
        format!("did you mean `{near}`?")
    } else if let Some((parent, _)) = elsewhere() {
        format!("`{word}` belongs in [{parent}]")
    } else {
        let known: Vec<_> = defaults::below(table).collect();
        if known.is_empty() {
            format!("[{typed}] has no keys")
        } else {
            format!("known here: {}", known.join(", "))
        }
    };
    problems.error(name.span(), format!("unknown key `{word}` {place}"), &hint);
}

/// What a value is, in words.
pub(super) fn called(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
