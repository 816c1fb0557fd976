//! What the deployer typed: the file as a tree in which every value knows its place, and a survey that finds every key
//! that is unknown, misplaced, renamed, of the wrong shape or not in this version.
//!
//! Must not judge values or supply defaults: that is `check`.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::defaults::{self, Key, Shape, Status};
use super::report::{Problems, nearest};

/// What stands for a name of the deployer's choice in the table of defaults.
const NAME: &str = "NAME";

/// A table of the file, present or not; values of the wrong shape read as absent (the survey has reported them).
#[derive(Clone)]
pub(super) struct Section<'a> {
    path: String,
    span: Range<usize>,
    table: Option<&'a DeTable<'a>>,
    /// The survey has said why there is no table.
    explained: bool,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(super) fn root(table: &'a DeTable<'a>) -> Self {
        Section {
            path: String::new(),
            span: 0..0,
            table: Some(table),
            explained: false,
        }
    }

    /// Whether the file has it.
    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Where it is, or where it would belong.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Its own path in the table of defaults.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The path of one of its keys in the table of defaults.
    pub(super) fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Whether the survey has said why a key is not there: its name or its table's was written with a slip, or what should be
    /// its table is none. Then that it is missing is no news.
    pub(super) fn is_explained(&self, key: &str) -> bool {
        self.explained || (self.value(key).is_none() && self.has_slip_of(key))
    }

    /// The same of one of several, of which one would do.
    pub(super) fn is_one_explained(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.is_explained(key))
    }

    fn has_slip_of(&self, key: &str) -> bool {
        self.entries().any(|(name, _)| {
            let word = *name.get_ref();
            defaults::find(&self.path_of(word)).is_none() && meant(&self.path, word) == Some(key)
        })
    }

    /// A value, whatever it is.
    pub(super) fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table?.get(key)
    }

    /// Where a key's name stands.
    pub(super) fn key_span(&self, key: &str) -> Option<Range<usize>> {
        let (name, _) = self.table?.get_key_value(key)?;
        Some(name.span())
    }

    /// A text.
    pub(super) fn text(&self, key: &str) -> Option<Spanned<&'a str>> {
        let value = self.value(key)?;
        Some(Spanned::new(value.span(), value.get_ref().as_str()?))
    }

    /// A list of texts; `None` when the key is absent.
    pub(super) fn texts(&self, key: &str) -> Option<Vec<Spanned<&'a str>>> {
        let list = self.value(key)?.get_ref().as_array()?;
        Some(
            list.iter()
                .filter_map(|item| Some(Spanned::new(item.span(), item.get_ref().as_str()?)))
                .collect(),
        )
    }

    /// A flag.
    pub(super) fn flag(&self, key: &str) -> Option<Spanned<bool>> {
        let value = self.value(key)?;
        Some(Spanned::new(value.span(), value.get_ref().as_bool()?))
    }

    /// A whole number; `None` inside when it is negative or too large.
    pub(super) fn count(&self, key: &str) -> Option<Spanned<Option<u64>>> {
        let value = self.value(key)?;
        let number = value.get_ref().as_integer()?;
        let digits = number.as_str().replace('_', "");
        let parsed = u64::from_str_radix(digits.trim_start_matches('+'), number.radix()).ok();
        Some(Spanned::new(value.span(), parsed))
    }

    /// A table below this one.
    pub(super) fn section(&self, key: &str) -> Section<'a> {
        let value = self.value(key);
        let table = value.and_then(|value| value.get_ref().as_table());
        Section {
            path: self.path_of(key),
            span: value.map_or(self.span.clone(), Spanned::span),
            table,
            explained: table.is_none() && (value.is_some() || self.is_explained(key)),
        }
    }

    /// Every `[table.NAME]` below this table, with its name; what they may hold stands under the path `table.NAME`.
    pub(super) fn named(&self) -> Vec<(Spanned<&'a str>, Section<'a>)> {
        self.entries()
            .filter_map(|(name, value)| {
                let section = Section {
                    path: self.path_of(NAME),
                    span: name.span(),
                    table: Some(value.get_ref().as_table()?),
                    explained: false,
                };
                Some((name, section))
            })
            .collect()
    }

    /// Every `[[table]]` of this name.
    pub(super) fn sections(&self, key: &str) -> Vec<Section<'a>> {
        let Some(list) = self.value(key).and_then(|value| value.get_ref().as_array()) else {
            return Vec::new();
        };
        list.iter()
            .filter_map(|item| {
                Some(Section {
                    path: self.path_of(key),
                    span: item.span(),
                    table: Some(item.get_ref().as_table()?),
                    explained: false,
                })
            })
            .collect()
    }

    /// Every key of a table of the deployer's making.
    pub(super) fn entries(
        &self,
    ) -> impl Iterator<Item = (Spanned<&'a str>, &'a Spanned<DeValue<'a>>)> + use<'a> {
        self.table.into_iter().flat_map(|table| {
            table.iter().map(|(name, value)| {
                let text: &'a str = name.get_ref();
                (Spanned::new(name.span(), text), value)
            })
        })
    }
}

/// Reports every key that is not known here, and every value of the wrong shape.
pub(super) fn survey(root: &DeTable<'_>, problems: &Problems) {
    survey_table("", root, problems);
}

fn survey_table(path: &str, table: &DeTable<'_>, problems: &Problems) {
    for (name, value) in table {
        let full = join(path, name.get_ref());
        match defaults::find(&full) {
            None => unknown(path, name, problems),
            Some(key) => match unavailable(key) {
                Some((message, hint)) => problems.error(name.span(), message, &hint),
                None => survey_value(key, name, value, problems),
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
    name: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
    problems: &Problems,
) {
    let wrong = |expected: &str, found: &Spanned<DeValue<'_>>, hint: &str| {
        problems.error(
            found.span(),
            format!(
                "`{}` must be {expected}, found {}",
                key.path,
                called(found.get_ref())
            ),
            hint,
        );
    };
    let short = name.get_ref();
    match (key.shape, value.get_ref()) {
        (Shape::Table, DeValue::Table(table)) => survey_table(key.path, table, problems),
        (Shape::Table, DeValue::Array(_)) => {
            wrong("one table", value, &format!("write `[{}]`, once", key.path));
        }
        (Shape::Table, _) => wrong("a table", value, &format!("write `[{}]`", key.path)),
        (Shape::Tables, DeValue::Array(list)) => {
            for item in list.iter() {
                match item.get_ref() {
                    DeValue::Table(table) => survey_table(key.path, table, problems),
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
                        survey_table(&format!("{}.{NAME}", key.path), table, problems);
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

/// The key of a table that a word unknown there stands for, but for a slip.
fn meant(table: &str, word: &str) -> Option<&'static str> {
    nearest(word, defaults::below(table))
}

fn unknown(table: &str, name: &Spanned<std::borrow::Cow<'_, str>>, problems: &Problems) {
    let word: &str = name.get_ref();
    let place = if table.is_empty() {
        "at the top level".to_owned()
    } else {
        format!("in [{table}]")
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
            format!("[{table}] has no keys")
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

fn join(table: &str, key: &str) -> String {
    if table.is_empty() {
        key.to_owned()
    } else {
        format!("{table}.{key}")
    }
}
