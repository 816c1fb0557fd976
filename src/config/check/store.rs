//! `[store]` and `[secret]`: where state lives and which key seals it. Secrets are read here and never shown.

use std::fmt::Display;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use toml::Spanned;
use toml::de::DeValue;

use super::secrets::{from_environment, secret, secret_file};
use super::{Purpose, Reader, files, redis};
use crate::auth::refresh_token::MasterKeys;
use crate::config::StoreSettings;
use crate::config::defaults;
use crate::config::file::Section;
use crate::config::survey::called;
use crate::store::{Kind as StoreKind, embedded, master_key};
use crate::units::Secret;

pub(super) fn settings(reader: &Reader<'_>, root: &Section<'_>) -> StoreSettings {
    let table = root.section("store");
    let shared = reader.choice(
        &table,
        "kind",
        &[("embedded", false), ("redis", true)],
        false,
    );
    let kind = match shared {
        false => {
            redis::unused(reader, &table);
            StoreKind::Embedded
        }
        // Without an address the file is refused; what stands in its place is thrown away.
        true => redis::settings(reader, &table).map_or(StoreKind::Embedded, |settings| {
            StoreKind::Redis(Box::new(settings))
        }),
    };
    let path = match table.value("path") {
        Some(_) => reader.required(&table, "path").map(|text| {
            let path = reader.path(text.get_ref());
            if path.exists() && !path.is_dir() {
                reader.problems.error(
                    text.span(),
                    format!("`store.path` {} is not a folder", path.display()),
                    "name a folder; it is made when it does not exist",
                );
            }
            path
        }),
        None => None,
    };
    let path = path.unwrap_or_else(|| reader.path(defaults::value("store.path")));
    let secret = root.section("secret");
    let names_a_key = secret.value("file").is_some()
        || secret.value("env").is_some()
        || secret.is_one_explained(&["file", "env"]);
    if reader.purpose == Purpose::Serve {
        let span = table.value("path").map_or(table.span(), Spanned::span);
        let writable = files::writable(reader, span.clone(), &path);
        if writable && !shared {
            refused(reader, &span, embedded::private(&path));
            if !names_a_key {
                refused(reader, &span, master_key::existing(&path));
            }
        }
    }
    if shared && !names_a_key {
        reader.problems.error(
            if secret.is_present() { secret.span() } else { table.span() },
            "a shared store needs `[secret]`: all nodes seal with the same master key",
            "add [secret] with `file = \"/run/secrets/vestibule\"`; make one with `openssl rand -base64 48`",
        );
    }
    StoreSettings {
        kind,
        path,
        master: master(reader, &secret),
        previous: previous(reader, &secret),
    }
}

/// What the store's folder has already, its file and the key that it keeps for itself: what a start would refuse is refused here.
fn refused<T>(reader: &Reader<'_>, span: &Range<usize>, found: Result<T, impl Display>) {
    if let Err(error) = found {
        let text = error.to_string();
        let (what, hint) = text.split_once("; ").unwrap_or((&text, ""));
        reader.problems.error(span.clone(), what.to_owned(), hint);
    }
}

fn master(reader: &Reader<'_>, table: &Section<'_>) -> Option<Secret> {
    let secret = secret(reader, table, ("file", "env"), MAKE_ONE)?;
    long_enough(reader, secret.span(), secret.get_ref().expose().to_vec())
}

fn previous(reader: &Reader<'_>, table: &Section<'_>) -> Vec<Secret> {
    let Some(list) = table
        .value("previous")
        .and_then(|value| value.get_ref().as_array())
    else {
        return Vec::new();
    };
    list.iter()
        .filter_map(|item| previous_key(reader, item))
        .collect()
}

fn previous_key(reader: &Reader<'_>, item: &Spanned<DeValue<'_>>) -> Option<Secret> {
    let wrong = |message: String| {
        reader.problems.error(
            item.span(),
            message,
            "write { file = \"old.key\" } or { env = \"NAME\" }",
        );
        None
    };
    match item.get_ref() {
        DeValue::String(file) => from_file(reader, item.span(), file),
        DeValue::Table(table) => {
            let text = |key: &str| table.get(key).and_then(|value| value.get_ref().as_str());
            match (table.len(), text("file"), text("env")) {
                (1, Some(file), None) => from_file(reader, item.span(), file),
                (1, None, Some(env)) => from_env(reader, item.span(), env),
                _ => wrong("a former master key is one file or one variable".to_owned()),
            }
        }
        other => wrong(format!(
            "a former master key is a file or a variable, found {}",
            called(other)
        )),
    }
}

/// What to do when there is none.
const MAKE_ONE: &str =
    "make one with `openssl rand -base64 48`, readable by the user who runs vestibule alone";

fn from_file(reader: &Reader<'_>, span: Range<usize>, file: &str) -> Option<Secret> {
    let bytes = secret_file(reader, span.clone(), file, MAKE_ONE)?;
    long_enough(reader, span, bytes)
}

fn from_env(reader: &Reader<'_>, span: Range<usize>, name: &str) -> Option<Secret> {
    let bytes = from_environment(reader, span.clone(), name)?;
    long_enough(reader, span, bytes)
}

fn long_enough(reader: &Reader<'_>, span: Range<usize>, bytes: Vec<u8>) -> Option<Secret> {
    // The key that the store made for itself is base64 text: named here, the same file must be the same key.
    if let Ok(decoded) = STANDARD.decode(&bytes)
        && decoded.len() >= MasterKeys::MIN_BYTES
    {
        return Some(Secret::new(decoded));
    }
    if bytes.len() < MasterKeys::MIN_BYTES {
        reader.problems.error(
            span,
            format!(
                "the secret is too short: {} bytes, at least {} are needed",
                bytes.len(),
                MasterKeys::MIN_BYTES
            ),
            "make one with `openssl rand -base64 48`",
        );
        return None;
    }
    Some(Secret::new(bytes))
}
