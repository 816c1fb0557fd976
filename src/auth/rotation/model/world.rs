//! The state of the small world around one session: what the store holds, what the browser and the thief hold, what is under
//! way. Times are ages in ticks, and generations are renamed (`names`), so that the world is finite however long it runs.

use std::time::Duration;

use super::super::*;
use crate::auth::test_support::browser;

/// One tick is a third of the redelivery window, in real life ten seconds.
pub(super) const TICK: Duration = Duration::from_secs(10);
/// "Now" of every judgement: the clock stands still, and everything else grows older.
const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// A moment that lies `ticks` in the past by the first node's clock.
pub(super) fn ago(ticks: i8) -> Timestamp {
    Timestamp::from_millis(NOW.as_millis() - i64::from(ticks) * TICK.as_millis() as i64)
}

fn age(moment: Timestamp) -> i8 {
    let passed = NOW.as_millis() - moment.as_millis();
    (passed / TICK.as_millis() as i64).clamp(-100, 100) as i8
}

/// How many requests of the browser can be under way, and how many pairs a thief can keep, at the most.
pub(super) const TABS: usize = 3;
pub(super) const LOOT: usize = 3;

/// Generations as the world names them.
pub(super) type Gen = u8;

/// What the store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Record {
    pub(super) newest: Gen,
    pub(super) parent: Option<Gen>,
    pub(super) issued: i8,
    pub(super) acknowledged: Option<i8>,
    /// Whose address the last rotation came from.
    pub(super) client: u8,
    pub(super) revoked: bool,
}

impl Record {
    /// The record that the real rule judges.
    pub(super) fn real(&self, template: &SessionRecord) -> SessionRecord {
        SessionRecord {
            lineage: Lineage {
                newest: Generation(self.newest.into()),
                parent: self.parent.map(|parent| Generation(parent.into())),
                issued_at: ago(self.issued),
                acknowledged_at: self.acknowledged.map(ago),
                client: client(self.client),
            },
            revoked_at: self.revoked.then_some(NOW),
            ..template.clone()
        }
    }

    /// Any record that would be written upon when this pair is shown.
    pub(super) fn spent_by(pair: Pair) -> Record {
        Record {
            newest: pair.generation,
            parent: None,
            issued: 0,
            acknowledged: None,
            client: 0,
            revoked: false,
        }
    }

    /// What the rule made of it.
    pub(super) fn of(real: &SessionRecord) -> Record {
        let lineage = &real.lineage;
        Record {
            newest: lineage.newest.0 as Gen,
            parent: lineage.parent.map(|parent| parent.0 as Gen),
            issued: age(lineage.issued_at),
            acknowledged: lineage.acknowledged_at.map(age),
            client: (0..3)
                .find(|&who| client(who) == lineage.client)
                .unwrap_or(u8::MAX),
            revoked: real.revoked_at.is_some(),
        }
    }
}

/// Somebody at one of three addresses. No user agent: an empty text costs no allocation.
pub(super) fn client(who: u8) -> Client {
    Client {
        user_agent: String::new(),
        ..browser(who)
    }
}

/// A session whose windows are all that matters.
pub(super) fn template() -> SessionRecord {
    SessionRecord {
        id: SessionId::from_bytes([7; 16]),
        identity: Identity {
            user: String::new(),
            email: None,
            name: None,
            preferred_username: None,
            groups: Vec::new(),
            provider: String::new(),
            auth_time: NOW,
            amr: Vec::new(),
        },
        lineage: Lineage {
            newest: Generation(0),
            parent: None,
            issued_at: NOW,
            acknowledged_at: None,
            client: client(0),
        },
        created_at: NOW,
        last_seen_at: NOW,
        idle_expires_at: NOW.plus(Duration::from_secs(1_000_000)),
        absolute_expires_at: NOW.plus(Duration::from_secs(1_000_000)),
        revoked_at: None,
        provider: None,
    }
}

/// A pair of cookies: the generation of both, and the ticks that the access token has left by the first node's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Pair {
    pub(super) generation: Gen,
    pub(super) left: i8,
}

/// Where one of the browser's requests is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Tab {
    Idle,
    /// On its way to a node.
    Asking {
        with: Pair,
        client: u8,
        age: i8,
    },
    /// A node has read the record, and will write if nobody else did.
    Read {
        with: Pair,
        client: u8,
        node: u8,
        record: Record,
        /// Others wrote meanwhile.
        stale: bool,
        /// By how many revisions the store is further now.
        behind: i8,
    },
    /// A node holds it although it was answered that the store is away, and the browser's tab has long gone on. If nobody
    /// wrote meanwhile, what was judged when it was read may still be written.
    Unheard {
        with: Gen,
        client: u8,
        node: u8,
        stale: bool,
        /// How long ago it arrived.
        age: i8,
    },
    /// The answer waits for the upstream, with a pair.
    Held {
        pair: Pair,
        issued: i8,
        node: u8,
    },
    /// The answer is on its way to the browser, with a pair.
    Answering {
        pair: Pair,
        age: i8,
    },
}

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) record: Record,
    /// What a failover would fall back to: the record before its last write.
    pub(super) before: Option<Record>,
    /// A failover lost a write, and none has lasted since.
    pub(super) shaken: bool,
    /// The newest generation that the store was ever shown, and how long ago: kept beside the rule, to judge the rule.
    pub(super) shown: Option<(Gen, i8)>,
    pub(super) jar: Pair,
    pub(super) address: u8,
    pub(super) tabs: [Tab; TABS],
    /// An access token's first sighting that has not reached the store yet.
    pub(super) sighting: Option<Gen>,
    /// What the thief holds, newest last.
    pub(super) loot: [Option<Pair>; LOOT],
    /// Newer pairs received since the theft, and whether one was used: browser, thief.
    pub(super) received: [u8; 2],
    pub(super) used: [bool; 2],
    /// The generation that was stolen.
    pub(super) stolen: Option<Gen>,
    /// Signed out by the person.
    pub(super) ended: bool,
    pub(super) broken: Option<Broken>,
}

/// A promise that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Broken {
    /// The browser's own request was refused, or ended its session.
    HonestRefused,
    /// Browser and thief both received a newer pair more than once.
    SideBySide,
    /// Browser and thief both renewed with a newer pair.
    BothRenew,
    /// A token older than one that was shown gave a pair.
    PairForSpent,
    /// A token older than one that was shown was served after the grace.
    ServedForSpent,
    /// Something other than a refusal after the end of the session.
    Revived,
    /// Two different generations that somebody holds can both renew.
    TwoLive,
    /// The browser can ask as often as it likes and never holds the newest pair.
    NeverHeals,
    /// Browser and thief both go on, and nobody notices.
    Unnoticed,
}

impl World {
    pub(super) fn start(life: i8) -> World {
        World {
            record: Record {
                newest: 1,
                parent: None,
                issued: 0,
                acknowledged: None,
                client: 0,
                revoked: false,
            },
            before: None,
            shaken: false,
            shown: None,
            jar: Pair {
                generation: 1,
                left: life,
            },
            address: 0,
            tabs: [Tab::Idle; TABS],
            sighting: None,
            loot: [None; LOOT],
            received: [0; 2],
            used: [false; 2],
            stolen: None,
            ended: false,
            broken: None,
        }
    }

    pub(super) fn stolen(&self) -> bool {
        self.stolen.is_some()
    }

    /// Whether a node holds what it read more than two rotations ago.
    pub(super) fn is_read_from_far_behind(&self) -> bool {
        self.tabs.iter().any(|tab| match tab {
            Tab::Read { record, .. } => record.newest + 2 < self.record.newest,
            _ => false,
        })
    }

    /// Every pair that somebody holds or will hold, but those of requests under way, whose sender holds the same or newer.
    pub(super) fn held(&self) -> impl Iterator<Item = Pair> + '_ {
        let under_way = self.tabs.iter().filter_map(|tab| match tab {
            Tab::Held { pair, .. } | Tab::Answering { pair, .. } => Some(*pair),
            _ => None,
        });
        std::iter::once(self.jar)
            .chain(under_way)
            .chain(self.loot.iter().flatten().copied())
    }
}
