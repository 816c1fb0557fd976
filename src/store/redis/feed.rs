//! Reading the feed: a capped stream, written by the same scripts that write what it announces.
//!
//! Events are numbered without gaps. A reader that misses a number, finds the count behind it (FLUSHALL, a failover that
//! lost writes) or hears nothing for a while says that it is detached, and attaches anew. The reading blocks for a moment
//! only, so that each answer is a sign of life too. Must not act on an event.

use std::sync::Arc;
use std::time::Duration;

use redis::{FromRedisValue, Value};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{sleep, timeout};

use super::names;
use super::wire::{Dialer, Wire};
use crate::store::{FEED_BOUND, Feed, FeedEvent, RevocationRecord, record};

/// How long the server holds an empty answer back.
const BLOCK: Duration = Duration::from_millis(250);
/// Silence for longer than this is a loss: with it, a loss is told within a second.
const SILENCE: Duration = Duration::from_millis(700);
/// Between two attempts to attach.
const RETRY: Duration = Duration::from_millis(150);
/// Events in one answer.
const MOST: usize = 512;

/// Starts a reader; it ends with its [`Feed`].
pub(super) fn read(dialer: Arc<Dialer>) -> Feed {
    let (events, feed) = mpsc::channel(FEED_BOUND);
    tokio::spawn(async move {
        let mut told = false;
        loop {
            let reason = tokio::select! {
                () = events.closed() => return,
                reason = follow(&dialer, &events, &mut told) => reason,
            };
            // Told once for each loss, and waited for: a reader that is behind must not overlook it.
            if !told {
                told = true;
                if events.send(FeedEvent::Detached(reason)).await.is_err() {
                    return;
                }
            }
            sleep(RETRY).await;
        }
    });
    feed
}

/// Where a reader stands.
struct Place {
    /// The stream's own id of the last entry.
    after: String,
    /// Its number.
    number: u64,
}

/// Attaches and passes events on until something is missed; what.
async fn follow(dialer: &Dialer, events: &mpsc::Sender<FeedEvent>, told: &mut bool) -> String {
    let (mut wire, master) = match dialer.connect().await {
        Ok(connected) => connected,
        Err(reason) => return reason,
    };
    let mut place = match newest(&mut wire).await {
        Ok(place) => place,
        Err(reason) => return reason,
    };
    if events.send(FeedEvent::Attached).await.is_err() {
        return String::new();
    }
    *told = false;
    // The count may be ahead of what was read for one round: the event may have come in between.
    let mut owed = None;
    let mut quiet = 0u32;
    loop {
        let entries = match next(&mut wire, &place.after).await {
            Ok(entries) => entries,
            Err(reason) => return reason,
        };
        if entries.is_empty() {
            let count = match count(&mut wire).await {
                Ok(count) => count,
                Err(reason) => return reason,
            };
            match owed {
                _ if count < place.number => return "the store has lost events".to_owned(),
                Some(owed) if place.number < owed => return "an event was lost".to_owned(),
                _ => owed = Some(count),
            }
            quiet = quiet.wrapping_add(1);
            if let Some(of) = &master
                && quiet.is_multiple_of(4)
                && let Ok(now) = dialer.master().await
                && now != *of
            {
                return format!("the Sentinels call {now} master now");
            }
        }
        for entry in entries {
            if entry.number != place.number + 1 {
                return "events were lost".to_owned();
            }
            place = Place {
                after: entry.id,
                number: entry.number,
            };
            match events.try_send(entry.event) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => return "the reader is behind".to_owned(),
                Err(TrySendError::Closed(_)) => return String::new(),
            }
        }
    }
}

/// The place from which on everything will be read.
async fn newest(wire: &mut Wire) -> Result<Place, String> {
    let mut command = redis::cmd("XREVRANGE");
    command
        .arg(names::FEED)
        .arg("+")
        .arg("-")
        .arg("COUNT")
        .arg(1);
    let rows: Vec<Row> = ask(wire, &command).await?;
    match rows.into_iter().next() {
        Some((id, fields)) => Ok(Place {
            number: number(&fields)?,
            after: id,
        }),
        None => Ok(Place {
            after: "0-0".to_owned(),
            number: count(wire).await?,
        }),
    }
}

async fn count(wire: &mut Wire) -> Result<u64, String> {
    let mut command = redis::cmd("GET");
    command.arg(names::FEED_COUNT);
    let count: Option<u64> = ask(wire, &command).await?;
    Ok(count.unwrap_or(0))
}

struct Entry {
    id: String,
    number: u64,
    event: FeedEvent,
}

async fn next(wire: &mut Wire, after: &str) -> Result<Vec<Entry>, String> {
    let mut command = redis::cmd("XREAD");
    command.arg("COUNT").arg(MOST);
    command.arg("BLOCK").arg(BLOCK.as_millis().to_string());
    command.arg("STREAMS").arg(names::FEED).arg(after);
    let streams: Option<Vec<(String, Vec<Row>)>> = ask(wire, &command).await?;
    streams
        .into_iter()
        .flatten()
        .flat_map(|(_, rows)| rows)
        .map(|(id, fields)| {
            Ok(Entry {
                id,
                number: number(&fields)?,
                event: event(&fields)?,
            })
        })
        .collect()
}

/// Id, then names and values in turn.
type Row = (String, Vec<Vec<u8>>);

fn field<'a>(fields: &'a [Vec<u8>], name: &[u8]) -> Option<&'a [u8]> {
    let pair = fields
        .chunks_exact(2)
        .find(|pair| pair.first().is_some_and(|key| key == name))?;
    pair.get(1).map(Vec::as_slice)
}

fn number(fields: &[Vec<u8>]) -> Result<u64, String> {
    field(fields, b"n")
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
        .ok_or_else(|| "an event has no number".to_owned())
}

fn event(fields: &[Vec<u8>]) -> Result<FeedEvent, String> {
    if field(fields, b"k").is_some() {
        return Ok(FeedEvent::KeysChanged);
    }
    // What a newer node announces cannot be obeyed: the load after the next attachment fails for the same reason.
    let bytes =
        field(fields, b"r").ok_or("an event is of a kind that this version does not know")?;
    record::decode::<RevocationRecord>(bytes)
        .map(|stored| FeedEvent::Revoked(stored.record))
        .map_err(|error| error.to_string())
}

async fn ask<T: FromRedisValue>(wire: &mut Wire, command: &redis::Cmd) -> Result<T, String> {
    let answer: Value = timeout(SILENCE, wire.send(command))
        .await
        .map_err(|_| "it does not answer".to_owned())?
        .map_err(|error| error.to_string())?;
    redis::from_redis_value(answer).map_err(|error| error.to_string())
}
