//! `GET /.auth/sessions`: a person's own sessions, as facts for the page and as JSON. Must not contain a token; a
//! session's id names the session and opens nothing.
//!
//! **How exact "last seen" is.** The store learns of a browser when its session is renewed, so the moment, the address and
//! the browser are those of the last renewal: an active browser is at most one `access_ttl` (five minutes by default) ahead
//! of them. More would cost a write for every request.

use std::net::IpAddr;
use std::time::Duration;

use http::Response;
use serde::Serialize;

use super::device::Device;
use super::me::{json_response, rfc3339};
use crate::auth::SessionId;
use crate::auth::rotation::SessionRecord;
use crate::body::Body;
use crate::clock::Timestamp;

/// Most sessions that are shown; "end all others" ends the rest too.
const MOST: usize = 100;

/// One session of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub session: SessionId,
    /// Whether it is the session that asks.
    pub current: bool,
    /// The browser, as people call it.
    pub device: Device,
    /// The browser, as it calls itself.
    pub user_agent: String,
    /// From where it was last renewed.
    pub address: IpAddr,
    /// When the person signed in.
    pub started_at: Timestamp,
    /// When it was last renewed.
    pub last_seen_at: Timestamp,
    /// When it ends if it is not used.
    pub ends_at: Timestamp,
}

/// A person's sessions: the one that asks first, then the one seen last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Who they are.
    pub user: String,
    /// The sessions, at most a hundred.
    pub entries: Vec<Entry>,
    /// How many more there are.
    pub more: usize,
    /// What time it is.
    pub now: Timestamp,
    /// An active session was renewed within this.
    pub precision: Duration,
}

impl Own {
    /// Sorted and bounded for showing. `None` when `current` is not among them: it has just ended.
    pub fn new(
        user: &str,
        current: SessionId,
        mut records: Vec<SessionRecord>,
        now: Timestamp,
        precision: Duration,
    ) -> Option<Self> {
        let all = records.len();
        // Before anything is made of them: somebody may have a great many.
        records.sort_by_key(|record| {
            let seen = std::cmp::Reverse(record.last_seen_at);
            (record.id != current, seen, record.id)
        });
        records.truncate(MOST);
        let entries: Vec<Entry> = records
            .into_iter()
            .map(|record| Entry {
                session: record.id,
                current: record.id == current,
                device: Device::of(&record.lineage.client.user_agent),
                address: record.lineage.client.addr.0,
                started_at: record.created_at,
                last_seen_at: record.last_seen_at,
                ends_at: record.ends_at(),
                user_agent: record.lineage.client.user_agent,
            })
            .collect();
        entries
            .first()
            .is_some_and(|entry| entry.current)
            .then(|| Own {
                user: user.to_owned(),
                more: all - entries.len(),
                entries,
                now,
                precision,
            })
    }
}

#[derive(Serialize)]
struct List<'a> {
    user: &'a str,
    sessions: Vec<Item<'a>>,
    /// How many are left out.
    more: usize,
}

#[derive(Serialize)]
struct Item<'a> {
    session: String,
    current: bool,
    browser: &'a str,
    system: Option<&'a str>,
    user_agent: &'a str,
    address: String,
    started_at: String,
    last_seen_at: String,
    ends_at: String,
}

/// The list for programs. Times are RFC 3339.
pub fn response(own: &Own) -> Response<Body> {
    json_response(&List {
        user: &own.user,
        sessions: own.entries.iter().map(Item::of).collect(),
        more: own.more,
    })
}

/// How many sessions were ended, for programs.
pub fn ended(count: usize) -> Response<Body> {
    #[derive(Serialize)]
    struct Ended {
        ended: usize,
    }
    json_response(&Ended { ended: count })
}

impl<'a> Item<'a> {
    fn of(entry: &'a Entry) -> Self {
        Item {
            session: entry.session.to_string(),
            current: entry.current,
            browser: &entry.device.browser,
            system: entry.device.system,
            user_agent: &entry.user_agent,
            address: entry.address.to_string(),
            started_at: rfc3339(entry.started_at),
            last_seen_at: rfc3339(entry.last_seen_at),
            ends_at: rfc3339(entry.ends_at),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::auth::rotation::Lineage;
    use crate::auth::{Client, ClientAddr, Generation, Identity};

    pub(in crate::login) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    pub(in crate::login) fn record(n: u8, user_agent: &str, ago: u64) -> SessionRecord {
        let seen = NOW.minus(Duration::from_secs(ago));
        SessionRecord {
            id: SessionId::from_bytes([n; 16]),
            identity: Identity {
                user: "alice".to_owned(),
                email: None,
                name: None,
                preferred_username: None,
                groups: Vec::new(),
                provider: "local".to_owned(),
                auth_time: seen,
                amr: Vec::new(),
            },
            lineage: Lineage {
                newest: Generation(0),
                parent: None,
                issued_at: seen,
                acknowledged_at: None,
                client: Client {
                    user_agent: user_agent.to_owned(),
                    addr: ClientAddr([192, 0, 2, n].into()),
                },
            },
            created_at: seen.minus(Duration::from_secs(3600)),
            last_seen_at: seen,
            idle_expires_at: seen.plus(Duration::from_secs(86_400)),
            absolute_expires_at: seen.plus(Duration::from_secs(864_000)),
            revoked_at: None,
            provider: None,
        }
    }

    pub(in crate::login) fn own(current: u8, records: Vec<SessionRecord>) -> Option<Own> {
        let current = SessionId::from_bytes([current; 16]);
        Own::new("alice", current, records, NOW, Duration::from_secs(300))
    }

    #[test]
    fn this_session_comes_first_and_then_the_one_seen_last() {
        let records = vec![
            record(1, "a", 9000),
            record(2, "b", 60),
            record(3, "c", 4000),
        ];
        let own = own(3, records).unwrap();
        let order: Vec<u8> = own
            .entries
            .iter()
            .map(|entry| entry.session.as_bytes()[0])
            .collect();
        assert_eq!(order, [3, 2, 1]);
        assert_eq!(own.more, 0);
    }

    #[test]
    fn a_session_that_is_not_among_them_shows_nothing() {
        assert_eq!(own(9, vec![record(1, "a", 60)]), None);
        assert_eq!(own(9, Vec::new()), None);
    }

    #[test]
    fn thousands_of_sessions_make_a_short_list() {
        let records = (0..=250).map(|n| record(n, "a", 60)).collect();
        let own = own(250, records).unwrap();
        assert_eq!((own.entries.len(), own.more), (MOST, 151));
        assert!(own.entries[0].current);
    }

    #[test]
    fn programs_get_every_fact_and_no_token() {
        let firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0";
        let own = own(1, vec![record(1, firefox, 0)]).unwrap();
        let Body::Full(Some(bytes)) = response(&own).into_body() else {
            panic!("no body")
        };
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&bytes).unwrap(),
            serde_json::json!({
                "user": "alice",
                "sessions": [{
                    "session": "AQEBAQEBAQEBAQEBAQEBAQ",
                    "current": true,
                    "browser": "Firefox",
                    "system": "Linux",
                    "user_agent": firefox,
                    "address": "192.0.2.1",
                    "started_at": "2027-01-15T07:00:00Z",
                    "last_seen_at": "2027-01-15T08:00:00Z",
                    "ends_at": "2027-01-16T08:00:00Z",
                }],
                "more": 0,
            })
        );
    }
}
