//! How many refresh tokens one address may have under way or refused: made-up ones must not keep the service busy, nor
//! the calls that others wait for.
//!
//! A token bucket for each IPv4 address, IPv6 /64 and /48, charged when a call begins and given back unless the service
//! refused. Memory is bounded. Must not know a token.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::auth::ClientAddr;

/// Calls for one address that may be under way or refused at once; fewer than there are at once for all …
pub(super) const BURST: u32 = 40;
/// … and how long it takes to be given one more.
const REFILL: Duration = Duration::from_secs(1);
/// How much more a whole /48 gets than one /64 of it.
const SITE: u32 = 4;
/// Most addresses that are remembered.
const MOST: usize = 10_000;

/// An IPv4 address, or an IPv6 network and whether it is a /48.
type Network = (IpAddr, bool);

/// What was charged, to be given back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charge(ClientAddr);

/// All buckets, each by the moment at which it is full again.
pub(super) struct Patience(Mutex<HashMap<Network, Instant>>);

impl Patience {
    pub(super) fn new() -> Self {
        Patience(Mutex::new(HashMap::new()))
    }

    /// Leave to begin one call; otherwise how long to wait. What is refused is not counted.
    pub(super) fn charge(&self, addr: ClientAddr, now: Instant) -> Result<Charge, Duration> {
        let mut buckets = self.buckets();
        for (network, refill) in networks(addr) {
            let full = buckets.get(&network).copied().unwrap_or(now);
            // All refill in the same time.
            let most = REFILL * BURST;
            let wait = (full.saturating_duration_since(now) + refill).saturating_sub(most);
            if !wait.is_zero() {
                return Err(wait);
            }
        }
        for (network, refill) in networks(addr) {
            if buckets.len() >= MOST && !buckets.contains_key(&network) {
                make_room(&mut buckets, now);
            }
            let full = buckets.entry(network).or_insert(now);
            *full = (*full).max(now) + refill;
        }
        Ok(Charge(addr))
    }

    /// As if the call had not been made.
    pub(super) fn give_back(&self, charge: Charge) {
        let mut buckets = self.buckets();
        for (network, refill) in networks(charge.0) {
            if let Some(full) = buckets.get_mut(&network) {
                *full = full.checked_sub(refill).unwrap_or(*full);
            }
        }
    }

    fn buckets(&self) -> MutexGuard<'_, HashMap<Network, Instant>> {
        // Nothing in here panics half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The networks of an address, each with the time in which it is given one more call.
fn networks(addr: ClientAddr) -> impl Iterator<Item = (Network, Duration)> {
    let (first, site) = match addr.0.to_canonical() {
        IpAddr::V6(v6) => {
            let whole = |bits: u32| IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> bits << bits));
            (whole(64), Some(whole(80)))
        }
        v4 => (v4, None),
    };
    let site = site.map(|site| ((site, true), REFILL / SITE));
    std::iter::once(((first, false), REFILL)).chain(site)
}

/// What is full says nothing; then the quarter that is the least charged goes.
fn make_room(buckets: &mut HashMap<Network, Instant>, now: Instant) {
    buckets.retain(|_, full| *full > now);
    if buckets.len() + MOST / 4 <= MOST {
        return;
    }
    let mut order: Vec<_> = buckets.iter().map(|(key, full)| (*full, *key)).collect();
    order.sort_unstable_by_key(|(full, _)| *full);
    for (_, key) in order.iter().take(MOST / 4) {
        buckets.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> ClientAddr {
        ClientAddr(text.parse().unwrap())
    }

    fn taken(patience: &Patience, addr: ClientAddr, now: Instant) -> u32 {
        (0..10_000)
            .take_while(|_| patience.charge(addr, now).is_ok())
            .count() as u32
    }

    #[test]
    fn an_address_has_so_many_and_one_more_each_second_and_others_have_theirs() {
        let (patience, start) = (Patience::new(), Instant::now());
        let (one, other) = (addr("192.0.2.1"), addr("192.0.2.2"));
        assert_eq!(taken(&patience, one, start), BURST);
        assert_eq!(patience.charge(one, start).unwrap_err(), REFILL);
        assert_eq!(taken(&patience, addr("::ffff:192.0.2.1"), start), 0);
        assert_eq!(taken(&patience, other, start), BURST);
        assert_eq!(taken(&patience, one, start + REFILL * 3), 3);
        let again = start + REFILL * (2 * BURST);
        assert_eq!(taken(&patience, one, again), BURST);
        // What is given back may be taken again.
        let charge = Charge(one);
        patience.give_back(charge);
        patience.give_back(charge);
        assert_eq!(taken(&patience, one, again), 2);
    }

    #[test]
    fn the_networks_of_one_customer_share_a_larger_bucket() {
        let (patience, start) = (Patience::new(), Instant::now());
        let all: u32 = (0..100)
            .map(|n| taken(&patience, addr(&format!("2001:db8:1:{n:x}::1")), start))
            .sum();
        assert_eq!(all, BURST * SITE);
        assert_eq!(taken(&patience, addr("2001:db8:2::1"), start), BURST);
    }

    #[test]
    fn memory_is_bounded_and_the_most_charged_is_kept() {
        let (patience, start) = (Patience::new(), Instant::now());
        let heavy = addr("192.0.2.1");
        taken(&patience, heavy, start);
        for n in 0..(MOST as u32 * 2) {
            let light = ClientAddr(IpAddr::V4((0x0a00_0000 + n).into()));
            assert!(patience.charge(light, start).is_ok());
        }
        assert!(patience.buckets().len() <= MOST);
        assert_eq!(taken(&patience, heavy, start), 0);
    }
}
