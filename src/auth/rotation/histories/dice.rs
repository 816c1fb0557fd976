//! Chance that can be repeated, and a count of what it brought.

/// SplitMix64: small, seeded, the same everywhere.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// At least `from`, less than `to`.
    pub(super) fn between(&mut self, from: i64, to: i64) -> i64 {
        from + (self.roll() % (to - from).unsigned_abs()) as i64
    }

    pub(super) fn percent(&mut self, chance: i64) -> bool {
        self.between(0, 100) < chance
    }
}

/// What happened, added up, so that nothing is proved by histories in which nothing happens.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) rotated: u64,
    pub(super) redelivered: u64,
    pub(super) served: u64,
    pub(super) reissued: u64,
    pub(super) healed: u64,
    pub(super) lost: u64,
    pub(super) late: u64,
    pub(super) unheard: u64,
    pub(super) roamed: u64,
    pub(super) revoked: u64,
    pub(super) both_received: u64,
    pub(super) ended: u64,
    pub(super) refused: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Tally) {
        self.rotated += other.rotated;
        self.redelivered += other.redelivered;
        self.served += other.served;
        self.reissued += other.reissued;
        self.healed += other.healed;
        self.lost += other.lost;
        self.late += other.late;
        self.unheard += other.unheard;
        self.roamed += other.roamed;
        self.revoked += other.revoked;
        self.both_received += other.both_received;
        self.ended += other.ended;
        self.refused += other.refused;
    }
}
