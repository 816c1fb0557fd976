//! The engine against a service that this file plays on a socket of its own.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderMap;
use http::header::{COOKIE, SET_COOKIE, USER_AGENT};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::auth::foreign_keys::Algorithm;
use crate::auth::test_support::NOW;
use crate::auth::test_support::foreign::Maker;
use crate::outbound;

const GRACE: Duration = Duration::from_secs(30);
const SERVICE: UpstreamId = UpstreamId(0);
const HERE: ClientAddr = ClientAddr(IpAddr::V4(Ipv4Addr::LOCALHOST));
const OTHER: UpstreamId = UpstreamId(1);

/// What the service says next, and how often it was asked.
#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<String>>,
    asked: AtomicUsize,
}

#[derive(Default)]
struct Counted(Mutex<Vec<ExternalEvent>>);

impl Observer for Counted {
    fn observe(&self, event: ExternalEvent) {
        self.0.lock().unwrap().push(event);
    }
}

struct Bench {
    external: Arc<External>,
    script: Arc<Script>,
    counted: Arc<Counted>,
    maker: Maker,
    clock: Clock,
}

impl Bench {
    async fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Script::default());
        tokio::spawn(play(listener, Arc::clone(&script)));
        let maker = Maker::new(Algorithm::HS256);
        let Maker::Secret(secret, _) = &maker else {
            panic!("a secret")
        };
        let keys = ForeignKeys::from_secret(&Secret::new(secret.clone()), &[Algorithm::HS256]);
        let (counted, clock) = (Arc::new(Counted::default()), Clock::manual(NOW));
        let external = External::new(
            settings(keys.unwrap(), address),
            Outbound::new(outbound::Settings::default()).unwrap(),
            clock.clone(),
            Arc::clone(&counted) as Arc<dyn Observer>,
            Handle::current(),
        );
        Bench {
            external,
            script,
            counted,
            maker,
            clock,
        }
    }

    /// An access token of alice's that lives for so long.
    fn access(&self, life: Duration) -> String {
        self.access_of("alice", life)
    }

    fn access_of(&self, user: &str, life: Duration) -> String {
        let now = self.clock.now();
        let (iat, exp) = (now.as_secs(), now.plus(life).as_secs());
        let claims =
            format!(r#"{{"iss":"https://s","aud":"app","sub":"{user}","iat":{iat},"exp":{exp}}}"#);
        self.maker.raw(r#"{"alg":"HS256","typ":"JWT"}"#, &claims)
    }

    fn says(&self, status: &str, lines: &[String]) {
        let mut answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n");
        for line in lines {
            answer.push_str(&format!("set-cookie: {line}\r\n"));
        }
        answer.push_str("\r\n");
        self.script.answers.lock().unwrap().push_back(answer);
    }

    /// New cookies with this refresh token, or none.
    fn renews(&self, life: Duration, refresh: Option<&str>) {
        let mut lines = vec![format!("at={}; Path=/", self.access(life))];
        lines.extend(refresh.map(|refresh| format!("rt={refresh}; Path=/")));
        self.says("200 OK", &lines);
    }

    async fn renew(&self, token: &str) -> Renewal {
        self.renew_from(token, HERE, b"firefox").await
    }

    async fn renew_from(&self, token: &str, client: ClientAddr, user_agent: &[u8]) -> Renewal {
        let caller = Caller {
            client,
            user_agent,
            request_id: "r1",
        };
        let now = self.clock.now();
        self.external.renew(token.as_bytes(), caller, now).await
    }

    async fn renewed(&self, token: &str) -> Grant {
        granted(self.renew(token).await)
    }

    fn asked(&self) -> usize {
        self.script.asked.load(Ordering::SeqCst)
    }

    /// The cookies that an answer of our own would carry.
    fn relayed(&self, grant: &Grant) -> usize {
        let mut headers = HeaderMap::new();
        self.external.relay(grant, &mut headers, self.clock.now());
        headers.get_all(SET_COOKIE).iter().count()
    }

    /// The cookies with which a request reaches an upstream.
    async fn dressed(&self, upstream: UpstreamId, line: &str, renewed: Option<&Grant>) -> String {
        self.dressed_for(HERE, upstream, line, renewed).await
    }

    async fn dressed_for(
        &self,
        client: ClientAddr,
        upstream: UpstreamId,
        line: &str,
        renewed: Option<&Grant>,
    ) -> String {
        let mut headers = HeaderMap::from_iter([
            (COOKIE, HeaderValue::from_str(line).unwrap()),
            (USER_AGENT, HeaderValue::from_static("firefox")),
        ]);
        self.external
            .dress(upstream, &mut headers, client, renewed)
            .await;
        let line = headers.get(COOKIE).map(|line| line.to_str().unwrap());
        line.unwrap_or_default().to_owned()
    }
}

fn settings(keys: ForeignKeys, service: SocketAddr) -> Settings {
    Settings {
        issuer: "https://s".to_owned(),
        audience: "app".to_owned(),
        keys: KeySource::Fixed(Arc::new(keys)),
        max_access_life: Duration::from_secs(3600),
        claims: ClaimMap::default(),
        cookies: CookieNames {
            access: "at".to_owned(),
            refresh: "rt".to_owned(),
            login: "login".to_owned(),
        },
        refresh: Some(Refresh::Cookies {
            url: format!("http://{service}/refresh").parse().unwrap(),
        }),
        login_url: "/login".to_owned(),
        logout_url: None,
        cookies_to: vec![SERVICE],
        replay_grace: GRACE,
        wait: Duration::from_secs(5),
        refresh_timeout: Duration::from_secs(10),
        host: "app.example".to_owned(),
    }
}

/// One answer of the script for each connection; without one the connection is closed.
async fn play(listener: TcpListener, script: Arc<Script>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; 4096];
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            let read = stream.read(&mut buffer).await.unwrap();
            head.extend_from_slice(&buffer[..read]);
        }
        assert!(head.starts_with(b"POST /refresh HTTP/1.1\r\n"));
        script.asked.fetch_add(1, Ordering::SeqCst);
        let answer = script.answers.lock().unwrap().pop_front();
        if let Some(answer) = answer {
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        let _ = stream.shutdown().await;
    }
}

#[track_caller]
fn granted(renewal: Renewal) -> Grant {
    match renewal {
        Renewal::Renewed(grant) => grant,
        other => panic!("{}", word(&other)),
    }
}

fn same(one: &Grant, other: &Grant) -> bool {
    Arc::ptr_eq(&one.pair, &other.pair)
}

fn word(renewal: &Renewal) -> &'static str {
    match renewal {
        Renewal::Renewed(_) => "renewed",
        Renewal::Refused(_) => "refused",
        Renewal::Unavailable(_) => "unavailable",
        Renewal::Throttled(_) => "throttled",
        Renewal::Lost => "lost",
    }
}

const LIFE: Duration = Duration::from_secs(300);

#[tokio::test]
async fn one_call_for_all_who_present_the_same_token() {
    let bench = Bench::new().await;
    bench.renews(LIFE, Some("two"));
    let all = futures_util::future::join_all((0..50).map(|_| bench.renewed("one"))).await;
    assert!(all.iter().all(|pair| same(pair, &all[0])));
    assert_eq!(bench.asked(), 1);
    assert_eq!(all[0].pair.subject.identity().user, "alice");
    assert_eq!(bench.relayed(&all[0]), 2);
    // A straggler, and one more.
    for _ in 0..2 {
        assert!(same(&bench.renewed("one").await, &all[0]));
    }
    let counted = bench.counted.0.lock().unwrap().clone();
    use ExternalEvent::{Renewed, Served};
    assert_eq!(counted, [Renewed, Served, Served]);
    // Another token is another call.
    bench.says("401 Unauthorized", &["rt=; Max-Age=0".to_owned()]);
    let Renewal::Refused(lines) = bench.renew("other").await else {
        panic!("not refused")
    };
    assert_eq!(&*lines, ["rt=; Max-Age=0"]);
    assert_eq!(word(&bench.renew("other").await), "refused");
    assert_eq!(bench.asked(), 2);
}

#[tokio::test]
async fn a_spent_token_stands_for_the_newest_and_brings_no_cookies_that_are_spent() {
    let bench = Bench::new().await;
    bench.renews(LIFE, Some("two"));
    bench.renews(LIFE, Some("three"));
    let two = bench.renewed("one").await;
    let three = bench.renewed("two").await;
    assert!(same(&bench.renewed("one").await, &three));
    // A slow answer of the first renewal must not put the spent pair back into the jar.
    assert_eq!((bench.relayed(&two), bench.relayed(&three)), (0, 2));
    assert_eq!(bench.asked(), 2);
    // Nor one that is so late that the pair has run out, and others may have renewed it elsewhere.
    bench.clock.advance(LIFE);
    assert_eq!(bench.relayed(&three), 0);
}

#[tokio::test]
async fn only_the_browser_that_spent_the_very_token_is_given_what_came_of_it() {
    let bench = Bench::new().await;
    let there = ClientAddr("203.0.113.9".parse().unwrap());
    bench.renews(LIFE, Some("two"));
    assert_eq!(bench.relayed(&bench.renewed("one").await), 2);
    // From elsewhere, or as another program: served, as somebody's whose answer was lost, with nothing to keep.
    for (client, agent) in [(there, &b"firefox"[..]), (HERE, b"curl")] {
        let thief = granted(bench.renew_from("one", client, agent).await);
        assert_eq!(thief.pair.subject.identity().user, "alice");
        assert_eq!(bench.relayed(&thief), 0);
        let access = format!("at={}", thief.pair.access);
        assert_eq!(bench.dressed(SERVICE, "rt=one", Some(&thief)).await, access);
    }
    // Nor does the service's own renewal, on a route that asks nobody, see what it would rotate.
    assert_eq!(
        bench.dressed_for(there, SERVICE, "rt=one; x=1", None).await,
        "x=1"
    );
    // A second generation, even for the same browser: it has newer cookies already.
    bench.renews(Duration::from_secs(5), Some("three"));
    assert_eq!(bench.relayed(&bench.renewed("two").await), 2);
    let late = bench.renewed("one").await;
    assert_eq!(bench.relayed(&late), 0);
    assert_eq!(bench.dressed(SERVICE, "rt=one; x=1", None).await, "x=1");
    // And nothing is spent for whoever could not be given the outcome.
    bench.clock.advance(Duration::from_secs(5));
    for agent in [&b"curl"[..], b"firefox"] {
        let late = bench.renew_from("one", HERE, agent).await;
        assert_eq!(word(&late), "unavailable");
    }
    assert_eq!(bench.asked(), 2);
}

#[tokio::test]
async fn a_straggler_whose_successor_has_run_out_renews_that_one() {
    let bench = Bench::new().await;
    bench.renews(Duration::from_secs(5), Some("two"));
    bench.renewed("one").await;
    bench.clock.advance(Duration::from_secs(5));
    bench.renews(LIFE, Some("three"));
    let three = bench.renewed("one").await;
    assert_eq!(bench.relayed(&three), 2);
    assert!(same(&bench.renewed("two").await, &three));
    assert_eq!(bench.asked(), 2);
}

#[tokio::test]
async fn a_service_that_does_not_rotate_is_asked_again_when_the_access_token_has_run_out() {
    for refresh in [None, Some("one")] {
        let bench = Bench::new().await;
        bench.renews(Duration::from_secs(5), refresh);
        bench.renewed("one").await;
        bench.renewed("one").await;
        assert_eq!(bench.asked(), 1);
        bench.clock.advance(Duration::from_secs(5));
        bench.renews(LIFE, refresh);
        let pair = bench.renewed("one").await;
        assert_eq!(bench.asked(), 2);
        assert!(bench.relayed(&pair) >= 1);
        // The refresh cookie goes on as it was.
        let line = bench.dressed(SERVICE, "rt=one; x=1", Some(&pair)).await;
        assert_eq!(line, format!("rt=one; x=1; at={}", pair.pair.access));
    }
}

#[tokio::test]
async fn what_may_have_been_spent_is_not_sent_again_and_what_was_not_may_be() {
    let bench = Bench::new().await;
    // No answer at all.
    assert_eq!(word(&bench.renew("one").await), "unavailable");
    assert_eq!(word(&bench.renew("one").await), "unavailable");
    assert_eq!(bench.asked(), 1);
    assert_eq!(
        bench.dressed(SERVICE, "rt=one; at=a; x=1", None).await,
        "at=a; x=1"
    );
    // An answer without cookies, and one whose token is somebody else's.
    bench.says("200 OK", &[]);
    assert_eq!(word(&bench.renew("two").await), "unavailable");
    bench.says("200 OK", &["at=a.b.c".to_owned()]);
    assert_eq!(word(&bench.renew("three").await), "unavailable");
    for token in ["two", "three"] {
        assert_eq!(word(&bench.renew(token).await), "unavailable");
    }
    assert_eq!(bench.asked(), 3);
    // "Not now" is a word: the token may be sent again, after the pause.
    bench.says("503 Service Unavailable", &[]);
    let Renewal::Unavailable(pause) = bench.renew("four").await else {
        panic!("not unavailable")
    };
    assert!(pause <= renew::PAUSE);
    assert_eq!(bench.dressed(SERVICE, "rt=four", None).await, "rt=four");
    bench.renews(LIFE, Some("five"));
    while word(&bench.renew("four").await) != "renewed" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(bench.asked(), 5);
    use ExternalEvent::{Lost, Renewed, Unavailable};
    assert_eq!(
        *bench.counted.0.lock().unwrap(),
        [Lost, Lost, Lost, Unavailable, Renewed]
    );
}

#[tokio::test]
async fn only_the_service_sees_its_cookies_and_only_their_newest_state() {
    let bench = Bench::new().await;
    let line = "a=1; at=old; rt=one; b=2";
    assert_eq!(bench.dressed(OTHER, line, None).await, "a=1; b=2");
    assert_eq!(bench.dressed(SERVICE, line, None).await, line);
    bench.renews(LIFE, Some("two"));
    let pair = bench.renewed("one").await;
    let new = format!("a=1; at={}; rt=two; b=2", pair.pair.access);
    assert_eq!(bench.dressed(SERVICE, line, Some(&pair)).await, new);
    assert_eq!(bench.dressed(SERVICE, line, None).await, new);
    assert_eq!(bench.dressed(OTHER, line, Some(&pair)).await, "a=1; b=2");
    assert_eq!(
        bench
            .dressed(SERVICE, "at=x; at=y; rt=one; b=2", None)
            .await,
        "b=2"
    );
    assert_eq!(bench.dressed(SERVICE, "b=2", None).await, "b=2");
    // Somebody else's spent token beside alice's good one does not make the service see somebody else.
    let bob = bench.access_of("bob", LIFE);
    bench.says("200 OK", &[format!("at={bob}"), "rt=bob-two".to_owned()]);
    bench.renewed("bob-one").await;
    let alice = bench.access(LIFE);
    let mixed = format!("at={alice}; rt=bob-one");
    assert_eq!(
        bench.dressed(SERVICE, &mixed, None).await,
        format!("at={alice}")
    );
    let bobs = bench.dressed(SERVICE, "at=over; rt=bob-one", None).await;
    assert_eq!(bobs, format!("at={bob}; rt=bob-two"));
}

#[tokio::test]
async fn f02_a_cookie_that_only_another_reader_would_find_reaches_nobody() {
    let bench = Bench::new().await;
    bench.renews(LIFE, Some("two"));
    bench.renewed("one").await;
    for line in ["a=1;  rt=one", "a=1;\trt=one", "a=1;  at=x;  rt=one"] {
        assert_eq!(bench.dressed(OTHER, line, None).await, "a=1", "{line:?}");
        assert_eq!(bench.dressed(SERVICE, line, None).await, "a=1", "{line:?}");
    }
    // Beside one that is read here.
    let line = "rt=new;  rt=one; a=1";
    assert_eq!(bench.dressed(SERVICE, line, None).await, "rt=new; a=1");
    // Look-alikes are other cookies.
    let line = "RT=one; xrt=2; at.rt=3";
    assert_eq!(bench.dressed(OTHER, line, None).await, line);
    assert_eq!(bench.dressed(SERVICE, line, None).await, line);
}

#[tokio::test]
async fn n03_made_up_tokens_of_one_address_keep_neither_the_service_nor_others_busy() {
    let bench = Bench::new().await;
    let there = ClientAddr("203.0.113.9".parse().unwrap());
    for _ in 0..MADE_UP.burst + 100 {
        bench.says("401 Unauthorized", &[]);
    }
    let made_up = (0..MADE_UP.burst + 100).map(async |n| {
        let renewal = bench.renew_from(&format!("made-up-{n}"), there, b"").await;
        word(&renewal)
    });
    let words = futures_util::future::join_all(made_up).await;
    let count = |wanted| words.iter().filter(|word| **word == wanted).count();
    assert_eq!(count("throttled"), 100, "{words:?}");
    assert_eq!(count("throttled") + count("refused"), words.len());
    assert_eq!(bench.asked(), count("refused"));
    // What is known costs nothing, and others are none the worse.
    let known = bench.renew_from("made-up-0", there, b"").await;
    assert_eq!(word(&known), "refused");
    bench.script.answers.lock().unwrap().clear();
    // Renewals that succeed are not counted.
    for n in 0..MADE_UP.burst * 2 {
        bench.renews(LIFE, Some(&format!("new-{n}")));
        bench.renewed(&format!("old-{n}")).await;
    }
}

#[tokio::test]
async fn what_the_service_replaces_itself_ends_what_is_remembered() {
    let bench = Bench::new().await;
    bench.renews(LIFE, Some("two"));
    let pair = bench.renewed("one").await;
    let answer = |lines: &[&str]| {
        let lines = lines
            .iter()
            .map(|line| HeaderValue::from_str(line).unwrap());
        lines.map(|line| (SET_COOKIE, line)).collect::<HeaderMap>()
    };
    let mut request = HeaderMap::from_iter([(COOKIE, HeaderValue::from_static("rt=one"))]);
    let sent = bench
        .external
        .dress(SERVICE, &mut request, HERE, Some(&pair))
        .await;
    // The same value again, or the access cookie alone, ends nothing; what it sets itself is not set twice.
    for (lines, given) in [(&["rt=two; Path=/"][..], 2), (&["at=x"], 2), (&[], 2)] {
        let mut headers = answer(lines);
        assert_eq!(bench.external.answered(SERVICE, sent, &mut headers), 0);
        bench.external.relay(&pair, &mut headers, NOW);
        assert_eq!(
            headers.get_all(SET_COOKIE).iter().count(),
            given,
            "{lines:?}"
        );
    }
    // Another upstream can do neither.
    let mut headers = answer(&["rt=evil", "x=1"]);
    assert_eq!(bench.external.answered(OTHER, sent, &mut headers), 1);
    bench.renewed("one").await;
    // A deletion does.
    let mut headers = answer(&["rt=; Max-Age=0"]);
    bench.external.answered(SERVICE, sent, &mut headers);
    assert!(!bench.external.relay(&pair, &mut headers, NOW));
    for token in ["one", "two"] {
        assert_eq!(word(&bench.renew(token).await), "refused");
    }
    assert_eq!(bench.dressed(SERVICE, "rt=two; x=1", None).await, "x=1");
    assert_eq!(bench.asked(), 1);
}
