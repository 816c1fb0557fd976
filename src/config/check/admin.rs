//! `[admin]`: where the second listener is, and who may use its API. The token is read here and never shown.

use std::ops::Range;

use super::secrets::secret;
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
    let hint =
        "make one with `openssl rand -base64 33`, readable by the user who runs vestibule alone";
    let secret = secret(reader, table, ("token_file", "token_env"), hint)?;
    let bytes = secret.get_ref().expose();
    usable(reader, secret.span(), bytes).then(|| Token::new(bytes))
}

/// A token that can be sent in a header and not be guessed.
fn usable(reader: &Reader<'_>, span: Range<usize>, bytes: &[u8]) -> bool {
    let good = bytes.len() >= Token::MIN_BYTES && bytes.iter().all(u8::is_ascii_graphic);
    if !good {
        reader.problems.error(
            span,
            format!(
                "the admin token has at least {} characters, all of them visible ASCII",
                Token::MIN_BYTES
            ),
            "make one with `openssl rand -base64 33`",
        );
    }
    good
}
