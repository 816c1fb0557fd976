//! What all people of the soak share: where the nodes are now, what was issued, what was counted, and chance.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::browser::{Browser, claims};
use crate::harness::client::{Answer, H2, Lost};
use crate::harness::gateway::{Gateway, Log};
use crate::harness::{Ask, Nodes};

/// An answer that takes longer says that too many people are about: what the faults hold up is answered after a second.
const TOO_SLOW: Duration = Duration::from_secs(3);
const LEAST_AT_ONCE: usize = 4;

pub struct World {
    pub nodes: Nodes,
    /// The nodes' processes, taken out of `nodes`.
    pub processes: Vec<Arc<Mutex<Gateway>>>,
    /// Where each node listens now; nothing while it is down.
    pub addresses: Vec<Mutex<Option<SocketAddr>>>,
    /// What each node said.
    logs: Vec<Log>,
    pub users: Vec<String>,
    pub counts: Counts,
    /// How long the slowest answer of late took, in milliseconds.
    slowest: AtomicU64,
    blows: Mutex<Vec<String>>,
    /// Which refresh token belongs to which generation of which session.
    issued: Mutex<HashMap<(String, u64), String>>,
}

/// What a browser had after an answer, as it notes it.
pub struct Entry {
    pub at: String,
    pub what: String,
    pub access: Option<String>,
    pub refresh: Option<String>,
}

#[derive(Default)]
pub struct Counts {
    pub requests: AtomicUsize,
    pub lost: AtomicUsize,
    pub come_again: AtomicUsize,
    pub broken: AtomicUsize,
    pub sign_outs: AtomicUsize,
    pub faults: AtomicUsize,
    pub kills: AtomicUsize,
    pub thieves: AtomicUsize,
    pub found: AtomicUsize,
    /// Signed out by a request that the machine held up for longer than the contract allows.
    pub stalled: AtomicUsize,
}

impl World {
    pub fn of(mut nodes: Nodes, users: usize) -> Self {
        let users: Vec<String> = (0..users).map(|number| format!("user{number}")).collect();
        for user in &users {
            nodes.add_user(user, &[]);
        }
        let processes = std::mem::take(&mut nodes.nodes);
        let logs = processes.iter().map(Gateway::log).collect();
        World {
            addresses: processes
                .iter()
                .map(|node| Mutex::new(Some(node.addr)))
                .collect(),
            processes: processes
                .into_iter()
                .map(|node| Arc::new(Mutex::new(node)))
                .collect(),
            nodes,
            logs,
            users,
            counts: Counts::default(),
            slowest: AtomicU64::new(0),
            blows: Mutex::default(),
            issued: Mutex::default(),
        }
    }

    pub fn address(&self, node: usize) -> Option<SocketAddr> {
        *self.addresses[node].lock().unwrap()
    }

    /// Notes the pair that a browser holds: a generation has one refresh token, whichever node was asked and whatever
    /// broke. Two would mean that one token was spent twice: an error that says so.
    pub fn note(&self, browser: &Browser) -> Result<(), String> {
        let (Some(access), Some(refresh)) = (browser.access(), browser.refresh()) else {
            return Ok(());
        };
        let access = claims(&access);
        let key = (
            access["sid"].as_str().unwrap().to_owned(),
            access["gen"].as_u64().unwrap(),
        );
        let mut issued = self.issued.lock().unwrap();
        match issued.insert(key.clone(), refresh.clone()) {
            Some(before) if before != refresh => {
                Err(format!("generation {} was issued twice", key.1))
            }
            _ => Ok(()),
        }
    }

    /// Asks, and notes how long that took.
    pub async fn ask(&self, line: &H2, ask: Ask) -> Result<Answer, Lost> {
        let asked = Instant::now();
        let answer = line.try_ask(ask).await;
        let millis = u64::try_from(asked.elapsed().as_millis()).unwrap();
        self.slowest.fetch_max(millis, Ordering::SeqCst);
        answer
    }

    /// How many of `all` may be about at once, after so many were.
    pub fn room_for(&self, at_once: usize, all: usize) -> usize {
        let slowest = Duration::from_millis(self.slowest.swap(0, Ordering::SeqCst));
        match slowest > TOO_SLOW {
            true => (at_once / 2).max(LEAST_AT_ONCE),
            false => (at_once + at_once / 2).min(all),
        }
    }

    /// By the nodes' clock, as their log lines have it.
    pub fn time(&self) -> String {
        self.nodes.time()
    }

    /// Notes something that went wrong in the world.
    pub fn blow(&self, what: &str) {
        self.blows
            .lock()
            .unwrap()
            .push(format!("{}: {what}", self.time()));
    }

    /// Prints what the nodes said of a session, what its browser wrote down and what went wrong, for whoever has to find
    /// out why it ended.
    pub fn tell(&self, session: &str, diary: &VecDeque<Entry>) {
        let blows = self.blows.lock().unwrap();
        for blow in blows.iter().rev().take(40).rev() {
            eprintln!("world: {blow}");
        }
        let issued = self.issued.lock().unwrap();
        for entry in diary {
            let access = entry
                .access
                .as_deref()
                .map(|token| claims(token)["gen"].to_string());
            let refresh = entry.refresh.as_ref().map(|token| {
                let known = issued.iter().find(|(_, known)| *known == token);
                known.map_or("unknown".to_owned(), |((_, generation), _)| {
                    generation.to_string()
                })
            });
            let held = |held: Option<String>| held.unwrap_or("none".to_owned());
            eprintln!(
                "browser: {}: {}; access {}, refresh {}",
                entry.at,
                entry.what,
                held(access),
                held(refresh)
            );
        }
        for (number, log) in self.logs.iter().enumerate() {
            for line in log
                .lock()
                .unwrap()
                .iter()
                .filter(|line| line.contains(session))
            {
                eprintln!("node {number}: {line}");
            }
        }
    }

    /// How many pairs arrived somewhere.
    pub fn issued(&self) -> usize {
        self.issued.lock().unwrap().len()
    }
}

/// Choices that can be repeated (splitmix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// One that nobody chose.
    pub fn seed() -> u64 {
        let mut bytes = [0; 4];
        aws_lc_rs::rand::fill(&mut bytes).unwrap();
        u32::from_ne_bytes(bytes).into()
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// Another, independent of this one.
    pub fn split(&mut self) -> Self {
        Random(self.next())
    }
}
