//! A real OpenID provider: the certified `oidc-provider` from npm (`tests/provider/server.mjs`) on loopback, and the ways in
//! which a test makes it slow, broken or forgetful.
//!
//! Several may run at once. What it says and does is its own; only its answers are delayed or replaced when a test says so.
#![allow(dead_code, reason = "what a sign-in needs is built test by test")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use url::Url;

use super::client::Ask;
use super::clock::WallClock;
use super::gateway::{Gateway, collect};
use super::jose::By;
use super::wait::{until, until_blocking};
use super::{ORIGIN, node, plain, redis};

/// The secret of every client that has one.
pub const CLIENT_SECRET: &str = "a client secret of the tests, long enough for HS256: +/=%&? 0!";

/// A running provider; it ends with this value.
pub struct Provider {
    /// Its issuer identifier.
    pub issuer: String,
    control: SocketAddr,
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    folder: tempfile::TempDir,
    client: String,
    auth: &'static str,
}

/// What a provider will be like.
pub struct ProviderSetup {
    settings: Value,
    metadata: Value,
    names: Vec<String>,
    auth: &'static str,
    tls: bool,
    clock: Option<Arc<WallClock>>,
}

/// One thing that the provider was asked for or has done.
#[derive(Clone, Debug)]
pub struct Call(Value);

impl Call {
    /// `token`, `jwks`, `discovery`, `authorize`, `userinfo`, `logout`, or one of the provider's own events, such as
    /// `backchannel.error`.
    pub fn endpoint(&self) -> &str {
        self.0["endpoint"].as_str().unwrap_or("")
    }

    /// The grant type of a call to the token endpoint.
    pub fn grant(&self) -> &str {
        self.0["grant"].as_str().unwrap_or("")
    }

    /// How the client authenticated there.
    pub fn auth(&self) -> &str {
        self.0["auth"].as_str().unwrap_or("")
    }

    /// SHA-256 of the refresh token that was presented.
    pub fn refresh(&self) -> Option<&str> {
        self.0["refresh"].as_str()
    }

    /// What went wrong, in the provider's words.
    pub fn error(&self) -> &str {
        self.0["error"].as_str().unwrap_or("")
    }
}

impl Provider {
    /// With the accounts alice (staff, writers; a verified address), bob (no groups) and mallory (whose address is not
    /// verified), and the client `vestibule`, which is the gateway's provider `corp`.
    pub fn start() -> Self {
        Provider::with().start()
    }

    pub fn with() -> ProviderSetup {
        ProviderSetup {
            settings: json!({ "accounts": {
                "alice": {
                    "email": "alice@example.com", "email_verified": true, "name": "Alice Liddell",
                    "preferred_username": "alice", "groups": ["staff", "writers"],
                    "realm_access": { "roles": ["reader", "admins"] },
                },
                "bob": { "email": "bob@example.com", "email_verified": true, "name": "Bob" },
                "mallory": { "email": "mallory@example.com", "email_verified": false, "name": "Mallory", "groups": ["staff"] },
            }}),
            metadata: json!({}),
            names: vec!["corp".to_owned()],
            auth: "client_secret_basic",
            tls: false,
            clock: None,
        }
    }

    /// `[login.oidc.NAME]` for a gateway, with further lines.
    pub fn table(&self, name: &str, lines: &str) -> String {
        let (issuer, client) = (&self.issuer, &self.client);
        let secret = self.folder.path().join("client-secret");
        let auth = match self.auth {
            "client_secret_basic" => format!("client_secret_file = {secret:?}"),
            "client_secret_post" => {
                format!("client_secret_file = {secret:?}\nclient_auth = \"secret_post\"")
            }
            "private_key_jwt" => format!(
                "client_key_file = {:?}\nclient_auth = \"private_key_jwt\"",
                self.folder.path().join("client-key.pem")
            ),
            _ => "client_auth = \"none\"".to_owned(),
        };
        let ca = match self.issuer.starts_with("https") {
            true => format!("ca_file = {:?}\n", self.ca()),
            false => String::new(),
        };
        format!(
            "[login.oidc.{name}]\nissuer = \"{issuer}\"\nclient_id = \"{client}\"\n{auth}\n{ca}{lines}\n"
        )
    }

    /// The authority of an https provider's certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Tells it where `app.test` is: back-channel logout goes there.
    pub async fn knows(&self, gateway: &Gateway) {
        self.order("gateway", json!(gateway.addr.to_string())).await;
    }

    /// Everything it was asked for since the start or [`Self::forget`], in order.
    pub async fn calls(&self) -> Vec<Call> {
        let calls = self.order("calls", Value::Null).await;
        let calls = calls.as_array().unwrap().iter();
        calls.map(|call| Call(call.clone())).collect()
    }

    /// How many calls of that kind, see [`Call::endpoint`].
    pub async fn count(&self, endpoint: &str) -> usize {
        let calls = self.calls().await;
        calls.iter().filter(|c| c.endpoint() == endpoint).count()
    }

    /// How many refresh tokens were presented.
    pub async fn refreshes(&self) -> usize {
        let calls = self.calls().await;
        let refreshes = calls.iter().filter(|call| call.grant() == "refresh_token");
        refreshes.count()
    }

    pub async fn until_called(&self, endpoint: &str) {
        until(&format!("a call of {endpoint}"), async || {
            (self.count(endpoint).await > 0).then_some(())
        })
        .await;
    }

    pub async fn forget(&self) {
        self.order("forget", Value::Null).await;
    }

    /// What goes wrong from now on, by endpoint: `{"token": {"delay": 15000}}` (milliseconds),
    /// `{"token": {"status": 500, "body": …, "headers": {…}, "times": 2}}`, `{"token": {"hang": true}}` (never answers),
    /// `{"jwks": {"cut": true}}`, `{"token": {"swallow": true}}` (does what it is asked, and its answer is lost). `{}` mends
    /// all.
    pub async fn faults(&self, faults: Value) {
        self.order("faults", faults).await;
    }

    /// Lets go what waits under the fault `{"token": {"hold": true}}`. `token.answered` is called when an answer has left.
    pub async fn release(&self) {
        self.order("release", Value::Null).await;
    }

    /// Changes what is known of people; who is not mentioned stays.
    pub async fn set_accounts(&self, accounts: Value) {
        self.order("accounts", accounts).await;
    }

    /// Takes back what this person has granted: refresh tokens are dead, and nobody is told.
    pub async fn revoke(&self, login: &str) {
        let revoked = self.order("revoke", json!({ "user": login })).await;
        assert!(revoked.as_u64() > Some(0), "{login} has granted nothing");
    }

    /// Ends this person's sessions at the provider, which tells every client by back-channel logout. How many were told;
    /// fails when one did not take it.
    pub async fn end_sessions(&self, login: &str) -> u64 {
        let told = self.order("end_sessions", json!({ "user": login })).await;
        told.as_u64().unwrap()
    }

    /// The `sid` claims that clients have of this person's sessions.
    pub async fn sids(&self, login: &str) -> Vec<String> {
        let sids = self.order("sids", json!({ "user": login })).await;
        serde_json::from_value(sids).unwrap()
    }

    /// Signs with new keys from now on; publishes the old ones as well, or no longer. The key ids published.
    pub async fn rotate_keys(&self, keep_old: bool) -> Vec<String> {
        let keys = self.order("rotate_keys", json!({ "keep": keep_old })).await;
        serde_json::from_value(keys).unwrap()
    }

    /// Any JWT, signed by the provider's own key of the header's `alg` (RS256, PS256, ES256, ES384, EdDSA); `kid` is put in.
    pub async fn sign(&self, header: Value, claims: Value) -> String {
        self.jose(By::Own, header, claims).await
    }

    /// Nobody listens there until [`Self::comes_back`].
    pub async fn goes_away(&self) {
        self.order("door", json!({ "open": false })).await;
    }

    pub async fn comes_back(&self) {
        self.order("door", json!({ "open": true })).await;
    }

    /// A token of the client itself (RFC 6749, section 4.4) for an API: a JWT as of RFC 9068 with that audience.
    pub async fn api_token(&self, audience: &str, scope: &str) -> String {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &self.client)
            .append_pair("client_secret", CLIENT_SECRET)
            .append_pair("resource", audience)
            .append_pair("scope", scope)
            .finish();
        let url = Url::parse(&format!("{}/token", self.issuer)).unwrap();
        let ask = Ask::new("POST", "")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        let answer = plain::ask(&url, ask).await.expect("an answer").json();
        let token = answer["access_token"].as_str();
        token
            .unwrap_or_else(|| panic!("no token: {answer}"))
            .to_owned()
    }

    pub(super) async fn order(&self, what: &str, body: Value) -> Value {
        let url = Url::parse(&format!("http://{}/{what}", self.control)).unwrap();
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = plain::ask(&url, Ask::new("POST", "").body(body)).await;
        let answer = answer.expect("the provider lives");
        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
        answer.json()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the provider {} said:", self.issuer);
            for line in self.said.lock().unwrap().iter().rev().take(30).rev() {
                eprintln!("    {line}");
            }
        }
    }
}

impl ProviderSetup {
    /// Settings of `tests/provider/server.mjs`; `accounts` are added to the usual ones.
    pub fn set(mut self, settings: Value) -> Self {
        for (name, value) in settings.as_object().unwrap() {
            match (name.as_str(), value.as_object()) {
                ("accounts", Some(accounts)) => {
                    for (login, claims) in accounts {
                        self.settings["accounts"][login] = claims.clone();
                    }
                }
                _ => self.settings[name] = value.clone(),
            }
        }
        self
    }

    /// How the client authenticates: `client_secret_basic` (default), `client_secret_post`, `private_key_jwt` or `none`.
    pub fn client_auth(mut self, method: &'static str) -> Self {
        self.auth = method;
        self
    }

    /// Further metadata of the client (Dynamic Client Registration 1.0, section 2).
    pub fn client(mut self, metadata: Value) -> Self {
        for (name, value) in metadata.as_object().unwrap() {
            self.metadata[name] = value.clone();
        }
        self
    }

    /// The names that gateways give to this provider; back-channel logout goes to the first. `corp` unless said.
    pub fn known_as(mut self, names: &[&str]) -> Self {
        self.names = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// Over https, with a certificate for `localhost` of an authority of its own.
    pub fn https(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Under this wall clock.
    pub fn clock(mut self, clock: &Arc<WallClock>) -> Self {
        self.clock = Some(clock.clone());
        self
    }

    /// Starts it and waits until it serves.
    pub fn start(mut self) -> Provider {
        let folder = tempfile::Builder::new()
            .prefix("vestibule-provider-")
            .tempdir()
            .unwrap();
        std::fs::write(folder.path().join("client-secret"), CLIENT_SECRET).unwrap();
        if self.tls {
            redis::write_certificates(folder.path());
            self.settings["tls"] = json!({
                "cert": folder.path().join("cert.pem"), "key": folder.path().join("key.pem"),
            });
            self.settings["host"] = json!("localhost");
        }
        self.settings["clients"] = json!([self.registration(&folder)]);
        let mut command = Command::new("node");
        command
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/provider/server.mjs"
            ))
            .arg(self.settings.to_string())
            .env("VESTIBULE_TEST_NODE", node::modules())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(clock) = &self.clock {
            clock.govern(&mut command);
        }
        let mut child = command
            .spawn()
            .expect("node is installed (scripts/test --install)");
        let said = Arc::new(Mutex::new(Vec::new()));
        collect(child.stdout.take().unwrap(), said.clone());
        collect(child.stderr.take().unwrap(), said.clone());
        let started: Value = until_blocking("the provider serves", || {
            let lines: Vec<String> = said.lock().unwrap().clone();
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the provider ended with {status}:\n{}", lines.join("\n"));
            }
            let line = lines.iter().find(|line| line.contains("\"control\""))?;
            serde_json::from_str(line).ok()
        });
        let port = u16::try_from(started["control"].as_u64().unwrap()).unwrap();
        Provider {
            issuer: started["issuer"].as_str().unwrap().to_owned(),
            control: ([127, 0, 0, 1], port).into(),
            child,
            said,
            folder,
            client: self.metadata["client_id"]
                .as_str()
                .unwrap_or("vestibule")
                .to_owned(),
            auth: self.auth,
        }
    }

    /// The client's metadata.
    fn registration(&self, folder: &tempfile::TempDir) -> Value {
        let callback = |name: &String| format!("{ORIGIN}/.auth/callback/{name}");
        let first = &self.names[0];
        let mut client = json!({
            "client_id": "vestibule",
            "redirect_uris": self.names.iter().map(callback).collect::<Vec<_>>(),
            "post_logout_redirect_uris": [
                format!("{ORIGIN}/.auth/logout/return"), format!("{ORIGIN}/.auth/logged-out"), format!("{ORIGIN}/.auth/logout"),
                format!("{ORIGIN}/"), ORIGIN, format!("{ORIGIN}/bye"),
            ],
            "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
            "response_types": ["code"],
            "token_endpoint_auth_method": self.auth,
            "backchannel_logout_uri": format!("{ORIGIN}/.auth/backchannel-logout/{first}"),
            "backchannel_logout_session_required": true,
        });
        match self.auth {
            "private_key_jwt" => {
                let key = rcgen::KeyPair::generate().unwrap();
                std::fs::write(folder.path().join("client-key.pem"), key.serialize_pem()).unwrap();
                let point = key.public_key_raw();
                client["jwks"] = json!({ "keys": [{
                    "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256",
                    "x": super::forge::b64(&point[1..33]), "y": super::forge::b64(&point[33..]),
                }]});
            }
            "none" => client["grant_types"] = json!(["authorization_code", "refresh_token"]),
            _ => client["client_secret"] = json!(CLIENT_SECRET),
        }
        for (name, value) in self.metadata.as_object().unwrap() {
            client[name] = value.clone();
        }
        client
    }
}
