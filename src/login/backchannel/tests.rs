use http::Uri;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use super::*;
use crate::auth::foreign_keys::Algorithm;
use crate::auth::test_support::NOW;
use crate::auth::test_support::foreign::{Maker, jwks};
use crate::issuer::{Location, Settings};
use crate::outbound::{self, Outbound};

const ISSUER: &str = "https://id.example.com";

/// The keys of a provider that publishes this.
async fn keys(published: Vec<u8>) -> Arc<RemoteKeys> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Uri = format!("http://{}/jwks", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\
                 content-length: {}\r\n\r\n",
                published.len()
            );
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&published).await;
        }
    });
    let place = Location::Url(url);
    let settings = Settings::new(ISSUER.to_owned(), place, Algorithm::ASYMMETRIC.to_vec());
    let outbound = Outbound::new(outbound::Settings { ca: Vec::new() }).unwrap();
    RemoteKeys::start(settings, outbound, Handle::current())
}

fn token(maker: &Maker, id: &str) -> String {
    let iat = NOW.as_secs();
    let events = r#"{"http://schemas.openid.net/event/backchannel-logout":{}}"#;
    let claims = format!(
        r#"{{"iss":"{ISSUER}","aud":"vestibule","iat":{iat},"jti":"{id}","sid":"there","events":{events}}}"#
    );
    maker.jwt("k", &claims)
}

fn addr(last: u8) -> ClientAddr {
    ClientAddr([192, 0, 2, last].into())
}

/// A provider with its maker of tokens, and what a node knows.
struct Bench {
    maker: Maker,
    keys: Arc<RemoteKeys>,
    backchannel: Backchannel,
}

impl Bench {
    async fn start() -> Self {
        let maker = Maker::new(Algorithm::EdDSA);
        let keys = keys(jwks(&[maker.jwk(r#""kid":"k""#)])).await;
        Bench {
            maker,
            keys,
            backchannel: Backchannel::default(),
        }
    }

    async fn judge(&self, token: &str, from: u8, now: Timestamp) -> Result<LogoutClaims, Refused> {
        let sender = Sender {
            provider: "corp",
            client_id: "vestibule",
            keys: &self.keys,
        };
        self.backchannel.judge(token, sender, addr(from), now).await
    }
}

#[tokio::test]
async fn a_token_is_obeyed_once_and_again_only_if_it_could_not_be() {
    let bench = Bench::start().await;
    let token = token(&bench.maker, "j-1");
    let first = bench.judge(&token, 1, NOW).await.unwrap();
    assert_eq!(first.session.as_deref(), Some("there"));
    // The store did not take it: the provider tries again.
    assert_eq!(bench.judge(&token, 1, NOW).await.unwrap(), first);
    bench.backchannel.obeyed("corp", &first);
    for from in [1, 2] {
        assert_eq!(bench.judge(&token, from, NOW).await, Err(Refused::Replayed));
    }
    let next = super::tests::token(&bench.maker, "j-2");
    assert!(bench.judge(&next, 1, NOW).await.is_ok());
}

#[tokio::test]
async fn whose_tokens_are_refused_waits_and_nobody_else_does() {
    let bench = Bench::start().await;
    let (good, stranger) = (
        token(&bench.maker, "j-1"),
        token(&Maker::new(Algorithm::EdDSA), "j-1"),
    );
    let mut looked_at = 0;
    for _ in 0..100 {
        match bench.judge(&stranger, 1, NOW).await {
            Err(Refused::Token(ForeignTokenError::Signature)) => looked_at += 1,
            Err(Refused::Throttled { retry_after }) => {
                assert!(retry_after <= Duration::from_secs(60));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(looked_at, 10);
    // From hundreds of others, too.
    for from in 2..=250 {
        assert!(bench.judge(&stranger, from, NOW).await.is_err());
    }
    assert!(bench.judge(&good, 251, NOW).await.is_ok());
    assert!(matches!(
        bench.judge(&good, 1, NOW).await,
        Err(Refused::Throttled { .. })
    ));
    let later = NOW.plus(Duration::from_secs(1));
    assert!(bench.judge(&good, 1, later).await.is_ok());
}

#[tokio::test]
async fn good_tokens_are_never_throttled() {
    let bench = Bench::start().await;
    for id in 0..500 {
        let token = token(&bench.maker, &id.to_string());
        let claims = bench.judge(&token, 1, NOW).await.unwrap();
        bench.backchannel.obeyed("corp", &claims);
    }
}

#[tokio::test]
async fn without_keys_nothing_can_be_said_and_nobody_is_to_blame() {
    let bench = Bench {
        keys: keys(b"nothing".to_vec()).await,
        ..Bench::start().await
    };
    let token = token(&bench.maker, "j-1");
    for _ in 0..50 {
        assert_eq!(bench.judge(&token, 1, NOW).await, Err(Refused::NoKeys));
    }
}

#[test]
fn tokens_are_known_by_provider_and_id_and_the_oldest_are_forgotten() {
    let obeyed = Obeyed::default();
    obeyed.add("corp", "1");
    obeyed.add("corp", "1");
    assert!(obeyed.has("corp", "1"));
    assert!(!obeyed.has("partner", "1") && !obeyed.has("cor", "p1"));
    for id in 0..REMEMBERED {
        obeyed.add("partner", &id.to_string());
    }
    assert!(!obeyed.has("corp", "1") && obeyed.has("partner", "0"));
    assert_eq!(obeyed.0.lock().unwrap().known.len(), REMEMBERED);
}
