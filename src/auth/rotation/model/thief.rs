//! What a thief can do who copied the cookies once: show any token it has, at any moment, as often as it likes.

use super::bounds::Thief;
use super::steps::{ELSEWHERE, Session, Step, THIEF, issues};
use super::world::{Broken, Pair, World};

impl Session {
    pub(super) fn thief(&self, world: &World, next: &mut Vec<(Step, World)>) {
        if self.bounds.thief == Thief::Nobody {
            return;
        }
        if !world.stolen() {
            let mut after = *world;
            after.loot[0] = Some(world.jar);
            after.stolen = Some(world.jar.generation);
            next.push((Step::Theft, after));
            return;
        }
        // Its messages take as long as it likes, so the moment they arrive is all that matters.
        let who = match self.bounds.thief {
            Thief::BesideTheBrowser => 0,
            _ => ELSEWHERE,
        };
        for pair in world.loot.into_iter().flatten() {
            for node in 0..self.nodes() {
                if pair.left > self.access_offset(node) {
                    let mut after = *world;
                    self.sighted(&mut after, pair.generation);
                    let generation = pair.generation;
                    next.push((Step::ThiefUsesAccess { generation }, after));
                }
                let presented = pair.generation;
                let (verdict, record) = self.judge(&world.record, presented, who, node, 0);
                let mut after = *world;
                self.hold_to_promises(&mut after, presented, verdict, THIEF);
                self.write(&mut after, record);
                let received = false;
                next.push((
                    Step::ThiefPresents {
                        verdict,
                        presented,
                        received,
                    },
                    after,
                ));
                let (got, issued) = self.pair(&record, node);
                if issues(verdict) && !self.is_late(got.generation, issued, node) {
                    self.takes(&mut after, got);
                    let received = true;
                    next.push((
                        Step::ThiefPresents {
                            verdict,
                            presented,
                            received,
                        },
                        after,
                    ));
                }
            }
        }
    }

    /// Each may receive one newer pair. A write that a failover lost makes it one more: the lost pair and the one that takes
    /// its place have the same generation, and one may have each.
    pub(super) fn received(&self, world: &mut World, who: usize) {
        let most = 1 + u8::from(self.bounds.failovers);
        world.received[who] = (world.received[who] + 1).min(most + 1);
        let side_by_side = world.received.iter().all(|&count| count > most);
        let counts = self.bounds.thief == Thief::Elsewhere || self.bounds.counts_hoards;
        if side_by_side && counts {
            world.broken = Some(Broken::SideBySide);
        }
    }

    /// The thief receives a pair.
    pub(super) fn takes(&self, world: &mut World, pair: Pair) {
        let newest = world
            .loot
            .iter()
            .flatten()
            .map(|held| held.generation)
            .max();
        if newest < Some(pair.generation) {
            self.received(world, THIEF);
        }
        if self.bounds.thief != Thief::Hoarder {
            world.loot[0] = Some(pair);
            return;
        }
        match world
            .loot
            .iter_mut()
            .flatten()
            .find(|held| held.generation == pair.generation)
        {
            Some(held) => held.left = held.left.max(pair.left),
            None => match world.loot[..self.bounds.hoards]
                .iter_mut()
                .find(|place| place.is_none())
            {
                Some(place) => *place = Some(pair),
                // The newest are kept: no older one is worth more.
                None => {
                    world.loot[..self.bounds.hoards].rotate_left(1);
                    world.loot[self.bounds.hoards - 1] = Some(pair);
                }
            },
        }
    }
}
