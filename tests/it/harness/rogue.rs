//! An OpenID provider that lies as a test tells it: honest and strict by itself, and then any of its answers can be twisted.
//!
//! Its people sign in without a page: the authorization endpoint redirects straight back. Tokens are made by
//! `harness::maker`. It records what it was asked for, so that a test can say what must *not* have been asked.
#![allow(dead_code, reason = "what a sign-in needs is built test by test")]

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use url::form_urlencoded;

use super::clock::WallClock;
use super::forge::{b64, random};
use super::maker::{Alg, Maker, unsigned};
use super::{ORIGIN, provider::CLIENT_SECRET};

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

type Twist<T> = Arc<dyn Fn(&mut T) + Send + Sync>;

struct State {
    issuer: String,
    maker: Arc<Maker>,
    clock: Option<Arc<WallClock>>,
    asked: Mutex<Vec<Asked>>,
    twists: Mutex<Twists>,
    codes: Mutex<HashMap<String, Code>>,
    /// Those that are alive, and the session that each belongs to.
    refresh_tokens: Mutex<HashMap<String, Code>>,
}

#[derive(Clone)]
struct Twists {
    alg: Alg,
    person: Value,
    id_token: Option<Twist<IdToken>>,
    callback: Option<Twist<Vec<(String, String)>>>,
    replies: HashMap<String, Twist<Reply>>,
}

#[derive(Clone)]
struct Code {
    nonce: Option<String>,
    challenge: String,
    redirect_uri: String,
    sid: String,
}

impl Twists {
    fn none() -> Self {
        Twists {
            alg: Alg::Rs256,
            person: json!({
                "sub": "alice", "email": "alice@example.com", "email_verified": true, "name": "Alice Liddell",
                "groups": ["staff", "writers"],
            }),
            id_token: None,
            callback: None,
            replies: HashMap::new(),
        }
    }
}

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

type Body = BoxBody<Bytes, Infallible>;

async fn serve(
    request: Request<Incoming>,
    state: &State,
) -> Result<Response<Body>, std::convert::Infallible> {
    let (parts, body) = request.into_parts();
    let form = body.collect().await.map(|all| all.to_bytes());
    let form = form.unwrap_or_default();
    let endpoint = match parts.uri.path() {
        "/.well-known/openid-configuration" => "discovery",
        "/jwks" => "jwks",
        "/authorize" => "authorize",
        "/token" => "token",
        "/userinfo" => "userinfo",
        "/logout" => "logout",
        other => other,
    }
    .to_owned();
    let query = parts.uri.query().unwrap_or("").as_bytes();
    let pairs = |bytes| form_urlencoded::parse(bytes).into_owned();
    let asked = Asked {
        endpoint: endpoint.clone(),
        parameters: pairs(query).chain(pairs(&form)).collect(),
        headers: parts.headers,
    };
    state.asked.lock().unwrap().push(asked.clone());
    let twists = state.twists.lock().unwrap().clone();
    let mut reply = match endpoint.as_str() {
        "discovery" => Reply::json(200, &state.metadata()),
        "jwks" => Reply::json(200, &state.maker.jwks(&Alg::ALL)),
        "authorize" => state.authorize(&asked, &twists),
        "token" => state.token(&asked, &twists),
        "userinfo" => Reply::json(200, &twists.person),
        _ => Reply::json(404, &json!({})),
    };
    if let Some(twist) = twists.replies.get(&endpoint) {
        twist(&mut reply);
    }
    tokio::time::sleep(reply.delay).await;
    if reply.ending == Ending::NeverBegun {
        std::future::pending::<()>().await;
    }
    let mut response = Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    let body = match reply.ending {
        Ending::Dripping => dripping(reply.body),
        _ => Full::new(reply.body).boxed(),
    };
    Ok(response.body(body).unwrap())
}

fn dripping(first: Bytes) -> Body {
    let drops = futures_util::stream::unfold(Some(first), |next| async move {
        let data = match next {
            Some(first) => first,
            None => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Bytes::from_static(b" ")
            }
        };
        Some((Ok(Frame::data(data)), None))
    });
    StreamBody::new(drops).boxed()
}

impl State {
    fn now(&self) -> i64 {
        match &self.clock {
            Some(clock) => clock.now(),
            None => {
                let now = std::time::SystemTime::now();
                let now = now.duration_since(std::time::UNIX_EPOCH).unwrap();
                i64::try_from(now.as_secs()).unwrap()
            }
        }
    }

    fn metadata(&self) -> Value {
        let at = |path: &str| format!("{}{path}", self.issuer);
        json!({
            "issuer": self.issuer,
            "authorization_endpoint": at("/authorize"),
            "token_endpoint": at("/token"),
            "userinfo_endpoint": at("/userinfo"),
            "jwks_uri": at("/jwks"),
            "end_session_endpoint": at("/logout"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": Alg::ALL.map(Alg::name),
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": true,
            "backchannel_logout_supported": true,
            "backchannel_logout_session_supported": true,
        })
    }

    fn authorize(&self, asked: &Asked, twists: &Twists) -> Reply {
        let one = |name| asked.one(name).unwrap_or("").to_owned();
        let redirect_uri = one("redirect_uri");
        let right = one("client_id") == "vestibule"
            && one("response_type") == "code"
            && one("code_challenge_method") == "S256"
            && one("code_challenge").len() == 43
            && redirect_uri.starts_with(&format!("{ORIGIN}/.auth/callback/"))
            && one("scope").split(' ').any(|scope| scope == "openid");
        if !right {
            return Reply::json(400, &json!({ "error": "invalid_request" }));
        }
        let code = random(24);
        self.codes.lock().unwrap().insert(
            code.clone(),
            Code {
                nonce: asked.one("nonce").map(str::to_owned),
                challenge: one("code_challenge"),
                redirect_uri: redirect_uri.clone(),
                sid: random(12),
            },
        );
        let mut parameters = vec![
            ("code".to_owned(), code),
            ("state".to_owned(), one("state")),
            ("iss".to_owned(), self.issuer.clone()),
        ];
        if let Some(twist) = &twists.callback {
            twist(&mut parameters);
        }
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(&parameters)
            .finish();
        let mut reply = Reply::json(303, &json!({}));
        reply.redirect(303, &format!("{redirect_uri}?{query}"));
        reply
    }

    fn token(&self, asked: &Asked, twists: &Twists) -> Reply {
        let refuse = |error| Reply::json(400, &json!({ "error": error }));
        if !authentic(asked) {
            return Reply::json(401, &json!({ "error": "invalid_client" }));
        }
        let one = |name| asked.one(name).unwrap_or("").to_owned();
        let (session, refreshed) = match one("grant_type").as_str() {
            "authorization_code" => {
                let Some(code) = self.codes.lock().unwrap().remove(&one("code")) else {
                    return refuse("invalid_grant");
                };
                let verifier = digest(&SHA256, one("code_verifier").as_bytes());
                if b64(verifier.as_ref()) != code.challenge
                    || one("redirect_uri") != code.redirect_uri
                {
                    return refuse("invalid_grant");
                }
                (code, false)
            }
            "refresh_token" => {
                let mut alive = self.refresh_tokens.lock().unwrap();
                let Some(session) = alive.remove(&one("refresh_token")) else {
                    return refuse("invalid_grant");
                };
                (session, true)
            }
            _ => return refuse("unsupported_grant_type"),
        };
        let (access, refresh) = (random(24), random(24));
        let answer = json!({
            "access_token": access, "token_type": "Bearer", "expires_in": 300, "refresh_token": refresh,
            "id_token": self.id_token(&session, refreshed, &access, twists),
        });
        let mut alive = self.refresh_tokens.lock().unwrap();
        alive.insert(refresh, session);
        Reply::json(200, &answer)
    }

    fn id_token(&self, session: &Code, refreshed: bool, access: &str, twists: &Twists) -> String {
        let (now, alg) = (self.now(), twists.alg);
        let mut claims = twists.person.clone();
        let own = json!({
            "iss": self.issuer, "aud": "vestibule", "iat": now, "exp": now + 300, "auth_time": now,
            "sid": session.sid, "at_hash": alg.half_hash(access),
        });
        for (name, value) in own.as_object().unwrap() {
            claims[name] = value.clone();
        }
        if let (Some(nonce), false) = (&session.nonce, refreshed) {
            claims["nonce"] = json!(nonce);
        }
        let mut token = IdToken {
            header: json!({ "alg": alg.name(), "kid": self.maker.kid(alg) }),
            claims,
            signed: Signed::By(alg),
            refreshed,
        };
        if let Some(twist) = &twists.id_token {
            twist(&mut token);
        }
        let (header, claims) = (token.header.to_string(), token.claims.to_string());
        match token.signed {
            Signed::By(alg) => self.maker.sign(alg, &header, &claims),
            Signed::ByImpostor(alg) => self.maker.impostor().sign(alg, &header, &claims),
            Signed::BySecret(secret) => super::maker::sign_hs256(&secret, &header, &claims),
            Signed::Not => unsigned(&header, &claims),
            Signed::Instead(whole) => whole,
        }
    }
}

/// Whether the client showed its secret (RFC 6749, section 2.3.1), in one way only.
fn authentic(asked: &Asked) -> bool {
    let decode = |text: &str| {
        let pair = format!("x={text}");
        form_urlencoded::parse(pair.as_bytes())
            .next()
            .map(|(_, value)| value.into_owned())
    };
    let basic = asked.headers.get("authorization").and_then(|value| {
        let text = STANDARD
            .decode(value.to_str().ok()?.strip_prefix("Basic ")?)
            .ok()?;
        let text = String::from_utf8(text).ok()?;
        let (client, secret) = text.split_once(':')?;
        Some((decode(client)?, decode(secret)?))
    });
    let posted = asked.one("client_secret").map(str::to_owned);
    match (basic, posted) {
        (Some((client, secret)), None) => client == "vestibule" && secret == CLIENT_SECRET,
        (None, Some(secret)) => {
            asked.one("client_id") == Some("vestibule") && secret == CLIENT_SECRET
        }
        _ => false,
    }
}
