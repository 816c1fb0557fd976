//! What the tokens of `[external]` are verified with: exactly one source of keys, and algorithms that fit it.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;

use super::places;
use crate::auth::foreign_keys::{Algorithm, ForeignKeys};
use crate::config::check::store::{from_environment, public_file, read_file};
use crate::config::check::{Reader, suggest};
use crate::config::file::Section;
use crate::external::KeySource;
use crate::units::Secret;

/// The keys of which exactly one says what tokens are verified with.
const KEY_SOURCES: [&str; 5] = [
    "secret_file",
    "secret_env",
    "public_key_file",
    "jwks_file",
    "jwks_url",
];

fn algorithms(reader: &Reader<'_>, table: &Section<'_>) -> Option<(Vec<Algorithm>, Range<usize>)> {
    let Some(value) = table.value("algorithms") else {
        reader.problems.error(
            table.span(),
            "`external.algorithms` is missing",
            "add `algorithms = [\"HS256\"]`: how the service signs its access tokens; it is never taken from a token",
        );
        return None;
    };
    let texts = table.texts("algorithms")?;
    let mut found = Vec::new();
    let mut good = !texts.is_empty();
    for text in &texts {
        match Algorithm::parse(text.get_ref()) {
            Some(algorithm) if found.contains(&algorithm) => {}
            Some(algorithm) => found.push(algorithm),
            None => {
                good = false;
                let hint = match text.get_ref().eq_ignore_ascii_case("none") {
                    true => "anybody can make an unsigned token; there is no way to accept one"
                        .to_owned(),
                    false => suggest(text.get_ref(), known_algorithms().into_iter()),
                };
                reader.problems.error(
                    text.span(),
                    format!("{:?} is no algorithm that is accepted", text.get_ref()),
                    &hint,
                );
            }
        }
    }
    if texts.is_empty() {
        reader.problems.error(
            value.span(),
            "`external.algorithms` is empty",
            "name the one that the service signs with, such as \"HS256\"",
        );
    }
    good.then_some((found, value.span()))
}

fn known_algorithms() -> Vec<&'static str> {
    let all = Algorithm::SYMMETRIC.iter().chain(Algorithm::ASYMMETRIC);
    all.map(|algorithm| algorithm.name()).collect()
}

pub(super) fn source(reader: &Reader<'_>, table: &Section<'_>) -> Option<KeySource> {
    let algorithms = algorithms(reader, table);
    let mut given: Vec<(&'static str, Spanned<&str>)> = KEY_SOURCES
        .into_iter()
        .filter_map(|key| Some((key, table.text(key)?)))
        .collect();
    if let [(first, one), .., (other, another)] = given.as_slice() {
        reader.problems.clash(
            another.span(),
            format!("[external] has both `{first}` and `{other}`"),
            "keep the one that the service's tokens are verified with",
            one.span(),
            "the other one",
        );
        return None;
    }
    let Some((key, text)) = given.pop() else {
        reader.problems.error(
            table.span(),
            "[external] has no key to verify tokens with",
            "add one of secret_file, secret_env (HS algorithms), public_key_file, jwks_file, jwks_url",
        );
        return None;
    };
    let (algorithms, span) = algorithms?;
    let symmetric = |algorithm: &Algorithm| Algorithm::SYMMETRIC.contains(algorithm);
    let shared = matches!(key, "secret_file" | "secret_env");
    if let Some(stray) = algorithms.iter().find(|&one| symmetric(one) != shared) {
        let (what, hint) = match shared {
            true => (
                "a public key",
                "a shared secret goes with HS256, HS384 or HS512; for this one use public_key_file, jwks_file or jwks_url",
            ),
            false => (
                "a shared secret",
                "whoever knows the public key could sign with it; for this one use secret_file",
            ),
        };
        reader.problems.clash(
            span,
            format!("{} goes with {what}, not with `{key}`", stray.name()),
            hint,
            text.span(),
            "the key",
        );
        return None;
    }
    if key == "jwks_url" {
        let url = places::called(reader, &text, "external.jwks_url")?;
        if places::is_in_clear(&url) {
            reader.problems.error(
                text.span(),
                "`external.jwks_url` fetches keys in clear over the network",
                "whoever can change them on their way can sign in as anybody: use https",
            );
        }
        return Some(KeySource::Url { url, algorithms });
    }
    let bytes = match key {
        "secret_env" => from_environment(reader, text.span(), text.get_ref())?,
        _ => {
            let hint = match key {
                "secret_file" => "name the file that holds the service's secret and nothing else",
                "public_key_file" => "name the PEM file with the service's public key",
                _ => "name the file with the service's JWK Set",
            };
            match shared {
                true => read_file(reader, text.span(), text.get_ref(), hint)?,
                false => public_file(reader, text.span(), text.get_ref(), hint)?,
            }
        }
    };
    let made = match key {
        "public_key_file" => ForeignKeys::from_pem(&bytes, &algorithms),
        "jwks_file" => ForeignKeys::from_jwks(&bytes, &algorithms),
        _ => ForeignKeys::from_secret(&Secret::new(bytes), &algorithms),
    };
    made.inspect_err(|error| {
        reader.problems.error(
            text.span(),
            format!("`external.{key}` cannot be used: {error}"),
            match key {
                "secret_file" | "secret_env" => "it must be the secret that the service signs with, byte for byte; a longer one: `openssl rand -base64 48`, there and here",
                _ => "",
            },
        );
    })
    .ok()
    .map(|keys| KeySource::Fixed(Arc::new(keys)))
}
