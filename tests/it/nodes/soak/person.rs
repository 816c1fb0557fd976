//! One browser of the soak, the person in front of it, and perhaps the thief who has copied its cookies.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::world::{Entry, Random, World};
use crate::harness::browser::{Browser, Jar, as_fetch, sign_in_form, sign_out_form};
use crate::harness::client::{Answer, Door, H2, Lost};
use crate::harness::{ACCESS, Ask, PASSWORD};

/// Trying again for longer than this is no service.
const PATIENCE: Duration = Duration::from_secs(120);
/// A request that is under way for longer than the grace of 30 s may end its session (it carries a spent token); this is
/// where that begins, seen from here.
const STALLED: Duration = Duration::from_secs(20);

pub struct Person {
    world: Arc<World>,
    random: Random,
    user: String,
    browser: Browser,
    session: String,
    lines: Vec<Option<(SocketAddr, H2)>>,
    thief: Option<Thief>,
    /// A request of this session was under way for so long that the contract keeps nobody signed in: the machine stood still.
    stalled: bool,
    number: u64,
    /// What it asked and heard lately, for whoever has to find out why its session ended.
    diary: VecDeque<Entry>,
}

/// A request under way.
struct Sent {
    node: usize,
    target: &'static str,
    at: Instant,
}

struct Thief {
    browser: Browser,
    /// How many rounds with a long pause it has lived through.
    rounds: usize,
}

impl Person {
    pub fn new(number: u64, world: &Arc<World>, random: Random) -> Self {
        let nowhere = Door::new(SocketAddr::from(([127, 0, 0, 1], 9)));
        let from = format!("127.1.{}.{}", number / 200, number % 200 + 1);
        Person {
            user: world.users[number as usize % world.users.len()].clone(),
            browser: Browser::new(nowhere).at(&from),
            session: String::new(),
            lines: world.processes.iter().map(|_| None).collect(),
            thief: None,
            stalled: false,
            world: Arc::clone(world),
            random,
            number,
            diary: VecDeque::new(),
        }
    }

    pub fn has_thief(&self) -> bool {
        self.thief.is_some()
    }

    /// Somebody elsewhere gets a copy of the cookies.
    pub fn is_robbed(&mut self) {
        if self.thief.is_none() && self.browser.refresh().is_some() {
            let from = format!("127.2.{}.{}", self.number / 200, self.number % 200 + 1);
            let mut browser = self.browser.copy().at(&from);
            browser.user_agent = "thief/1.0".to_owned();
            self.thief = Some(Thief { browser, rounds: 0 });
            self.world.counts.thieves.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A thief must not get away with it for long.
    pub fn time_passes(&mut self, past_grace: bool, most: usize) {
        if let Some(thief) = &mut self.thief {
            thief.rounds += usize::from(past_grace);
            if thief.rounds > most {
                self.fail(&format!("a thief was not found in {most} rounds"));
            }
        }
    }

    /// Signs in, however often it takes.
    pub async fn sign_in(&mut self) {
        self.browser.restore(Jar::default());
        let started = Instant::now();
        loop {
            let form = sign_in_form(&self.user, PASSWORD, "/");
            match self.ask(form, false).await {
                Some(answer) if answer.status == 303 => break,
                Some(answer) => assert!(
                    matches!(answer.status, 429 | 503),
                    "sign-in: {} {}",
                    answer.status,
                    answer.text()
                ),
                None => {}
            }
            assert!(started.elapsed() < PATIENCE, "nobody can sign in");
        }
        self.session = self.browser.session();
        self.stalled = false;
    }

    /// A few seconds of somebody's day: pages with several requests at once, now and then a renewal, an answer that is
    /// lost, a sign-out.
    pub async fn live(&mut self) {
        // Its access token runs out at most once: a request that carries the spent token may be under way in a node, with
        // nobody waiting for it any more, and the contract gives a token longer than that to live.
        let mut renews = self.random.percent(70);
        for _ in 0..1 + self.random.below(3) {
            self.rest().await;
            if std::mem::take(&mut renews) {
                self.browser.drop_cookie(ACCESS);
            }
            let lost = self.random.percent(10);
            // The jar of this moment goes along with each; the answers' cookies go into it unless they are lost.
            let mut under_way = FuturesUnordered::new();
            for _ in 0..1 + self.random.below(3) {
                under_way.extend(self.request().await);
            }
            // Whoever has its answer goes on, while requests of before are still on their way.
            let mut more = if lost { 0 } else { self.random.below(3) };
            while let Some((sent, answer)) = under_way.next().await {
                self.stalled |= sent.at.elapsed() > STALLED;
                let went_well = self.take(sent.node, sent.target, answer, lost).is_some();
                if went_well && more > 0 {
                    more -= 1;
                    under_way.extend(self.request().await);
                }
            }
            if lost {
                self.world.counts.lost.fetch_add(1, Ordering::SeqCst);
            }
            self.act_as_thief().await;
        }
        if self.thief.is_none() && self.random.percent(2) {
            self.sign_out().await;
        }
    }

    /// A request with the jar of this moment, which takes its time on the way; nothing when its node is down.
    async fn request(
        &mut self,
    ) -> Option<impl Future<Output = (Sent, Result<Answer, Lost>)> + use<>> {
        let (node, line) = self.line().await?;
        let target = ["/whoami", "/page/whoami", "/.auth/me"][self.random.below(3)];
        let dressed = self.browser.dress(as_fetch(Ask::get(target)));
        let on_its_way = match self.random.percent(50) {
            true => Duration::from_millis(self.random.below(1500) as u64),
            false => Duration::ZERO,
        };
        let (world, at) = (Arc::clone(&self.world), Instant::now());
        Some(async move {
            tokio::time::sleep(on_its_way).await;
            let answer = world.ask(&line, dressed).await;
            (Sent { node, target, at }, answer)
        })
    }

    /// Notes what was asked and what came of it.
    fn write(&mut self, asked: &str, what: &str) {
        const LATELY: usize = 60;
        if self.diary.len() == LATELY {
            self.diary.pop_front();
        }
        self.diary.push_back(Entry {
            at: self.world.time(),
            what: format!("{asked}: {what}"),
            access: self.browser.access(),
            refresh: self.browser.refresh(),
        });
    }

    /// Something happened that must not: tells everything that is known of the session, for whoever has to find out why.
    fn fail(&self, what: &str) -> ! {
        self.world.tell(&self.session, &self.diary);
        panic!("{what}: {}, session {}", self.user, self.session);
    }

    fn note(&self, browser: &Browser) {
        if let Err(what) = self.world.note(browser) {
            self.fail(&what);
        }
    }

    /// After the storm: whoever is honest is signed in.
    pub async fn settle(&mut self) {
        // Not each time: what was lost stays so over the pause, too.
        if self.thief.is_none() && self.random.percent(30) {
            return;
        }
        let started = Instant::now();
        loop {
            if self.browser.refresh().is_none() {
                break;
            }
            match self.ask(as_fetch(Ask::get("/.auth/me")), true).await {
                Some(answer) if answer.status == 200 => {
                    assert_eq!(answer.json()["session"], self.session.as_str());
                    return;
                }
                Some(answer) if answer.status == 401 => break,
                _ => {}
            }
            if started.elapsed() > PATIENCE {
                self.fail("the gateway does not come back");
            }
        }
        self.found().await;
    }

    /// The session is over: right if a thief has it, and then for both; wrong otherwise.
    async fn found(&mut self) {
        let Some(thief) = self.thief.take() else {
            if !self.stalled {
                self.fail("a session was ended by nobody");
            }
            self.world.counts.stalled.fetch_add(1, Ordering::SeqCst);
            return self.sign_in().await;
        };
        self.world.counts.found.fetch_add(1, Ordering::SeqCst);
        for node in 0..self.world.processes.len() {
            for with_access in [true, false] {
                let stolen = thief.browser.copy();
                if !with_access {
                    stolen.drop_cookie(ACCESS);
                }
                self.is_refused(node, &stolen).await;
            }
        }
        self.sign_in().await;
    }

    /// Every node refuses these cookies, soon.
    async fn is_refused(&mut self, node: usize, browser: &Browser) {
        let started = Instant::now();
        loop {
            if let Some((_, line)) = self.line_to(node).await {
                let ask = as_fetch(Ask::get("/whoami"));
                if let Ok(answer) = browser.copy().try_send_on(&line, ask).await
                    && answer.status == 401
                {
                    return;
                }
            }
            if started.elapsed() > PATIENCE {
                self.fail("an ended session lives on");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn act_as_thief(&mut self) {
        let Some(thief) = &self.thief else { return };
        let mut browser = thief.browser.clone();
        browser.drop_cookie(ACCESS);
        let node = self.random.below(self.world.processes.len());
        if let Some(address) = self.world.address(node) {
            browser.door.to = address;
            let _ = browser.try_send(as_fetch(Ask::get("/whoami"))).await;
            self.note(&browser);
        }
    }

    async fn sign_out(&mut self) {
        let stolen = self.browser.copy();
        let started = Instant::now();
        loop {
            match self.ask(sign_out_form(), false).await {
                Some(answer) if matches!(answer.status, 200 | 204 | 303) => break,
                Some(answer) => assert_eq!(answer.status, 503, "{}", answer.text()),
                None => {}
            }
            assert!(started.elapsed() < PATIENCE, "nobody can sign out");
        }
        self.world.counts.sign_outs.fetch_add(1, Ordering::SeqCst);
        for node in 0..self.world.processes.len() {
            self.is_refused(node, &stolen).await;
        }
        self.sign_in().await;
    }

    /// One request to some node; nothing when it did not answer.
    async fn ask(&mut self, ask: Ask, judged: bool) -> Option<Answer> {
        let Some((node, line)) = self.line().await else {
            self.rest().await;
            return None;
        };
        let target = ask.target.clone();
        let answer = self.world.ask(&line, self.browser.dress(ask)).await;
        if judged {
            return self.take(node, &target, answer, false);
        }
        self.world.counts.requests.fetch_add(1, Ordering::SeqCst);
        match answer {
            Ok(answer) => {
                self.browser.take_cookies(&answer);
                self.note(&self.browser);
                if answer.status == 503 || answer.status == 429 {
                    self.rest().await;
                }
                Some(answer)
            }
            Err(Lost) => {
                self.lines[node] = None;
                self.rest().await;
                None
            }
        }
    }

    /// Looks at an answer as an honest browser and a suspicious person do.
    fn take(
        &mut self,
        node: usize,
        target: &str,
        answer: Result<Answer, Lost>,
        lost: bool,
    ) -> Option<Answer> {
        let world = Arc::clone(&self.world);
        let counts = &world.counts;
        counts.requests.fetch_add(1, Ordering::SeqCst);
        let Ok(answer) = answer else {
            counts.broken.fetch_add(1, Ordering::SeqCst);
            self.lines[node] = None;
            self.write(&format!("{target} of node {node}"), "connection lost");
            return None;
        };
        match answer.status {
            200 if target.ends_with("/me") => {
                let said = answer.json();
                if said["user"] != self.user.as_str() || said["session"] != self.session.as_str() {
                    self.fail(&format!("somebody else's identity, {said}"));
                }
            }
            200 if answer.text() != self.user => {
                self.fail(&format!("somebody else's identity, {}", answer.text()));
            }
            200 => {}
            503 => {
                counts.come_again.fetch_add(1, Ordering::SeqCst);
                assert!(answer.header("retry-after").is_some());
                assert!(!answer.sets_cookies(), "an outage touched cookies");
            }
            401 => {
                self.write(&format!("{target} of node {node}"), "401");
                if self.thief.is_none() && !self.stalled {
                    self.fail("signed out without a thief");
                }
            }
            status => panic!("{status}: {}", answer.text()),
        }
        if !lost {
            self.browser.take_cookies(&answer);
            self.note(&self.browser);
        }
        let what = format!(
            "{}{}{}",
            answer.status,
            if answer.sets_cookies() {
                " with a pair"
            } else {
                ""
            },
            if lost { ", lost" } else { "" }
        );
        self.write(&format!("{target} of node {node}"), &what);
        Some(answer)
    }

    /// A connection to a node that the load balancer chooses; none while it is down.
    async fn line(&mut self) -> Option<(usize, H2)> {
        let node = self.random.below(self.world.processes.len());
        self.line_to(node).await
    }

    async fn line_to(&mut self, node: usize) -> Option<(usize, H2)> {
        let address = self.world.address(node)?;
        if let Some((known, line)) = &self.lines[node]
            && *known == address
            && !line.sender.is_closed()
        {
            return Some((node, line.clone()));
        }
        let mut door = self.browser.door.clone();
        door.to = address;
        let line = door.try_h2().await.ok()?;
        self.lines[node] = Some((address, line.clone()));
        Some((node, line))
    }

    /// People read, and come again.
    async fn rest(&mut self) {
        let pause = Duration::from_millis(50 + self.random.below(700) as u64);
        tokio::time::sleep(pause).await;
    }
}
