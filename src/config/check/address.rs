//! Where the gateway itself calls somebody, and pages that people are sent to. Must not call anything.

use http::Uri;
use toml::Spanned;

use super::{Reader, names};
use crate::outbound;

/// A URL that the gateway calls; `path` is the key that names it.
pub(super) fn called(reader: &Reader<'_>, text: &Spanned<&str>, path: &str) -> Option<Uri> {
    parse(text.get_ref())
        .inspect_err(|hint| {
            reader.problems.error(
                text.span(),
                format!("`{path}` is not a URL that can be called"),
                hint,
            );
        })
        .ok()
}

/// A URL whose answer decides whose tokens are believed: https, or http on this very machine.
pub(super) fn of_keys(reader: &Reader<'_>, text: &Spanned<&str>, path: &str) -> Option<Uri> {
    let url = called(reader, text, path)?;
    if outbound::is_in_clear(&url) {
        reader.problems.error(
            text.span(),
            format!(
                "the keys would be fetched from {} without TLS",
                url.host().unwrap_or_default()
            ),
            "whoever is in between could give you keys of their own: use https (ca_file names an authority of your own), or jwks_file",
        );
        return None;
    }
    Some(url)
}

/// An absolute http or https URL that is sent whole, or what is wrong with it.
fn parse(typed: &str) -> Result<Uri, &'static str> {
    let whole = "write it whole, such as \"https://id.example.com/path\"";
    let (scheme, rest) = typed.split_once("://").ok_or(whole)?;
    let default_port = match scheme.to_ascii_lowercase().as_str() {
        "http" => 80,
        "https" => 443,
        _ => return Err("it begins with https://, or with http:// on this machine"),
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("no user name and no password belong into it");
    }
    if typed.contains('#') || typed.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(
            "no #fragment and no blanks belong into it, and everything else percent-encoded",
        );
    }
    names::split_port(authority, default_port).and_then(|(name, _)| names::host(name))?;
    typed.parse().map_err(|_| whole)
}

/// Whether people can be sent there: a path of the origin, or an https URL.
pub(super) fn is_page(typed: &str) -> bool {
    let clean = typed
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\' && byte != b'"');
    let own = typed.starts_with('/') && !typed.starts_with("//");
    let elsewhere = typed
        .strip_prefix("https://")
        .and_then(|rest| rest.split(['/', '?', '#']).next())
        .is_some_and(|authority| {
            names::split_port(authority, 443).is_ok_and(|(name, _)| names::host(name).is_ok())
        });
    clean && (own || elsewhere)
}
