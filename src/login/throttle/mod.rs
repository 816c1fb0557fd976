//! Slows down guessing without giving anybody the power to lock somebody else out (attacks N03).
//!
//! Three limits, each of which must agree before a password is even looked at:
//! - **pair** (account, address): after a few failures a delay that doubles. One address can therefore take almost
//!   nothing from what the account as a whole may spend, and waits alone. For IPv6, where one customer may own a whole
//!   /48, the /48 is such a pair as well, with more patience;
//! - **address**: a token bucket over all names, against spraying; a success gives its token back. An IPv6 /48 has a bucket
//!   as well, a larger one: its 65 536 networks must not keep the password hashes busy for everybody else;
//! - **account**: a token bucket over all addresses, against guessing from many of them at once.
//!
//! An address that recently signed in to an account is *known* to it: the last two do not apply to it there, only its
//! own failures count. So whoever hammers `alice` from anywhere can at most keep her from signing in from an address
//! that she never used, and only with some hundred addresses of their own.
//!
//! An attempt is charged when it is admitted and forgiven afterwards, so that a hundred attempts at once count as a
//! hundred. Memory is bounded; what is forgotten first is what says least: see `counters`.
//!
//! Must not read a clock, wait, or know what an account is.

mod counters;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::auth::ClientAddr;
use crate::clock::Timestamp;
use crate::patience::{Buckets, Charge, Network, Networks, Rate, SITE};
use counters::{Failures, Known, NameHash, Pair, Table};

/// The limits; the defaults suit people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Failures of one address at one account before the delay begins.
    pub free_failures: u32,
    /// The longest delay.
    pub longest_delay: Duration,
    /// A pair without attempts for this long starts afresh.
    pub forget_failures: Duration,
    /// Attempts of one address, at all accounts together.
    pub address: Rate,
    /// Attempts of unknown addresses, all together, at one account.
    pub account: Rate,
    /// How long an address stays known to an account after a sign-in.
    pub known_for: Duration,
    /// Most entries in each of the four tables.
    pub entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            free_failures: 4,
            longest_delay: Duration::from_secs(15 * 60),
            forget_failures: Duration::from_secs(60 * 60),
            address: Rate {
                burst: 30,
                refill: Duration::from_secs(2),
            },
            account: Rate {
                burst: 200,
                refill: Duration::from_secs(30),
            },
            known_for: Duration::from_secs(30 * 24 * 60 * 60),
            entries: 1 << 16,
        }
    }
}

/// Leave to check one password. Say what came of it: [`Throttle::succeeded`], [`Throttle::forgiven`], or nothing when
/// the password was wrong or the client went away.
#[derive(Debug)]
#[must_use]
pub struct Admission {
    pair: Pair,
    /// Whether the limits for unknown addresses were charged too.
    unknown: Option<Unknown>,
}

#[derive(Debug)]
struct Unknown {
    site: Option<Pair>,
    charge: Charge,
}

/// Counts attempts. One small lock, never held over a wait: attempts are few, since each costs a password hash.
#[derive(Debug)]
pub struct Throttle {
    limits: Limits,
    names: RandomState,
    tables: Mutex<Tables>,
}

impl Throttle {
    /// Nothing counted yet.
    pub fn new(limits: Limits) -> Self {
        let tables = Tables {
            failures: Table::new(limits.entries),
            known: Table::new(limits.entries),
            addresses: Networks::new(limits.address, limits.entries),
            accounts: Buckets::new(limits.account, limits.entries),
        };
        Throttle {
            limits,
            names: RandomState::new(),
            tables: Mutex::new(tables),
        }
    }

    /// Whether `account` (in the form in which names are compared) may be tried from `addr` now; otherwise how long to
    /// wait. What is refused is not counted.
    pub fn admit(
        &self,
        account: &str,
        addr: ClientAddr,
        now: Timestamp,
    ) -> Result<Admission, Duration> {
        let limits = &self.limits;
        let (network, site) = Network::of(addr.0);
        let name = self.names.hash_one(account);
        let pair = (name, network);
        let mut tables = self.lock();

        let own = tables.failures.find(&pair, now, limits);
        let mut wait = own.wait(now, limits.free_failures, limits);
        let known = tables.known.find(&name, now, limits);
        if known.contains(network, now) {
            return match wait.is_zero() {
                true => {
                    tables.failures.keep(pair, own.plus_one(now), now, limits);
                    Ok(Admission {
                        pair,
                        unknown: None,
                    })
                }
                false => Err(wait),
            };
        }

        let site = site.map(|site| (name, site));
        let around = site.map(|site| tables.failures.find(&site, now, limits));
        if let Some(around) = around {
            let free = limits.free_failures.saturating_mul(SITE);
            wait = wait.max(around.wait(now, free, limits));
        }
        wait = wait
            .max(tables.addresses.wait(addr.0, now))
            .max(tables.accounts.wait(&name, limits.account.refill, now));
        if !wait.is_zero() {
            return Err(wait);
        }
        tables.failures.keep(pair, own.plus_one(now), now, limits);
        if let Some((site, around)) = site.zip(around) {
            tables
                .failures
                .keep(site, around.plus_one(now), now, limits);
        }
        let charge = tables.addresses.charge(addr.0, now);
        tables.accounts.charge(name, limits.account.refill, now);
        Ok(Admission {
            pair,
            unknown: Some(Unknown { site, charge }),
        })
    }

    /// The password was right: the address is known to the account from now on, and its failures there are forgotten.
    pub fn succeeded(&self, admission: Admission, now: Timestamp) {
        let mut tables = self.lock();
        tables.failures.entries.remove(&admission.pair);
        let (name, network) = admission.pair;
        let known = tables
            .known
            .find(&name, now, &self.limits)
            .with(network, now.plus(self.limits.known_for));
        tables.known.keep(name, known, now, &self.limits);
        self.give_back(&mut tables, &admission);
    }

    /// The password was not looked at (busy, store unavailable): as if the attempt had not been made.
    pub fn forgiven(&self, admission: Admission) {
        let mut tables = self.lock();
        tables.failures.change(&admission.pair, Failures::minus_one);
        self.give_back(&mut tables, &admission);
    }

    fn give_back(&self, tables: &mut Tables, admission: &Admission) {
        let Some(unknown) = &admission.unknown else {
            return;
        };
        if let Some(site) = &unknown.site {
            tables.failures.change(site, Failures::minus_one);
        }
        tables.addresses.give_back(unknown.charge);
        tables
            .accounts
            .give_back(&admission.pair.0, self.limits.account.refill);
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        // Every single change is complete before anything can panic, so a poisoned table is still a good one.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Tables {
    failures: Table<Pair, Failures>,
    known: Table<NameHash, Known>,
    addresses: Networks,
    accounts: Buckets<NameHash>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    const START: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn at(seconds: u64) -> Timestamp {
        START.plus(Duration::from_secs(seconds))
    }

    fn addr(text: &str) -> ClientAddr {
        ClientAddr(text.parse().unwrap())
    }

    fn nth(n: u32) -> ClientAddr {
        ClientAddr(IpAddr::V4((0x0a00_0000 + n).into()))
    }

    /// A wrong password.
    fn fail(throttle: &Throttle, account: &str, addr: ClientAddr, now: Timestamp) -> bool {
        throttle.admit(account, addr, now).is_ok()
    }

    fn sign_in(throttle: &Throttle, account: &str, addr: ClientAddr, now: Timestamp) -> bool {
        match throttle.admit(account, addr, now) {
            Ok(admission) => {
                throttle.succeeded(admission, now);
                true
            }
            Err(_) => false,
        }
    }

    #[test]
    fn the_delay_doubles_and_a_success_resets_it() {
        let throttle = Throttle::new(Limits::default());
        let home = addr("192.0.2.1");
        for _ in 0..4 {
            assert!(fail(&throttle, "alice", home, START));
        }
        let mut now = 0;
        for delay in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
            assert_eq!(
                throttle.admit("alice", home, at(now)).unwrap_err(),
                Duration::from_secs(delay)
            );
            assert_eq!(
                throttle
                    .admit("alice", home, at(now + delay - 1))
                    .unwrap_err(),
                Duration::from_secs(1)
            );
            now += delay;
            assert!(fail(&throttle, "alice", home, at(now)));
        }
        assert!(sign_in(&throttle, "alice", home, at(now + 900)));
        for _ in 0..4 {
            assert!(fail(&throttle, "alice", home, at(now + 900)));
        }
        assert!(!fail(&throttle, "alice", home, at(now + 900)));
        assert!(fail(&throttle, "alice", home, at(now + 900 + 3600)));
    }

    #[test]
    fn n03_one_hammering_address_locks_nobody_else_out() {
        let throttle = Throttle::new(Limits::default());
        let (attacker, home, cafe) = (addr("203.0.113.9"), addr("192.0.2.1"), addr("198.51.100.7"));
        assert!(sign_in(&throttle, "alice", home, START));
        let mut admitted = 0;
        for tick in 0..360_000 {
            let now = START.plus(Duration::from_millis(tick * 10));
            admitted += u32::from(fail(&throttle, "alice", attacker, now));
            if tick % 1000 == 0 {
                assert!(sign_in(&throttle, "alice", home, now));
            }
        }
        assert!(admitted <= 20, "an hour at 100/s gave {admitted} guesses");
        assert!(sign_in(&throttle, "alice", cafe, at(3600)));
        assert!(!fail(&throttle, "alice", attacker, at(3600)));
    }

    #[test]
    fn n03_many_addresses_leave_known_ones_alone() {
        let throttle = Throttle::new(Limits::default());
        let home = addr("192.0.2.1");
        assert!(sign_in(&throttle, "alice", home, START));
        let admitted: u32 = (0..5000)
            .map(|n| u32::from(fail(&throttle, "alice", nth(n), START)))
            .sum();
        assert_eq!(admitted, 200);
        assert!(sign_in(&throttle, "alice", home, at(1)));
        assert!(sign_in(&throttle, "bob", addr("198.51.100.7"), at(1)));
        assert_eq!(
            throttle
                .admit("alice", addr("198.51.100.7"), at(1))
                .unwrap_err(),
            Duration::from_secs(29)
        );
    }

    #[test]
    fn n03_one_address_cannot_spray() {
        let throttle = Throttle::new(Limits::default());
        let attacker = addr("203.0.113.9");
        assert!(sign_in(&throttle, "office", attacker, START));
        let admitted: u32 = (0..1000)
            .map(|n| u32::from(fail(&throttle, &format!("user{n}"), attacker, START)))
            .sum();
        assert_eq!(admitted, 30);
        assert_eq!(
            throttle.admit("alice", attacker, START).unwrap_err(),
            Duration::from_secs(2)
        );
        // Whoever signed in from there before is not held up by it.
        assert!(sign_in(&throttle, "office", attacker, START));
    }

    #[test]
    fn n03_one_ipv6_site_cannot_spray_from_all_its_networks() {
        let throttle = Throttle::new(Limits::default());
        let inside = |n: u32| addr(&format!("2001:db8:7:{n:x}::1"));
        assert!(sign_in(&throttle, "office", inside(0xffff), START));
        let admitted: u32 = (0..5000)
            .map(|n| u32::from(fail(&throttle, &format!("user{n}"), inside(n), START)))
            .sum();
        assert_eq!(admitted, 120);
        let minute: u32 = (0..60_000)
            .map(|n| {
                let now = START.plus(Duration::from_millis(u64::from(n)));
                u32::from(fail(&throttle, &format!("name{n}"), inside(n), now))
            })
            .sum();
        assert!(minute <= 120, "{minute} in a minute");
        assert!(sign_in(&throttle, "office", inside(0xffff), at(1)));
        assert!(sign_in(&throttle, "alice", addr("2001:db8:8::1"), at(1)));
        // What was right costs nothing.
        for n in 0..500 {
            let now = at(3600 + n);
            assert!(sign_in(
                &throttle,
                &format!("user{n}"),
                addr("2001:db8:7:1::1"),
                now
            ));
        }
    }

    #[test]
    fn successes_cost_an_office_nothing() {
        let throttle = Throttle::new(Limits::default());
        for n in 0..500 {
            assert!(sign_in(
                &throttle,
                &format!("user{n}"),
                addr("192.0.2.1"),
                START
            ));
        }
    }

    #[test]
    fn parallel_attempts_are_charged_before_their_outcome() {
        let throttle = Throttle::new(Limits::default());
        let running: Vec<_> = (0..100)
            .filter_map(|_| throttle.admit("alice", nth(1), START).ok())
            .collect();
        assert_eq!(running.len(), 4);
        for admission in running {
            throttle.forgiven(admission);
        }
        assert!(fail(&throttle, "alice", nth(1), START));
        let left = (0..100)
            .filter(|n| fail(&throttle, &format!("user{n}"), nth(1), START))
            .count();
        assert_eq!(left, 29, "forgiven tokens came back");
    }

    #[test]
    fn ipv6_counts_by_64_and_by_48() {
        let throttle = Throttle::new(Limits::default());
        for n in 0..4 {
            assert!(fail(
                &throttle,
                "alice",
                addr(&format!("2001:db8::{n}")),
                START
            ));
        }
        assert!(!fail(&throttle, "alice", addr("2001:db8::ffff"), START));
        let admitted: u32 = (1..2000)
            .map(|n| {
                u32::from(fail(
                    &throttle,
                    "alice",
                    addr(&format!("2001:db8:0:{n:x}::1")),
                    START,
                ))
            })
            .sum();
        assert_eq!(admitted, 12);
        assert!(sign_in(&throttle, "alice", addr("2001:db8:1::1"), START));
        // An IPv4 address is the same in either notation.
        for _ in 0..4 {
            assert!(fail(&throttle, "alice", addr("::ffff:192.0.2.1"), START));
        }
        assert!(!fail(&throttle, "alice", addr("192.0.2.1"), START));
    }

    #[test]
    fn memory_is_bounded_and_a_flood_does_not_reset_a_counter() {
        let limits = Limits {
            entries: 100,
            ..Limits::default()
        };
        let throttle = Throttle::new(limits);
        let attacker = addr("203.0.113.9");
        for _ in 0..4 {
            assert!(fail(&throttle, "alice", attacker, START));
        }
        assert!(!fail(&throttle, "alice", attacker, START));
        for n in 0..10_000 {
            fail(&throttle, &format!("user{n}"), nth(n), START);
        }
        assert!(!fail(&throttle, "alice", attacker, START));
        let tables = throttle.lock();
        assert!(tables.failures.entries.len() <= 100);
        assert!(tables.known.entries.len() <= 100);
        assert!(tables.addresses.remembered() <= 100);
        assert!(tables.accounts.remembered() <= 100);
    }

    #[test]
    fn signing_in_from_everywhere_pushes_out_only_ones_own_addresses() {
        let throttle = Throttle::new(Limits {
            entries: 100,
            ..Limits::default()
        });
        let home = addr("192.0.2.1");
        assert!(sign_in(&throttle, "alice", home, START));
        for n in 0..10_000 {
            assert!(sign_in(&throttle, "mallory", nth(n), at(1)));
        }
        while (0..1000).any(|n| fail(&throttle, "alice", nth(n), at(2))) {}
        assert!(sign_in(&throttle, "alice", home, at(2)));
        assert!(!sign_in(&throttle, "alice", addr("192.0.2.2"), at(2)));
    }

    #[test]
    fn a_clock_that_goes_backwards_locks_nobody_out() {
        let throttle = Throttle::new(Limits::default());
        while fail(&throttle, "alice", nth(1), at(86_400)) {}
        for n in 0..100 {
            fail(&throttle, &format!("user{n}"), nth(1), at(86_400));
        }
        assert!(!fail(&throttle, "alice", nth(1), START));
        assert!(sign_in(&throttle, "alice", nth(1), at(60)));
    }
}
