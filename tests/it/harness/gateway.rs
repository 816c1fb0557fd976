//! The gateway as a deployer runs it: the real binary, a file, a folder, a process.

use std::io::{BufRead as _, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::app::App;
use super::browser::Browser;
use super::client::Door;
use super::clock::WallClock;
use super::folder;
use super::prepared::{self, prepared, vestibule};
use super::wait::until_blocking;
use super::{HOST, ORIGIN};

/// What a gateway said, line by line; it goes on while the process runs.
pub type Log = Arc<Mutex<Vec<String>>>;

/// A running gateway; ends with the test.
pub struct Gateway {
    pub addr: SocketAddr,
    pub admin: SocketAddr,
    pub folder: PathBuf,
    child: Child,
    logs: Log,
    clock: Option<Arc<WallClock>>,
    keep: Arc<tempfile::TempDir>,
    setup: Setup,
}

/// What a gateway will be like.
#[derive(Clone)]
pub struct Setup {
    server: String,
    limits: String,
    session: String,
    upstream: String,
    routes: String,
    more: String,
    store: String,
    tls: String,
    admin: String,
    app: SocketAddr,
    with_clock: bool,
    clock: Option<Arc<WallClock>>,
    login: String,
    shared: Option<Shared>,
    environment: Vec<(String, String)>,
    under: Vec<String>,
    on_disk: bool,
}

/// What several gateways have in common.
#[derive(Clone)]
struct Shared {
    /// The store as this one reaches it.
    store: SocketAddr,
    secret: PathBuf,
    clock: Option<Arc<WallClock>>,
}

/// The routes that most tests need: one of each kind.
const ROUTES: &str = r#"
[[route]]
path = "/"
upstream = "app"
access = "authenticated"

[[route]]
path = "/public"
upstream = "app"
access = "public"

[[route]]
path = "/optional"
upstream = "app"
access = "optional"

[[route]]
path = "/admin"
upstream = "app"
access = "authenticated"
allow = { groups = ["admins"] }

[[route]]
path = "/staff"
upstream = "app"
access = "authenticated"
allow = { groups = ["staff"] }

[[route]]
path = "/cors"
upstream = "app"
access = "authenticated"
preflight = "forward"

[[route]]
path = "/read"
upstream = "app"
access = "public"
methods = ["GET"]
"#;

impl Gateway {
    /// In front of this app, with a route of each kind and the accounts alice (staff, writers) and bob (no groups).
    pub fn before(app: &App) -> Setup {
        Gateway::at(app.addr)
    }

    pub fn at(app: SocketAddr) -> Setup {
        Setup {
            server: String::new(),
            limits: String::new(),
            session: String::new(),
            upstream: String::new(),
            routes: ROUTES.to_owned(),
            more: String::new(),
            store: String::new(),
            tls: "[tls]\nself_signed = true\n".to_owned(),
            admin: String::new(),
            app,
            with_clock: false,
            clock: None,
            login: "[login.local]\n".to_owned(),
            shared: None,
            environment: Vec::new(),
            under: Vec::new(),
            on_disk: false,
        }
    }

    pub fn door(&self) -> Door {
        Door::new(self.addr)
    }

    /// A browser without cookies.
    pub fn anon(&self) -> Browser {
        Browser::new(self.door())
    }

    /// A browser that has just signed in.
    pub async fn signed_in(&self, user: &str) -> Browser {
        self.anon().signed_in_as(user).await
    }

    /// A browser whose access token has run out, and which therefore no longer sends it.
    pub async fn expired(&self, user: &str) -> Browser {
        let browser = self.signed_in(user).await;
        self.outlive_access_token();
        browser.drop_cookie(super::ACCESS);
        browser
    }

    /// A browser with a session that somebody made up.
    pub fn forged(&self) -> Browser {
        let browser = self.anon();
        browser.put_cookie(
            super::ACCESS,
            &super::forge::Forge::stranger().access_for(self, "alice"),
        );
        browser.put_cookie(super::REFRESH, &super::forge::made_up_refresh_token());
        browser
    }

    pub fn clock(&self) -> &WallClock {
        self.clock.as_deref().expect("built with_clock()")
    }

    /// Six minutes, which is more than the default `access_ttl`.
    pub fn outlive_access_token(&self) {
        self.clock().advance(Duration::from_secs(360));
    }

    /// What the gateway takes for now, in seconds since 1970.
    pub fn now(&self) -> i64 {
        match &self.clock {
            Some(clock) => clock.now(),
            None => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                i64::try_from(now.as_secs()).unwrap()
            }
        }
    }

    pub fn file(&self) -> PathBuf {
        self.folder.join("gateway.toml")
    }

    /// Everything that it says, also when it is started again; for whoever cannot have the gateway itself.
    pub fn log(&self) -> Log {
        Arc::clone(&self.logs)
    }

    /// Everything it said so far on stdout and stderr.
    pub fn logs(&self) -> Vec<String> {
        self.logs.lock().unwrap().clone()
    }

    /// Log lines that contain all of these words.
    pub fn logged(&self, words: &[&str]) -> Vec<String> {
        self.logs()
            .into_iter()
            .filter(|line| words.iter().all(|word| line.contains(word)))
            .collect()
    }

    /// Waits for such a line: logs are written beside the request.
    pub async fn until_logged(&self, words: &[&str]) -> String {
        super::wait::until(&format!("a log line with {words:?}"), async || {
            self.logged(words).into_iter().next()
        })
        .await
    }

    /// A command of the same binary on the same file, while the gateway runs.
    pub fn command(&self, arguments: &[&str]) -> Output {
        self.command_with(arguments, "")
    }

    pub fn command_with(&self, arguments: &[&str], input: &str) -> Output {
        let file = self.file();
        let mut all = arguments.to_vec();
        all.extend(["-c", file.to_str().unwrap()]);
        let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
        command.args(&all);
        if let Some(clock) = &self.clock {
            clock.govern(&mut command);
        }
        prepared::run_with_input(&mut command, input)
    }

    pub fn add_user(&self, name: &str, options: &[&str]) {
        prepared::add_user(&self.file(), name, super::PASSWORD, options);
    }

    /// A page of the admin listener.
    pub async fn admin(&self, path: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let Ok(mut stream) = tokio::net::TcpStream::connect(self.admin).await else {
            return (0, String::new());
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
            self.admin
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let text = String::from_utf8_lossy(&answer).into_owned();
        (
            super::client::status_of(&answer),
            text.split_once("\r\n\r\n")
                .map_or(String::new(), |(_, body)| body.to_owned()),
        )
    }

    /// The sum of every sample of a metric whose labels contain all of `labels`.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let (status, text) = self.admin("/metrics").await;
        assert_eq!(status, 200, "{text}");
        text.lines()
            .filter(|line| {
                let rest = line.strip_prefix(name);
                rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
                    && labels.iter().all(|label| line.contains(label))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// As the kernel ends a process that nobody asked (power, memory).
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// As a service manager ends it.
    pub fn terminate(&mut self) -> ExitStatus {
        signal("TERM", self.child.id());
        self.ended()
    }

    /// Waits for its own end.
    pub fn ended(&mut self) -> ExitStatus {
        until_blocking("the gateway ends", || self.child.try_wait().unwrap())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The same file and folder in a new process.
    pub fn start_again(&mut self) {
        self.kill();
        self.logs
            .lock()
            .unwrap()
            .push("-- started again --".to_owned());
        let (child, addr, admin) =
            spawn(&self.folder, &self.setup, self.clock.as_deref(), &self.logs);
        self.child = child;
        self.addr = addr;
        self.admin = admin;
    }

    /// The processor time it has used, in ticks of 10 ms.
    pub fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        ticks_in(&stat)
    }

    /// The same of the threads that serve requests.
    pub fn serving_ticks(&self) -> u64 {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let mut workers = Vec::new();
        for thread in threads {
            // Others end at any time.
            let stat = std::fs::read_to_string(thread.unwrap().path().join("stat"));
            workers.extend(stat.ok().filter(|stat| stat.contains("(worker-")));
        }
        assert!(!workers.is_empty(), "no thread is called a worker");
        workers.iter().map(|stat| ticks_in(stat)).sum()
    }

    /// Its memory in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            * 1024
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the gateway in {} said:", self.keep.path().display());
            for line in self.logs().iter().rev().take(60).rev() {
                eprintln!("    {line}");
            }
        }
    }
}

impl Setup {
    /// Lines for `[server]`.
    pub fn server(mut self, lines: &str) -> Self {
        self.server = lines.to_owned();
        self
    }

    /// Lines for `[server.limits]`.
    pub fn limits(mut self, lines: &str) -> Self {
        self.limits = lines.to_owned();
        self
    }

    /// Lines for `[session]`.
    pub fn session(mut self, lines: &str) -> Self {
        self.session = lines.to_owned();
        self
    }

    /// Lines for the `[[upstream]]`.
    pub fn upstream(mut self, lines: &str) -> Self {
        self.upstream = lines.to_owned();
        self
    }

    /// Other routes instead of the usual ones.
    pub fn routes(mut self, tables: &str) -> Self {
        self.routes = tables.to_owned();
        self
    }

    /// Further tables.
    pub fn more(mut self, tables: &str) -> Self {
        self.more.push_str(tables);
        self
    }

    /// On a shared store: lines for `[store]`. All gateways of the tests have the same master key; the accounts are added by
    /// the command, once for each store.
    pub fn store(mut self, lines: &str) -> Self {
        self.store = lines.to_owned();
        self
    }

    /// Lines for `[admin]`.
    pub fn admin(mut self, lines: &str) -> Self {
        self.admin = lines.to_owned();
        self
    }

    pub fn tls(mut self, table: &str) -> Self {
        self.tls = table.to_owned();
        self
    }

    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Started by another program, which becomes it (`env`, `nice` …).
    pub fn under(mut self, program: &[&str]) -> Self {
        self.under = program.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// With its data on a real disk: for tests that are about what a disk does.
    pub fn on_disk(mut self) -> Self {
        self.on_disk = true;
        self
    }

    /// One node of several: with a store elsewhere, the secret in a file, and perhaps everybody's clock.
    pub fn on_redis(
        mut self,
        store: SocketAddr,
        secret: &Path,
        clock: Option<Arc<WallClock>>,
    ) -> Self {
        self.shared = Some(Shared {
            store,
            secret: secret.to_owned(),
            clock,
        });
        self
    }

    pub fn has_clock(&self) -> bool {
        self.with_clock
    }

    pub fn shared_clock(&self) -> Option<Arc<WallClock>> {
        self.clock.clone()
    }

    /// Whether people can sign in by the built-in accounts.
    pub fn has_accounts(&self) -> bool {
        self.login.contains("[login.local]")
    }

    /// With a wall clock that the test moves.
    pub fn with_clock(mut self) -> Self {
        self.with_clock = true;
        self
    }

    /// With a wall clock that others have as well.
    pub fn clock(mut self, clock: &Arc<WallClock>) -> Self {
        self.clock = Some(clock.clone());
        self
    }

    /// These sources of sign-in instead of the built-in accounts.
    pub fn login(mut self, tables: &str) -> Self {
        self.login = tables.to_owned();
        self
    }

    /// What goes into `gateway.toml`.
    pub fn text(&self, data: &Path) -> String {
        let Setup {
            server,
            limits,
            session,
            upstream,
            routes,
            more,
            store,
            tls,
            admin,
            app,
            login,
            ..
        } = self;
        let origin = if server.contains("origin") {
            String::new()
        } else {
            format!("origin = \"{ORIGIN}\"\n")
        };
        let (store, secret) = match &self.shared {
            Some(Shared { store, secret, .. }) => (
                format!("kind = \"redis\"\nurl = \"redis://{store}\""),
                format!("[secret]\nfile = {secret:?}"),
            ),
            None if store.is_empty() => (String::new(), String::new()),
            None => (store.clone(), "[secret]\nfile = \"secret\"".to_owned()),
        };
        format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\n{origin}{server}\n[server.limits]\n{limits}\n{tls}\n\
             [session]\n{session}\n[store]\npath = {data:?}\n{store}\n{secret}\n{login}\n[admin]\nlisten = \"127.0.0.1:0\"\n{admin}\n\
             [[upstream]]\nname = \"app\"\nurl = \"http://{app}\"\n{upstream}\n{routes}\n{more}\n"
        )
    }

    /// Writes the file and the folder, starts the binary, waits until it serves.
    pub fn run(self) -> Gateway {
        let keep = Arc::new(match self.on_disk {
            true => folder::on_disk(),
            false => folder::in_memory(),
        });
        let folder = keep.path().to_owned();
        if self.shared.is_none() {
            prepared().copy_to(&folder.join("data"));
        }
        std::fs::write(folder.join("gateway.toml"), self.text(&folder.join("data"))).unwrap();
        if !self.store.is_empty() {
            std::fs::write(
                folder.join("secret"),
                "the master key of all nodes of the tests",
            )
            .unwrap();
            if self.has_accounts() {
                add_accounts(&folder.join("gateway.toml"));
            }
        }
        let clock = match &self.shared {
            Some(shared) => shared.clock.clone(),
            None => self.clock.clone().or_else(|| {
                self.with_clock
                    .then(|| Arc::new(WallClock::in_folder(&folder)))
            }),
        };
        let logs = Arc::new(Mutex::new(Vec::new()));
        let (child, addr, admin) = spawn(&folder, &self, clock.as_deref(), &logs);
        Gateway {
            addr,
            admin,
            folder,
            child,
            logs,
            clock,
            keep,
            setup: self,
        }
    }
}

/// The accounts that every test knows, unless another node of the same store has added them.
pub fn add_accounts(file: &Path) {
    let alice = [
        "--email",
        "alice@example.com",
        "--group",
        "staff",
        "--group",
        "writers",
    ];
    for (name, options) in [("alice", alice.as_slice()), ("bob", &[])] {
        let added = prepared::try_add_user(file, name, super::PASSWORD, options);
        let said = String::from_utf8_lossy(&added.stderr);
        assert!(
            added.status.success() || said.contains("already"),
            "user add {name}: {said}"
        );
    }
}

/// The program under test; with `VESTIBULE_FORMER` = the binary of a former version, every other start is that one: how
/// versions get on with each other on one store is tried that way.
fn next_binary() -> std::ffi::OsString {
    static STARTS: AtomicUsize = AtomicUsize::new(0);
    std::env::var_os("VESTIBULE_FORMER")
        .filter(|_| STARTS.fetch_add(1, Ordering::Relaxed) % 2 == 1)
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_vestibule").into())
}

/// Starts `vestibule run` and waits for its first `listening on https://…`.
fn spawn(
    folder: &Path,
    setup: &Setup,
    clock: Option<&WallClock>,
    logs: &Log,
) -> (Child, SocketAddr, SocketAddr) {
    let binary = next_binary();
    let mut command = match setup.under.split_first() {
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).arg(binary);
            command
        }
        None => Command::new(binary),
    };
    command
        .args(["run", "-c", "gateway.toml"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .envs(setup.environment.iter().cloned());
    if let Some(clock) = clock {
        clock.govern(&mut command);
    }
    let mut child = command.spawn().expect("the binary starts");
    let already = logs.lock().unwrap().len();
    collect(child.stdout.take().unwrap(), logs.clone());
    collect(child.stderr.take().unwrap(), logs.clone());
    let (addr, admin) = until_blocking("`listening on …` and `admin on …` at start", || {
        let said = logs.lock().unwrap()[already..].to_vec();
        if let Some(status) = child.try_wait().unwrap() {
            panic!(
                "the gateway ended at start with {status}:\n{}",
                said.join("\n")
            );
        }
        let find = |words| said.iter().find_map(|line| address_after(line, words));
        find("listening on https://").zip(find("admin on http://"))
    });
    (child, addr, admin)
}

/// User and system time in a `stat` of /proc.
fn ticks_in(stat: &str) -> u64 {
    // The name in parentheses may contain anything; these are the 12th and 13th field after it.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// The address in a line that says where something listens.
pub fn address_after(line: &str, words: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(words)?;
    rest.split(|c: char| c != '.' && c != ':' && c != '[' && c != ']' && !c.is_ascii_hexdigit())
        .next()?
        .parse()
        .ok()
}

/// Sends a signal to one process, by the shell's own `kill`.
pub fn signal(name: &str, pid: u32) {
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -{name} {pid}")])
        .status()
        .unwrap();
    assert!(sent.success(), "kill -{name} {pid}");
}

pub fn collect(from: impl Read + Send + 'static, into: Arc<Mutex<Vec<String>>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n') {
            let Ok(line) = line else { return };
            into.lock()
                .unwrap()
                .push(String::from_utf8_lossy(&line).into_owned());
        }
    });
}

/// A port for programs that cannot be given port 0. Below the range that the system takes by itself, so that nobody else
/// comes by it, and no connection to it can end up at its own other end.
pub fn free_port() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let spread = u16::try_from(std::process::id() % 100).unwrap() * 80;
    for _ in 0..8000 {
        let port = 20_000 + (spread + NEXT.fetch_add(1, Ordering::SeqCst)) % 8000;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return listener.local_addr().unwrap();
        }
    }
    panic!("no port is free between 20000 and 28000");
}

/// `vestibule token inspect` on a token.
pub fn inspect(gateway: &Gateway, token: &str) -> Output {
    let file = gateway.file();
    vestibule(&["token", "inspect", "-c", file.to_str().unwrap()], token)
}

/// The header line that names the host, for raw requests.
pub fn host_line() -> String {
    format!("Host: {HOST}\r\n")
}
