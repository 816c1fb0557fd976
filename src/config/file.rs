//! What the deployer typed: the file as a tree in which every value knows its place.
//!
//! Must not judge values, or put a default in the place of one: that is `check`. What is wrong with keys says `survey`.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::defaults::{self, Key};
use super::report::nearest;

/// What stands for a name of the deployer's choice in the table of defaults.
pub(super) const NAME: &str = "NAME";

/// A table of the file, present or not; values of the wrong shape read as absent (the survey has reported them).
#[derive(Clone)]
pub(super) struct Section<'a> {
    /// In the table of defaults.
    known_as: String,
    /// In the file, where names of the deployer's choice are what they are.
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
            known_as: String::new(),
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

    /// Its own path, for messages.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The path of one of its keys, for messages.
    pub(super) fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// What is known of one of its keys.
    pub(super) fn known(&self, key: &str) -> Option<&'static Key> {
        defaults::find(&join(&self.known_as, key))
    }

    /// The default of one of its keys.
    pub(super) fn default_of(&self, key: &str) -> &'static str {
        defaults::value(&join(&self.known_as, key))
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
            self.known(word).is_none() && meant(&self.known_as, word) == Some(key)
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
            known_as: join(&self.known_as, key),
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
                    known_as: join(&self.known_as, NAME),
                    path: self.path_of(name.get_ref()),
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
                    known_as: join(&self.known_as, key),
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

/// The key of a table that a word unknown there stands for, but for a slip.
pub(super) fn meant(table: &str, word: &str) -> Option<&'static str> {
    nearest(word, defaults::below(table))
}

/// The path of a key of a table.
pub(super) fn join(table: &str, key: &str) -> String {
    if table.is_empty() {
        key.to_owned()
    } else {
        format!("{table}.{key}")
    }
}
