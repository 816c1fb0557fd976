//! Cookies on the wire (RFC 6265bis): ours are taken out of `Cookie`, written as `Set-Cookie`, and never accepted from an
//! upstream. Must not know what a cookie's value means.

use std::time::Duration;

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memchr;

/// `SameSite` attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// `Strict`
    Strict,
    /// `Lax`
    Lax,
    /// `None`
    None,
}

/// Largest `name=value` that every browser keeps (RFC 6265bis, "Limits").
pub const MAX_NAME_VALUE: usize = 4096;

/// How our cookies are written.
#[derive(Clone, Debug)]
pub struct CookieStyle {
    /// `SameSite`.
    pub same_site: SameSite,
    /// `Domain`, only with `__Secure-` names.
    pub domain: Option<String>,
}

/// The name + value would be too large for a browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cookie would exceed {MAX_NAME_VALUE} bytes")]
pub struct TooLarge;

impl CookieStyle {
    /// `name=value; Path=/; Secure; HttpOnly; SameSite=…; Max-Age=…`, and `Domain` where there is one.
    pub fn set(&self, name: &str, value: &str, max_age: Duration) -> Result<HeaderValue, TooLarge> {
        // RFC 6265bis counts name and value; the `=` is counted too, to stay on the safe side of every browser.
        if name.len() + 1 + value.len() > MAX_NAME_VALUE {
            return Err(TooLarge);
        }
        let line = self.line(name, value, max_age.as_secs());
        // Our values are base64url and dots; anything that is no header text could not be kept by a browser either.
        let mut line = HeaderValue::try_from(line).map_err(|_| TooLarge)?;
        line.set_sensitive(true);
        Ok(line)
    }

    /// The deletion that repeats every attribute (attacks C3, F06).
    pub fn delete(&self, name: &str) -> HeaderValue {
        let mut line = self.line(name, "", 0);
        line.push_str("; Expires=Thu, 01 Jan 1970 00:00:00 GMT");
        // The name is a constant of ours and the domain was checked as a host name, so this is always header text.
        HeaderValue::try_from(line).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    fn line(&self, name: &str, value: &str, max_age: u64) -> String {
        use std::fmt::Write as _;
        let same_site = match self.same_site {
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
            SameSite::None => "None",
        };
        let mut line = String::with_capacity(name.len() + value.len() + 128);
        // Writing to a String cannot fail.
        let _ = write!(
            line,
            "{name}={value}; Path=/; Secure; HttpOnly; SameSite={same_site}; Max-Age={max_age}"
        );
        if let Some(domain) = &self.domain {
            let _ = write!(line, "; Domain={domain}");
        }
        line
    }
}

/// Whether `name` is one of ours in any spelling a browser might treat as ours (`__Host-`/`__Secure-` + `vestibule-`,
/// compared without case).
pub fn is_ours(name: &str) -> bool {
    is_ours_bytes(name.as_bytes())
}

/// As we write them, which is how they come back.
fn begins_exactly_like_ours(text: &[u8]) -> bool {
    text.starts_with(b"__Host-vestibule-") || text.starts_with(b"__Secure-vestibule-")
}

fn is_ours_bytes(name: &[u8]) -> bool {
    if begins_exactly_like_ours(name) {
        return true;
    }
    // Whatever stands before the name that is no visible ASCII (white space of any alphabet) may be trimmed by somebody.
    let first = name.iter().position(u8::is_ascii_graphic);
    let Some(name) = first.and_then(|first| name.get(first..)) else {
        return false;
    };
    // An app's cookies, nearly always.
    if name.first() != Some(&b'_') {
        return false;
    }
    [b"__host-".as_slice(), b"__secure-"].iter().any(|prefix| {
        name.split_at_checked(prefix.len())
            .is_some_and(|(head, tail)| {
                head.eq_ignore_ascii_case(prefix)
                    && tail
                        .get(..b"vestibule-".len())
                        .is_some_and(|tail| tail.eq_ignore_ascii_case(b"vestibule-"))
            })
    })
}

/// The `name=value` pieces of one `Cookie` line, without the blanks around them.
fn pieces(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let (piece, tail) = match memchr(b';', line) {
            Some(end) => (line.get(..end), line.get(end + 1..)),
            None => (Some(line), None),
        };
        rest = tail;
        piece
    })
    .map(<[u8]>::trim_ascii)
    .filter(|piece| !piece.is_empty())
}

fn piece_is_ours(piece: &[u8]) -> bool {
    if begins_exactly_like_ours(piece) {
        return true;
    }
    let name = memchr(b'=', piece)
        .and_then(|end| piece.get(..end))
        .unwrap_or(piece);
    // `=name=value` is a cookie without a name to some and a cookie called `name` to others.
    is_ours_bytes(if name.is_empty() {
        piece.trim_ascii_start().strip_prefix(b"=").unwrap_or(piece)
    } else {
        name
    })
}

/// Takes our cookies out of all `Cookie` lines and joins the rest with `; ` in order, byte for byte (RFC 9113 section
/// 8.2.3). Removes the header when nothing is left.
pub fn strip_ours(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(COOKIE).iter();
    let Some(first) = lines.next() else {
        return;
    };
    let single = lines.next().is_none();
    if single && !pieces(first.as_bytes()).any(piece_is_ours) {
        return;
    }
    // Often nothing is left: then nothing is allocated.
    let mut rest = Vec::new();
    for piece in headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|line| pieces(line.as_bytes()))
        .filter(|piece| !piece_is_ours(piece))
    {
        if !rest.is_empty() {
            rest.extend_from_slice(b"; ");
        }
        rest.extend_from_slice(piece);
    }
    // Pieces of header values joined by header text are header text again.
    match HeaderValue::try_from(rest) {
        Ok(rest) if !rest.is_empty() => {
            headers.insert(COOKIE, rest);
        }
        _ => {
            headers.remove(COOKIE);
        }
    }
}

/// Gives cookies other values, wherever they stand in the `Cookie` lines: `None` takes one out, and one with a value that
/// is not there yet comes last. The others stay as they are, in order; several lines become one (RFC 9113 section 8.2.3).
/// Values that are no header text leave the header without that cookie.
pub fn replace(headers: &mut HeaderMap, cookies: &[(&str, Option<&str>)]) {
    let name_of =
        |piece: &[u8]| memchr(b'=', piece).and_then(|end| piece.get(..end).map(<[u8]>::to_vec));
    let mut written = vec![false; cookies.len()];
    let mut rest = Vec::new();
    let mut write = |piece: &[&[u8]]| {
        if !rest.is_empty() {
            rest.extend_from_slice(b"; ");
        }
        piece.iter().for_each(|part| rest.extend_from_slice(part));
    };
    for piece in headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|line| pieces(line.as_bytes()))
    {
        let name = name_of(piece).unwrap_or_default();
        let known = cookies
            .iter()
            .zip(&mut written)
            .find(|((known, _), _)| known.as_bytes() == name);
        match known {
            None => write(&[piece]),
            Some(((name, Some(value)), written)) if !*written => {
                *written = true;
                write(&[name.as_bytes(), b"=", value.as_bytes()]);
            }
            Some(_) => {}
        }
    }
    for ((name, value), written) in cookies.iter().zip(written) {
        if let (Some(value), false) = (value, written) {
            write(&[name.as_bytes(), b"=", value.as_bytes()]);
        }
    }
    match HeaderValue::try_from(rest) {
        Ok(rest) if !rest.is_empty() => {
            headers.insert(COOKIE, rest);
        }
        _ => {
            headers.remove(COOKIE);
        }
    }
}

/// Drops every `Set-Cookie` of an upstream's answer that would set one of these cookies, as some browser might read it;
/// returns how many lines were dropped.
pub fn refuse_from_upstream(headers: &mut HeaderMap, names: &[&str]) -> usize {
    let sets = |line: &HeaderValue| {
        let pair = line.as_bytes().split(|byte| *byte == b';').next();
        let pair = pair.unwrap_or_default().trim_ascii();
        // `=name=value` is a cookie without a name, which comes back as `name=value`.
        let pair = pair.strip_prefix(b"=").unwrap_or(pair).trim_ascii_start();
        let name = memchr(b'=', pair).and_then(|end| pair.get(..end));
        let name = name.unwrap_or(pair).trim_ascii();
        names
            .iter()
            .any(|known| known.as_bytes().eq_ignore_ascii_case(name))
    };
    drop_lines(headers, sets)
}

/// Drops every `Set-Cookie` of an upstream's answer that would set one of ours, and whatever part of `Clear-Site-Data`
/// would remove them; returns how many lines were dropped. The app's own cookies it can remove by name.
pub fn refuse_ours_from_upstream(headers: &mut HeaderMap) -> usize {
    // One walk for both: most answers have neither.
    let (mut clears, mut sets_ours) = (false, false);
    for (name, value) in headers.iter() {
        match name.as_str() {
            "set-cookie" => sets_ours |= line_is_ours(value),
            "clear-site-data" => clears = true,
            _ => {}
        }
    }
    if clears {
        spare_cookies(headers);
    }
    match sets_ours {
        true => drop_lines(headers, line_is_ours),
        false => 0,
    }
}

/// Drops the `Set-Cookie` lines that `unwanted` picks; the others stay in order.
fn drop_lines(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderValue) -> bool) -> usize {
    if !headers.get_all(SET_COOKIE).iter().any(&unwanted) {
        return 0;
    }
    let all: Vec<HeaderValue> = headers.get_all(SET_COOKIE).iter().cloned().collect();
    headers.remove(SET_COOKIE);
    let mut dropped = 0;
    for line in all {
        if unwanted(&line) {
            dropped += 1;
        } else {
            headers.append(SET_COOKIE, line);
        }
    }
    dropped
}

/// Whether a `Set-Cookie` line sets one of ours.
fn line_is_ours(line: &HeaderValue) -> bool {
    let pair = line.as_bytes().split(|byte| *byte == b';').next();
    pair.is_some_and(|pair| piece_is_ours(pair.trim_ascii()))
}

const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");

/// Takes `"cookies"` out of `Clear-Site-Data`, and writes `"*"` as everything else (W3C Clear Site Data, section 3.1).
fn spare_cookies(headers: &mut HeaderMap) {
    let mut kept: Vec<&[u8]> = Vec::new();
    let lines: Vec<HeaderValue> = headers.get_all(&CLEAR_SITE_DATA).iter().cloned().collect();
    for item in lines
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
    {
        match item.trim_ascii() {
            item if item.eq_ignore_ascii_case(b"\"cookies\"") => {}
            b"\"*\"" => {
                kept.push(b"\"cache\", \"storage\", \"executionContexts\", \"clientHints\"")
            }
            item => kept.push(item),
        }
    }
    headers.remove(&CLEAR_SITE_DATA);
    // Pieces of header values joined by header text are header text again.
    if let Ok(kept) = HeaderValue::from_bytes(&kept.join(&b", "[..]))
        && !kept.is_empty()
    {
        headers.insert(CLEAR_SITE_DATA, kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLE: CookieStyle = CookieStyle {
        same_site: SameSite::Lax,
        domain: None,
    };

    #[test]
    fn f01_cookies_carry_every_attribute_and_stay_below_the_limit() {
        let line = STYLE
            .set("__Host-vestibule-access", "abc", Duration::from_secs(300))
            .unwrap();
        assert_eq!(
            line.to_str().unwrap(),
            "__Host-vestibule-access=abc; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=300"
        );
        let value = "x".repeat(MAX_NAME_VALUE - 2);
        assert!(STYLE.set("n", &value, Duration::ZERO).is_ok());
        assert_eq!(
            STYLE.set("nn", &value, Duration::ZERO).unwrap_err(),
            TooLarge
        );
    }

    #[test]
    fn f06_deletion_repeats_the_attributes() {
        let style = CookieStyle {
            same_site: SameSite::None,
            domain: Some("example.com".into()),
        };
        assert_eq!(
            style.delete("__Secure-vestibule-access").to_str().unwrap(),
            "__Secure-vestibule-access=; Path=/; Secure; HttpOnly; SameSite=None; Max-Age=0; Domain=example.com; \
             Expires=Thu, 01 Jan 1970 00:00:00 GMT"
        );
    }

    #[test]
    fn ours_in_any_spelling() {
        for name in [
            "__Host-vestibule-access",
            "__host-vestibule-access",
            "__HOST-Vestibule-x",
            "__Secure-vestibule-refresh",
            "\u{2000}__Host-vestibule-access",
        ] {
            assert!(is_ours(name), "{name}");
        }
        for name in [
            "vestibule-access",
            "__Host-sid",
            "a__Host-vestibule-x",
            "",
            "__Host-vest",
        ] {
            assert!(!is_ours(name), "{name}");
        }
    }

    #[track_caller]
    fn check_strip(lines: &[&str], expected: &[&str]) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        strip_ours(&mut headers);
        let left: Vec<_> = headers
            .get_all(COOKIE)
            .iter()
            .map(|l| l.as_bytes())
            .collect();
        let expected: Vec<_> = expected.iter().map(|l| l.as_bytes()).collect();
        assert_eq!(left, expected);
    }

    #[test]
    fn a09_the_apps_cookies_arrive_unchanged_and_in_order() {
        check_strip(&["a=1;b=\"x y\" ; c"], &["a=1;b=\"x y\" ; c"]);
        check_strip(
            &["a=1; __Host-vestibule-access=t; b=\"q=r\"; __host-VESTIBULE-refresh=u; é=ü"],
            &["a=1; b=\"q=r\"; é=ü"],
        );
        check_strip(&["__Host-vestibule-access=t"], &[]);
        check_strip(&["=__Host-vestibule-access=t; a=1"], &["a=1"]);
        check_strip(&[";;; ;"], &[";;; ;"]);
        check_strip(&[], &[]);
    }

    #[test]
    fn f08_crumbs_are_joined() {
        check_strip(
            &["a=1", "__Host-vestibule-access=t", "b=2; c=3"],
            &["a=1; b=2; c=3"],
        );
    }

    #[test]
    fn f05_an_upstream_cannot_clear_ours() {
        let check = |given: &[&'static str], want: Option<&str>| {
            let mut headers = HeaderMap::new();
            for line in given {
                headers.append(CLEAR_SITE_DATA, HeaderValue::from_static(line));
            }
            refuse_ours_from_upstream(&mut headers);
            let left: Vec<_> = headers.get_all(&CLEAR_SITE_DATA).iter().collect();
            assert_eq!(left, want.into_iter().collect::<Vec<_>>(), "{given:?}");
        };
        check(&["\"cookies\""], None);
        check(
            &["\"cache\", \"Cookies\" ,\"storage\""],
            Some("\"cache\", \"storage\""),
        );
        check(&["\"cookies\"", "\"cache\""], Some("\"cache\""));
        check(
            &["\"*\""],
            Some("\"cache\", \"storage\", \"executionContexts\", \"clientHints\""),
        );
        check(&["\"cache\""], Some("\"cache\""));
    }

    #[test]
    fn f05_an_upstream_cannot_set_ours() {
        let mut headers = HeaderMap::new();
        for line in [
            "app=1; Path=/",
            "__Host-vestibule-access=evil; Secure; Path=/",
            " __HOST-vestibule-refresh=; Max-Age=0",
            "=__Host-vestibule-access=evil",
            "__Secure-vestibule-login",
            "other=__Host-vestibule-access",
        ] {
            headers.append(SET_COOKIE, HeaderValue::from_static(line));
        }
        assert_eq!(refuse_ours_from_upstream(&mut headers), 4);
        let left: Vec<_> = headers.get_all(SET_COOKIE).iter().collect();
        assert_eq!(left, ["app=1; Path=/", "other=__Host-vestibule-access"]);
        assert_eq!(refuse_ours_from_upstream(&mut headers), 0);
    }

    #[test]
    fn cookies_are_replaced_where_they_stand_and_the_others_stay() {
        let check = |lines: &[&str], cookies: &[(&str, Option<&str>)], want: Option<&str>| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(COOKIE, HeaderValue::from_str(line).unwrap());
            }
            replace(&mut headers, cookies);
            let left: Vec<_> = headers.get_all(COOKIE).iter().collect();
            let want: Vec<_> = want.into_iter().collect();
            assert_eq!(left, want, "{lines:?}");
        };
        let new: &[(&str, Option<&str>)] = &[("at", Some("A")), ("rt", Some("R"))];
        let gone: &[(&str, Option<&str>)] = &[("at", None), ("rt", None)];
        check(
            &["x=1; at=a; y=2; rt=r; z=\"3\""],
            new,
            Some("x=1; at=A; y=2; rt=R; z=\"3\""),
        );
        check(&["rt=r; x"], new, Some("rt=R; x; at=A"));
        check(&["at=1; at=2", "rt=r"], new, Some("at=A; rt=R"));
        check(&[], new, Some("at=A; rt=R"));
        check(&["x=1; at=a;rt=r;  y=at=a"], gone, Some("x=1; y=at=a"));
        check(&["at=a; rt=r"], gone, None);
        check(
            &["at2=a; xat=b; AT=c; at"],
            gone,
            Some("at2=a; xat=b; AT=c; at"),
        );
        check(&[], gone, None);
        check(&["x=1"], &[("at", Some("a\nb"))], None);
    }

    #[test]
    fn f05_cookies_of_the_service_are_taken_from_no_other_upstream() {
        let mut headers = HeaderMap::new();
        for line in [
            "a=1",
            "at=x; Path=/",
            " at =y",
            "=at=z",
            "AT=x",
            "b=2; at=3",
            "rt; Max-Age=0",
            "att=1",
        ] {
            headers.append(SET_COOKIE, HeaderValue::from_str(line).unwrap());
        }
        assert_eq!(refuse_from_upstream(&mut headers, &["at", "rt"]), 5);
        let left: Vec<_> = headers.get_all(SET_COOKIE).iter().collect();
        assert_eq!(left, ["a=1", "b=2; at=3", "att=1"]);
    }
}
