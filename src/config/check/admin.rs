//! `[admin]`: where the second listener is, and who may use its API. The token is read here and never shown.

use toml::Spanned;

use super::store::{from_environment, secret_file};
use super::{Reader, server};
use crate::admin::{Access, Settings, Token};
use crate::config::DEFAULT_ADMIN;
use crate::config::file::Section;

pub(super) fn settings(reader: &Reader<'_>, table: &Section<'_>) -> Option<Settings> {
    if !table.is_present() {
        return None;
    }
    let listen = match table.text("listen") {
        Some(text) => server::address(reader, &text)?,
        None => DEFAULT_ADMIN,
    };
    let token = token(reader, table);
    if !listen.ip().is_loopback()
        && let Some(text) = table.text("listen")
    {
        let hint = match token {
            Some(_) => "metrics have no sign-in: keep it on 127.0.0.1, or let a firewall guard it",
            None => {
                "it has no sign-in: keep it on 127.0.0.1, or let a firewall guard it; its API stays closed without `token_file`"
            }
        };
        reader.problems.warning(
            text.span(),
            "the admin listener can be reached from other machines",
            hint,
        );
    }
    let access = match token {
        Some(token) => Access::Token(token),
        None if listen.ip().is_loopback() => Access::Loopback,
        None => Access::Nobody,
    };
    Some(Settings { listen, access })
}

fn token(reader: &Reader<'_>, table: &Section<'_>) -> Option<Token> {
    let (place, bytes) = match (table.text("token_file"), table.text("token_env")) {
        (Some(file), Some(env)) => {
            reader.problems.clash(
                env.span(),
                "[admin] has both `token_file` and `token_env`",
                "keep one of them",
                file.span(),
                "the other one",
            );
            return None;
        }
        (Some(file), None) => {
            let hint = "make one with `openssl rand -base64 33`, readable by the user who runs vestibule alone";
            let bytes = secret_file(reader, file.span(), file.get_ref(), hint)?;
            (file, bytes)
        }
        (None, Some(env)) => {
            let bytes = from_environment(reader, env.span(), env.get_ref())?;
            (env, bytes)
        }
        (None, None) => return None,
    };
    usable(reader, &place, &bytes).then(|| Token::new(&bytes))
}

/// A token that can be sent in a header and not be guessed.
fn usable(reader: &Reader<'_>, place: &Spanned<&str>, bytes: &[u8]) -> bool {
    let good = bytes.len() >= Token::MIN_BYTES && bytes.iter().all(u8::is_ascii_graphic);
    if !good {
        reader.problems.error(
            place.span(),
            format!(
                "the admin token has at least {} characters, all of them visible ASCII",
                Token::MIN_BYTES
            ),
            "make one with `openssl rand -base64 33`",
        );
    }
    good
}
