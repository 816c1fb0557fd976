//! A service that speaks GitHub's dialect of OAuth 2, as its documentation ("Authorizing OAuth apps") has it: no ID token and no
//! refresh token (but where [`Hub::expires`]), errors with status 200, a form unless JSON is asked for, numbers for ids, a list of e-mail addresses apart.
//!
//! Its people sign in without a page: the authorization endpoint redirects straight back. It is strict and honest, over TLS with
//! an authority of its own, records what it was asked for, and its answers can be replaced.
#![allow(dead_code, reason = "what a sign-in needs is built test by test")]

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use url::{Url, form_urlencoded};

use super::client::Ask;
use super::forge::{b64, random};
use super::provider::CLIENT_SECRET;
use super::rogue::Asked;
use super::{ORIGIN, plain, redis};

/// How the hub knows the gateway.
pub const CLIENT: &str = "Ov23liTests";

/// A running one; ends with the test.
pub struct Hub {
    /// `https://localhost:PORT`.
    pub base: String,
    state: Arc<State>,
    folder: tempfile::TempDir,
    accepting: tokio::task::JoinHandle<()>,
}

/// A whole answer in place of the usual one: status, content type, body.
type Instead = (u16, &'static str, String);

#[derive(Default)]
struct State {
    asked: Mutex<Vec<Asked>>,
    codes: Mutex<HashMap<String, Code>>,
    tokens: Mutex<HashMap<String, String>>,
    account: Mutex<Value>,
    emails: Mutex<Value>,
    instead: Mutex<HashMap<&'static str, Instead>>,
    expires: AtomicBool,
}

struct Code {
    challenge: String,
    redirect_uri: String,
    scope: String,
}

impl Hub {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        redis::write_certificates(folder.path());
        std::fs::write(folder.path().join("client-secret"), CLIENT_SECRET).unwrap();
        let state = Arc::new(State::default());
        *state.account.lock().unwrap() = json!({
            "login": "octocat", "id": 583_231, "node_id": "MDQ6VXNlcjE=", "type": "User", "name": "The Octocat",
            // What people show to others; nobody checked whose it is.
            "email": "anybody@example.com", "site_admin": false, "plan": { "name": "free" },
        });
        *state.emails.lock().unwrap() = json!([
            { "email": "old@example.org", "verified": true, "primary": false, "visibility": null },
            { "email": "octocat@example.com", "verified": true, "primary": true, "visibility": "private" },
        ]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!(
            "https://localhost:{}",
            listener.local_addr().unwrap().port()
        );
        let acceptor = acceptor(folder.path());
        let serving = state.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, acceptor) = (serving.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(|request| serve(request, &state));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Hub {
            base,
            state,
            folder,
            accepting,
        }
    }

    /// `[login.oauth2.NAME]` as README has it for GitHub, with further lines.
    pub fn table(&self, name: &str, lines: &str) -> String {
        let (base, folder) = (&self.base, self.folder.path());
        format!(
            "[login.oauth2.{name}]\nauthorize_url = \"{base}/login/oauth/authorize\"\ntoken_url = \"{base}/login/oauth/access_token\"\n\
             userinfo_url = \"{base}/user\"\nemails_url = \"{base}/user/emails\"\nclient_id = \"{CLIENT}\"\n\
             client_secret_file = {:?}\nca_file = {:?}\nscopes = [\"read:user\", \"user:email\"]\n\
             claims = {{ user = \"id\", name = \"name\", preferred_username = \"login\" }}\n{lines}\n",
            folder.join("client-secret"),
            folder.join("ca.pem"),
        )
    }

    /// From the gateway's redirect to the URL at which the browser is sent back.
    pub async fn visit(&self, location: &str) -> String {
        assert!(location.starts_with(&self.base), "{location}");
        let answer = plain::ask(&Url::parse(location).unwrap(), Ask::get("")).await;
        let answer = answer.expect("the hub lives");
        assert_eq!(answer.status, 302, "{}", answer.text());
        answer.header("location").expect("a location").to_owned()
    }

    /// The account of whoever signs in.
    pub fn account(&self, account: Value) {
        *self.state.account.lock().unwrap() = account;
    }

    /// Their addresses.
    pub fn emails(&self, emails: Value) {
        *self.state.emails.lock().unwrap() = emails;
    }

    /// Another answer of an endpoint from now on: `authorize` (its body is the query that is sent back), `token`, `user`,
    /// `emails`.
    pub fn instead(&self, endpoint: &'static str, status: u16, kind: &'static str, body: &str) {
        let mut instead = self.state.instead.lock().unwrap();
        instead.insert(endpoint, (status, kind, body.to_owned()));
    }

    /// Its access tokens live eight hours from now on, and come with a refresh token, as those of a GitHub App.
    pub fn expires(&self) {
        self.state.expires.store(true, Ordering::SeqCst);
    }

    /// Honest again.
    pub fn repent(&self) {
        self.state.instead.lock().unwrap().clear();
    }

    /// What it was asked for, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }

    pub fn count(&self, endpoint: &str) -> usize {
        let asked = self.asked();
        asked.iter().filter(|a| a.endpoint == endpoint).count()
    }

    /// The last request for an endpoint.
    pub fn last(&self, endpoint: &str) -> Asked {
        let asked = self.asked().into_iter().rev();
        let mut of_it = asked.filter(|a| a.endpoint == endpoint);
        of_it
            .next()
            .unwrap_or_else(|| panic!("nobody asked for {endpoint}"))
    }

    pub fn forget(&self) {
        self.state.asked.lock().unwrap().clear();
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn acceptor(folder: &std::path::Path) -> TlsAcceptor {
    let certificates = CertificateDer::pem_file_iter(folder.join("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates.map(Result::unwrap).collect(), key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(
    request: Request<Incoming>,
    state: &State,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let form = body.collect().await.map(|all| all.to_bytes());
    let (endpoint, method) = match parts.uri.path() {
        "/login/oauth/authorize" => ("authorize", "GET"),
        "/login/oauth/access_token" => ("token", "POST"),
        "/user" => ("user", "GET"),
        "/user/emails" => ("emails", "GET"),
        _ => ("", ""),
    };
    let pairs = |bytes| form_urlencoded::parse(bytes).into_owned();
    let query = parts.uri.query().unwrap_or("").as_bytes();
    let asked = Asked {
        endpoint: endpoint.to_owned(),
        parameters: pairs(query)
            .chain(pairs(&form.unwrap_or_default()))
            .collect(),
        headers: parts.headers,
    };
    state.asked.lock().unwrap().push(asked.clone());
    let instead = state.instead.lock().unwrap().get(endpoint).cloned();
    if parts.method != method {
        return Ok(json_of(404, &json!({ "message": "Not Found" })));
    }
    Ok(match (endpoint, instead) {
        ("authorize", instead) => state.authorize(&asked, instead),
        (_, Some((status, kind, body))) => answer(status, kind, body),
        ("token", None) => state.token(&asked),
        _ => state.api(endpoint, &asked.headers),
    })
}

fn answer(status: u16, kind: &str, body: String) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status);
    let response = response.header("content-type", kind);
    response.body(Full::new(body.into())).unwrap()
}

fn json_of(status: u16, body: &Value) -> Response<Full<Bytes>> {
    answer(status, "application/json; charset=utf-8", body.to_string())
}

impl State {
    fn authorize(&self, asked: &Asked, instead: Option<Instead>) -> Response<Full<Bytes>> {
        let one = |name| asked.one(name).unwrap_or("").to_owned();
        let redirect_uri = one("redirect_uri");
        if one("client_id") != CLIENT || !redirect_uri.starts_with(&format!("{ORIGIN}/.auth/")) {
            return json_of(404, &json!({ "message": "Not Found" }));
        }
        let mut back = form_urlencoded::Serializer::new(String::new());
        match instead {
            Some((_, _, query)) => {
                back.extend_pairs(form_urlencoded::parse(query.as_bytes()));
            }
            None => {
                let code = random(10);
                let known = Code {
                    challenge: one("code_challenge"),
                    redirect_uri: redirect_uri.clone(),
                    scope: one("scope").replace(' ', ","),
                };
                self.codes.lock().unwrap().insert(code.clone(), known);
                back.append_pair("code", &code);
            }
        }
        back.append_pair("state", &one("state"));
        let mut response = answer(302, "text/html", String::new());
        let location = format!("{redirect_uri}?{}", back.finish());
        let headers = response.headers_mut();
        headers.insert("location", location.parse().unwrap());
        response
    }

    /// Whatever is wrong has status 200; a form, unless JSON is asked for.
    fn token(&self, asked: &Asked) -> Response<Full<Bytes>> {
        let one = |name| asked.one(name).unwrap_or("").to_owned();
        let refused = |error: &str| {
            vec![
                ("error", error.to_owned()),
                (
                    "error_description",
                    format!("About {}: {error}.", one("code")),
                ),
                ("error_uri", "https://docs.test/troubleshooting".to_owned()),
            ]
        };
        let said = if one("client_id") != CLIENT || one("client_secret") != CLIENT_SECRET {
            refused("incorrect_client_credentials")
        } else {
            let code = self.codes.lock().unwrap().remove(&one("code"));
            let verifier = digest(&SHA256, one("code_verifier").as_bytes());
            match code {
                Some(code) if code.redirect_uri != one("redirect_uri") => {
                    refused("redirect_uri_mismatch")
                }
                Some(code) if b64(verifier.as_ref()) == code.challenge => {
                    let token = format!("gho_{}", random(27));
                    let mut tokens = self.tokens.lock().unwrap();
                    tokens.insert(token.clone(), code.scope.clone());
                    let mut said = vec![
                        ("access_token", token),
                        ("token_type", "bearer".to_owned()),
                        ("scope", code.scope),
                    ];
                    if self.expires.load(Ordering::SeqCst) {
                        said.push(("expires_in", "28800".to_owned()));
                        said.push(("refresh_token", format!("ghr_{}", random(27))));
                    }
                    said
                }
                _ => refused("bad_verification_code"),
            }
        };
        let accept = asked.headers.get("accept");
        match accept.is_some_and(|accept| accept == "application/json") {
            true => {
                let object = said
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), json!(value)));
                json_of(200, &Value::Object(object.collect()))
            }
            false => {
                let form = form_urlencoded::Serializer::new(String::new())
                    .extend_pairs(said)
                    .finish();
                answer(
                    200,
                    "application/x-www-form-urlencoded; charset=utf-8",
                    form,
                )
            }
        }
    }

    fn api(&self, endpoint: &str, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if text("user-agent").is_none() {
            return json_of(
                403,
                &json!({ "message": "Request forbidden by administrative rules." }),
            );
        }
        let token = text("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let tokens = self.tokens.lock().unwrap();
        let Some(scope) = token.and_then(|token| tokens.get(token)) else {
            return json_of(401, &json!({ "message": "Bad credentials" }));
        };
        match endpoint {
            "user" => json_of(200, &self.account.lock().unwrap()),
            "emails" if scope.split(',').any(|one| one == "user:email") => {
                json_of(200, &self.emails.lock().unwrap())
            }
            _ => json_of(404, &json!({ "message": "Not Found" })),
        }
    }
}
