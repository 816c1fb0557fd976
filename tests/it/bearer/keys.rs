//! Keys that an issuer publishes: fetched once, changed while tokens come, not to be had.

use serde_json::json;

use super::{AUDIENCE, bearer};
use crate::harness::maker::{Alg, Maker};
use crate::harness::wait::until;
use crate::harness::{App, Ask, Gateway};

/// A gateway that fetches the keys of one issuer, which is an app here.
struct Bench {
    gateway: Gateway,
    site: App,
    issuer: String,
    _app: App,
}

fn document(text: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
        text.len()
    )
}

impl Bench {
    async fn new(more: &str, prepare: impl FnOnce(&App, &str)) -> Self {
        let (app, site) = (App::start().await, App::start().await);
        let issuer = format!("http://{}", site.addr);
        prepare(&site, &issuer);
        let table = format!("[[bearer]]\nissuer = {issuer:?}\naudience = {AUDIENCE:?}\n{more}\n");
        let table = table.replace("ISSUER", &issuer);
        let gateway = Gateway::before(&app).more(&table).run();
        Bench {
            gateway,
            site,
            issuer,
            _app: app,
        }
    }

    fn token(&self, maker: &Maker) -> String {
        let now = self.gateway.now();
        let claims = json!({
            "iss": self.issuer, "aud": AUDIENCE, "sub": "robot", "client_id": "robot", "jti": "1", "iat": now, "exp": now + 300,
        });
        maker.token(Alg::EdDsa, "at+jwt", &claims)
    }

    async fn status(&self, token: &str) -> u16 {
        let ask = Ask::get("/").header("authorization", bearer(token));
        self.gateway.door().ask(ask).await.status
    }

    fn fetches(&self) -> usize {
        let seen = self.site.seen();
        seen.iter().filter(|seen| seen.target == "/keys").count()
    }
}

const URL: &str = "jwks_url = \"ISSUER/keys\"";

fn publish(site: &App, maker: &Maker) {
    site.script("/keys", document(&maker.jwks(&Alg::ALL).to_string()));
}

#[tokio::test]
async fn keys_are_discovered_at_the_issuer() {
    let maker = Maker::new("a");
    let bench = Bench::new("", |site, issuer| {
        publish(site, &maker);
        let metadata = json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/keys") });
        site.script(
            "/.well-known/openid-configuration",
            document(&metadata.to_string()),
        );
    })
    .await;
    assert_eq!(bench.status(&bench.token(&maker)).await, 200);
    assert_eq!(bench.status(&bench.token(&maker.impostor())).await, 401);
    let labels = ["table=\"bearer\"", &*format!("issuer=\"{}\"", bench.issuer)];
    assert_eq!(
        bench.gateway.metric("vestibule_issuer_keys", &labels).await,
        5.0
    );
}

/// attacks.md N04 and R14.
#[tokio::test]
async fn n04_ten_thousand_unknown_keys_cause_one_fetch_in_an_interval() {
    let (old, new) = (Maker::new("old"), Maker::new("new"));
    let bench = Bench::new(URL, |site, _| publish(site, &old)).await;
    let token = bench.token(&old);
    assert_eq!(bench.status(&token).await, 200);
    assert_eq!(bench.fetches(), 1);

    let began = std::time::Instant::now();
    let now = bench.gateway.now();
    let claims = json!({ "iss": bench.issuer, "aud": AUDIENCE, "sub": "x", "exp": now + 300 });
    let payload = claims.to_string();
    let client = bench.gateway.door().h2().await;
    for batch in 0..200 {
        let asks = (0..50).map(|one| {
            let header = json!({ "alg": "EdDSA", "kid": format!("random-{batch}-{one}") });
            let token = new.sign(Alg::EdDsa, &header.to_string(), &payload);
            client.ask(Ask::get("/").header("authorization", bearer(&token)))
        });
        for answer in futures_util::future::join_all(asks).await {
            assert_eq!(answer.status, 401);
        }
    }
    let intervals = began.elapsed().as_secs() as usize / 30 + 1;
    let fetches = bench.fetches();
    assert!(
        fetches <= 1 + intervals,
        "{fetches} fetches in {intervals} intervals of 30 s"
    );
    // Who has a good token did not notice.
    assert_eq!(bench.status(&token).await, 200);
}

/// attacks.md R14: the issuer changes its keys while tokens come.
#[tokio::test]
async fn r14_a_new_key_is_fetched_when_a_token_needs_it_and_a_removed_one_is_dead() {
    let (old, new) = (Maker::new("old"), Maker::new("new"));
    let bench = Bench::new(URL, |site, _| publish(site, &old)).await;
    let before = bench.token(&old);
    assert_eq!(bench.status(&before).await, 200);
    publish(&bench.site, &new);
    // Within the interval of the first fetch nobody asks again; after it the first such token does, and is served.
    let after = bench.token(&new);
    let waited = std::time::Instant::now();
    while bench.status(&after).await != 200 {
        assert!(
            waited.elapsed().as_secs() < 90,
            "the new key is never fetched"
        );
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert_eq!(bench.fetches(), 2);
    // What was remembered counts only under the keys it was verified with.
    assert_eq!(bench.status(&before).await, 401);
}

#[tokio::test]
async fn while_the_keys_are_not_to_be_had_nobody_is_told_that_the_token_is_wrong() {
    let maker = Maker::new("a");
    let bench = Bench::new(URL, |site, _| {
        site.script("/keys", "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n");
    })
    .await;
    let token = bench.token(&maker);
    let ask = Ask::get("/").header("authorization", bearer(&token));
    let answer = bench.gateway.door().ask(ask).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert_eq!(answer.header("www-authenticate"), None);
    bench
        .gateway
        .until_logged(&["keys could not be fetched", "status 500"])
        .await;
    publish(&bench.site, &maker);
    until("keys are fetched", async || {
        (bench.status(&token).await == 200).then_some(())
    })
    .await;
    // An outage afterwards changes nothing.
    bench
        .site
        .script("/keys", "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(bench.status(&bench.token(&maker)).await, 200);
}
