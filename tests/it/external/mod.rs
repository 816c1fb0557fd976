//! `[external]`: in front of an app with tokens of its own, as many tutorials build it (`tests/apps/tutorial`), which takes a
//! second use of a refresh token for theft and ends the sign-in.

mod browser;
mod elsewhere;
mod expiry;
mod in_hand;
mod independent;
mod token_endpoint;
mod tokens;
mod trouble;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use url::Url;

use crate::apps::Program;
use crate::harness::browser::as_fetch;
use crate::harness::client::Answer;
use crate::harness::gateway::{Setup, free_port};
use crate::harness::wait::until;
use crate::harness::{Ask, Browser, Gateway, plain};

const ACCESS: &str = "access_token";
const REFRESH: &str = "refresh_token";
const ACCESS_SECRET: &str = "the secret of the tutorial's access tokens";
const REFRESH_SECRET: &str = "another one, of its refresh tokens";
const CLIENT_SECRET: &str = "s3cret: with /? and ü";

/// The app, and the second listener by which a test looks at it and breaks it.
struct Service {
    addr: SocketAddr,
    control: SocketAddr,
    folder: tempfile::TempDir,
    _program: Program,
}

impl Service {
    async fn start() -> Self {
        let (addr, control) = (free_port(), free_port());
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps/tutorial/control.mjs");
        let program = Program::start(
            Command::new("node")
                .arg(root)
                .args([addr.port().to_string(), control.port().to_string()])
                .env("ACCESS_SECRET", ACCESS_SECRET)
                .env("REFRESH_SECRET", REFRESH_SECRET)
                .env("CLIENT_SECRET", CLIENT_SECRET),
            control,
        )
        .await;
        until("the app to listen", async || {
            tokio::net::TcpStream::connect(addr).await.ok()
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("hs256.key"), ACCESS_SECRET).unwrap();
        std::fs::write(folder.path().join("client"), CLIENT_SECRET).unwrap();
        Service {
            addr,
            control,
            folder,
            _program: program,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn control(&self, ask: Ask) -> Value {
        let url = Url::parse(&format!("http://{}{}", self.control, ask.target)).unwrap();
        plain::ask(&url, ask).await.expect("the app runs").json()
    }

    async fn state(&self) -> Value {
        self.control(Ask::get("/state")).await
    }

    async fn set(&self, knobs: Value) {
        let ask = Ask::new("POST", "/set").body(knobs.to_string());
        self.control(ask).await;
    }

    async fn release(&self) {
        self.control(Ask::new("POST", "/release")).await;
    }

    async fn forget(&self) {
        self.control(Ask::new("POST", "/forget")).await;
    }

    /// How often a refresh token was presented to it.
    async fn refreshes(&self) -> usize {
        self.state().await["refreshes"].as_array().unwrap().len()
    }

    /// How many sign-ins it has ended, and how often it took somebody for a thief.
    async fn ended(&self) -> (u64, u64) {
        let state = self.state().await;
        (
            state["ended"].as_u64().unwrap(),
            state["reuses"].as_u64().unwrap(),
        )
    }

    async fn until_held(&self) {
        until("the service holds a refresh call", async || {
            (self.state().await["waiting"] == 1).then_some(())
        })
        .await;
    }

    /// The requests it received at these paths.
    async fn received(&self, prefix: &str) -> Vec<Value> {
        let state = self.state().await;
        let all = state["requests"].as_array().unwrap().iter();
        all.filter(|request| request["path"].as_str().unwrap().starts_with(prefix))
            .cloned()
            .collect()
    }

    /// What `[external]` has in common everywhere.
    fn basics(&self) -> String {
        format!(
            "[external]\nissuer = \"https://app.test\"\naudience = \"app\"\nalgorithms = [\"HS256\"]\nsecret_file = {:?}\n\
             login_url = \"/login\"\ntrust_email = true\nclaims = {{ groups = \"roles\" }}\n",
            self.file("hs256.key")
        )
    }

    /// As in the contract, with these further lines.
    fn external(&self, lines: &str) -> String {
        let refresh = format!("refresh_url = \"http://{}/auth/refresh\"", self.addr);
        format!("{}{refresh}\n{lines}\n", self.basics())
    }

    /// A gateway in front of it, with a wall clock that [`Pair::outlive`] moves.
    fn gateway(&self, lines: &str) -> Setup {
        self.gateway_with(&self.external(lines))
    }

    fn gateway_with(&self, external: &str) -> Setup {
        Gateway::at(self.addr)
            .login(external)
            .routes(ROUTES)
            .with_clock()
    }
}

const ROUTES: &str = r#"
[[route]]
upstream = "app"

[[route]]
path = "/staff"
upstream = "app"
allow = { groups = ["staff"] }

[[route]]
path = "/staff/here"
upstream = "app"
allow = { groups = ["external:staff"] }

[[route]]
path = "/optional"
upstream = "app"
access = "optional"

[[route]]
path = "/login"
upstream = "app"
access = "public"

[[route]]
path = "/logout"
upstream = "app"
access = "public"

[[route]]
path = "/open"
upstream = "app"
access = "public"
"#;

/// A browser that has signed in at the app's own page, through the gateway.
async fn signed_in(gateway: &Gateway, user: &str) -> Browser {
    let browser = gateway.anon();
    let password = match user {
        "alice" => "wonderland",
        _ => "builder",
    };
    let form = format!("username={user}&password={password}&rd=/");
    let ask = Ask::post("/login", form)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("sec-fetch-site", "same-origin");
    let answer = browser.send(ask).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert!(browser.cookie(ACCESS).is_some() && browser.cookie(REFRESH).is_some());
    browser
}

/// Six minutes pass for everybody: more than an access token lives.
async fn outlive(gateway: &Gateway, service: &Service) {
    gateway.clock().advance(Duration::from_secs(360));
    let ahead = gateway.now() - now();
    service.set(json!({ "clock": ahead })).await;
}

fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(now.unwrap().as_secs()).unwrap()
}

/// As `fetch()`, with the cookies of this moment, on a connection of its own; the jar stays as it is.
async fn aside(browser: &Browser, target: &str) -> Answer {
    browser.copy().get(target).await
}

/// As `fetch()` with exactly this refresh token and no access token.
async fn with_refresh(gateway: &Gateway, token: &str, target: &str) -> Answer {
    let ask = as_fetch(Ask::get(target)).header("cookie", format!("{REFRESH}={token}"));
    gateway.door().ask(ask).await
}

/// Whether an answer says anything about the two cookies.
fn touches(answer: &Answer) -> bool {
    answer
        .all("set-cookie")
        .iter()
        .any(|line| line.starts_with(ACCESS) || line.starts_with(REFRESH))
}

/// The value that a request had in a cookie.
fn cookie_of(request: &Value, name: &str) -> Option<String> {
    let line = request["headers"]["cookie"].as_str()?;
    let pair = line
        .split("; ")
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    Some(pair.to_owned())
}

#[tokio::test]
async fn the_app_that_signs_people_in_goes_on_as_before_and_gets_identity_headers() {
    let service = Service::start().await;
    let gateway = service.gateway("").run();
    let nobody = gateway.anon();
    let answer = nobody.navigate("/notes?tab=2").await;
    assert_eq!(answer.status, 303);
    assert_eq!(
        answer.header("location"),
        Some("/login?rd=/notes%3Ftab%3D2")
    );
    let answer = nobody.get("/notes").await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.json()["login_url"], "/login?rd=/notes");
    assert_eq!(nobody.get("/open").await.status, 200);

    let alice = signed_in(&gateway, "alice").await;
    service.forget().await;
    let answer = alice.get("/notes").await;
    assert_eq!(answer.status, 200);
    let seen = answer.json();
    // Its own cookies, which it reads itself, and what the gateway says.
    assert_eq!(seen["user"], "alice");
    assert_eq!(seen["headers"]["x-forwarded-user"], "alice");
    assert_eq!(seen["headers"]["x-forwarded-email"], "alice@example.com");
    assert_eq!(seen["headers"]["x-forwarded-groups"], "staff,writers");
    assert!(!touches(&answer));
    assert_eq!(alice.get("/optional").await.json()["user"], "alice");
    let bob = signed_in(&gateway, "bob").await;
    for path in ["/staff", "/staff/here"] {
        assert_eq!(alice.get(path).await.status, 200, "{path}");
        assert_eq!(bob.get(path).await.status, 403, "{path}");
    }
    assert_eq!(service.refreshes().await, 0);

    // What is left of our own endpoints.
    let me = alice.get("/.auth/me").await;
    assert_eq!(me.status, 200);
    let me = me.json();
    assert_eq!(
        (&me["user"], &me["provider"]),
        (&json!("alice"), &json!("external"))
    );
    assert_eq!(me["session"], Value::Null);
    assert!(!me.to_string().contains(&alice.cookie(ACCESS).unwrap()));
    let login = nobody.navigate("/.auth/login?rd=/notes").await;
    assert_eq!(
        (login.status, login.header("location")),
        (303, Some("/login?rd=/notes"))
    );
    let login = alice.navigate("/.auth/login?rd=/notes").await;
    assert_eq!(
        (login.status, login.header("location")),
        (303, Some("/notes"))
    );
    for path in ["/.auth/logout", "/.auth/sessions", "/.auth/nothing"] {
        assert_eq!(alice.navigate(path).await.status, 404, "{path}");
    }
    let form = Ask::post("/.auth/login", "username=alice&password=x&rd=/")
        .header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(alice.send(form).await.status, 404);
}

#[tokio::test]
async fn signing_out_is_the_services_business_and_the_gateway_leads_there() {
    let service = Service::start().await;
    let gateway = service
        .gateway("logout_url = \"/logout?from=gateway\"")
        .run();
    let alice = signed_in(&gateway, "alice").await;
    let answer = alice.navigate("/.auth/logout").await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/logout?from=gateway"))
    );
    let answer = alice.send(Ask::post("/.auth/logout", "")).await;
    assert_eq!(answer.status, 303);
    let evil = Ask::new("POST", "/.auth/logout").header("origin", "https://evil.test");
    assert_eq!(alice.send(evil).await.status, 403);
    assert!(
        alice.cookie(ACCESS).is_some(),
        "it was the service's to delete"
    );
}

#[tokio::test]
async fn csrf_is_refused_as_for_our_own_cookies_and_before_anything_is_spent() {
    let service = Service::start().await;
    let gateway = service.gateway("").run();
    let alice = signed_in(&gateway, "alice").await;
    let evil = || Ask::new("POST", "/notes").header("origin", "https://evil.test");
    assert_eq!(alice.send(evil()).await.status, 403);
    outlive(&gateway, &service).await;
    assert_eq!(alice.send(evil()).await.status, 403);
    assert_eq!(service.refreshes().await, 0);
    assert_eq!(alice.send(Ask::post("/notes", "text")).await.status, 200);
    assert_eq!(service.refreshes().await, 1);
}

#[tokio::test]
async fn f02_two_values_of_a_cookie_are_nobodys_session_for_the_service_neither() {
    let service = Service::start().await;
    let gateway = service.gateway("").run();
    let alice = signed_in(&gateway, "alice").await;
    let (access, refresh) = (
        alice.cookie(ACCESS).unwrap(),
        alice.cookie(REFRESH).unwrap(),
    );
    service.forget().await;
    for line in [
        format!("{ACCESS}=evil; {ACCESS}={access}"),
        format!("{ACCESS}={access}; {ACCESS}=evil; {REFRESH}={refresh}"),
        format!("{REFRESH}=evil; x=1; {REFRESH}={refresh}"),
    ] {
        let ask = |path: &str| as_fetch(Ask::get(path)).header("cookie", &line);
        assert_eq!(
            gateway.door().ask(ask("/notes")).await.status,
            401,
            "{line}"
        );
        let open = gateway.door().ask(ask("/open")).await.json();
        assert_eq!(open["user"], Value::Null, "{line}");
        let cookies = open["headers"]["cookie"].as_str().unwrap_or("");
        assert!(!cookies.contains("_token"), "{cookies}");
    }
    gateway.until_logged(&["cookie_conflict"]).await;
    // Look-alikes are other cookies.
    let ask = as_fetch(Ask::get("/notes")).header(
        "cookie",
        format!("ACCESS_TOKEN=evil; {ACCESS}={access}; x{ACCESS}=y"),
    );
    assert_eq!(gateway.door().ask(ask).await.status, 200);
    assert_eq!(service.refreshes().await, 0);
}
