//! What can happen next in the world: messages arrive in any order or never, time passes, nodes and the store fail, a thief
//! acts. Every judgement is the rule's own; this file only carries messages.

use super::super::*;
use super::bounds::Bounds;
use super::explorer::Model;
use super::promises::show;
use super::rules::{Compares, Rules};
use super::world::{Broken, Gen, Pair, Record, TICK, Tab, World, ago, client, template};

/// The thief's address.
pub(super) const ELSEWHERE: u8 = 2;

/// A step, for the story of a broken promise.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "the fields are read by Debug, in the story")]
pub(super) enum Step {
    Tick,
    Roam,
    Send,
    Lost,
    Arrives {
        node: u8,
    },
    Read {
        node: u8,
    },
    Conflict,
    Judged {
        verdict: Verdict,
        presented: Gen,
    },
    WrittenUnheard {
        verdict: Verdict,
    },
    UsesAccess {
        generation: Gen,
    },
    Leaves,
    Stored {
        generation: Gen,
    },
    Sighted {
        generation: Gen,
    },
    SightingLost,
    Failover,
    SignsOut,
    Theft,
    ThiefPresents {
        verdict: Verdict,
        presented: Gen,
        received: bool,
    },
    ThiefUsesAccess {
        generation: Gen,
    },
}

impl Step {
    /// The sorts of steps, verdicts first.
    fn sort(&self) -> usize {
        match self {
            Step::Judged { verdict, .. } | Step::ThiefPresents { verdict, .. } => match verdict {
                Verdict::Rotate => 0,
                Verdict::Heal => 1,
                Verdict::Redeliver => 2,
                Verdict::Reissue => 3,
                Verdict::Serve => 4,
                Verdict::Replay => 5,
                Verdict::Refuse(_) => 6,
            },
            Step::Tick => 7,
            Step::Lost => 8,
            Step::Sighted { .. } => 9,
            Step::SightingLost => 10,
            Step::Failover => 11,
            Step::Conflict => 12,
            Step::SignsOut => 13,
            Step::Theft => 14,
            Step::ThiefUsesAccess { .. } => 15,
            Step::Roam => 16,
            Step::WrittenUnheard { .. } => 18,
            _ => 17,
        }
    }
}

pub(super) const BROWSER: usize = 0;
pub(super) const THIEF: usize = 1;

pub(super) struct Session {
    pub(super) bounds: Bounds,
    pub(super) rules: Rules,
    template: SessionRecord,
    windows: Windows,
}

impl Session {
    pub(super) fn new(bounds: Bounds, rules: Rules) -> Self {
        Session {
            bounds,
            rules,
            template: template(),
            windows: Windows {
                redelivery: TICK * bounds.window.unsigned_abs().into(),
                replay_grace: TICK * bounds.grace.unsigned_abs().into(),
                idle_ttl: Duration::from_secs(1_000_000),
            },
        }
    }

    /// By a node's clock, where the windows are measured.
    fn now(&self, node: u8) -> Timestamp {
        ago(-self.window_offset(node))
    }

    fn window_offset(&self, node: u8) -> i8 {
        if node == 1 {
            self.bounds.window_skew
        } else {
            0
        }
    }

    pub(super) fn access_offset(&self, node: u8) -> i8 {
        if node == 1 {
            self.bounds.access_skew
        } else {
            0
        }
    }

    pub(super) fn nodes(&self) -> u8 {
        let alike = self.bounds.window_skew == 0 && self.bounds.access_skew == 0;
        // Two nodes of one clock behave as one, unless one may write between the other's reading and writing.
        if alike { 1 } else { 2 }
    }

    /// The verdict on a record, and the record after it, as of so many ticks ago.
    pub(super) fn judge(
        &self,
        record: &Record,
        with: Gen,
        who: u8,
        node: u8,
        late: i8,
    ) -> (Verdict, Record) {
        let (real, who) = (record.real(&self.template), client(who));
        let now = ago(late - self.window_offset(node));
        let presented = Generation(with.into());
        let verdict = (self.rules.judge)(&real, presented, &who, &self.windows, now);
        let next = (self.rules.apply)(&real, verdict, presented, &who, &self.windows, now);
        (verdict, Record::of(&next))
    }

    pub(super) fn write(&self, world: &mut World, next: Record) {
        if next == world.record {
            return;
        }
        if self.bounds.failovers && !world.shaken {
            world.before = Some(world.record);
        }
        world.record = next;
        self.passed(world, 1);
    }

    /// The pair that an answer of `node` carries.
    pub(super) fn pair(&self, record: &Record, node: u8) -> (Pair, i8) {
        let left = self.bounds.life + self.access_offset(node);
        let generation = record.newest;
        (Pair { generation, left }, record.issued)
    }

    pub(super) fn is_late(&self, generation: Gen, issued: i8, node: u8) -> bool {
        let generation = Generation(generation.into());
        (self.rules.is_late)(
            generation,
            ago(issued),
            self.windows.redelivery,
            self.now(node),
        )
    }

    /// The first sighting of an access token reaches the store.
    pub(super) fn sighted(&self, world: &mut World, generation: Gen) {
        let newest = generation == world.record.newest;
        let real = world.record.real(&self.template);
        let sighting = (self.rules.sight)(&real, Generation(generation.into()));
        // Any node may be the one; the first's clock is as good as the other's, whose turn comes by symmetry.
        let next = Record::of(&apply_sighting(&real, sighting, self.now(0)));
        self.write(world, next);
        if world.record.revoked && !world.stolen() && !world.ended {
            world.broken = Some(Broken::HonestRefused);
        }
        if newest {
            show(world, generation);
        }
    }

    pub(super) fn tick(&self, world: &World) -> Option<World> {
        let mut next = *world;
        let skew = self.bounds.window_skew.abs();
        let oldest = (self.bounds.window + 1 + 2 * skew).max(self.bounds.grace + 1 + 2 * skew);
        let is_unheard = |tab: &&Tab| matches!(tab, Tab::Unheard { .. });
        let mut lingering = world.tabs.iter().filter(is_unheard).count();
        for tab in &mut next.tabs {
            match tab {
                Tab::Idle => {}
                Tab::Asking { age, .. } | Tab::Answering { age, .. } => {
                    if *age >= self.bounds.flight {
                        return None;
                    }
                    *age += 1;
                }
                // A caller waits a second for its renewal, much less than a tick.
                Tab::Read {
                    with,
                    client,
                    node,
                    stale,
                    ..
                } if self.bounds.lingers && lingering == 0 => {
                    lingering += 1;
                    *tab = Tab::Unheard {
                        with: with.generation,
                        client: *client,
                        node: *node,
                        stale: *stale,
                        age: 1,
                    };
                }
                Tab::Read { .. } => return None,
                Tab::Unheard { age, .. } => *age = (*age + 1).min(oldest),
                Tab::Held { issued, pair, node } => {
                    *issued =
                        (*issued + 1).min(self.bounds.window + 3 * self.bounds.window_skew.abs());
                    if self.is_late(pair.generation, *issued, *node) {
                        *tab = Tab::Idle;
                    }
                }
            }
        }
        let older = |age: &mut i8| *age = (*age + 1).min(oldest);
        older(&mut next.record.issued);
        next.record.acknowledged.iter_mut().for_each(older);
        next.shown.iter_mut().for_each(|(_, age)| older(age));
        // What was written longer ago than a tick is not lost any more.
        if next.before.take().is_some() {
            next.shaken = false;
        }
        let over = -self.bounds.access_skew.abs();
        let shorter = |pair: &mut Pair| pair.left = (pair.left - 1).max(over);
        shorter(&mut next.jar);
        for tab in &mut next.tabs {
            match tab {
                Tab::Asking { with: pair, .. }
                | Tab::Held { pair, .. }
                | Tab::Answering { pair, .. } => shorter(pair),
                Tab::Idle | Tab::Read { .. } | Tab::Unheard { .. } => {}
            }
        }
        next.loot.iter_mut().flatten().for_each(shorter);
        Some(next)
    }

    /// Those who have read the record learn of a write, or of one that was lost, when they write.
    fn passed(&self, world: &mut World, revisions: i8) {
        for tab in &mut world.tabs {
            match tab {
                Tab::Read {
                    with,
                    client,
                    node,
                    record,
                    stale,
                    behind,
                } => {
                    *stale = true;
                    if !self.compares_revisions() {
                        *behind += revisions;
                        continue;
                    }
                    // Who wants to write will read anew, and what it read before is all the same.
                    if self.judge(record, with.generation, *client, *node, 0).1 != *record {
                        *record = Record::spent_by(*with);
                    }
                }
                Tab::Unheard { stale, .. } => *stale = true,
                _ => {}
            }
        }
    }

    fn compares_revisions(&self) -> bool {
        self.rules.compares == Compares::Revisions
    }

    /// The one that stands for all worlds that differ from it in names only.
    pub(super) fn canonical(&self, world: World) -> World {
        world.canonical(self.compares_revisions())
    }

    /// Everything that can happen next, in worlds as they come.
    pub(super) fn next(&self, world: &World, next: &mut Vec<(Step, World)>) {
        // Once a theft is found out there is nothing left to promise.
        if world.record.revoked && !world.ended {
            return;
        }
        self.browser(world, next);
        self.thief(world, next);
        if let Some(generation) = world.sighting {
            let mut after = *world;
            after.sighting = None;
            next.push((Step::SightingLost, after));
            self.sighted(&mut after, generation);
            next.push((Step::Sighted { generation }, after));
        }
        self.failover(world, next);
        if let Some(after) = self.tick(world) {
            next.push((Step::Tick, after));
        }
    }

    fn failover(&self, world: &World, next: &mut Vec<(Step, World)>) {
        let Some(before) = world.before else {
            return;
        };
        let mut after = *world;
        after.record = before;
        after.record.revoked |= world.ended && self.bounds.remembers;
        after.before = None;
        after.shaken = true;
        // Both may hold what was lost: counting begins anew.
        if world.stolen() {
            after.stolen = world.held().map(|pair| pair.generation).max();
            after.received = [0; 2];
            after.used = [false; 2];
        }
        // What was shown with the lost write is not known any more.
        after.shown = match (before.acknowledged, before.parent) {
            (Some(age), _) => Some((before.newest, age)),
            (None, Some(parent)) => Some((parent, 0)),
            (None, None) => None,
        }
        .min(world.shown);
        self.passed(&mut after, -1);
        next.push((Step::Failover, after));
    }
}

/// Whether the answer carries a pair.
pub(super) fn issues(verdict: Verdict) -> bool {
    matches!(
        verdict,
        Verdict::Rotate | Verdict::Redeliver | Verdict::Reissue | Verdict::Heal
    )
}

impl Model for Session {
    type State = World;
    type Step = Step;

    fn start(&self) -> World {
        World::start(self.bounds.life)
    }

    fn steps(&self, world: &World, next: &mut Vec<(Step, World)>) {
        self.next(world, next);
        for (_, world) in next {
            *world = self.canonical(*world);
        }
    }

    fn sort(&self, step: &Step) -> usize {
        step.sort()
    }

    fn broken(&self, world: &World) -> Option<String> {
        let broken = world
            .broken
            .or_else(|| self.two_live(world))
            .or_else(|| self.bounds.follow.then(|| self.never_heals(world))?)
            .or_else(|| self.bounds.follow.then(|| self.goes_unnoticed(world))?);
        broken.map(|broken| format!("{broken:?}"))
    }
}
