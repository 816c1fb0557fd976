//! A chunked body, followed strictly byte by byte (RFC 9112 section 7.1). Must not change or keep the bytes of the body.

use super::head::{field, is_token};
use crate::server::Limits;
use crate::server::refusal::Refusal;

/// Longest chunk-size line; extensions carry nothing that a gateway needs.
const SIZE_LINE: usize = 256;
/// Longest trailer section.
const TRAILER_BYTES: usize = 8 << 10;

const BAD_SIZE: Refusal = Refusal::bad("a chunk size is not a plain hexadecimal number");
const BAD_EXTENSION: Refusal = Refusal::bad("a chunk extension is malformed");
const BAD_END: Refusal = Refusal::bad("a chunk does not end with CR LF");
const BAD_TRAILER: Refusal = Refusal::bad("the trailer section is malformed or too large");

/// Where in the chunked coding the connection stands.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    state: State,
    /// Bytes left of the current chunk; while in [`State::Size`] the number read so far.
    size: u64,
    /// Length of the current size line.
    line: usize,
    trailer: Vec<u8>,
    trailer_bytes: usize,
    trailers: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    SizeBegin,
    Size,
    NameBegin,
    Name,
    ValueBegin,
    Token,
    Quoted,
    Escaped,
    QuotedEnd,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailer,
    Done,
}

impl Chunked {
    /// Follows `input`; returns how much of it belongs to this body.
    pub(super) fn advance(&mut self, input: &[u8], limits: &Limits) -> Result<usize, Refusal> {
        let mut at = 0;
        while self.state != State::Done {
            if self.state == State::Data {
                let rest = input.len() - at;
                let take = usize::try_from(self.size).map_or(rest, |size| size.min(rest));
                at += take;
                self.size -= take as u64;
                if self.size == 0 {
                    self.state = State::DataCr;
                }
            }
            let Some(&byte) = input.get(at) else { break };
            if self.state == State::Data {
                continue;
            }
            at += 1;
            if self.state == State::Trailer {
                self.trailer_byte(byte, limits)?;
            } else {
                self.state = self.frame_byte(byte)?;
            }
        }
        Ok(at)
    }

    /// The body is complete.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn frame_byte(&mut self, byte: u8) -> Result<State, Refusal> {
        use State::{
            Data, DataCr, DataLf, Done, Escaped, Name, NameBegin, Quoted, QuotedEnd, Size,
            SizeBegin, SizeLf, Token, Trailer, ValueBegin,
        };
        self.line += 1;
        if self.line > SIZE_LINE && !matches!(self.state, DataCr | DataLf) {
            return Err(BAD_EXTENSION);
        }
        Ok(match (self.state, byte) {
            (SizeBegin | Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                // Fifteen digits are 2^60 at most, so nothing overflows.
                if self.line > 15 {
                    return Err(BAD_SIZE);
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.size = self.size << 4 | u64::from(digit);
                Size
            }
            (Size | Name | Token | QuotedEnd, b'\r') => SizeLf,
            (Size | Name | Token | QuotedEnd, b';') => NameBegin,
            (SizeBegin | Size, _) => return Err(BAD_SIZE),
            (NameBegin | Name, byte) if is_token(byte) => Name,
            (Name, b'=') => ValueBegin,
            (ValueBegin, b'"') => Quoted,
            (ValueBegin | Token, byte) if is_token(byte) => Token,
            (Quoted, b'"') => QuotedEnd,
            (Quoted, b'\\') => Escaped,
            (Quoted | Escaped, b'\t' | 0x20..=0x7e) => Quoted,
            (NameBegin | Name | ValueBegin | Token | Quoted | Escaped | QuotedEnd, _) => {
                return Err(BAD_EXTENSION);
            }
            (SizeLf, b'\n') if self.size == 0 => Trailer,
            (SizeLf, b'\n') => Data,
            (DataCr, b'\r') => DataLf,
            (DataLf, b'\n') => {
                self.line = 0;
                SizeBegin
            }
            (SizeLf | Data | DataCr | DataLf | Trailer | Done, _) => return Err(BAD_END),
        })
    }

    fn trailer_byte(&mut self, byte: u8, limits: &Limits) -> Result<(), Refusal> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES {
            return Err(BAD_TRAILER);
        }
        if byte != b'\n' {
            self.trailer.push(byte);
            return Ok(());
        }
        let line = self.trailer.strip_suffix(b"\r").ok_or(BAD_TRAILER)?;
        if line.is_empty() {
            self.state = State::Done;
        } else {
            field(line)?;
            self.trailers += 1;
            if self.trailers > limits.headers {
                return Err(BAD_TRAILER);
            }
        }
        self.trailer.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How much was taken, whether the body ended; whole and byte by byte must agree.
    fn follow(text: &[u8]) -> Result<(usize, bool), &'static str> {
        let limits = Limits::default();
        let mut whole = Chunked::default();
        let result = whole
            .advance(text, &limits)
            .map(|taken| (taken, whole.is_done()))
            .map_err(|refusal| refusal.reason);
        let mut dripped = Chunked::default();
        let mut taken = 0;
        let piecewise = text
            .iter()
            .try_for_each(|byte| {
                taken += dripped.advance(&[*byte], &limits)?;
                Ok(())
            })
            .map(|()| (taken, dripped.is_done()))
            .map_err(|refusal: Refusal| refusal.reason);
        assert_eq!(result, piecewise, "{:?}", String::from_utf8_lossy(text));
        result
    }

    #[test]
    fn chunks_end_where_they_say() {
        let check = |text: &str, rest: &str| {
            let both = format!("{text}{rest}");
            assert_eq!(follow(both.as_bytes()), Ok((text.len(), true)), "{text:?}");
        };
        check("0\r\n\r\n", "GET / HTTP/1.1\r\n");
        check("5\r\nhello\r\n0\r\n\r\n", "");
        check("00A\r\n0123456789\r\n000\r\n\r\n", "x");
        check("1;a\r\nx\r\n0;b=c;d=\"e;\\\"\"\r\n\r\n", "");
        check("1\r\n\r\r\n0\r\nX: y\r\nZ:\r\n\r\n", "0");
        assert_eq!(follow(b"5\r\nhel"), Ok((6, false)));
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for bad in [
            "5 \r\nhello\r\n",
            "0x5\r\nhello\r\n",
            "+5\r\nhello\r\n",
            "-1\r\n",
            " 5\r\nhello\r\n",
            "\r\n",
            ";\r\n",
            "5;\r\nhello\r\n",
            "5;bad[=x\r\nhello\r\n",
            "5;a=\r\nhello\r\n",
            "5;a=\"x\r\nhello\r\n",
            "5;a=\"x\"y\r\nhello\r\n",
            "5\nhello\n",
            "5\r\nhello0\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "g\r\n",
            "5\r\nhello\r0",
            "1000000000000000\r\n",
            "ffffffffffffffffffff\r\n",
            "0\r\nX y\r\n\r\n",
            "0\r\n folded\r\n\r\n",
            "0\r\nX: y\n\r\n",
            "0\r\nX : y\r\n\r\n",
            "0\r\nX: \0\r\n\r\n",
        ] {
            assert!(follow(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(follow(format!("5;{}\r\nhello\r\n", "a".repeat(256)).as_bytes()).is_err());
        assert!(follow(format!("0\r\n{}\r\n", "X: y\r\n".repeat(101)).as_bytes()).is_err());
        assert!(follow(format!("0\r\nX: {}\r\n\r\n", "y".repeat(9 << 10)).as_bytes()).is_err());
    }
}
