//! Which sign-ins were used on this node a moment ago. Bounded: the oldest are forgotten, and the provider's codes work once
//! anyway.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

/// How many are remembered: more than people can sign in while one is young, on one node.
const MOST: usize = 10_000;

/// Remembers ids.
#[derive(Default)]
pub(super) struct Spent(Mutex<Ids>);

#[derive(Default)]
struct Ids {
    known: HashSet<Box<str>>,
    /// Oldest first.
    order: VecDeque<Box<str>>,
}

impl Spent {
    /// Adds one; `false` when it is there already.
    pub(super) fn add(&self, id: &str) -> bool {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !ids.known.insert(id.into()) {
            return false;
        }
        ids.order.push_back(id.into());
        if ids.order.len() > MOST
            && let Some(oldest) = ids.order.pop_front()
        {
            ids.known.remove(&oldest);
        }
        true
    }

    /// Whether it is there.
    pub(super) fn has(&self, id: &str) -> bool {
        let ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.known.contains(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_used_once_and_the_oldest_are_forgotten() {
        let spent = Spent::default();
        assert!(spent.add("a") && !spent.add("a") && spent.has("a"));
        for id in 0..MOST {
            assert!(spent.add(&id.to_string()));
        }
        assert!(!spent.has("a") && spent.has("0"));
        assert_eq!(spent.0.lock().unwrap().known.len(), MOST);
    }
}
