//! A request head of HTTP/1, read strictly: one reading only, or a refusal. Must not buffer and must not do IO.

use std::sync::Arc;

use memchr::memchr;

use crate::server::refusal::Refusal;
use crate::server::target::{self, Authorities, content_length, is_value, reads_as};
use crate::server::{Authority, Limits};

/// What the rest of the server needs of a head.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::server) struct Head {
    pub(in crate::server) authority: Arc<Authority>,
    /// Path and query as received.
    pub(in crate::server) target: Box<str>,
    pub(in crate::server) framing: Framing,
    /// The client asks to leave HTTP: what follows is a request only if the answer is not 101.
    pub(in crate::server) upgrade: bool,
}

/// How the end of the body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// Reads a complete head: every line ends with CR LF, the last one is empty.
pub(super) fn parse(
    bytes: &[u8],
    authorities: &mut Authorities,
    limits: &Limits,
) -> Result<Head, Refusal> {
    let mut lines = Lines(bytes);
    let (method, text, minor) = request_line(lines.next().unwrap_or_default())?;
    let mut fields = Fields::default();
    let mut count = 0;
    for line in lines {
        if line.is_empty() {
            break;
        }
        count += 1;
        if count > limits.headers {
            return Err(Refusal::TOO_MANY_HEADERS);
        }
        let (name, value) = field(line)?;
        fields.note(name, value)?;
    }
    let host = fields.host.ok_or(Refusal::bad("`Host` is missing"))?;
    let authority = authorities.read(host)?;
    let target = target::target(method, text, &authority)?.into();
    let framing = match (fields.length, fields.chunked) {
        (Some(_), true) => {
            return Err(Refusal::bad(
                "`Content-Length` and `Transfer-Encoding` exclude each other",
            ));
        }
        (_, true) if minor == 0 => {
            return Err(Refusal::bad("HTTP/1.0 has no `Transfer-Encoding`"));
        }
        (None, true) => Framing::Chunked,
        (Some(0) | None, false) => Framing::None,
        (Some(length), false) => Framing::Length(length),
    };
    Ok(Head {
        authority,
        target,
        framing,
        upgrade: fields.upgrade && minor == 1,
    })
}

/// The lines of a complete head, without their CR LF.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = memchr(b'\n', self.0)?;
        let line = self.0.get(..end)?;
        self.0 = self.0.get(end + 1..)?;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// Method, target, minor version.
fn request_line(line: &[u8]) -> Result<(&[u8], &[u8], u8), Refusal> {
    const LINE: Refusal = Refusal::bad("the request line is not `METHOD target HTTP/1.1`");
    let mut parts = line.split(|&byte| byte == b' ');
    let (method, target, version) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(method), Some(target), Some(version), None) => (method, target, version),
        _ => return Err(LINE),
    };
    if method.is_empty() || method.len() > 32 || !method.iter().all(|&byte| is_token(byte)) {
        return Err(LINE);
    }
    match version {
        b"HTTP/1.1" => Ok((method, target, 1)),
        b"HTTP/1.0" => Ok((method, target, 0)),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Refusal::VERSION)
        }
        _ => Err(LINE),
    }
}

/// Name and value of a field line; used for trailers too.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Refusal::bad("a header line is folded"));
    }
    let colon = memchr(b':', line).ok_or(Refusal::bad("a header line has no colon"))?;
    let (name, value) = line.split_at_checked(colon).unwrap_or_default();
    if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
        return Err(Refusal::bad("a header name is not a token"));
    }
    let value = value.get(1..).unwrap_or_default();
    if !is_value(value) {
        return Err(Refusal::bad(
            "a header value has a byte that does not belong there",
        ));
    }
    Ok((name, value.trim_ascii()))
}

/// The fields that decide about framing and addressing.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a [u8]>,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

impl<'a> Fields<'a> {
    fn note(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), Refusal> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.note_host(value)?,
            6 if name.eq_ignore_ascii_case(b"expect") => target::expect(value)?,
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            14 if reads_as(name, b"content-length") => {
                let length = (name.get(7) == Some(&b'-'))
                    .then(|| content_length(value))
                    .flatten();
                if length.is_none() || self.length.is_some() {
                    return Err(Refusal::bad("`Content-Length` is not one number"));
                }
                self.length = length;
            }
            17 if reads_as(name, b"transfer-encoding") => {
                if self.chunked
                    || name.get(8) != Some(&b'-')
                    || !value.eq_ignore_ascii_case(b"chunked")
                {
                    return Err(Refusal::bad("`Transfer-Encoding` is not just `chunked`"));
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn note_host(&mut self, value: &'a [u8]) -> Result<(), Refusal> {
        match self.host.replace(value) {
            None => Ok(()),
            Some(_) => Err(Refusal::bad("`Host` occurs twice")),
        }
    }
}

/// `tchar` of RFC 9110 section 5.6.2.
#[allow(
    clippy::indexing_slicing,
    reason = "the table has an entry for every byte"
)]
pub(super) const fn is_token(byte: u8) -> bool {
    const TABLE: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            let b = byte as u8;
            table[byte] = b.is_ascii_alphanumeric()
                || matches!(
                    b,
                    b'!' | b'#'
                        | b'$'
                        | b'%'
                        | b'&'
                        | b'\''
                        | b'*'
                        | b'+'
                        | b'-'
                        | b'.'
                        | b'^'
                        | b'_'
                        | b'`'
                        | b'|'
                        | b'~'
                );
            byte += 1;
        }
        table
    };
    TABLE[byte as usize]
}

#[cfg(test)]
mod tests {
    use super::super::scan::Scan;
    use super::*;

    fn read(text: &[u8]) -> Result<Option<Head>, u16> {
        let limits = Limits::default();
        let mut authorities = Authorities::new([192, 0, 2, 1].into());
        Scan::default()
            .find(text, &limits)
            .and_then(|found| {
                found
                    .map(|(from, to)| parse(&text[from..to], &mut authorities, &limits))
                    .transpose()
            })
            .map_err(|refusal| refusal.status.as_u16())
    }

    fn framing(headers: &str) -> Result<Framing, u16> {
        let text = format!("POST / HTTP/1.1\r\nHost: h\r\n{headers}\r\n\r\n");
        read(text.as_bytes()).map(|head| head.unwrap().framing)
    }

    #[test]
    fn a_plain_head_is_read() {
        let head = read(b"\r\nGET /a?b HTTP/1.1\r\nX:\r\nHost:\tH:1 \r\nUpgrade: x\r\n\r\nrest");
        let head = head.unwrap().unwrap();
        assert_eq!((&*head.target, head.framing), ("/a?b", Framing::None));
        assert_eq!((&*head.authority.host, head.authority.port), ("h", Some(1)));
        assert!(head.upgrade);
        assert_eq!(read(b"GET / HTTP/1.1\r\nHost: h\r\n"), Ok(None));
    }

    #[test]
    fn body_framing() {
        let check = |headers: &str, want: Result<Framing, u16>| {
            assert_eq!(framing(headers), want, "{headers:?}");
        };
        check("Content-Length: 5", Ok(Framing::Length(5)));
        check("Content-Length: 0", Ok(Framing::None));
        check("content-length:\t0005 ", Ok(Framing::Length(5)));
        check("Transfer-Encoding: Chunked", Ok(Framing::Chunked));
        for bad in [
            "+5",
            "-0",
            "0x5",
            "5,10",
            "5, 5",
            "1_0",
            "5 5",
            "",
            "12345678901234567890",
            "5;",
            "\"5\"",
        ] {
            check(&format!("Content-Length: {bad}"), Err(400));
        }
        check("Content-Length: 5\r\nContent-Length: 5", Err(400));
        check("Content_Length: 5", Err(400));
        check("Content.Length: 5", Err(400));
        check("Content-Length: 5\r\nTransfer-Encoding: chunked", Err(400));
        check("Transfer-Encoding: chunked\r\nContent-Length: 5", Err(400));
        for bad in [
            "xchunked",
            "chunked, identity",
            "gzip, chunked",
            "identity",
            "\"chunked\"",
            "chunked,",
            "",
            "chunked;q=1",
            "chunk ed",
        ] {
            check(&format!("Transfer-Encoding: {bad}"), Err(400));
        }
        check(
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            Err(400),
        );
        check("Transfer-Encoding : chunked", Err(400));
        check("Transfer_Encoding: chunked", Err(400));
        check("Transfer.Encoding: chunked", Err(400));
    }

    #[test]
    fn malformed_heads_are_refused() {
        let check = |text: &[u8], want: u16| {
            let shown = String::from_utf8_lossy(text).into_owned();
            assert_eq!(read(text).map(|_| ()), Err(want), "{shown:?}");
        };
        for line in [
            &b"X : y"[..],
            b": y",
            b"X y",
            b" folded",
            b"\tfolded",
            b"X: a\rb",
            b"X: a\0b",
            b"X\0: a",
            b"X: \x7f",
            b"X: \xff",
            b"X: \xc3\xa9",
            b"\xc3\xa9: x",
            b"X: \x0b",
            b"X\r: y",
            b"X(: y",
            b"Host: h",
            b"X: y\nY: z",
            b"X: y\n\r",
        ] {
            let mut text = b"GET / HTTP/1.1\r\nHost: h\r\n".to_vec();
            text.extend_from_slice(line);
            text.extend_from_slice(b"\r\n\r\n");
            check(&text, 400);
        }
        for host in [
            "Host: ",
            "Host: a, b",
            "Host: u@h",
            "Host: h/p",
            "Host: h:99999",
            "X: y",
        ] {
            check(format!("GET / HTTP/1.1\r\n{host}\r\n\r\n").as_bytes(), 400);
        }
        for line in [
            "GET  / HTTP/1.1",
            "GET / HTTP/1.1 ",
            " GET / HTTP/1.1",
            "GET /",
            "GET",
            "G(T / HTTP/1.1",
            "GET / http/1.1",
            "GET / HTTP/1.10",
            "GET /\t HTTP/1.1",
            "GET /a b HTTP/1.1",
            "GET * HTTP/1.1",
            "GET /#f HTTP/1.1",
            "GET https://other/ HTTP/1.1",
            "GET / HTTP/x.1",
        ] {
            check(format!("{line}\r\nHost: h\r\n\r\n").as_bytes(), 400);
        }
        for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3.1"] {
            check(
                format!("GET / {version}\r\nHost: h\r\n\r\n").as_bytes(),
                505,
            );
        }
        check(
            b"GET / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        );
        check(b"TRACE / HTTP/1.1\r\nHost: h\r\n\r\n", 501);
        check(b"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n", 501);
        check(b"GET / HTTP/1.1\nHost: h\n\n", 400);
        check(b"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400);
        check(b"GET / HTTP/1.1\r\nHost: h\r\nExpect: x\r\n\r\n", 417);
    }

    #[test]
    fn limits_hold() {
        let head = |line: &str, rest: &str| {
            read(format!("GET {line} HTTP/1.1\r\nHost: h\r\n{rest}\r\n").as_bytes())
                .map(|head| head.is_some())
        };
        assert_eq!(head("/", &"X: y\r\n".repeat(99)), Ok(true));
        assert_eq!(head("/", &"X: y\r\n".repeat(100)), Err(431));
        assert_eq!(
            head("/", &format!("X: {}\r\n", "y".repeat(64 << 10))),
            Err(431)
        );
        assert_eq!(head(&format!("/{}", "a".repeat(16 << 10)), ""), Err(414));
        assert_eq!(head(&format!("/{}", "a".repeat(80 << 10)), ""), Err(414));
        assert_eq!(read(&b"a".repeat(9 << 10)), Err(414));
        let endless = format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(64 << 10));
        assert_eq!(read(endless.as_bytes()), Err(431));
    }
}
