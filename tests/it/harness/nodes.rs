//! Several gateways on one Redis: each a process of its own, with a network of its own to the store.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::PASSWORD;
use super::browser::Browser;
use super::chaos::Chaos;
use super::client::{Answer, Door};
use super::clock::WallClock;
use super::gateway::{Gateway, Setup};
use super::prepared::try_add_user;
use super::redis::RedisServer;
use super::wait::{until, until_blocking};

/// On a busy machine the store may be late: the answer is 503 then, and changes nothing for the browser, which asks again.
pub async fn patiently(ask: impl AsyncFn() -> Answer) -> Answer {
    until("an answer that needs the store", async || {
        let answer = ask().await;
        if answer.status == 503 {
            assert!(answer.header("retry-after").is_some() && !answer.sets_cookies());
            return None;
        }
        Some(answer)
    })
    .await
}

/// The same where a 503 of another cause would be a fault: only the store's is asked again.
pub async fn patiently_with_the_store(ask: impl AsyncFn() -> Answer) -> Answer {
    until("an answer that needs the store", async || {
        let answer = ask().await;
        let of_the_store = [
            "urn:vestibule:problem:store-unavailable",
            "urn:vestibule:problem:sessions-unavailable",
        ];
        let late = answer.status == 503
            && of_the_store
                .iter()
                .any(|kind| answer.json()["type"] == *kind);
        (!late).then_some(answer)
    })
    .await
}

pub struct Nodes {
    pub nodes: Vec<Gateway>,
    /// Between each node and the store.
    pub networks: Vec<Chaos>,
    pub redis: RedisServer,
    setup: Setup,
    secret: PathBuf,
    clock: Option<Arc<WallClock>>,
    next: AtomicUsize,
    _folder: tempfile::TempDir,
}

impl Nodes {
    /// Three nodes of this kind, with the accounts alice (staff, writers) and bob (no groups) where there are accounts.
    pub async fn three(setup: Setup) -> Self {
        Nodes::run(3, setup).await
    }

    pub async fn run(count: usize, setup: Setup) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("vestibule-nodes-")
            .tempdir()
            .unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, super::forge::random(48)).unwrap();
        let clock = setup.shared_clock().or_else(|| {
            setup
                .has_clock()
                .then(|| Arc::new(WallClock::in_folder(folder.path())))
        });
        let has_accounts = setup.has_accounts();
        let mut nodes = Nodes {
            nodes: Vec::new(),
            networks: Vec::new(),
            redis: RedisServer::start(),
            setup,
            secret,
            clock,
            next: AtomicUsize::new(0),
            _folder: folder,
        };
        for _ in 0..count {
            nodes.one_more().await;
        }
        if !has_accounts {
            return nodes;
        }
        let groups = ["--group", "staff", "--group", "writers"];
        let mail = ["--email", "alice@example.com"];
        nodes.add_user("alice", &[&mail[..], &groups].concat());
        nodes.add_user("bob", &[]);
        nodes
    }

    /// Adds an account by the command line at the first node; again while the store is late.
    pub fn add_user(&self, name: &str, options: &[&str]) {
        let file = self.nodes[0].file();
        until_blocking(&format!("the account {name}"), || {
            let output = try_add_user(&file, name, PASSWORD, options);
            let said = String::from_utf8_lossy(&output.stderr);
            // Done by an attempt whose confirmation was late.
            let there = said.contains("there is an account of that name already");
            let late = said.contains("the store is unavailable");
            assert!(output.status.success() || there || late, "{said}");
            (!late).then_some(())
        });
    }

    /// Starts another node.
    pub async fn one_more(&mut self) -> &Gateway {
        let place = SocketAddr::from((Ipv4Addr::LOCALHOST, self.redis.port));
        let network = Chaos::before(place).await;
        let setup = self
            .setup
            .clone()
            .on_redis(network.addr, &self.secret, self.clock.clone());
        self.networks.push(network);
        self.nodes.push(setup.run());
        self.nodes.last().unwrap()
    }

    /// Moves the clock of all nodes.
    pub fn advance(&self, by: Duration) {
        self.clock.as_ref().expect("built with_clock()").advance(by);
    }

    /// What the nodes take for now, as their log lines say it: within the day, to the millisecond.
    pub fn time(&self) -> String {
        let now = self.clock.as_ref().expect("built with_clock()").millis();
        let of = |unit: i64, most: i64| now.div_euclid(unit).rem_euclid(most);
        format!(
            "{:02}:{:02}:{:02}.{:03}",
            of(3_600_000, 24),
            of(60_000, 60),
            of(1000, 60),
            of(1, 1000)
        )
    }

    /// Six minutes, which is more than the default `access_ttl`.
    pub fn outlive_access_token(&self) {
        self.advance(Duration::from_secs(360));
    }

    /// The door of one node.
    pub fn door(&self, node: usize) -> Door {
        self.nodes[node].door()
    }

    /// The door that a load balancer chooses: one after the other.
    pub fn next_door(&self) -> Door {
        self.door(self.next.fetch_add(1, Ordering::SeqCst) % self.nodes.len())
    }

    /// A browser without cookies, at the next node.
    pub fn anon(&self) -> Browser {
        Browser::new(self.next_door())
    }

    /// A browser that has just signed in, at the next node.
    pub async fn signed_in(&self, user: &str) -> Browser {
        let browser = self.anon();
        let answer = patiently(async || browser.sign_in(user, PASSWORD, "/").await).await;
        assert_eq!(answer.status, 303, "sign-in of {user}: {}", answer.text());
        browser
    }

    /// What this browser gets from this node; asked again while the store is late.
    pub async fn get(&self, browser: &Browser, node: usize, target: &str) -> Answer {
        let there = self.through(browser, node);
        patiently(async || there.get(target).await).await
    }

    /// Signs out at this node, and is sure that it worked.
    pub async fn sign_out(&self, browser: &Browser, node: usize) {
        let there = self.through(browser, node);
        let answer = patiently(async || there.sign_out().await).await;
        assert!(
            matches!(answer.status, 200 | 204 | 303),
            "{}",
            answer.text()
        );
    }

    /// The same browser, whose next request goes to this node.
    pub fn through(&self, browser: &Browser, node: usize) -> Browser {
        let mut browser = browser.clone();
        browser.door.to = self.nodes[node].addr;
        browser
    }

    /// The sum of a metric over all nodes that answer.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let mut sum = 0.0;
        for node in &self.nodes {
            sum += node.metric(name, labels).await;
        }
        sum
    }

    /// How often the store carried out a command since its start.
    pub fn store_calls(&self, command: &str) -> u64 {
        let stats = self.redis.cli(&["INFO", "commandstats"]);
        let prefix = format!("cmdstat_{command}:calls=");
        stats
            .lines()
            .find_map(|line| line.strip_prefix(&prefix)?.split(',').next()?.parse().ok())
            .unwrap_or(0)
    }
}
