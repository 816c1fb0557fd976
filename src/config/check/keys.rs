//! What tokens of others are verified with: one source of keys at most, and algorithms that fit it.

use std::ops::Range;
use std::sync::Arc;

use http::Uri;
use toml::Spanned;

use super::secrets::{from_environment, public_file, secret_file};
use super::{Reader, address, suggest};
use crate::auth::foreign_keys::{Algorithm, ForeignKeys};
use crate::config::file::Section;
use crate::units::Secret;

/// The keys of which one says what tokens are verified with.
pub(super) const SOURCES: [&str; 5] = [
    "secret_file",
    "secret_env",
    "public_key_file",
    "jwks_file",
    "jwks_url",
];

/// Where keys come from.
pub(super) enum Source {
    /// They are in the configuration.
    Fixed(Arc<ForeignKeys>),
    /// They are fetched.
    Url(Uri, Vec<Algorithm>),
    /// No key of the table says.
    Unnamed(Vec<Algorithm>),
}

/// What a table says of keys; in messages it is called `named`, and whoever signs `whose`. Without `algorithms` those are meant
/// that everybody uses with such a source.
pub(super) fn source(
    reader: &Reader<'_>,
    table: &Section<'_>,
    named: &str,
    whose: &str,
) -> Option<Source> {
    let algorithms = algorithms(reader, table);
    let given: Vec<(&'static str, Spanned<&str>)> = SOURCES
        .into_iter()
        .filter_map(|key| Some((key, table.text(key)?)))
        .collect();
    if let [(first, one), (other, another), ..] = given.as_slice() {
        reader.problems.clash(
            another.span(),
            format!("{named} has both `{first}` and `{other}`"),
            "keep the one that its tokens are verified with",
            one.span(),
            "the other one",
        );
        return None;
    }
    let source = given.first();
    let shared = matches!(source, Some(("secret_file" | "secret_env", _)));
    let algorithms = match algorithms? {
        Some((algorithms, span)) => {
            if let Some(source) = source {
                fitting(reader, &algorithms, span, source, shared)?;
            }
            algorithms
        }
        None if shared => vec![Algorithm::HS256],
        None => Algorithm::ASYMMETRIC.to_vec(),
    };
    let Some((key, text)) = source else {
        return Some(Source::Unnamed(algorithms));
    };
    let path = table.path_of(key);
    if *key == "jwks_url" {
        let url = address::of_keys(reader, text, &path)?;
        return Some(Source::Url(url, algorithms));
    }
    let hint = match *key {
        "public_key_file" => format!("name the PEM file with the {whose}'s public key"),
        "jwks_file" => format!("name the file with the {whose}'s JWK Set"),
        _ => format!(
            "it must be the secret that the {whose} signs with, byte for byte and nothing else; a longer one: `openssl rand -base64 48`, there and here"
        ),
    };
    let bytes = match *key {
        "secret_env" => from_environment(reader, text.span(), text.get_ref())?,
        "secret_file" => secret_file(reader, text.span(), text.get_ref(), &hint)?,
        _ => public_file(reader, text.span(), text.get_ref(), &hint)?,
    };
    let made = match *key {
        "public_key_file" => ForeignKeys::from_pem(&bytes, &algorithms),
        "jwks_file" => ForeignKeys::from_jwks(&bytes, &algorithms),
        _ => ForeignKeys::from_secret(&Secret::new(bytes), &algorithms),
    };
    match made {
        Ok(keys) => {
            not_used(reader, text.span(), &keys);
            Some(Source::Fixed(Arc::new(keys)))
        }
        Err(error) => {
            reader.problems.error(
                text.span(),
                format!("`{path}` cannot be used: {error}"),
                &hint,
            );
            None
        }
    }
}

/// Says which key of a file nothing is verified with.
fn not_used(reader: &Reader<'_>, span: Range<usize>, keys: &ForeignKeys) {
    if let Some((kid, why)) = keys.skipped().first() {
        let which = kid
            .as_deref()
            .map_or(String::new(), |kid| format!(" {kid:?}"));
        reader.problems.warning(
            span,
            format!("a key{which} of this file is not used: {why}"),
            "tokens that are signed with it are refused",
        );
    }
}

/// Whether algorithms and source go together: whoever knows a public key must not be able to sign with it.
fn fitting(
    reader: &Reader<'_>,
    algorithms: &[Algorithm],
    span: Range<usize>,
    (key, text): &(&'static str, Spanned<&str>),
    shared: bool,
) -> Option<()> {
    let Some(stray) = algorithms.iter().find(|one| one.is_symmetric() != shared) else {
        return Some(());
    };
    let (what, hint) = match shared {
        true => (
            "a public key",
            "a shared secret goes with HS256, HS384 or HS512; for this one use public_key_file, jwks_file or jwks_url",
        ),
        false => (
            "a shared secret",
            "whoever knows the public key could sign with it; for this one use secret_file or secret_env",
        ),
    };
    reader.problems.clash(
        span,
        format!("{stray} goes with {what}, not with `{key}`"),
        hint,
        text.span(),
        "the key",
    );
    None
}

/// The algorithms of a table and where they stand; `None` inside where it names none.
#[allow(
    clippy::type_complexity,
    reason = "a mistake, an absence, or a value with its place"
)]
fn algorithms(
    reader: &Reader<'_>,
    table: &Section<'_>,
) -> Option<Option<(Vec<Algorithm>, Range<usize>)>> {
    let Some(value) = table.value("algorithms") else {
        return Some(None);
    };
    let texts = table.texts("algorithms")?;
    let known = || {
        let all = Algorithm::SYMMETRIC.iter().chain(Algorithm::ASYMMETRIC);
        all.map(|algorithm| algorithm.name())
    };
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
                    false => suggest(text.get_ref(), known()),
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
            format!("`{}` is empty", table.path_of("algorithms")),
            "name those that the tokens are signed with, such as \"HS256\"",
        );
    }
    good.then_some(Some((found, value.span())))
}
