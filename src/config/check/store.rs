//! `[store]` and `[secret]`: where state lives and which key seals it. Secrets are read here and never shown.

use std::ops::Range;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use toml::Spanned;
use toml::de::DeValue;

use super::{Purpose, Reader, files, redis};
use crate::auth::foreign_keys::MAX_BYTES;
use crate::auth::refresh_token::MasterKeys;
use crate::config::StoreSettings;
use crate::config::defaults;
use crate::config::file::{Section, called};
use crate::store::Kind as StoreKind;
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
    if reader.purpose == Purpose::Serve {
        let span = table.value("path").map_or(table.span(), Spanned::span);
        files::writable(reader, span, &path);
    }
    let secret = root.section("secret");
    if shared && secret.value("file").is_none() && secret.value("env").is_none() {
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

fn master(reader: &Reader<'_>, table: &Section<'_>) -> Option<Secret> {
    let (file, env) = (table.text("file"), table.text("env"));
    if let (Some(file), Some(env)) = (&file, &env) {
        reader.problems.clash(
            env.span(),
            "[secret] has both `file` and `env`",
            "keep one of them",
            file.span(),
            "the other one",
        );
        return None;
    }
    if let Some(file) = file {
        from_file(reader, file.span(), file.get_ref())
    } else {
        let env = env?;
        from_env(reader, env.span(), env.get_ref())
    }
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

fn from_file(reader: &Reader<'_>, span: Range<usize>, file: &str) -> Option<Secret> {
    let hint =
        "make one with `openssl rand -base64 48`, readable by the user who runs vestibule alone";
    let bytes = secret_file(reader, span.clone(), file, hint)?;
    long_enough(reader, span, bytes)
}

/// A secret's bytes, without the line end of a text; with a word about who else could have read or written them.
pub(super) fn secret_file(
    reader: &Reader<'_>,
    span: Range<usize>,
    file: &str,
    hint: &str,
) -> Option<Vec<u8>> {
    let bytes = read_file(reader, span.clone(), file, hint)?;
    files::kept_from_others(reader, span, &reader.path(file)).then_some(bytes)
}

/// The bytes of a file with a secret, without the line end of a text.
pub(super) fn read_file(
    reader: &Reader<'_>,
    span: Range<usize>,
    file: &str,
    hint: &str,
) -> Option<Vec<u8>> {
    read(reader, span, file, "secret", MOST_SECRET_BYTES, hint)
}

/// The same of a file that is no secret: public keys, certificate authorities.
pub(super) fn public_file(
    reader: &Reader<'_>,
    span: Range<usize>,
    file: &str,
    hint: &str,
) -> Option<Vec<u8>> {
    read(reader, span, file, "file", MOST_PUBLIC_BYTES, hint)
}

fn read(
    reader: &Reader<'_>,
    span: Range<usize>,
    file: &str,
    what: &str,
    most: u64,
    hint: &str,
) -> Option<Vec<u8>> {
    let path = reader.path(file);
    match read_bounded(&path, most) {
        Ok(bytes) => Some(without_line_end(bytes)),
        Err(error) => {
            reader.problems.error(
                span,
                format!("the {what} {} cannot be read: {error}", path.display()),
                hint,
            );
            None
        }
    }
}

fn from_env(reader: &Reader<'_>, span: Range<usize>, name: &str) -> Option<Secret> {
    let bytes = from_environment(reader, span.clone(), name)?;
    long_enough(reader, span, bytes)
}

#[allow(
    clippy::disallowed_methods,
    reason = "secrets may come from the environment; this is the one place that reads it"
)]
pub(super) fn from_environment(
    reader: &Reader<'_>,
    span: Range<usize>,
    name: &str,
) -> Option<Vec<u8>> {
    // `var_os` panics on none of these since Rust 1.66, but a name that cannot exist deserves its own words.
    if name.is_empty() || name.contains(['=', '\0']) {
        reader
            .problems
            .error(span, "not a name of an environment variable", "");
        return None;
    }
    match std::env::var(name) {
        Ok(value) => Some(without_line_end(value.into_bytes())),
        Err(std::env::VarError::NotPresent) => {
            reader.problems.error(
                span,
                format!("the environment variable {name} is not set"),
                "set it for the process that runs vestibule, or use `file`",
            );
            None
        }
        Err(std::env::VarError::NotUnicode(_)) => {
            reader.problems.error(
                span,
                format!("the environment variable {name} is not UTF-8 text"),
                "encode it, for example in base64",
            );
            None
        }
    }
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

/// Far longer than any key; a wrong file name must not fill the memory.
const MOST_SECRET_BYTES: u64 = 64 << 10;
/// As much as of a key set that is fetched.
const MOST_PUBLIC_BYTES: u64 = MAX_BYTES as u64;

fn read_bounded(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path)?
        .take(most + 1)
        .read_to_end(&mut bytes)?;
    if read as u64 > most {
        let most = most >> 10;
        return Err(std::io::Error::other(format!(
            "it is larger than {most} KiB"
        )));
    }
    Ok(bytes)
}

/// Editors and `echo` end a text file with a line end that nobody means; raw random bytes are left alone.
fn without_line_end(mut bytes: Vec<u8>) -> Vec<u8> {
    let is_text = std::str::from_utf8(&bytes).is_ok_and(|text| {
        text.chars()
            .all(|c| !c.is_control() || c == '\n' || c == '\r')
    });
    if is_text {
        while bytes
            .last()
            .is_some_and(|byte| matches!(byte, b'\n' | b'\r'))
        {
            bytes.pop();
        }
    }
    bytes
}
