//! The wire guard: stands between TLS and the HTTP/1 parser and follows the byte stream's framing by its own strict
//! reading, so that no request reaches a handler that anyone could read in two ways.
//!
//! Bytes pass unchanged. A head is let through whole, one request at a time; a refused one is replaced by a stand-in
//! that the service answers with the refusal, which keeps the answers in order. Must not know what a request is for.

mod body;
mod exchange;
mod farewell;
mod head;
mod scan;

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

pub(super) use exchange::{Exchange, Flight};
pub(super) use head::{Framing, Head};

use self::body::Chunked;
use self::farewell::Farewell;
use self::scan::Scan;
use super::Limits;
use super::refusal::Refusal;
use super::target::Authorities;
use super::timeouts::Activity;
use crate::deadline::Deadline;

/// What the HTTP parser gets to see instead of a refused request.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
/// How much a client may send ahead of the answer to its upgrade request.
const AHEAD_BYTES: usize = 64 << 10;
const READ: usize = 4 << 10;

/// Where in the byte stream the guard stands.
#[derive(Debug)]
enum Phase {
    Head,
    Length(u64),
    Chunked(Box<Chunked>),
    /// After an upgrade request: whether these bytes are a tunnel depends on the answer.
    Upgrading,
    Tunnel,
    /// A body broke after its head had been let through.
    Broken(Refusal),
    /// Nothing more is let through.
    Closed,
}

/// The wire guard around a TLS stream.
#[derive(Debug)]
pub(super) struct Guard<S> {
    io: S,
    limits: Arc<Limits>,
    authorities: Authorities,
    exchange: Arc<Exchange>,
    activity: Arc<Activity>,
    phase: Phase,
    scan: Scan,
    /// The body that follows belongs to an upgrade request.
    upgrade: bool,
    /// Bytes received and not yet handed on; only what could not be handed on at once.
    stash: Vec<u8>,
    /// So many at the front of `stash` are gone.
    taken: usize,
    /// So many after those may be handed on.
    cleared: usize,
    /// What is left of the stand-in.
    stand_in: &'static [u8],
    eof: bool,
    served_one: bool,
    /// Since when only a part of a head has come.
    partial_since: Option<Instant>,
    deadline: Deadline,
    farewell: Farewell,
}

impl<S> Guard<S> {
    pub(super) fn new(
        io: S,
        peer: IpAddr,
        limits: Arc<Limits>,
        exchange: Arc<Exchange>,
        activity: Arc<Activity>,
    ) -> Self {
        activity.count_every_write();
        Guard {
            io,
            limits,
            authorities: Authorities::new(peer),
            exchange,
            activity,
            phase: Phase::Head,
            scan: Scan::default(),
            upgrade: false,
            stash: Vec::new(),
            taken: 0,
            cleared: 0,
            stand_in: b"",
            eof: false,
            served_one: false,
            partial_since: None,
            deadline: Deadline::default(),
            farewell: Farewell::default(),
        }
    }

    fn stashed(&self) -> &[u8] {
        self.stash.get(self.taken..).unwrap_or_default()
    }

    /// Lets the HTTP parser see the stand-in next, and nothing after it.
    fn refuse(&mut self, refusal: Refusal) {
        self.exchange.offer(Err(refusal));
        self.stand_in = STAND_IN;
        self.phase = Phase::Closed;
    }

    /// Follows `input` from where the stream stands; returns how many bytes may be handed on now.
    fn follow(&mut self, input: &[u8]) -> usize {
        let mut at = 0;
        // Where the last head of this input begins: a body that breaks within the same input takes its head along.
        let mut head_at = None;
        loop {
            let rest = input.get(at..).unwrap_or_default();
            match &mut self.phase {
                Phase::Head => {
                    if rest.is_empty() || !self.exchange.is_free() {
                        return at;
                    }
                    let found = match self.scan.find(rest, &self.limits) {
                        Ok(None) => return at,
                        Ok(Some((begin, end))) => rest
                            .get(begin..end)
                            .ok_or(Refusal::bad("the request has no head"))
                            .and_then(|head| head::parse(head, &mut self.authorities, &self.limits))
                            .map(|head| (head, end)),
                        Err(refusal) => Err(refusal),
                    };
                    self.scan = Scan::default();
                    match found {
                        Ok((head, end)) => {
                            head_at = Some(at);
                            at += end;
                            self.begin(head);
                        }
                        Err(refusal) => {
                            self.refuse(refusal);
                            return at;
                        }
                    }
                }
                Phase::Length(left) => {
                    let take =
                        usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                    at += take;
                    *left -= take as u64;
                    if *left > 0 {
                        return at;
                    }
                    self.after_body();
                }
                Phase::Chunked(chunked) => match chunked.advance(rest, &self.limits) {
                    Ok(taken) => {
                        at += taken;
                        if !chunked.is_done() {
                            return at;
                        }
                        self.after_body();
                    }
                    Err(refusal) => {
                        if let Some(head_at) = head_at {
                            self.refuse(refusal);
                            return head_at;
                        }
                        self.phase = Phase::Broken(refusal);
                        return at;
                    }
                },
                Phase::Tunnel => return input.len(),
                Phase::Upgrading | Phase::Broken(_) | Phase::Closed => return at,
            }
        }
    }

    fn begin(&mut self, head: Head) {
        if self.partial_since.take().is_some() || !self.served_one {
            // It may run for longer than the client may be silent from now on.
            self.deadline = Deadline::default();
        }
        self.served_one = true;
        self.upgrade = head.upgrade;
        match head.framing {
            Framing::None => self.after_body(),
            Framing::Length(length) => self.phase = Phase::Length(length),
            Framing::Chunked => self.phase = Phase::Chunked(Box::default()),
        }
        self.exchange.offer(Ok(head));
    }

    fn after_body(&mut self) {
        self.phase = if self.upgrade {
            Phase::Upgrading
        } else {
            Phase::Head
        };
    }

    /// Hands on what is cleared; true when something was.
    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        if self.cleared > 0 {
            let bytes = self.stashed();
            let take = self.cleared.min(buf.remaining()).min(bytes.len());
            buf.put_slice(bytes.get(..take).unwrap_or_default());
            self.taken += take;
            self.cleared -= take;
            if self.taken == self.stash.len() {
                // Not kept: most connections never need it, and idle ones should be small.
                self.stash = Vec::new();
                self.taken = 0;
            }
            return true;
        }
        if !self.stand_in.is_empty() {
            let (now, later) = self
                .stand_in
                .split_at(self.stand_in.len().min(buf.remaining()));
            buf.put_slice(now);
            self.stand_in = later;
            return true;
        }
        false
    }

    /// The deadline of waiting for a request, when one runs out: a head that began is answered, silence is not.
    fn poll_waited(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !matches!(self.phase, Phase::Head) {
            return Poll::Pending;
        }
        if self.exchange.is_busy() {
            // Once the answer has left, nobody asks here again before the next request comes.
            self.deadline.wake_within(self.limits.idle_timeout, cx);
            return Poll::Pending;
        }
        let at = if !self.stashed().is_empty() {
            *self.partial_since.get_or_insert_with(Instant::now) + self.limits.header_timeout
        } else {
            let limit = if self.served_one {
                self.limits.idle_timeout
            } else {
                self.limits.header_timeout
            };
            // The last answer may still be on its way to a slow reader.
            self.activity.last() + limit
        };
        ready!(self.deadline.poll_at(at, cx));
        if self.stashed().is_empty() {
            self.phase = Phase::Closed;
            self.eof = true;
        } else {
            self.refuse(Refusal::TOO_SLOW);
        }
        Poll::Ready(())
    }
}

impl<S: AsyncBufRead + Unpin> Guard<S> {
    /// Reads into the reader's buffer. A head comes in one piece nearly always, and to look at once whether there is more
    /// costs as much as to look when the reader asks again; of a body, as much is read as there is.
    fn poll_fresh(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !matches!(self.phase, Phase::Head) {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let piece = ready!(Pin::new(&mut self.io).poll_fill_buf(cx))?;
        let piece = piece.get(..buf.remaining()).unwrap_or(piece);
        buf.put_slice(piece);
        let taken = piece.len();
        Pin::new(&mut self.io).consume(taken);
        Poll::Ready(Ok(()))
    }

    /// Reads more into the stash; false at the end of the stream.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.taken > 0 {
            self.stash.drain(..self.taken);
            self.taken = 0;
        }
        let mut room = [std::mem::MaybeUninit::uninit(); READ];
        let mut more = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut more))?;
        self.stash.extend_from_slice(more.filled());
        Poll::Ready(Ok(!more.filled().is_empty()))
    }
}

impl<S: AsyncBufRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.hand_on(buf) {
                return Poll::Ready(Ok(()));
            }
            match this.phase {
                Phase::Broken(refusal) => {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        refusal.reason,
                    )));
                }
                // The answer under way ends the connection.
                Phase::Closed if !this.eof => return Poll::Pending,
                Phase::Upgrading => match this.exchange.is_tunnel(cx) {
                    Some(true) => {
                        this.phase = Phase::Tunnel;
                        this.cleared = this.stashed().len();
                        continue;
                    }
                    Some(false) => {
                        this.phase = Phase::Closed;
                        continue;
                    }
                    None if this.stashed().len() >= AHEAD_BYTES => return Poll::Pending,
                    None => {
                        if ready!(this.poll_more(cx))? {
                            continue;
                        }
                        this.eof = true;
                        this.phase = Phase::Closed;
                    }
                },
                _ => {}
            }
            if this.eof {
                return Poll::Ready(Ok(()));
            }
            if this.stashed().is_empty() {
                // The common case: straight into the reader's buffer, judged in place.
                let before = buf.filled().len();
                match this.poll_fresh(cx, buf) {
                    Poll::Ready(read) => read?,
                    Poll::Pending => {
                        ready!(this.poll_waited(cx));
                        continue;
                    }
                }
                let input = buf.filled().get(before..).unwrap_or_default();
                if input.is_empty() {
                    this.eof = true;
                    return Poll::Ready(Ok(()));
                }
                let pass = this.follow(input);
                this.stash
                    .extend_from_slice(input.get(pass..).unwrap_or_default());
                if pass > 0 {
                    buf.set_filled(before + pass);
                    return Poll::Ready(Ok(()));
                }
                buf.set_filled(before);
                continue;
            }
            let stash = std::mem::take(&mut this.stash);
            this.cleared = this.follow(stash.get(this.taken..).unwrap_or_default());
            this.stash = stash;
            if this.cleared > 0 || !this.stand_in.is_empty() {
                continue;
            }
            match this.phase {
                // Another request waits for the service to take the one before.
                Phase::Head if !this.exchange.is_free_or_wakes(cx) => return Poll::Pending,
                Phase::Broken(_) | Phase::Closed | Phase::Upgrading => continue,
                _ => {}
            }
            match this.poll_more(cx)? {
                Poll::Ready(true) => {}
                Poll::Ready(false) => this.eof = true,
                Poll::Pending => ready!(this.poll_waited(cx)),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Says goodbye, and lingers when the peer may still be sending.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let between_requests = matches!(this.phase, Phase::Head) && this.stashed().is_empty();
        let linger = !(this.eof || between_requests || matches!(this.phase, Phase::Tunnel));
        this.farewell.poll(&mut this.io, linger, cx)
    }
}
