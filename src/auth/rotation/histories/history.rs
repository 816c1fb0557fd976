//! One history: who sends what when, what gets lost, and what the rule makes of it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::fmt::Write as _;

use super::dice::{Dice, Tally};
use crate::auth::rotation::model::rules::Rules;
use crate::auth::rotation::*;
use crate::auth::test_support::browser;

const DAY: Duration = Duration::from_secs(86_400);
/// How long a request waits for its judgement at most, which is as of its arrival; then it is answered that the store is away.
const PATIENCE: i64 = 850;
/// How long a first sighting is tried again at most while the store is away.
const SIGHTED: i64 = 30_000;
/// How far the clocks may differ by which two nodes tell whether an access token is over.
const CLOCKS: i64 = 60_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Victim,
    Thief,
}

/// Who else is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Other {
    Nobody,
    /// A thief that behaves as a browser does, one request at a time: it holds its newest pair and no other.
    Browser,
    /// A thief that keeps every token it ever had and presents any of them, in parallel and as late as it likes.
    Hoarder,
}

/// An access token: its generation, its end, and a number of its own.
#[derive(Clone, Copy, Debug)]
struct Access {
    generation: Generation,
    ends: i64,
    number: u64,
}

/// What a browser holds.
#[derive(Clone, Copy, Debug)]
struct Jar {
    refresh: Generation,
    access: Access,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// Somebody opens a page in some tabs.
    Burst(Who),
    Send(Who),
    Arrive(Who, Generation, Option<Access>),
    /// A request that arrived at that moment is judged.
    Judge(Who, Generation, i64),
    /// The person signs out.
    SignOut,
    Deliver(Who, Jar),
    Sighted(Generation),
    Steal,
    /// The store fails over and has lost its last write.
    LoseWrite,
}

pub(super) struct History {
    rules: Rules,
    dice: Dice,
    now: i64,
    queue: BinaryHeap<Reverse<(i64, usize)>>,
    events: Vec<Event>,
    session: SessionRecord,
    /// The record before the last write, while a failover may still lose that write.
    before_last_write: Option<SessionRecord>,
    windows: Windows,
    /// A third of the redelivery window, in milliseconds.
    third: i64,
    access_ttl: i64,
    /// How far the second node's clock is ahead of the first's.
    ahead: i64,
    /// The session was signed out.
    ended: bool,
    victim: Jar,
    thief: Option<Jar>,
    /// Every refresh token that the thief ever had.
    loot: Vec<Generation>,
    clients: [Client; 3],
    /// Which of its addresses the victim has now.
    address: usize,
    bursts: [u32; 2],
    /// After how many events the jar is copied.
    theft_after: Option<usize>,
    other: Other,
    /// Whether a thief that behaves as a browser waits for an answer.
    thief_waits: bool,
    /// The generation that was stolen.
    stolen: Generation,
    /// Newer pairs received since the theft, by the victim and by the thief.
    newer: [u32; 2],
    /// Whether they renewed with a pair newer than the stolen one.
    renewed: [bool; 2],
    tokens: u64,
    /// Which node has seen which access token.
    seen: HashSet<(i64, u64)>,
    pub(super) tally: Tally,
    /// What happened, when a broken history is played again to be told.
    pub(super) story: Option<String>,
}

impl History {
    pub(super) fn new(seed: u64, rules: Rules, other: Other) -> Self {
        let mut dice = Dice(seed);
        let access_ttl = dice.between(20_000, 900_000);
        let window = dice.between(access_ttl / 20, access_ttl / 2 + 1);
        let grace = dice.between(window / 3 + 1, access_ttl / 2 + 2);
        // An access token lasts longer than the window by more than the clocks differ.
        let apart = CLOCKS.min(access_ttl - window - 1);
        let ahead = dice.between(-apart, apart + 1);
        let start = Timestamp::EPOCH;
        let windows = Windows {
            redelivery: Duration::from_millis(window.unsigned_abs()),
            replay_grace: Duration::from_millis(grace.unsigned_abs()),
            idle_ttl: 14 * DAY,
        };
        let clients = [browser(1), browser(2), browser(66)];
        let session = SessionRecord {
            id: SessionId::from_bytes([7; 16]),
            identity: Identity {
                user: String::new(),
                email: None,
                name: None,
                preferred_username: None,
                groups: Vec::new(),
                provider: String::new(),
                auth_time: start,
                amr: Vec::new(),
            },
            lineage: Lineage {
                newest: Generation(0),
                parent: None,
                issued_at: start,
                acknowledged_at: None,
                client: clients[0].clone(),
            },
            created_at: start,
            last_seen_at: start,
            idle_expires_at: start.plus(windows.idle_ttl),
            absolute_expires_at: start.plus(90 * DAY),
            revoked_at: None,
            provider: None,
        };
        let access = Access {
            generation: Generation(0),
            ends: access_ttl,
            number: 0,
        };
        let bursts = [dice.between(3, 12) as u32, dice.between(1, 8) as u32];
        let theft_after = (other != Other::Nobody).then(|| dice.between(0, 60) as usize);
        let mut history = History {
            rules,
            dice,
            now: 0,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            session,
            before_last_write: None,
            windows,
            third: window / 3,
            access_ttl,
            ahead,
            ended: false,
            victim: Jar {
                refresh: Generation(0),
                access,
            },
            thief: None,
            loot: Vec::new(),
            clients,
            address: 0,
            bursts,
            theft_after,
            other,
            thief_waits: false,
            stolen: Generation(0),
            newer: [0; 2],
            renewed: [false; 2],
            tokens: 0,
            seen: HashSet::new(),
            tally: Tally::default(),
            story: None,
        };
        history.after(0, Event::Burst(Who::Victim));
        if other == Other::Nobody && history.dice.percent(30) {
            let moment = history.dice.between(0, 4 * access_ttl);
            history.after(moment, Event::LoseWrite);
        }
        if other == Other::Nobody && history.dice.percent(10) {
            let moment = history.dice.between(0, 6 * access_ttl);
            history.after(moment, Event::SignOut);
        }
        history
    }

    fn after(&mut self, delay: i64, event: Event) {
        self.queue
            .push(Reverse((self.now + delay, self.events.len())));
        self.events.push(event);
    }

    fn timestamp(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    /// Runs to the end; tells what promise was broken.
    pub(super) fn run(&mut self) -> Result<(), String> {
        let mut done = 0;
        while let Some(Reverse((at, event))) = self.queue.pop() {
            self.now = at;
            let event = self.events[event];
            if !matches!(event, Event::Burst(_) | Event::Send(_)) {
                self.tell(|| format!("{event:?}"));
            }
            self.step(event)?;
            done += 1;
            if self.theft_after.is_some_and(|after| done > after) {
                self.theft_after = None;
                self.step(Event::Steal)?;
            }
        }
        match self.thief {
            None => Ok(()),
            Some(_) => self.both_go_on(),
        }
    }

    fn step(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Burst(who) => self.burst(who),
            Event::Send(who) => self.send(who),
            Event::Arrive(who, refresh, access) => return self.arrive(who, refresh, access),
            Event::Judge(who, refresh, arrived) => return self.judged(who, refresh, arrived),
            Event::SignOut => {
                let revoked_at = Some(self.timestamp());
                self.write(SessionRecord {
                    revoked_at,
                    ..self.session.clone()
                });
                // Durable before it was said; a node that knows of it would write it again.
                self.before_last_write = None;
                self.ended = true;
                self.tally.ended += 1;
            }
            Event::Deliver(who, pair) => return self.deliver(who, pair),
            Event::Sighted(generation) => {
                let sighting = (self.rules.sight)(&self.session, generation);
                if sighting != Sighting::Nothing {
                    let next = apply_sighting(&self.session, sighting, self.timestamp());
                    self.write(next);
                }
            }
            Event::Steal => {
                self.thief = Some(self.victim);
                self.stolen = self.victim.refresh;
                self.loot.push(self.victim.refresh);
                self.after(0, Event::Burst(Who::Thief));
            }
            Event::LoseWrite => {
                if let Some(before) = self.before_last_write.take() {
                    self.session = before;
                }
            }
        }
        match self.session.revoked_at {
            Some(_) if self.thief.is_none() && !self.ended => {
                Err("an honest browser alone was revoked".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            let lineage = &self.session.lineage;
            let parent = lineage.parent.map_or(-1, |parent| i64::from(parent.0));
            let _ = writeln!(
                story,
                "{:>12} ms  P {parent} N {} acknowledged {}  {}",
                self.now,
                lineage.newest,
                lineage.acknowledged_at.is_some(),
                what()
            );
        }
    }

    fn write(&mut self, next: SessionRecord) {
        self.before_last_write = Some(std::mem::replace(&mut self.session, next));
    }

    fn burst(&mut self, who: Who) {
        let left = &mut self.bursts[who as usize];
        if *left == 0 {
            return;
        }
        *left -= 1;
        if who == Who::Victim && self.dice.percent(10) {
            self.address = 1 - self.address;
            self.tally.roamed += 1;
        }
        let spread = match self.dice.percent(80) {
            true => 500,
            false => 3 * self.third + 1,
        };
        for _ in 0..self.dice.between(1, 5) {
            let delay = self.dice.between(0, spread);
            self.after(delay, Event::Send(who));
        }
        let to_expiry = |jar: &Jar, now: i64| (jar.access.ends - now).max(0);
        let own = match (who, &self.thief) {
            (Who::Thief, Some(jar)) => to_expiry(jar, self.now),
            _ => to_expiry(&self.victim, self.now),
        };
        let victims = to_expiry(&self.victim, self.now);
        let gap = match self.dice.between(0, 100) {
            0..25 => self.dice.between(0, 1000),
            25..45 => self.dice.between(0, 6 * self.third + 1),
            45..70 => (own + self.dice.between(-50, 200)).max(0),
            70..85 => (victims + self.dice.between(-50, 1000)).max(0),
            85..97 => self.dice.between(0, 4 * self.access_ttl),
            _ => self.dice.between(0, 15 * 86_400_000),
        };
        self.after(gap, Event::Burst(who));
    }

    /// How long a message is under way.
    fn flight(&mut self, who: Who) -> i64 {
        let bound = match (who, self.dice.between(0, 100)) {
            (_, 0..70) => self.third.min(300),
            (Who::Thief, 90..) => 2 * self.access_ttl,
            _ => self.third,
        };
        self.dice.between(0, bound)
    }

    fn send(&mut self, who: Who) {
        if who == Who::Thief && self.other == Other::Browser {
            if self.thief_waits {
                return;
            }
            self.thief_waits = true;
        }
        let (mut refresh, mut access) = match (who, self.thief) {
            (Who::Thief, Some(jar)) => (jar.refresh, Some(jar.access)),
            _ => (self.victim.refresh, Some(self.victim.access)),
        };
        access = access.filter(|access| self.now < access.ends);
        if who == Who::Thief {
            if self.dice.percent(50) {
                access = None;
            }
            if self.other == Other::Hoarder && self.dice.percent(15) {
                let any = self.dice.between(0, self.loot.len() as i64);
                refresh = self.loot[any as usize];
            }
        }
        if self.dice.percent(5) {
            self.tally.lost += 1;
            self.answered(who);
            return;
        }
        let delay = self.flight(who);
        self.after(delay, Event::Arrive(who, refresh, access));
    }

    /// The thief's only request is over.
    fn answered(&mut self, who: Who) {
        if who == Who::Thief {
            self.thief_waits = false;
        }
    }

    fn arrive(
        &mut self,
        who: Who,
        refresh: Generation,
        access: Option<Access>,
    ) -> Result<(), String> {
        let node = self.dice.between(0, 2);
        let by_its_clock = self.now + node * self.ahead;
        let Some(access) = access.filter(|access| by_its_clock < access.ends) else {
            // Now and then a node holds it for much longer than anybody waits: its turn does not come, or the store is away.
            let most = match self.dice.percent(3) {
                true => 3 * self.access_ttl,
                false => PATIENCE,
            };
            let wait = self.dice.between(0, most);
            self.after(wait, Event::Judge(who, refresh, self.now));
            return Ok(());
        };
        if self.seen.insert((node, access.number)) && !self.dice.percent(10) {
            let most = match self.dice.percent(10) {
                true => SIGHTED,
                false => 200,
            };
            let delay = self.dice.between(0, most);
            self.after(delay, Event::Sighted(access.generation));
        }
        self.answered(who);
        Ok(())
    }

    fn judged(&mut self, who: Who, refresh: Generation, arrived: i64) -> Result<(), String> {
        if self.now > arrived + PATIENCE {
            self.tally.unheard += 1;
            self.answered(who);
            return match self.rules.judges_for_nobody {
                true => self.answer(who, refresh, arrived).map(|_| ()),
                false => Ok(()),
            };
        }
        if let Some(pair) = self.answer(who, refresh, arrived)? {
            let upstream = match self.dice.percent(70) {
                true => self.dice.between(0, 100),
                false => self.dice.between(0, 4 * self.third),
            };
            let issued_at = self.session.lineage.issued_at;
            let leaves = Timestamp::from_millis(self.now + upstream);
            let window = self.windows.redelivery;
            if (self.rules.is_late)(pair.refresh, issued_at, window, leaves) {
                self.tally.late += 1;
            } else if self.dice.percent(15) {
                self.tally.lost += 1;
            } else {
                let delay = upstream + self.flight(who);
                self.after(delay, Event::Deliver(who, pair));
                return Ok(());
            }
        }
        self.answered(who);
        Ok(())
    }

    /// What the gateway does with a request whose access token is over: the pair that its answer carries, if any.
    fn answer(
        &mut self,
        who: Who,
        refresh: Generation,
        arrived: i64,
    ) -> Result<Option<Jar>, String> {
        if self.session.revoked_at.is_some() && !self.ended {
            return Ok(None);
        }
        let verdict = self.present(who, refresh, Timestamp::from_millis(arrived))?;
        if self.ended {
            self.tally.refused += 1;
            return match verdict {
                Verdict::Refuse(_) => Ok(None),
                verdict => Err(format!("{verdict:?} after signing out")),
            };
        }
        match verdict {
            Verdict::Rotate => self.tally.rotated += 1,
            Verdict::Redeliver => self.tally.redelivered += 1,
            Verdict::Reissue => self.tally.reissued += 1,
            Verdict::Heal => self.tally.healed += 1,
            Verdict::Serve => {
                self.tally.served += 1;
                return Ok(None);
            }
            Verdict::Refuse(Refusal::Expired) => return Ok(None),
            Verdict::Replay | Verdict::Refuse(_) => {
                return match self.thief {
                    Some(_) => Ok(None),
                    None => Err(format!("an honest browser alone met {verdict:?}")),
                };
            }
        }
        let node = self.dice.between(0, 2);
        Ok(Some(self.newest_pair(node)))
    }

    /// Judges a refresh token and writes what follows.
    fn present(
        &mut self,
        who: Who,
        refresh: Generation,
        now: Timestamp,
    ) -> Result<Verdict, String> {
        let client = match who {
            Who::Victim => &self.clients[self.address],
            Who::Thief => &self.clients[2],
        };
        let rules = self.rules;
        let verdict = (rules.judge)(&self.session, refresh, client, &self.windows, now);
        let next = (rules.apply)(&self.session, verdict, refresh, client, &self.windows, now);
        self.tell(|| format!("{who:?} presents {refresh}: {verdict:?}"));
        if next != self.session {
            self.write(next);
        }
        let renewed = matches!(
            verdict,
            Verdict::Rotate | Verdict::Redeliver | Verdict::Reissue | Verdict::Heal
        );
        if self.thief.is_some() && renewed && refresh > self.stolen {
            self.renewed[who as usize] = true;
            if self.renewed == [true; 2] {
                return Err("victim and thief both renew with newer pairs".to_owned());
            }
        }
        Ok(verdict)
    }

    fn newest_pair(&mut self, node: i64) -> Jar {
        self.tokens += 1;
        let generation = self.session.lineage.newest;
        Jar {
            refresh: generation,
            access: Access {
                generation,
                ends: self.now + node * self.ahead + self.access_ttl,
                number: self.tokens,
            },
        }
    }

    fn deliver(&mut self, who: Who, pair: Jar) -> Result<(), String> {
        let jar = match (who, &mut self.thief) {
            (Who::Thief, Some(jar)) => jar,
            _ => &mut self.victim,
        };
        let newer = pair.refresh > jar.refresh;
        *jar = pair;
        if who == Who::Thief {
            self.loot.push(pair.refresh);
            self.thief_waits = false;
        }
        if self.thief.is_none() || !newer || self.session.revoked_at.is_some() {
            return Ok(());
        }
        self.newer[who as usize] += 1;
        let [victim, thief] = self.newer;
        if self.newer == [1, 1] {
            self.tally.both_received += 1;
        }
        // A hoarder may collect more, all of them abandoned: showing any ends the session.
        if self.other == Other::Browser && victim.min(thief) > 1 {
            return Err(format!(
                "victim and thief live side by side: {victim} and {thief} newer pairs"
            ));
        }
        Ok(())
    }

    /// The dust has settled and both go on to use what they have: that must end the session soon.
    fn both_go_on(&mut self) -> Result<(), String> {
        for round in 0..6 {
            // The thief goes first in some rounds, as it likes.
            let mut order = [Who::Victim, Who::Thief];
            if self.dice.percent(50) {
                order.reverse();
            }
            for who in order {
                self.now += 2 * self.access_ttl + self.dice.between(0, self.access_ttl);
                if self.session.revoked_at.is_some() || self.timestamp() >= self.session.ends_at() {
                    self.tally.revoked += u64::from(self.session.revoked_at.is_some());
                    return Ok(());
                }
                let refresh = match (who, &self.thief) {
                    (Who::Thief, Some(jar)) => jar.refresh,
                    _ => self.victim.refresh,
                };
                let verdict = self
                    .present(who, refresh, self.timestamp())
                    .map_err(|e| format!("{e} (round {round} after the dust settled)"))?;
                if matches!(
                    verdict,
                    Verdict::Rotate | Verdict::Redeliver | Verdict::Reissue | Verdict::Heal
                ) {
                    let pair = self.newest_pair(0);
                    self.deliver(who, pair)
                        .map_err(|e| format!("{e} (round {round} after the dust settled)"))?;
                    self.step(Event::Sighted(pair.access.generation))?;
                }
            }
        }
        match self.session.revoked_at {
            Some(_) => Ok(()),
            None => Err("victim and thief use the session for ever".to_owned()),
        }
    }
}
