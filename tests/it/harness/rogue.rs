//! An OpenID provider that lies as a test tells it: honest and strict by itself, and then any of its answers can be twisted.
//!
//! Its people sign in without a page: the authorization endpoint redirects straight back. Tokens are made by
//! `harness::maker`. It records what it was asked for, so that a test can say what must *not* have been asked.
#![allow(dead_code, reason = "what a sign-in needs is built test by test")]

mod honest;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use self::honest::{State, Twists, serve};
use super::clock::WallClock;
use super::forge::random;
use super::maker::{Alg, Maker};
use super::provider::CLIENT_SECRET;

/// A running one; ends with the test.
pub struct Rogue {
    /// Its issuer identifier.
    pub issuer: String,
    /// The keys it publishes.
    pub maker: Arc<Maker>,
    state: Arc<State>,
    folder: tempfile::TempDir,
    accepting: tokio::task::JoinHandle<()>,
}

/// What it was asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `discovery`, `jwks`, `authorize`, `token`, `userinfo`, `logout`; anything else is a path.
    pub endpoint: String,
    /// Of the query or the form.
    pub parameters: Vec<(String, String)>,
    pub headers: HeaderMap,
}

impl Asked {
    pub fn one(&self, name: &str) -> Option<&str> {
        let mut all = self.parameters.iter().filter(|(n, _)| n == name);
        let first = all.next().map(|(_, value)| value.as_str());
        assert!(all.next().is_none(), "{name} twice");
        first
    }
}

/// An ID token about to be signed.
#[derive(Clone, Debug)]
pub struct IdToken {
    pub header: Value,
    pub claims: Value,
    pub signed: Signed,
    /// Made for a refresh token, not for a code.
    pub refreshed: bool,
}

/// By what a token is signed.
#[derive(Clone, Debug)]
pub enum Signed {
    /// Its own key.
    By(Alg),
    /// Somebody else's key of that kind, under its own key id.
    ByImpostor(Alg),
    /// HS256 under these bytes.
    BySecret(Vec<u8>),
    /// No signature.
    Not,
    /// This is the whole token.
    Instead(String),
}

/// An answer about to be sent.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    /// Comes this late.
    pub delay: Duration,
    pub ending: Ending,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As it should.
    Well,
    /// After the body one more byte ten times a second, for ever.
    Dripping,
    /// Its head never comes.
    NeverBegun,
}

impl Reply {
    fn json(status: u16, body: &Value) -> Self {
        Reply {
            status,
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: body.to_string().into(),
            delay: Duration::ZERO,
            ending: Ending::Well,
        }
    }

    /// Puts a header in place of those of that name.
    pub fn header(&mut self, name: &str, value: &str) {
        self.headers.retain(|(n, _)| n != name);
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    /// A redirect to somewhere.
    pub fn redirect(&mut self, status: u16, to: &str) {
        self.status = status;
        self.header("location", to);
        self.body = Bytes::new();
    }

    /// The JSON of the body, changed.
    pub fn change(&mut self, change: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_slice(&self.body).expect("JSON");
        change(&mut value);
        self.body = value.to_string().into();
    }
}

/// How an answer is changed.
type Twist<T> = Arc<dyn Fn(&mut T) + Send + Sync>;

impl Rogue {
    pub async fn start() -> Self {
        Rogue::under(None).await
    }

    /// Under this wall clock.
    pub async fn under(clock: Option<Arc<WallClock>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let maker = Arc::new(Maker::new("rogue"));
        let state = Arc::new(State {
            issuer: issuer.clone(),
            maker: maker.clone(),
            clock,
            asked: Mutex::default(),
            twists: Mutex::new(Twists::none()),
            codes: Mutex::default(),
            refresh_tokens: Mutex::default(),
        });
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("client-secret"), CLIENT_SECRET).unwrap();
        let serving = state.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                let state = serving.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| serve(request, &state));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Rogue {
            issuer,
            maker,
            state,
            folder,
            accepting,
        }
    }

    /// `[login.oidc.NAME]` for a gateway, with further lines.
    pub fn table(&self, name: &str, lines: &str) -> String {
        format!(
            "[login.oidc.{name}]\nissuer = \"{}\"\nclient_id = \"vestibule\"\nclient_secret_file = {:?}\n{lines}\n",
            self.issuer,
            self.folder.path().join("client-secret")
        )
    }

    /// Honest again in everything.
    pub fn repent(&self) {
        *self.state.twists.lock().unwrap() = Twists::none();
    }

    /// Whose claims ID tokens and userinfo carry.
    pub fn person(&self, claims: Value) {
        self.state.twists.lock().unwrap().person = claims;
    }

    /// The algorithm that ID tokens are signed with: RS256 unless said.
    pub fn signs_with(&self, alg: Alg) {
        self.state.twists.lock().unwrap().alg = alg;
    }

    /// Changes each ID token before it is signed.
    pub fn id_token(&self, twist: impl Fn(&mut IdToken) + Send + Sync + 'static) {
        self.state.twists.lock().unwrap().id_token = Some(Arc::new(twist));
    }

    /// Changes the parameters with which browsers are sent back.
    pub fn callback(&self, twist: impl Fn(&mut Vec<(String, String)>) + Send + Sync + 'static) {
        self.state.twists.lock().unwrap().callback = Some(Arc::new(twist));
    }

    /// Changes each answer of an endpoint: `discovery`, `jwks`, `token`, `userinfo`, `authorize`.
    pub fn reply(&self, endpoint: &str, twist: impl Fn(&mut Reply) + Send + Sync + 'static) {
        let mut twists = self.state.twists.lock().unwrap();
        twists.replies.insert(endpoint.to_owned(), Arc::new(twist));
    }

    /// Changes what an endpoint says, where it is JSON.
    pub fn says(&self, endpoint: &str, twist: impl Fn(&mut Value) + Send + Sync + 'static) {
        self.reply(endpoint, move |reply| reply.change(&twist));
    }

    /// Leaves a member out of what an endpoint says.
    pub fn leaves_out(&self, endpoint: &str, name: &'static str) {
        self.says(endpoint, move |body| {
            body.as_object_mut().unwrap().remove(name);
        });
    }

    /// What it was asked for since the start or [`Self::forget`], in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }

    /// How often an endpoint was asked.
    pub fn count(&self, endpoint: &str) -> usize {
        let asked = self.asked();
        asked.iter().filter(|a| a.endpoint == endpoint).count()
    }

    pub fn forget(&self) {
        self.state.asked.lock().unwrap().clear();
    }

    /// What it takes for now, in seconds since 1970.
    pub fn now(&self) -> i64 {
        self.state.now()
    }

    /// Claims of a good logout token (OpenID Connect Back-Channel Logout 1.0, section 2.4) for `sub`, `sid` or both.
    pub fn logout_claims(&self, sub: Option<&str>, sid: Option<&str>) -> Value {
        let now = self.now();
        let mut claims = json!({
            "iss": self.issuer, "aud": "vestibule", "iat": now, "exp": now + 120, "jti": random(16),
            "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
        });
        for (name, value) in [("sub", sub), ("sid", sid)] {
            if let Some(value) = value {
                claims[name] = json!(value);
            }
        }
        claims
    }

    /// A logout token with these claims.
    pub fn logout_token(&self, claims: &Value) -> String {
        self.maker.token(Alg::Rs256, "logout+jwt", claims)
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
