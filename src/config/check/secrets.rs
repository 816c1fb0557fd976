//! Bytes that the configuration names but does not hold: secrets from files and variables, and files that are no secret.
//! Must not show any of them, nor keep anything but bytes.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;

use super::{Reader, files};
use crate::auth::foreign_keys::MAX_BYTES;
use crate::config::file::Section;
use crate::units::Secret;

/// A secret from a file or a variable, whichever of the two keys is there, and where that stands; naming both is an error.
pub(super) fn secret(
    reader: &Reader<'_>,
    table: &Section<'_>,
    (file, variable): (&str, &str),
    hint: &str,
) -> Option<Spanned<Secret>> {
    let (span, bytes) = match (table.text(file), table.text(variable)) {
        (Some(one), Some(other)) => {
            reader.problems.clash(
                other.span(),
                format!("[{}] has both `{file}` and `{variable}`", table.path()),
                "keep one of them",
                one.span(),
                "the other one",
            );
            return None;
        }
        (Some(text), None) => (
            text.span(),
            secret_file(reader, text.span(), text.get_ref(), hint)?,
        ),
        (None, Some(text)) => (
            text.span(),
            from_environment(reader, text.span(), text.get_ref())?,
        ),
        (None, None) => return None,
    };
    Some(Spanned::new(span, Secret::new(bytes)))
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
