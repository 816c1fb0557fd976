//! `[store]` with `kind = "redis"`: where it is and how to get in. Secrets come from files and variables, never from the
//! file itself, and are never shown.

use toml::Spanned;

use super::secrets::{from_environment, secret};
use super::{Reader, authorities};
use crate::config::file::Section;
use crate::store::redis::{Address, Settings};

/// Keys that mean something only then. (`replicas` is not among them: its default may be written out.)
const KEYS: [&str; 7] = [
    "url",
    "url_env",
    "password_file",
    "password_env",
    "sentinel_password_file",
    "sentinel_password_env",
    "ca",
];

/// Says of each of those keys that it does nothing.
pub(super) fn unused(reader: &Reader<'_>, table: &Section<'_>) {
    for key in KEYS {
        if let Some(span) = table.key_span(key) {
            reader.problems.error(
                span,
                format!("`store.{key}` belongs to a shared store"),
                "add `kind = \"redis\"`, or remove it",
            );
        }
    }
}

/// What was meant; `None` when the address is missing or no address.
pub(super) fn settings(reader: &Reader<'_>, table: &Section<'_>) -> Option<Settings> {
    if !cfg!(feature = "redis") {
        reader.problems.error(
            table.span(),
            "this build of vestibule has no Redis store",
            "build it with the feature `redis`",
        );
    }
    let hint = "name the file that holds the password and nothing else";
    let password = secret(reader, table, ("password_file", "password_env"), hint);
    let sentinel_password = secret(
        reader,
        table,
        ("sentinel_password_file", "sentinel_password_env"),
        hint,
    );
    let ca = authorities::pem(reader, table, "ca", "store");
    let replicas = reader.count(table, "replicas", 0..=9);
    let (address, span) = address(reader, table)?;
    if ca.is_some() && !address.tls {
        reader.problems.error(
            span,
            "`store.ca` is there, but the connection is not over TLS",
            "write rediss:// instead of redis://",
        );
    }
    Some(Settings {
        user: address.user.clone(),
        password: password
            .map(Spanned::into_inner)
            .or_else(|| address.password.clone()),
        address,
        sentinel_password: sentinel_password.map(Spanned::into_inner),
        ca,
        replicas,
    })
}

fn address(reader: &Reader<'_>, table: &Section<'_>) -> Option<(Address, std::ops::Range<usize>)> {
    let (text, span) = match (table.text("url"), table.text("url_env")) {
        (Some(url), Some(variable)) => {
            reader.problems.clash(
                variable.span(),
                "[store] has both `url` and `url_env`",
                "keep one of them",
                url.span(),
                "the other one",
            );
            return None;
        }
        (None, Some(variable)) => {
            let bytes = from_environment(reader, variable.span(), variable.get_ref())?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            (text, variable.span())
        }
        (_, None) => {
            let url = reader.required(table, "url")?;
            ((*url.get_ref()).to_owned(), url.span())
        }
    };
    match Address::parse(&text) {
        Ok(address) if address.password.is_some() && table.text("url").is_some() => {
            reader.problems.error(
                span,
                "a password does not belong into this file",
                "use `password_file` or `password_env`, or the whole address from `url_env`",
            );
            None
        }
        Ok(address) => Some((address, span)),
        Err(why) => {
            reader.problems.error(
                span,
                format!("`store.url` is no address of a store: {why}"),
                "rediss://host:6379, rediss+sentinel://host,host/master or rediss+cluster://host,host",
            );
            None
        }
    }
}
