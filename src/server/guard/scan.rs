//! Finds where a request head ends, however its bytes drip in. Must not interpret it beyond its line ends.

use memchr::memchr;

use crate::server::Limits;
use crate::server::refusal::Refusal;
use crate::server::target::TARGET_BYTES;

/// Longest request line: the target and a little for method and version.
const LINE_BYTES: usize = TARGET_BYTES + 64;

/// Looks for the end of a head; remembers how far it came, so that a head that drips in is scanned once.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Where the head begins: after one empty line at most (RFC 9112 section 2.2).
    begin: usize,
    /// Where the current line begins.
    line: usize,
    scanned: usize,
}

impl Scan {
    /// Where the head in `bytes` begins and ends, once it is complete.
    pub(super) fn find(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<Option<(usize, usize)>, Refusal> {
        let lines_seen = |scan: &Scan| scan.line > scan.begin;
        while let Some(found) = memchr(b'\n', bytes.get(self.scanned..).unwrap_or_default()) {
            let end = self.scanned + found;
            let line = bytes.get(self.line..end).unwrap_or_default();
            if line.last() != Some(&b'\r') {
                return Err(Refusal::bad("a line does not end with CR LF"));
            }
            let empty = line.len() == 1;
            let next = end + 1;
            self.scanned = next;
            if empty && lines_seen(self) {
                return if next - self.begin > limits.header_bytes {
                    Err(first_line_or_head_too_long(bytes.get(self.begin..)))
                } else {
                    Ok(Some((self.begin, next)))
                };
            }
            if empty {
                if self.begin > 0 {
                    return Err(Refusal::bad("the request begins with empty lines"));
                }
                self.begin = next;
            }
            self.line = next;
        }
        self.scanned = bytes.len();
        let length = bytes.len() - self.begin.min(bytes.len());
        if length > limits.header_bytes || (!lines_seen(self) && length > LINE_BYTES) {
            return Err(first_line_or_head_too_long(bytes.get(self.begin..)));
        }
        Ok(None)
    }
}

/// A head that is too large because of its first line is 414, any other 431.
fn first_line_or_head_too_long(head: Option<&[u8]>) -> Refusal {
    match memchr(b'\n', head.unwrap_or_default()) {
        Some(at) if at <= LINE_BYTES => Refusal::HEADERS_TOO_LARGE,
        _ => Refusal::TARGET_TOO_LONG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_that_drips_in_is_found_at_the_same_place() {
        let text = b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\nGET";
        let mut scan = Scan::default();
        for end in 0..text.len() - 3 {
            assert_eq!(
                scan.find(&text[..end], &Limits::default()),
                Ok(None),
                "{end}"
            );
        }
        assert_eq!(scan.find(text, &Limits::default()), Ok(Some((2, 29))));
    }
}
