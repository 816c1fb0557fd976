//! Names of generations and the order of tabs: of all worlds that differ in nothing else, one stands for the others. Must not
//! know what a step does; that nothing it does depends on a name is held by tests (`found_out`).

use super::world::{Gen, Pair, Record, Tab, World};

/// Names are bits of a number, and a gap adds one for each of two nodes at the most.
pub(super) const MOST_NAMES: Gen = 60;

impl World {
    /// Visits every generation that the world mentions.
    fn generations(&mut self, mut visit: impl FnMut(&mut Gen)) {
        fn of_record(record: &mut Record, visit: &mut impl FnMut(&mut Gen)) {
            visit(&mut record.newest);
            record.parent.iter_mut().for_each(visit);
        }
        of_record(&mut self.record, &mut visit);
        if let Some(before) = &mut self.before {
            of_record(before, &mut visit);
        }
        if let Some((generation, _)) = &mut self.shown {
            visit(generation);
        }
        visit(&mut self.jar.generation);
        for tab in &mut self.tabs {
            match tab {
                Tab::Idle => {}
                Tab::Asking { with, .. } => visit(&mut with.generation),
                Tab::Read { with, record, .. } => {
                    visit(&mut with.generation);
                    of_record(record, &mut visit);
                }
                Tab::Unheard { with, .. } => visit(with),
                Tab::Held { pair, .. } | Tab::Answering { pair, .. } => visit(&mut pair.generation),
            }
        }
        self.sighting.iter_mut().for_each(&mut visit);
        self.stolen.iter_mut().for_each(&mut visit);
        for pair in self.loot.iter_mut().flatten() {
            visit(&mut pair.generation);
        }
    }

    /// Renames generations: those below every newest that may yet be written upon keep their order, the others keep their
    /// distances. The rule compares, and adds one to the newest; nothing else distinguishes them (`names_do_not_matter` and
    /// `a_renamed_world_goes_on_as_the_other_does` hold it to that). A node that has read the record, and others wrote since,
    /// can write nothing if the store compares `revisions`: of what it read only the verdict is left, so a thief may rotate as
    /// often as it likes meanwhile.
    pub(super) fn canonical(mut self, revisions: bool) -> World {
        let mut base = self.record.newest;
        if let Some(before) = self.before {
            base = base.min(before.newest);
        }
        // After these comes a gap, if there was one: next of all, or further ahead.
        let mut gaps = 0_u64;
        for tab in self.tabs {
            if let Tab::Read {
                with,
                record,
                stale,
                ..
            } = tab
            {
                if !(stale && revisions) {
                    base = base.min(record.newest);
                } else if with.generation > record.newest {
                    gaps |= 1 << record.newest;
                }
            }
        }
        let mut mentioned = 0_u64;
        self.generations(|generation| {
            assert!(*generation < MOST_NAMES, "generations without bound");
            mentioned |= 1 << *generation;
        });
        gaps &= !(mentioned >> 1);
        let below = |generation: Gen| {
            let older = (1 << generation) - 1;
            ((mentioned & older).count_ones() + (gaps & older).count_ones()) as Gen
        };
        // Not 0: that is the pair of a sign-in, which nothing here hands out.
        let new_base = 1 + below(base);
        self.generations(|generation| {
            *generation = if *generation >= base {
                *generation - base + new_base
            } else {
                1 + below(*generation)
            };
        });
        self.in_order()
    }

    /// The same with its tabs in order, the idle ones first.
    pub(super) fn in_order(mut self) -> World {
        self.tabs.sort_unstable_by_key(rank);
        self
    }
}

/// An order of tabs, so that the same ones in another order are the same world.
fn rank(tab: &Tab) -> (u8, [i16; 7]) {
    let of = |pair: &Pair| (i16::from(pair.generation), i16::from(pair.left));
    match tab {
        Tab::Idle => (0, [0; 7]),
        Tab::Asking { with, client, age } => {
            let (generation, left) = of(with);
            let rest = [i16::from(*client), i16::from(*age)];
            (1, [generation, left, rest[0], rest[1], 0, 0, 0])
        }
        Tab::Read {
            with,
            client,
            node,
            record,
            stale,
            behind,
        } => {
            let (generation, left) = of(with);
            let from = i16::from(*client) * 2 + i16::from(*node);
            let seen = i16::from(record.newest) * 2 + i16::from(record.acknowledged.is_some());
            let issued = i16::from(record.issued);
            let stale = i16::from(*stale);
            let behind = i16::from(*behind);
            (2, [generation, left, from, seen, issued, stale, behind])
        }
        Tab::Held { pair, issued, node } => {
            let (generation, left) = of(pair);
            let rest = [i16::from(*issued), i16::from(*node)];
            (3, [generation, left, rest[0], rest[1], 0, 0, 0])
        }
        Tab::Answering { pair, age } => {
            let (generation, left) = of(pair);
            (4, [generation, left, i16::from(*age), 0, 0, 0, 0])
        }
        Tab::Unheard {
            with,
            client,
            node,
            stale,
            age,
        } => {
            let from = i16::from(*client) * 2 + i16::from(*node);
            let (with, stale, age) = (i16::from(*with), i16::from(*stale), i16::from(*age));
            (5, [with, from, stale, age, 0, 0, 0])
        }
    }
}
