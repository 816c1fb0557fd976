//! Request target -> canonical path, or a refusal: a path that could be read two ways is never routed.
//!
//! The text that a rule was decided on is the text that is forwarded, byte for byte (product contract 7.3).

/// A path (and query) that everybody reads the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalTarget {
    /// What is forwarded: path, then `?query` when there is one; exactly as received.
    raw: Box<str>,
    /// Where the query starts in `raw` (the index of `?`), or its length.
    path_len: usize,
    /// The path that routes are matched on when it differs from the raw one: percent-decoded once.
    decoded: Option<Box<str>>,
}

/// Why a target is refused (always 400).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetRefusal {
    /// Does not begin with `/` (and is no `*`).
    #[error("the request target is not a path")]
    NotAPath,
    /// `.` or `..`, plain, encoded or with parameters.
    #[error("dot segments are not accepted")]
    DotSegment,
    /// `%2f`, `%5c` or `\`.
    #[error("encoded slashes and backslashes are not accepted")]
    Slash,
    /// `//`, or a segment in between that is empty without its `;parameters`.
    #[error("empty path segments are not accepted")]
    EmptySegment,
    /// A control character, plain or encoded; a plain `#`, space or byte outside ASCII, in path or query.
    #[error("this character is not accepted in a path")]
    Character,
    /// `%` without two hexadecimal digits, or bytes that are no UTF-8.
    #[error("broken percent-encoding")]
    Encoding,
    /// Longer than the limit (414).
    #[error("the request target is too long")]
    TooLong,
}

impl CanonicalTarget {
    /// Longest target accepted, in bytes.
    pub const MAX: usize = 8192;

    /// Checks an origin-form target (RFC 9112 section 3.2.1): path and optional query as they came over the wire.
    pub fn parse(target: &str) -> Result<Self, TargetRefusal> {
        if target.len() > Self::MAX {
            return Err(TargetRefusal::TooLong);
        }
        let bytes = target.as_bytes();
        if bytes.first() != Some(&b'/') {
            return Err(TargetRefusal::NotAPath);
        }
        if bytes.iter().any(|&b| b <= b' ' || b >= 0x7f || b == b'#') {
            return Err(TargetRefusal::Character);
        }
        // From here on everything is ASCII, so that every index is a character boundary.
        let path_len = memchr::memchr(b'?', bytes).unwrap_or(bytes.len());
        let path = target.get(..path_len).unwrap_or(target);
        if path.contains('\\') {
            return Err(TargetRefusal::Slash);
        }
        let decoded = match memchr::memchr(b'%', path.as_bytes()) {
            Some(_) => Some(decode(path.as_bytes())?),
            None => None,
        };
        check_segments(decoded.as_deref().unwrap_or(path))?;
        Ok(CanonicalTarget {
            raw: target.into(),
            path_len,
            decoded,
        })
    }

    /// The exact text to forward: path and query.
    pub fn as_str(&self) -> &str {
        &self.raw
    }

    /// The path as received, without the query.
    pub fn path(&self) -> &str {
        // Invariant: `parse` took `path_len` from this very text, which is ASCII.
        self.raw.get(..self.path_len).unwrap_or(&self.raw)
    }

    /// The query without its `?`.
    pub fn query(&self) -> Option<&str> {
        self.raw.get(self.path_len + 1..)
    }

    /// The path that rules are matched on: percent-decoded once.
    pub fn for_matching(&self) -> &str {
        self.decoded.as_deref().unwrap_or(self.path())
    }
}

/// Decodes once. What decodes to a separator or a control character is refused; `%25` stays data, whatever follows it.
fn decode(path: &[u8]) -> Result<Box<str>, TargetRefusal> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let [high, low, tail @ ..] = rest else {
            return Err(TargetRefusal::Encoding);
        };
        rest = tail;
        match hex(*high)? << 4 | hex(*low)? {
            b'/' | b'\\' => return Err(TargetRefusal::Slash),
            0..=0x1f | 0x7f => return Err(TargetRefusal::Character),
            byte => decoded.push(byte),
        }
    }
    // Overlong forms are no UTF-8 and fail here.
    String::from_utf8(decoded)
        .map(String::into_boxed_str)
        .map_err(|_| TargetRefusal::Encoding)
}

fn hex(digit: u8) -> Result<u8, TargetRefusal> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(TargetRefusal::Encoding),
    }
}

/// Refuses segments that somebody would resolve or collapse, with or without their `;parameters`.
fn check_segments(path: &str) -> Result<(), TargetRefusal> {
    // Nearly every path has nothing to look at twice.
    let mut before = b' ';
    let plain = path.bytes().all(|byte| {
        let plain = byte != b';' && !(before == b'/' && matches!(byte, b'/' | b'.'));
        before = byte;
        plain
    });
    if plain {
        return Ok(());
    }
    check_each_segment(path)
}

fn check_each_segment(path: &str) -> Result<(), TargetRefusal> {
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match without_parameters(segment) {
            "." | ".." => return Err(TargetRefusal::DotSegment),
            "" if segments.peek().is_some() => return Err(TargetRefusal::EmptySegment),
            _ => {}
        }
    }
    Ok(())
}

/// A segment as a server reads it that knows `;parameters` (RFC 3986 section 3.3).
pub(super) fn without_parameters(segment: &str) -> &str {
    segment.split(';').next().unwrap_or(segment)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::TargetRefusal::*;
    use super::*;

    proptest! {
        #[test]
        fn the_quick_look_at_segments_misses_nothing(path in "(/[.;/a]{0,3}){1,5}") {
            prop_assert_eq!(check_segments(&path), check_each_segment(&path));
        }
    }

    #[test]
    fn accepted_targets_are_kept_byte_for_byte() {
        let check = |target: &str, matching: &str, query: Option<&str>| {
            let parsed = CanonicalTarget::parse(target).unwrap_or_else(|e| panic!("{target}: {e}"));
            assert_eq!(parsed.as_str(), target);
            assert_eq!(parsed.for_matching(), matching, "{target}");
            assert_eq!(parsed.query(), query, "{target}");
            assert_eq!(
                parsed.path(),
                target.split_once('?').map_or(target, |(path, _)| path)
            );
        };
        check("/", "/", None);
        check("/?", "/", Some(""));
        check("/a/b/", "/a/b/", None);
        check("/a?b=/../c//%2f%00", "/a", Some("b=/../c//%2f%00"));
        check("/a?b?c", "/a", Some("b?c"));
        check("/a%20b", "/a b", None);
        check("/%ED%95%9C", "/한", None);
        check("/%23", "/#", None);
        check("/%3fx", "/?x", None);
        check("/%252e%252e/x", "/%2e%2e/x", None);
        check("/%252f", "/%2f", None);
        check("/...", "/...", None);
        check("/.well-known/x", "/.well-known/x", None);
        check("/a..b/..c/d..", "/a..b/..c/d..", None);
        check("/a;x=1/b", "/a;x=1/b", None);
        check("/;jsessionid=1", "/;jsessionid=1", None);
        check("/a/%3Bb", "/a/;b", None);
        check("/a|b[c]", "/a|b[c]", None);
        let longest = format!("/{}", "a".repeat(CanonicalTarget::MAX - 1));
        check(&longest, &longest, None);
    }

    #[test]
    fn what_can_be_read_two_ways_is_refused() {
        let check = |target: &str, want: TargetRefusal| {
            assert_eq!(CanonicalTarget::parse(target), Err(want), "{target:?}");
        };
        for target in ["", "*", "a", "?x", "http://h/", "../a", "h:443"] {
            check(target, NotAPath);
        }
        for target in [
            "/.",
            "/..",
            "/./",
            "/../a",
            "/public/../admin",
            "/public/./../admin",
            "/public/..",
            "/public/%2e%2e/admin",
            "/%2E.",
            "/.%2e",
            "/%2e",
            "/a/..;/b",
            "/a/.;x/b",
            "/a/..%3b/b",
            "/a/%2e%2e;x=1",
            "/public;/../admin",
            "/a/..?x",
        ] {
            check(target, DotSegment);
        }
        for target in [
            "/a%2fb",
            "/a%2F",
            "/admin%5c",
            "/a%5Cb",
            "/a\\b",
            "/\\",
            "/public%2f..%2fadmin",
            "/public/..%5cadmin",
            "/..\\a",
        ] {
            check(target, Slash);
        }
        for target in [
            "//",
            "//admin",
            "/a//b",
            "/a//",
            "/;/admin",
            "/a/;x=1/b",
            "/a/%3b/b",
        ] {
            check(target, EmptySegment);
        }
        for target in [
            "/a#b",
            "/#",
            "/a?b#c",
            "/a b",
            "/a?b c",
            "/a\0",
            "/a?\0",
            "/a\tb",
            "/a\r\nb",
            "/a?\r\n",
            "/\x7f",
            "/%00",
            "/a%0d%0ab",
            "/%1F",
            "/%7f",
            "/é",
            "/a?é",
            "/\u{200b}",
        ] {
            check(target, Character);
        }
        for target in [
            "/%",
            "/%2",
            "/%zz",
            "/%2g",
            "/a%",
            "/%%41",
            "/%c0%ae%c0%ae/x",
            "/%c0%af",
            "/%e0%80%af",
            "/%ff",
            "/%ed%a0%80",
            "/%u002e",
        ] {
            check(target, Encoding);
        }
        check(&format!("/{}", "a".repeat(CanonicalTarget::MAX)), TooLong);
    }

    fn targets() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("/".to_owned()),
            Just(".".to_owned()),
            Just("..".to_owned()),
            Just(";".to_owned()),
            Just("?".to_owned()),
            Just("%2e".to_owned()),
            Just("%2F".to_owned()),
            Just("%5c".to_owned()),
            Just("%3b".to_owned()),
            Just("%25".to_owned()),
            Just("\\".to_owned()),
            "[a-c]{1,2}",
            "%[0-9a-fA-F]{2}",
            ".",
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn accepted_means_unchanged_and_unambiguous(target in targets()) {
            if let Ok(parsed) = CanonicalTarget::parse(&target) {
                prop_assert_eq!(parsed.as_str(), &target);
                let path = parsed.for_matching();
                let segments: Vec<&str> = path.split('/').skip(1).collect();
                for (i, segment) in segments.iter().enumerate() {
                    prop_assert!(*segment != "." && *segment != "..");
                    prop_assert!(!segment.is_empty() || i + 1 == segments.len());
                    prop_assert!(!segment.contains(['\\', '\0']));
                }
                // Decoding never makes a separator.
                prop_assert_eq!(path.matches('/').count(), parsed.path().matches('/').count());
            }
        }

        #[test]
        fn never_panics(target in any::<String>()) {
            let _ = CanonicalTarget::parse(&target);
        }
    }
}
