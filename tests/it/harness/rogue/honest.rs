//! What the lying provider does when nobody tells it to lie: OpenID Connect, strictly; and where the lies are put in.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::{Asked, Ending, IdToken, Reply, Signed, Twist};
use crate::harness::clock::WallClock;
use crate::harness::forge::{b64, random};
use crate::harness::maker::{Alg, Maker, sign_hs256, unsigned};
use crate::harness::{ORIGIN, provider::CLIENT_SECRET};

pub(super) struct State {
    pub(super) issuer: String,
    pub(super) maker: Arc<Maker>,
    pub(super) clock: Option<Arc<WallClock>>,
    pub(super) asked: Mutex<Vec<Asked>>,
    pub(super) twists: Mutex<Twists>,
    pub(super) codes: Mutex<HashMap<String, Code>>,
    /// Those that are alive, and the session that each belongs to.
    pub(super) refresh_tokens: Mutex<HashMap<String, Code>>,
}

#[derive(Clone)]
pub(super) struct Twists {
    pub(super) alg: Alg,
    pub(super) person: Value,
    pub(super) id_token: Option<Twist<IdToken>>,
    pub(super) callback: Option<Twist<Vec<(String, String)>>>,
    pub(super) replies: HashMap<String, Twist<Reply>>,
}

#[derive(Clone)]
pub(super) struct Code {
    nonce: Option<String>,
    challenge: String,
    redirect_uri: String,
    sid: String,
}

impl Twists {
    pub(super) fn none() -> Self {
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

type Body = BoxBody<Bytes, Infallible>;

pub(super) async fn serve(
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
    pub(super) fn now(&self) -> i64 {
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
            Signed::BySecret(secret) => sign_hs256(&secret, &header, &claims),
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
