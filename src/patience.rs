//! How much one network may ask for at once: token buckets by address. Whatever limits by address counts with these.
//!
//! An IPv4 address has a bucket, and so has an IPv6 /64, which is what one customer has at the least; a /48, the most that
//! one has, shares a larger one. A bucket is kept as the moment at which it is full again (the generic cell rate algorithm).
//! Memory is bounded: what is forgotten first says the least. Must not know what is asked for, read a clock, or wait.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;

/// How much more a whole /48 gets than one /64 of it.
pub const SITE: u32 = 4;

/// What one network is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// So many at once …
    pub burst: u32,
    /// … and how long it takes to be given one more.
    pub refill: Duration,
}

/// What was charged, to be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Charge(IpAddr);

/// The buckets of all networks behind one small lock, never held over a wait.
#[derive(Debug)]
pub struct Patience(Mutex<Networks>);

impl Patience {
    /// With everybody; `most` networks are remembered.
    pub fn new(rate: Rate, most: usize) -> Self {
        Patience(Mutex::new(Networks::new(rate, most)))
    }

    /// Leave to do it once; otherwise how long to wait. What is refused is not counted.
    pub fn charge(&self, addr: IpAddr, now: Timestamp) -> Result<Charge, Duration> {
        let mut networks = self.networks();
        match networks.wait(addr, now) {
            Duration::ZERO => Ok(networks.charge(addr, now)),
            wait => Err(wait),
        }
    }

    /// As if it had not been done.
    pub fn give_back(&self, charge: Charge) {
        self.networks().give_back(charge);
    }

    fn networks(&self) -> MutexGuard<'_, Networks> {
        // Nothing in here panics half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same without a lock, for those who have one.
#[derive(Debug)]
pub struct Networks {
    rate: Rate,
    buckets: Buckets<Network>,
}

impl Networks {
    /// All buckets full; `most` are remembered.
    pub fn new(rate: Rate, most: usize) -> Self {
        Networks {
            rate,
            // Those of sites, too: they hold more and refill faster.
            buckets: Buckets::new(rate, most),
        }
    }

    /// How long an address has to wait before it may be charged.
    pub fn wait(&mut self, addr: IpAddr, now: Timestamp) -> Duration {
        self.of(addr)
            .map(|(network, refill)| self.buckets.wait(&network, refill, now))
            .max()
            .unwrap_or_default()
    }

    /// Takes one from each bucket of an address.
    pub fn charge(&mut self, addr: IpAddr, now: Timestamp) -> Charge {
        for (network, refill) in self.of(addr) {
            self.buckets.charge(network, refill, now);
        }
        Charge(addr)
    }

    /// Puts back what was taken.
    pub fn give_back(&mut self, charge: Charge) {
        for (network, refill) in self.of(charge.0) {
            self.buckets.give_back(&network, refill);
        }
    }

    /// How many buckets are remembered.
    pub fn remembered(&self) -> usize {
        self.buckets.remembered()
    }

    fn of(&self, addr: IpAddr) -> impl Iterator<Item = (Network, Duration)> + use<> {
        let (network, site) = Network::of(addr);
        let refill = self.rate.refill;
        std::iter::once((network, refill)).chain(site.map(|site| (site, refill / SITE)))
    }
}

/// An address as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// One IPv4 address, in either notation.
    V4(u32),
    /// An IPv6 /64: what one customer has at the least.
    V6(u64),
    /// An IPv6 /48: what one customer has at the most.
    Site(u64),
}

impl Network {
    /// The network of an address, and the site around it.
    pub fn of(addr: IpAddr) -> (Network, Option<Network>) {
        match addr.to_canonical() {
            IpAddr::V4(v4) => (Network::V4(v4.to_bits()), None),
            IpAddr::V6(v6) => {
                let bits = v6.to_bits();
                // Both shifted values have at most 64 bits.
                let (network, site) = ((bits >> 64) as u64, (bits >> 80) as u64);
                (Network::V6(network), Some(Network::Site(site)))
            }
        }
    }
}

/// Buckets by key that are all full again in the same time. A bucket that is given more at once refills as much faster.
#[derive(Debug)]
pub struct Buckets<K> {
    full_after: Duration,
    most: usize,
    full_at: HashMap<K, Timestamp>,
}

impl<K: Copy + Eq + Hash> Buckets<K> {
    /// All of them full; `most` are remembered.
    pub fn new(rate: Rate, most: usize) -> Self {
        Buckets {
            full_after: rate.refill.saturating_mul(rate.burst),
            most: most.max(LEAST_ENTRIES),
            full_at: HashMap::new(),
        }
    }

    /// How long it takes until a bucket that is given one in every `refill` holds one.
    pub fn wait(&mut self, key: &K, refill: Duration, now: Timestamp) -> Duration {
        (self.full_at(key, now).since(now) + refill).saturating_sub(self.full_after)
    }

    /// Takes one out, whether it holds one or not.
    pub fn charge(&mut self, key: K, refill: Duration, now: Timestamp) {
        if self.full_at.len() >= self.most && !self.full_at.contains_key(&key) {
            make_room(&mut self.full_at, self.most, |at| *at <= now, |at| *at);
        }
        let charged = self.full_at(&key, now).plus(refill);
        self.full_at.insert(key, charged);
    }

    /// Puts one back.
    pub fn give_back(&mut self, key: &K, refill: Duration) {
        if let Some(full_at) = self.full_at.get_mut(key) {
            *full_at = full_at.minus(refill);
        }
    }

    /// How many buckets are remembered.
    pub fn remembered(&self) -> usize {
        self.full_at.len()
    }

    /// When a bucket is full again. What lies further ahead than for an empty one is taken back: the wall clock went
    /// backwards.
    fn full_at(&mut self, key: &K, now: Timestamp) -> Timestamp {
        let latest = now.plus(self.full_after);
        match self.full_at.get_mut(key) {
            Some(full_at) => {
                *full_at = (*full_at).min(latest);
                (*full_at).max(now)
            }
            None => now,
        }
    }
}

/// Fewer could not be quartered.
pub const LEAST_ENTRIES: usize = 4;

/// Makes room in a full map: what is over goes, then the quarter with the least weight. To have a heavy entry forgotten an
/// attacker needs a map full of heavier ones, each paid for from other addresses; light ones push each other out.
pub fn make_room<K: Copy + Eq + Hash, E, W: Ord + Copy>(
    entries: &mut HashMap<K, E>,
    most: usize,
    is_over: impl Fn(&E) -> bool,
    weight: impl Fn(&E) -> W,
) {
    entries.retain(|_, entry| !is_over(entry));
    let quarter = most / 4;
    if entries.len() + quarter <= most {
        return;
    }
    let mut by_weight: Vec<(K, W)> = entries
        .iter()
        .map(|(key, entry)| (*key, weight(entry)))
        .collect();
    by_weight.sort_unstable_by_key(|(_, weight)| *weight);
    for (key, _) in by_weight.iter().take(quarter) {
        entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_800_000_000);
    const RATE: Rate = Rate {
        burst: 40,
        refill: Duration::from_secs(1),
    };
    const MOST: usize = 1000;

    fn patience() -> Patience {
        Patience::new(RATE, MOST)
    }

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn taken(patience: &Patience, addr: IpAddr, now: Timestamp) -> u32 {
        (0..10_000)
            .take_while(|_| patience.charge(addr, now).is_ok())
            .count() as u32
    }

    #[test]
    fn an_address_has_so_many_and_one_more_each_second_and_others_have_theirs() {
        let patience = patience();
        let at = |n: u32| START.plus(RATE.refill * n);
        let (one, other) = (addr("192.0.2.1"), addr("192.0.2.2"));
        assert_eq!(taken(&patience, one, START), RATE.burst);
        assert_eq!(patience.charge(one, START).unwrap_err(), RATE.refill);
        assert_eq!(taken(&patience, addr("::ffff:192.0.2.1"), START), 0);
        assert_eq!(taken(&patience, other, START), RATE.burst);
        let almost = START.plus(RATE.refill - Duration::from_millis(1));
        assert_eq!(taken(&patience, one, almost), 0);
        assert_eq!(taken(&patience, one, at(3)), 3);
        let again = at(2 * RATE.burst);
        assert_eq!(taken(&patience, one, again), RATE.burst);
        // What is given back may be taken again.
        patience.give_back(Charge(one));
        patience.give_back(Charge(one));
        assert_eq!(taken(&patience, one, again), 2);
    }

    #[test]
    fn what_is_given_back_costs_nothing() {
        let patience = patience();
        for _ in 0..500 {
            let charge = patience.charge(addr("2001:db8::1"), START).unwrap();
            patience.give_back(charge);
        }
        assert_eq!(taken(&patience, addr("2001:db8::1"), START), RATE.burst);
    }

    #[test]
    fn the_networks_of_one_customer_share_a_larger_bucket() {
        let patience = patience();
        assert_eq!(taken(&patience, addr("2001:db8:1::1"), START), RATE.burst);
        assert_eq!(taken(&patience, addr("2001:db8:1::2"), START), 0);
        let all: u32 = (1..100)
            .map(|n| taken(&patience, addr(&format!("2001:db8:1:{n:x}::1")), START))
            .sum();
        assert_eq!(all, RATE.burst * (SITE - 1));
        assert_eq!(taken(&patience, addr("2001:db8:2::1"), START), RATE.burst);
    }

    #[test]
    fn memory_is_bounded_and_the_most_charged_is_kept() {
        let patience = patience();
        let heavy = addr("192.0.2.1");
        taken(&patience, heavy, START);
        for n in 0..(MOST as u32 * 2) {
            let light = IpAddr::V4((0x0a00_0000 + n).into());
            assert!(patience.charge(light, START).is_ok());
        }
        assert!(patience.networks().remembered() <= MOST);
        assert_eq!(taken(&patience, heavy, START), 0);
    }

    #[test]
    fn a_clock_that_goes_backwards_keeps_nobody_waiting() {
        let patience = patience();
        let one = addr("192.0.2.1");
        taken(&patience, one, START.plus(Duration::from_secs(86_400)));
        assert_eq!(patience.charge(one, START), Err(RATE.refill));
        assert_eq!(taken(&patience, one, START.plus(RATE.refill * 5)), 5);
    }
}
