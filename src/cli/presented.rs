//! A token on stdin: however people copied it. Must not judge it.

use std::io::{BufRead as _, Read as _};
use std::process::ExitCode;

use crate::config::Config;

/// Longer than any token, and than any cookie line that holds one.
const MOST_BYTES: u64 = 32 << 10;

/// The token of the first line; on errors says them.
pub(super) fn token(config: &Config, usage: &str) -> Result<String, ExitCode> {
    let mut line = Vec::new();
    let mut input = std::io::stdin().lock().take(MOST_BYTES);
    if let Err(error) = input.read_until(b'\n', &mut line) {
        return Err(super::failed(&format!("stdin cannot be read: {error}")));
    }
    let external = config.external.as_ref();
    let cookie = external.map(|external| external.settings.cookies.access.as_str());
    let text = String::from_utf8_lossy(&line);
    match bare(&text, cookie) {
        "" => Err(super::bad_usage(&format!(
            "there is no token on stdin: {usage} < FILE"
        ))),
        token => Ok(token.to_owned()),
    }
}

/// The token without what people copy along with it: quotes, `Bearer`, `Cookie:` and a cookie's name and attributes. Of several
/// cookies the one of this name, if it is there.
fn bare<'t>(text: &'t str, cookie: Option<&str>) -> &'t str {
    let mut token = text.trim().trim_matches(['"', '\'']);
    for prefix in ["Cookie:", "Set-Cookie:", "Authorization:", "Bearer "] {
        if let Some(head) = token.get(..prefix.len())
            && head.eq_ignore_ascii_case(prefix)
        {
            token = token.get(prefix.len()..).unwrap_or("").trim();
        }
    }
    let first = token.split(';').next().unwrap_or(token).trim();
    let pairs = token
        .split(';')
        .filter_map(|pair| pair.trim().split_once('='));
    let wanted = pairs.into_iter().find(|(name, _)| Some(*name) == cookie);
    match wanted.or_else(|| {
        first
            .split_once('=')
            .filter(|(name, _)| name.starts_with("__"))
    }) {
        Some((_, value)) => value,
        None => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_in_what_people_copy() {
        let check = |text: &str, cookie: Option<&str>, want: &str| {
            assert_eq!(bare(text, cookie), want, "{text:?}");
        };
        for line in [
            "a.b.c\n",
            " \"a.b.c\" ",
            "Bearer a.b.c",
            "authorization: Bearer a.b.c\r\n",
            "__Host-vestibule-access=a.b.c",
            "Cookie: __Host-vestibule-access=a.b.c; x=y",
            "Set-Cookie: __Host-vestibule-access=a.b.c; Path=/; Secure",
        ] {
            check(line, None, "a.b.c");
            check(line, Some("access_token"), "a.b.c");
        }
        let line = "Cookie: theme=dark; access_token=a.b.c; refresh_token=r";
        check(line, Some("access_token"), "a.b.c");
        check(line, None, "theme=dark");
        // Padding is no cookie's name.
        check("a.b.c==", Some("access_token"), "a.b.c==");
        check("", Some("access_token"), "");
    }
}
