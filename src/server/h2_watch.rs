//! Reads over HTTP/2's shoulder: notes when a connection stays silent at its start, when a header block begins and does
//! not end, and when a peer sends nothing but control frames. Bytes pass unchanged; HPACK is not looked at.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::deadline::Deadline;

/// `PRI * HTTP/2.0 … SM`, RFC 9113 section 3.4.
const PREFACE: usize = 24;
const HEADER: usize = 9;
const HEADERS: u8 = 0x1;
const PRIORITY: u8 = 0x2;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;
/// So many SETTINGS, PING and PRIORITY frames without any request between them are an attack.
const CONTROL_FRAMES: u32 = 10_000;

/// The watcher around a TLS stream.
pub(super) struct Watch<S> {
    io: S,
    header_timeout: Duration,
    frames: Frames,
    /// When the current wait (first frame, or end of a header block) runs out.
    gives_up: Option<Instant>,
    deadline: Deadline,
}

/// Where in the stream of frames the connection stands.
#[derive(Debug)]
struct Frames {
    /// Bytes of preface or payload to pass over.
    skip: usize,
    header: [u8; HEADER],
    have: usize,
    /// Preface and first frame are not complete yet.
    opening: bool,
    /// A header block has begun and not ended; after its payload the next frame goes on.
    in_block: bool,
    ends_block: bool,
    control: u32,
}

impl Frames {
    fn new() -> Self {
        Frames {
            skip: PREFACE,
            header: [0; HEADER],
            have: 0,
            opening: true,
            in_block: false,
            ends_block: false,
            control: 0,
        }
    }

    /// True while something is owed that must come within the header timeout.
    fn is_owed(&self) -> bool {
        self.opening || self.in_block
    }

    fn follow(&mut self, mut input: &[u8]) -> io::Result<()> {
        while !input.is_empty() {
            if self.skip > 0 {
                let take = self.skip.min(input.len());
                self.skip -= take;
                input = input.get(take..).unwrap_or_default();
                if self.skip == 0 {
                    self.payload_ended();
                }
                continue;
            }
            let take = (HEADER - self.have).min(input.len());
            for (to, &from) in self.header.iter_mut().skip(self.have).zip(input) {
                *to = from;
            }
            self.have += take;
            input = input.get(take..).unwrap_or_default();
            if self.have == HEADER {
                self.have = 0;
                self.frame()?;
            }
        }
        Ok(())
    }

    fn frame(&mut self) -> io::Result<()> {
        let [a, b, c, kind, flags, ..] = self.header;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        match kind {
            HEADERS | CONTINUATION => {
                self.control = 0;
                self.in_block = true;
                self.ends_block = flags & END_HEADERS != 0;
            }
            SETTINGS | PING | PRIORITY => {
                self.control += 1;
                if self.control > CONTROL_FRAMES {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "nothing but control frames",
                    ));
                }
            }
            _ => {}
        }
        self.skip = length;
        if length == 0 {
            self.payload_ended();
        }
        Ok(())
    }

    fn payload_ended(&mut self) {
        if self.ends_block {
            self.in_block = false;
            self.ends_block = false;
        }
        // The preface counts as the payload of no frame: a frame header has been read once `header` holds one.
        if self.header != [0; HEADER] {
            self.opening = false;
        }
    }
}

impl<S> Watch<S> {
    pub(super) fn new(io: S, header_timeout: Duration) -> Self {
        Watch {
            io,
            header_timeout,
            frames: Frames::new(),
            gives_up: None,
            deadline: Deadline::default(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watch<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        match Pin::new(&mut this.io).poll_read(cx, buf) {
            Poll::Ready(read) => {
                read?;
                this.frames
                    .follow(buf.filled().get(before..).unwrap_or_default())?;
                if !this.frames.is_owed() {
                    this.gives_up = None;
                }
                Poll::Ready(Ok(()))
            }
            Poll::Pending if this.frames.is_owed() => {
                let at = *this
                    .gives_up
                    .get_or_insert_with(|| Instant::now() + this.header_timeout);
                ready!(this.deadline.poll_at(at, cx));
                Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "headers did not arrive in time",
                )))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watch<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 1];
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn something_is_owed_until_the_first_frame_and_within_a_header_block() {
        let mut frames = Frames::new();
        let mut check = |bytes: &[u8], owed: bool| {
            for byte in bytes {
                frames.follow(&[*byte]).unwrap();
            }
            assert_eq!(frames.is_owed(), owed, "{bytes:?}");
        };
        check(&[b'x'; PREFACE], true);
        let settings = frame(SETTINGS, 0, &[1, 2, 3, 4, 5, 6]);
        check(&settings[..10], true);
        check(&settings[10..], false);
        let headers = frame(HEADERS, 0, b"abc");
        check(&headers, true);
        check(&frame(CONTINUATION, 0, b"d"), true);
        check(&frame(CONTINUATION, END_HEADERS, b""), false);
        let whole = frame(HEADERS, END_HEADERS, b"abc");
        check(&whole[..9], true);
        check(&whole[9..], false);
        check(&frame(0, 1, b"data"), false);
    }

    #[test]
    fn endless_control_frames_end_the_connection() {
        let mut frames = Frames::new();
        frames.follow(&[b'x'; PREFACE]).unwrap();
        let ping = frame(PING, 0, &[0; 8]);
        let ended = (0..=CONTROL_FRAMES).any(|_| frames.follow(&ping).is_err());
        assert!(ended);
    }
}
