use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::*;
use crate::auth::foreign_keys::Algorithm;
use crate::auth::test_support::foreign::{Maker, jwks};
use crate::outbound::{Limits, Outbound};

/// A web server of a few documents, which counts what it is asked for.
struct Site {
    base: String,
    documents: Mutex<HashMap<String, (u16, Vec<u8>)>>,
    asked: Mutex<Vec<String>>,
    /// Answers are given while there are permits.
    gate: Semaphore,
}

impl Site {
    async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let site = Arc::new(Site {
            base: format!("http://{}", listener.local_addr().unwrap()),
            documents: Mutex::default(),
            asked: Mutex::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        });
        let serving = Arc::clone(&site);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let site = Arc::clone(&serving);
                let service = service_fn(move |request| answer(Arc::clone(&site), request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        site
    }

    fn put(&self, path: &str, status: u16, body: impl Into<Vec<u8>>) {
        let mut documents = self.documents.lock().unwrap();
        documents.insert(path.to_owned(), (status, body.into()));
    }

    fn asked(&self, path: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|one| *one == path).count()
    }

    fn close(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    fn open(&self) {
        self.gate.add_permits(1000);
    }
}

async fn answer(
    site: Arc<Site>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let path = request.uri().path().to_owned();
    site.asked.lock().unwrap().push(path.clone());
    // What is sent is what was there when it was asked for.
    let found = site.documents.lock().unwrap().get(&path).cloned();
    let _permit = site.gate.acquire().await.unwrap();
    let (status, body) = found.unwrap_or((404, Vec::new()));
    let response = Response::builder()
        .status(status)
        .body(Full::new(Bytes::from(body)));
    Ok(response.unwrap())
}

const LIMITS: Limits = Limits {
    time: Duration::from_secs(10),
    bytes: 64 << 10,
};

fn outbound() -> Outbound {
    Outbound::new(crate::outbound::Settings::default()).unwrap()
}

fn set_of(kid: &str) -> Vec<u8> {
    jwks(&[Maker::new(Algorithm::EdDSA).jwk(&format!(r#""kid":"{kid}""#))])
}

fn settings(site: &Site, location: Location) -> Settings {
    Settings {
        wait: Duration::from_secs(60),
        ..Settings::new(site.base.clone(), location, Algorithm::ASYMMETRIC.to_vec())
    }
}

fn at(site: &Site, path: &str) -> Location {
    Location::Url(format!("{}{path}", site.base).parse().unwrap())
}

fn kids(fetched: &Fetched) -> Vec<String> {
    let keys = fetched.keys.describe();
    keys.map(|(kid, _)| kid.unwrap_or("-").to_owned()).collect()
}

/// Polls until something is so.
async fn until(what: impl Fn() -> bool) {
    let waiting = async {
        while !what() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting)
        .await
        .expect("it never became so");
}

#[test]
fn the_issuer_of_metadata_is_compared_exactly() {
    let read = |issuer: &str, text: &str| Metadata::read(text.as_bytes(), issuer).map(|_| ());
    const ISSUER: &str = "https://id.example.com/realms/a";
    let document = |issuer: &str, more: &str| {
        format!(r#"{{"issuer":"{issuer}","jwks_uri":"https://id.example.com/jwks"{more}}}"#)
    };
    use MetadataError as E;
    assert_eq!(read(ISSUER, &document(ISSUER, "")), Ok(()));
    for other in [
        "https://id.example.com/realms/a/",
        "https://id.example.com/realms/b",
        "https://ID.example.com/realms/a",
        "http://id.example.com/realms/a",
        "",
    ] {
        assert_eq!(
            read(ISSUER, &document(other, "")),
            Err(E::Issuer),
            "{other}"
        );
    }
    assert_eq!(read(ISSUER, r#"{"issuer":5}"#), Err(E::Issuer));
    assert_eq!(read(ISSUER, "<html>"), Err(E::NotJson));
    assert_eq!(
        read(ISSUER, &document(ISSUER, r#","issuer":"x""#)),
        Err(E::NotJson)
    );
    assert_eq!(
        read(ISSUER, &format!(r#"{{"issuer":"{ISSUER}"}}"#)),
        Err(E::Place("jwks_uri"))
    );
    for bad in [
        "http://id.example.com/t",
        "/t",
        "",
        "ftp://h/t",
        "https://u@h/t",
        "https://h/t#f",
    ] {
        let more = format!(r#","token_endpoint":"{bad}""#);
        let refused = read(ISSUER, &document(ISSUER, &more));
        assert_eq!(refused, Err(E::Place("token_endpoint")), "{bad}");
    }
    let more = r#","token_endpoint":5"#;
    assert_eq!(
        read(ISSUER, &document(ISSUER, more)),
        Err(E::Place("token_endpoint"))
    );
    // An issuer that was configured as http (on this machine) may name http places on this machine, and no others.
    const LOCAL: &str = "http://127.0.0.1:3000";
    let more = r#","token_endpoint":"http://127.0.0.1:3000/t""#;
    let metadata = Metadata::read(document(LOCAL, more).as_bytes(), LOCAL).unwrap();
    let place = metadata.place("token_endpoint").unwrap();
    assert_eq!(place, "http://127.0.0.1:3000/t");
    for (elsewhere, place) in [
        (
            r#","token_endpoint":"http://id.example.com/t""#,
            "token_endpoint",
        ),
        (
            r#","userinfo_endpoint":"http://10.0.0.1/me""#,
            "userinfo_endpoint",
        ),
        (
            r#","authorization_endpoint":"HTTP://id.example.com/a""#,
            "authorization_endpoint",
        ),
    ] {
        let refused = read(LOCAL, &document(LOCAL, elsewhere));
        assert_eq!(refused, Err(E::Place(place)), "{elsewhere}");
    }
    let keys = format!(r#"{{"issuer":"{LOCAL}","jwks_uri":"http://id.example.com/jwks"}}"#);
    assert_eq!(read(LOCAL, &keys), Err(E::Place("jwks_uri")));
    let encrypted = r#","token_endpoint":"https://id.example.com/t""#;
    assert_eq!(read(LOCAL, &document(LOCAL, encrypted)), Ok(()));
    assert_eq!(metadata.place("userinfo_endpoint"), None);
    assert_eq!(metadata.place("issuer"), None);
    for bad in [
        "id.example.com",
        "https://h?q",
        "https://h#f",
        "ftp://h",
        "https://u@h",
        "",
    ] {
        assert_eq!(read(bad, &document(bad, "")), Err(E::IssuerUrl), "{bad}");
    }
}

#[test]
fn the_document_is_where_the_standards_put_it() {
    let [openid, oauth] = discovery::documents("https://h:8443/realms/a/").unwrap();
    assert_eq!(
        openid,
        "https://h:8443/realms/a/.well-known/openid-configuration"
    );
    assert_eq!(
        oauth,
        "https://h:8443/.well-known/oauth-authorization-server/realms/a"
    );
    let [openid, oauth] = discovery::documents("https://h").unwrap();
    assert_eq!(openid, "https://h/.well-known/openid-configuration");
    assert_eq!(oauth, "https://h/.well-known/oauth-authorization-server");
}

#[tokio::test]
async fn keys_are_discovered_by_either_standard() {
    for document in [
        "/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
    ] {
        let site = Site::start().await;
        let body = format!(r#"{{"issuer":"{0}","jwks_uri":"{0}/jwks"}}"#, site.base);
        site.put(document, 200, body);
        site.put("/jwks", 200, set_of("one"));
        let keys = RemoteKeys::start(
            settings(&site, Location::Discovered),
            outbound(),
            Handle::current(),
        );
        let fetched = keys.ready().await.unwrap();
        assert_eq!(kids(&fetched), ["one"]);
        assert!(fetched.metadata.is_some());
        assert_eq!((site.asked(document), site.asked("/jwks")), (1, 1));
    }
}

#[tokio::test]
async fn what_is_no_document_is_an_error_that_says_so() {
    let site = Site::start().await;
    site.put("/.well-known/openid-configuration", 302, "");
    let refused = discover(&outbound(), &site.base, LIMITS).await.unwrap_err();
    assert!(
        matches!(refused, IssuerError::Status { status: 302, .. }),
        "{refused}"
    );
    assert_eq!(site.asked("/.well-known/oauth-authorization-server"), 0);
    site.put(
        "/.well-known/openid-configuration",
        200,
        r#"{"issuer":"https://evil.example","jwks_uri":"https://evil.example/jwks"}"#,
    );
    let refused = discover(&outbound(), &site.base, LIMITS).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("not exactly the configured one")
    );
}

#[tokio::test]
async fn the_first_request_waits_for_the_first_fetch_and_makes_none() {
    let site = Site::start().await;
    site.put("/jwks", 200, set_of("one"));
    site.close();
    let keys = RemoteKeys::start(
        settings(&site, at(&site, "/jwks")),
        outbound(),
        Handle::current(),
    );
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let keys = Arc::clone(&keys);
            tokio::spawn(async move { keys.ready().await.is_some() })
        })
        .collect();
    until(|| site.asked("/jwks") == 1).await;
    assert!(keys.current().is_none());
    site.open();
    for one in waiting {
        assert!(one.await.unwrap());
    }
    assert_eq!(site.asked("/jwks"), 1);
    assert_eq!((keys.stats().succeeded, keys.stats().keys), (1, 1));
}

#[tokio::test]
async fn waiting_for_keys_is_bounded_and_a_failure_is_told_at_once() {
    let site = Site::start().await;
    site.close();
    let slow = Settings {
        wait: Duration::from_millis(20),
        ..settings(&site, at(&site, "/jwks"))
    };
    let keys = RemoteKeys::start(slow, outbound(), Handle::current());
    assert!(keys.ready().await.is_none(), "there are no keys yet");
    site.open();
    until(|| keys.stats().failed >= 1).await;
    // No fetch under way: nobody waits, however long one would.
    let patient = Settings {
        wait: Duration::from_secs(600),
        ..settings(&site, at(&site, "/jwks"))
    };
    let keys = RemoteKeys::start(patient, outbound(), Handle::current());
    until(|| keys.stats().failed >= 1).await;
    let answer = tokio::time::timeout(Duration::from_secs(60), keys.ready()).await;
    assert!(answer.unwrap().is_none());
}

// attacks.md N04
#[tokio::test]
async fn n04_unknown_keys_cause_one_fetch_per_interval_however_many_ask() {
    let site = Site::start().await;
    site.put("/jwks", 200, set_of("one"));
    let pace = Settings {
        interval: Duration::from_millis(300),
        ..settings(&site, at(&site, "/jwks"))
    };
    let keys = RemoteKeys::start(pace, outbound(), Handle::current());
    let seen = keys.ready().await.unwrap().keys.generation();
    let began = tokio::time::Instant::now();
    let mut waiting = Vec::new();
    for _ in 0..1000 {
        let keys = Arc::clone(&keys);
        waiting.push(tokio::spawn(async move {
            keys.unknown_key(seen).await.is_some()
        }));
    }
    for one in waiting {
        assert!(!one.await.unwrap(), "there are no newer keys");
    }
    let intervals = began.elapsed().as_millis() / 300 + 1;
    let asked = site.asked("/jwks") as u128;
    assert!(
        asked <= 1 + intervals,
        "{asked} fetches in {intervals} intervals"
    );

    // The issuer has a new key: whoever brings a token of it waits for the one fetch.
    site.put("/jwks", 200, set_of("two"));
    let found = loop {
        if let Some(found) = keys.unknown_key(seen).await {
            break found;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(kids(&found), ["two"]);
    // Who saw the old keys is told of the new ones without any fetch.
    let asked = site.asked("/jwks");
    assert_eq!(kids(&keys.unknown_key(seen).await.unwrap()), ["two"]);
    assert_eq!(site.asked("/jwks"), asked);
}

// attacks.md N04
#[tokio::test]
async fn n04_a_token_that_the_issuer_handed_over_waits_for_its_new_key_at_a_pace_of_its_own() {
    let site = Site::start().await;
    site.put("/jwks", 200, set_of("one"));
    let pace = Settings {
        interval: Duration::from_secs(3600),
        floor: Duration::from_millis(300),
        ..settings(&site, at(&site, "/jwks"))
    };
    let began = tokio::time::Instant::now();
    let keys = RemoteKeys::start(pace, outbound(), Handle::current());
    let seen = keys.ready().await.unwrap().keys.generation();
    site.put("/jwks", 200, set_of("two"));
    // Anybody can make up a token: those wait for nothing and fetch nothing.
    assert!(keys.unknown_key(seen).await.is_none());
    assert_eq!(site.asked("/jwks"), 1);
    let found = keys.own_unknown_key(seen).await.unwrap();
    assert_eq!(kids(&found), ["two"]);
    assert!(began.elapsed() >= Duration::from_millis(300));
    // However many sign in: one fetch in each pause.
    let seen = found.keys.generation();
    let asked = site.asked("/jwks");
    let began = tokio::time::Instant::now();
    let many = (0..100).map(|_| keys.own_unknown_key(seen));
    let found = futures_util::future::join_all(many).await;
    assert!(found.iter().all(Option::is_none), "there are no newer keys");
    let pauses = usize::try_from(began.elapsed().as_millis() / 300).unwrap() + 1;
    let more = site.asked("/jwks") - asked;
    assert!(
        (1..=pauses).contains(&more),
        "{more} fetches in {pauses} pauses"
    );
}

#[tokio::test]
async fn a_fetch_that_began_before_the_keys_changed_is_not_the_last_word() {
    let site = Site::start().await;
    site.put("/jwks", 200, set_of("one"));
    let pace = Settings {
        interval: Duration::ZERO,
        floor: Duration::ZERO,
        ..settings(&site, at(&site, "/jwks"))
    };
    let keys = RemoteKeys::start(pace, outbound(), Handle::current());
    let seen = keys.ready().await.unwrap().keys.generation();
    // A fetch that is answered with the former set is under way when the token comes.
    site.close();
    let early = tokio::spawn({
        let keys = Arc::clone(&keys);
        async move { keys.unknown_key(seen).await.is_some() }
    });
    until(|| site.asked("/jwks") == 2).await;
    // Whoever's key is known waits for no fetch.
    let ready = futures_util::FutureExt::now_or_never(keys.ready());
    assert_eq!(kids(&ready.flatten().expect("at once")), ["one"]);
    let mut late = Box::pin(keys.own_unknown_key(seen));
    assert!(futures_util::poll!(&mut late).is_pending());
    site.put("/jwks", 200, set_of("two"));
    site.open();
    assert!(!early.await.unwrap());
    assert_eq!(kids(&late.await.unwrap()), ["two"]);
    assert_eq!(site.asked("/jwks"), 3);
}

#[tokio::test]
async fn an_issuer_that_was_away_at_the_start_is_asked_again_as_soon_as_somebody_needs_it() {
    let site = Site::start().await;
    let start = |path: &str, floor: Duration| {
        let pace = Settings {
            floor,
            ..settings(&site, at(&site, path))
        };
        RemoteKeys::start(pace, outbound(), Handle::current())
    };
    let keys = start("/jwks", Duration::ZERO);
    until(|| keys.stats().failed >= 1).await;
    site.put("/jwks", 200, set_of("one"));
    // By itself it would try again a second later; should that be under way already, it may be too early for these keys.
    let found = match keys.ready().await {
        Some(found) => found,
        None => keys.ready().await.unwrap(),
    };
    assert_eq!(kids(&found), ["one"]);

    // But not before a pause is over, however many need it.
    let began = tokio::time::Instant::now();
    let keys = start("/gone", Duration::from_secs(3600));
    until(|| keys.stats().failed >= 1).await;
    for _ in 0..100 {
        assert!(keys.ready().await.is_none());
    }
    let by_itself = usize::try_from(began.elapsed().as_secs()).unwrap();
    assert!(site.asked("/gone") <= 1 + by_itself);
}

#[tokio::test]
async fn old_keys_stay_when_a_fetch_fails() {
    let site = Site::start().await;
    site.put("/jwks", 200, set_of("one"));
    let pace = Settings {
        interval: Duration::ZERO,
        ..settings(&site, at(&site, "/jwks"))
    };
    let keys = RemoteKeys::start(pace, outbound(), Handle::current());
    let seen = keys.ready().await.unwrap().keys.generation();
    for (status, body) in [
        (500, Vec::new()),
        (200, b"<html>".to_vec()),
        (200, br#"{"keys":[]}"#.to_vec()),
        (302, set_of("evil")),
        (200, vec![b' '; 600 << 10]),
    ] {
        let failed = keys.stats().failed;
        site.put("/jwks", status, body);
        assert!(keys.unknown_key(seen).await.is_none());
        assert_eq!(kids(&keys.current().unwrap()), ["one"], "{status}");
        assert!(keys.stats().failed > failed);
    }
}

#[tokio::test]
async fn keys_never_grow_older_than_they_may_whoever_fetched_them_last() {
    let site = Site::start().await;
    site.put("/jwks", 200, set_of("one"));
    let pace = Settings {
        interval: Duration::ZERO,
        ..settings(&site, at(&site, "/jwks"))
    };
    let refresh = pace.refresh;
    let keys = RemoteKeys::start(pace, outbound(), Handle::current());
    let seen = keys.ready().await.unwrap().keys.generation();
    let first = keys.again_at(None);
    assert!(first <= tokio::time::Instant::now() + refresh);
    // Their age counts, not when somebody looks at it; and it is that of the last fetch, also when a stranger's token caused it.
    assert_eq!(keys.again_at(None), first);
    let before = tokio::time::Instant::now();
    assert!(keys.unknown_key(seen).await.is_none());
    assert!(keys.again_at(None) >= before + refresh);
}

#[tokio::test]
async fn keys_are_refreshed_in_the_background_and_only_while_somebody_uses_them() {
    let site = Site::start().await;
    site.put("/jwks", 200, set_of("one"));
    let pace = Settings {
        refresh: Duration::from_millis(10),
        ..settings(&site, at(&site, "/jwks"))
    };
    let keys = RemoteKeys::start(pace, outbound(), Handle::current());
    keys.ready().await.unwrap();
    site.put("/jwks", 200, set_of("two"));
    until(|| kids(&keys.current().unwrap()) == ["two"]).await;
    let gone = Arc::downgrade(&keys);
    drop(keys);
    until(|| gone.upgrade().is_none()).await;
}
