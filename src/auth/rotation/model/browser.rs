//! What the honest browser's requests can meet: nodes that read and write, upstreams, a network that loses and reorders.

use super::super::*;
use super::rules::Compares;
use super::steps::{BROWSER, Session, Step, issues};
use super::world::{Record, Tab, World};

impl Session {
    pub(super) fn browser(&self, world: &World, next: &mut Vec<(Step, World)>) {
        let is_busy = |tab: &&Tab| !matches!(tab, Tab::Idle | Tab::Unheard { .. });
        let busy = world.tabs.iter().filter(is_busy).count();
        for tab in 0..world.tabs.len() {
            let with = |tab_after: Tab| {
                let mut after = *world;
                after.tabs[tab] = tab_after;
                after
            };
            match world.tabs[tab] {
                // The idle ones stand first.
                Tab::Idle if tab == 0 && busy < self.bounds.tabs => {
                    let (with_pair, client) = (world.jar, world.address);
                    let asking = Tab::Asking {
                        with: with_pair,
                        client,
                        age: 0,
                    };
                    next.push((Step::Send, with(asking)));
                }
                Tab::Idle => {}
                Tab::Asking { .. } => {
                    next.push((Step::Lost, with(Tab::Idle)));
                    for node in 0..self.nodes() {
                        self.arrives(world, tab, node, next);
                    }
                }
                Tab::Read { .. } => {
                    self.commits(world, tab, next);
                }
                Tab::Unheard { .. } => self.ends_unheard(world, tab, next),
                Tab::Held { pair, .. } => {
                    // Lost here or on the way is the same.
                    next.push((Step::Leaves, with(Tab::Answering { pair, age: 0 })));
                }
                Tab::Answering { pair, .. } => {
                    next.push((Step::Lost, with(Tab::Idle)));
                    let mut after = with(Tab::Idle);
                    let newer = pair.generation > after.jar.generation;
                    after.jar = pair;
                    if newer && world.stolen() {
                        self.received(&mut after, BROWSER);
                    }
                    next.push((
                        Step::Stored {
                            generation: pair.generation,
                        },
                        after,
                    ));
                }
            }
        }
        if self.bounds.roams {
            let mut after = *world;
            after.address = 1 - after.address;
            next.push((Step::Roam, after));
        }
        if self.bounds.logout && !world.ended {
            let mut after = *world;
            self.write(
                &mut after,
                Record {
                    revoked: true,
                    ..world.record
                },
            );
            after.ended = true;
            next.push((Step::SignsOut, after));
        }
    }

    /// A node that has read the record writes, or learns that others did.
    fn commits(&self, world: &World, tab: usize, next: &mut Vec<(Step, World)>) {
        let Tab::Read {
            with,
            client,
            node,
            record,
            stale,
            behind,
        } = world.tabs[tab]
        else {
            return;
        };
        let conflicts = match self.rules.compares {
            Compares::Revisions => stale,
            Compares::Numbers => behind != 0,
            Compares::Nothing => false,
        };
        let mut after = *world;
        let presented = with.generation;
        let (verdict, written) = self.judge(&record, presented, client, node, 0);
        if written != record && conflicts {
            let record = world.record;
            let (stale, behind) = (false, 0);
            after.tabs[tab] = Tab::Read {
                with,
                client,
                node,
                record,
                stale,
                behind,
            };
            next.push((Step::Conflict, after));
            return;
        }
        // What was judged on a record that is no longer so was right when it was read.
        if !stale || written != record {
            self.hold_to_promises(&mut after, presented, verdict, BROWSER);
        }
        if written != record {
            self.write(&mut after, written);
        }
        self.answered(&mut after, tab, verdict, &written, node);
        next.push((Step::Judged { verdict, presented }, after));
    }

    /// A node that still holds a request, which was answered long ago, comes to an end with it. The windows are measured as of
    /// its arrival.
    fn ends_unheard(&self, world: &World, tab: usize, next: &mut Vec<(Step, World)>) {
        let Tab::Unheard {
            with,
            client,
            node,
            stale,
            age,
        } = world.tabs[tab]
        else {
            return;
        };
        let mut after = *world;
        after.tabs[tab] = Tab::Idle;
        if stale && !self.rules.judges_for_nobody {
            next.push((Step::Conflict, after));
            return;
        }
        let (verdict, written) = self.judge(&world.record, with, client, node, age);
        if written != world.record {
            self.hold_to_promises(&mut after, with, verdict, BROWSER);
            self.write(&mut after, written);
        }
        next.push((Step::WrittenUnheard { verdict }, after));
    }

    /// A request of the browser reaches a node.
    fn arrives(&self, world: &World, tab: usize, node: u8, next: &mut Vec<(Step, World)>) {
        let Tab::Asking { with, client, .. } = world.tabs[tab] else {
            return;
        };
        let mut after = *world;
        if with.left > self.access_offset(node) {
            after.tabs[tab] = Tab::Idle;
            let generation = with.generation;
            let step = Step::UsesAccess { generation };
            if world.sighting.is_none() {
                after.sighting = Some(generation);
                next.push((step, after));
            } else {
                // No room to be noted: as if the acknowledgement were lost.
                next.push((step, after));
            }
        } else if self.bounds.two_phases {
            after.tabs[tab] = Tab::Read {
                with,
                client,
                node,
                record: world.record,
                stale: false,
                behind: 0,
            };
            next.push((Step::Read { node }, after));
        } else {
            let presented = with.generation;
            let (verdict, record) = self.judge(&world.record, presented, client, node, 0);
            self.hold_to_promises(&mut after, presented, verdict, BROWSER);
            self.write(&mut after, record);
            self.answered(&mut after, tab, verdict, &record, node);
            next.push((Step::Judged { verdict, presented }, after));
        }
    }

    /// The record was judged for the browser: what becomes of its request.
    pub(super) fn answered(
        &self,
        world: &mut World,
        tab: usize,
        verdict: Verdict,
        record: &Record,
        node: u8,
    ) {
        world.tabs[tab] = Tab::Idle;
        if issues(verdict) {
            let (pair, issued) = self.pair(record, node);
            if !self.is_late(pair.generation, issued, node) {
                world.tabs[tab] = Tab::Held { pair, issued, node };
            }
        }
    }
}
