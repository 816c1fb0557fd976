//! What the rule promises, held against what happens in the world. Must not follow the rule: it judges it.

use super::super::*;
use super::bounds::Thief;
use super::steps::{BROWSER, ELSEWHERE, Session, THIEF, issues};
use super::world::{Broken, Gen, TABS, Tab, World};

impl Session {
    /// Keeps what was shown, and holds a verdict to it.
    pub(super) fn hold_to_promises(
        &self,
        world: &mut World,
        with: Gen,
        verdict: Verdict,
        who: usize,
    ) {
        let issues = issues(verdict);
        let refused = matches!(verdict, Verdict::Replay | Verdict::Refuse(_));
        if world.ended {
            if !refused {
                world.broken = Some(Broken::Revived);
            }
            return;
        }
        if refused && !world.stolen() {
            world.broken = Some(Broken::HonestRefused);
        }
        if let Some((shown, age)) = world.shown
            && with < shown
        {
            let slack = self.bounds.window_skew.abs();
            if issues {
                world.broken = Some(Broken::PairForSpent);
            } else if verdict == Verdict::Serve && age > self.bounds.grace + slack {
                world.broken = Some(Broken::ServedForSpent);
            }
        }
        show(world, with);
        if world.stolen.is_some_and(|stolen| with > stolen) && issues {
            world.used[who] = true;
            // After a failover both may hold a pair of the lost generation, as if the theft had been then.
            if world.used == [true; 2] && !self.bounds.failovers {
                world.broken = Some(Broken::BothRenew);
            }
        }
    }
}

/// Keeps the newest generation that the store was ever shown.
pub(super) fn show(world: &mut World, generation: Gen) {
    if world.shown.is_none_or(|(shown, _)| shown < generation) {
        world.shown = Some((generation, 0));
    }
}

impl Session {
    /// Two different generations that somebody holds, either of which would renew the session by itself. After a failover
    /// that lost a write the lost generation and its parent are two, of which one dies when the other is used.
    pub(super) fn two_live(&self, world: &World) -> Option<Broken> {
        let mut live: Option<Gen> = None;
        for pair in world.held() {
            let (verdict, _) = self.judge(&world.record, pair.generation, 0, 0, 0);
            if matches!(verdict, Verdict::Rotate) {
                match live {
                    Some(other) if other != pair.generation => return Some(Broken::TwoLive),
                    _ => live = Some(pair.generation),
                }
            }
        }
        None
    }

    /// From here on nothing is lost, and the browser asks once a tick, now this node and now the other: before long it must
    /// hold the newest pair, and the store must know.
    pub(super) fn never_heals(&self, world: &World) -> Option<Broken> {
        if self.bounds.thief != Thief::Nobody || world.ended {
            return None;
        }
        let mut world = *world;
        world.tabs = [Tab::Idle; TABS];
        let enough = 2
            * (self.bounds.window
                + self.bounds.life
                + self.bounds.window_skew.abs()
                + self.bounds.access_skew.abs());
        for round in 0..enough {
            let node = round as u8 % self.nodes();
            let (with, who) = (world.jar, world.address);
            if with.left > self.access_offset(node) {
                self.sighted(&mut world, with.generation);
                let record = &world.record;
                if record.newest == with.generation && record.acknowledged.is_some() {
                    return None;
                }
            } else {
                let (verdict, record) = self.judge(&world.record, with.generation, who, node, 0);
                self.hold_to_promises(&mut world, with.generation, verdict, BROWSER);
                self.write(&mut world, record);
                self.answered(&mut world, 0, verdict, &record, node);
                if let Tab::Held { pair, .. } = world.tabs[0] {
                    world.jar = pair;
                }
                world.tabs = [Tab::Idle; TABS];
            }
            if world.broken.is_some() {
                return world.broken;
            }
            world = self.canonical(self.tick(&world).unwrap_or(world));
        }
        Some(Broken::NeverHeals)
    }

    /// From here on nothing is lost, and browser and thief both go on to use what they have: that must end the session.
    pub(super) fn goes_unnoticed(&self, world: &World) -> Option<Broken> {
        let found_out = matches!(self.bounds.thief, Thief::Elsewhere | Thief::Hoarder);
        if !found_out || !world.stolen() || world.record.revoked {
            return None;
        }
        [[BROWSER, THIEF], [THIEF, BROWSER]]
            .into_iter()
            .find_map(|order| self.both_go_on(*world, order))
    }

    fn both_go_on(&self, mut world: World, order: [usize; 2]) -> Option<Broken> {
        world.tabs = [Tab::Idle; TABS];
        for _ in 0..4 * self.bounds.life {
            for who in order {
                let newest = world.loot.iter().flatten().copied().max();
                let (held, client) = match (who, newest) {
                    (THIEF, Some(pair)) => (pair, ELSEWHERE),
                    _ => (world.jar, world.address),
                };
                if held.left > self.access_offset(0) {
                    self.sighted(&mut world, held.generation);
                } else {
                    let (verdict, record) =
                        self.judge(&world.record, held.generation, client, 0, 0);
                    self.write(&mut world, record);
                    let (pair, issued) = self.pair(&record, 0);
                    if issues(verdict) && !self.is_late(pair.generation, issued, 0) {
                        match who {
                            THIEF => self.takes(&mut world, pair),
                            _ => world.jar = pair,
                        }
                    }
                }
                if world.record.revoked {
                    return None;
                }
            }
            world = self.canonical(self.tick(&world).unwrap_or(world));
        }
        Some(Broken::Unnoticed)
    }
}
