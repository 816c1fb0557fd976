//! R05, power cuts: the gateway is killed in the middle of many renewals and started again on the same folder.
//!
//! Nobody whose browser received an answer is signed out, and no generation is ever issued twice.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::browser::{Browser, as_fetch, claims};
use crate::harness::client::Answer;
use crate::harness::wait::until;
use crate::harness::{ACCESS, App, Ask, Gateway, REFRESH};

/// Every pair that any browser ever received: one generation of a session has one refresh token, whoever asks and
/// whatever crashed.
#[derive(Default)]
struct Issued {
    tokens: Mutex<HashMap<(String, u64), String>>,
    renewals: AtomicUsize,
}

impl Issued {
    fn note(&self, browser: &Browser) {
        let access = claims(&browser.access().unwrap());
        let key = (
            access["sid"].as_str().unwrap().to_owned(),
            access["gen"].as_u64().unwrap(),
        );
        let refresh = browser.refresh().unwrap();
        let mut tokens = self.tokens.lock().unwrap();
        if let Some(before) = tokens.insert(key.clone(), refresh.clone()) {
            assert_eq!(before, refresh, "generation {} was issued twice", key.1);
        } else {
            self.renewals.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[tokio::test]
async fn r05_twenty_power_cuts_lose_no_session_and_issue_nothing_twice() {
    power_cuts(20, 10, false).await;
}

#[tokio::test]
#[ignore = "long: fifty power cuts under many more renewals"]
async fn r05_fifty_power_cuts_lose_no_session_and_issue_nothing_twice() {
    power_cuts(50, 32, true).await;
}

/// `judged`: whether the machine is ours alone, so that speed says something.
async fn power_cuts(rounds: usize, crowd: usize, judged: bool) {
    let app = App::start().await;
    let mut gateway = Gateway::before(&app).on_disk().run();
    let issued = Arc::new(Issued::default());
    let mut browsers = Vec::new();
    for _ in 0..crowd {
        browsers.push(gateway.signed_in("alice").await);
    }
    let first: Vec<Browser> = browsers.iter().map(Browser::copy).collect();
    let mut busy = Duration::ZERO;
    let mut slowest_start = Duration::ZERO;
    for round in 0..rounds {
        // Somebody whose first token is spent for good before the power goes.
        let victim = gateway.signed_in("bob").await;
        let spent = victim.copy();
        for _ in 0..2 {
            victim.drop_cookie(ACCESS);
            assert_eq!(answered(&victim).await.status, 200);
        }
        let started = Instant::now();
        let goal =
            issued.renewals.load(Ordering::SeqCst) + 20 + usize::from(random_byte()) % (6 * crowd);
        let tasks: Vec<_> = browsers
            .iter()
            .map(|browser| {
                tokio::spawn(renew_until_cut(
                    browser.clone(),
                    issued.clone(),
                    gateway.door(),
                ))
            })
            .collect();
        until("renewals to be in full swing", async || {
            let crashed = tasks.iter().any(|task| task.is_finished());
            assert!(
                !crashed,
                "a browser stopped before the power did, in round {round}"
            );
            (issued.renewals.load(Ordering::SeqCst) >= goal).then_some(())
        })
        .await;
        gateway.kill();
        busy += started.elapsed();
        for task in tasks {
            task.await.unwrap();
        }
        let starting = Instant::now();
        gateway.start_again();
        slowest_start = slowest_start.max(starting.elapsed());
        let mut spent = spent;
        spent.door = gateway.door();
        spent.drop_cookie(ACCESS);
        assert_eq!(
            answered(&spent).await.status,
            401,
            "a spent token was good again in round {round}"
        );
        // Every browser goes on with what it has: the newest answer that reached it.
        for browser in &browsers {
            let mut again = browser.clone();
            again.door = gateway.door();
            again.drop_cookie(ACCESS);
            let answer = answered(&again).await;
            assert_eq!(
                answer.status,
                200,
                "a session was lost in round {round}: {}",
                answer.text()
            );
            issued.note(&again);
        }
    }
    let renewals = issued.renewals.load(Ordering::SeqCst);
    assert!(renewals >= rounds * 20, "only {renewals} renewals in all");
    let rate = renewals as f64 / busy.as_secs_f64();
    eprintln!(
        "{rounds} power cuts, {renewals} renewals, about {rate:.0} a second while the power was on; the slowest start took \
         {slowest_start:.0?}",
    );
    if judged {
        assert!(rate >= 200.0, "{rate:.0} renewals a second");
        assert!(
            slowest_start < Duration::from_secs(1),
            "a start took {slowest_start:?}"
        );
    }
    // What was spent long ago works for nobody.
    for old in first {
        let mut old = old;
        old.door = gateway.door();
        old.drop_cookie(ACCESS);
        assert_eq!(answered(&old).await.status, 401);
    }
}

/// A definite answer: not that the store was too slow.
async fn answered(browser: &Browser) -> Answer {
    until("a definite answer", async || {
        let answer = browser.get("/").await;
        (answer.status != 503).then_some(answer)
    })
    .await
}

/// Renews again and again on one connection, each time with the refresh token alone, until the power goes.
async fn renew_until_cut(
    mut browser: Browser,
    issued: Arc<Issued>,
    door: crate::harness::client::Door,
) {
    browser.door = door;
    let connection = browser.door.h2().await;
    loop {
        browser.drop_cookie(ACCESS);
        let ask = browser.dress(as_fetch(Ask::get("/")));
        let Ok(answer) = connection.try_ask(ask).await else {
            return;
        };
        if answer.status == 503 {
            // A disk that is too slow for so many: nothing happened.
            assert!(!answer.sets_cookies());
            continue;
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
        browser.take_cookies(&answer);
        assert!(
            answer
                .all("set-cookie")
                .iter()
                .any(|line| line.starts_with(REFRESH)),
            "a renewal without cookies"
        );
        issued.note(&browser);
    }
}

fn random_byte() -> u8 {
    let mut byte = [0];
    aws_lc_rs::rand::fill(&mut byte).unwrap();
    byte[0]
}
