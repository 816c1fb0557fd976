//! Real Redis servers that a test starts for itself: one, a master with replica and Sentinels, a cluster; over TLS; and what
//! can happen to them.
//!
//! Used by the end-to-end tests and by the unit tests of the store, so it stands on its own.
#![allow(
    dead_code,
    reason = "included by two test binaries, each of which uses a part"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "real processes are waited for on the real clock"
)]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// Everybody's password at a server that wants one.
pub const REDIS_PASSWORD: &str = "a password of the store, 0!";
/// That of the Sentinels that watch such a server.
pub const SENTINEL_PASSWORD: &str = "another, of the Sentinels";
/// The user of the gateway at such a server.
pub const REDIS_USER: &str = "vestibule";

/// Lines of a server that takes long to load what it has.
const SLOWLY: &str = "key-load-delay 100000\nloading-process-events-interval-bytes 1024\n";

const DEADLINE: Duration = Duration::from_secs(30);

/// What a server is started with.
#[derive(Clone, Default)]
pub struct RedisOptions {
    /// Wants TLS and a user with a password.
    pub secured: bool,
    /// Where the certificate of a secured server is copied from, when several share one; else it has its own.
    pub certificates: Option<PathBuf>,
    /// Part of a cluster.
    pub cluster: bool,
    /// The port of its master.
    pub replica_of: Option<u16>,
    /// Further lines of its configuration.
    pub lines: String,
    /// Another server of the same kind instead of `redis-server`.
    pub program: Option<PathBuf>,
}

/// A server and its folder; it ends with this value.
pub struct RedisServer {
    pub port: u16,
    folder: tempfile::TempDir,
    options: RedisOptions,
    child: Option<Child>,
}

impl RedisServer {
    /// One that keeps what it acknowledged.
    pub fn start() -> Self {
        Self::with(RedisOptions::default())
    }

    pub fn with(options: RedisOptions) -> Self {
        for _ in 0..20 {
            let mut server = RedisServer {
                port: free_port(),
                folder: tempfile::Builder::new()
                    .prefix("vestibule-redis-")
                    .tempdir()
                    .unwrap(),
                options: options.clone(),
                child: None,
            };
            match &options.certificates {
                Some(from) => copy_certificates(from, server.folder.path()),
                None if options.secured => write_certificates(server.folder.path()),
                None => {}
            }
            if server.try_start() {
                return server;
            }
        }
        panic!("redis-server does not start");
    }

    /// The same server again, with what it has on its disk.
    pub fn start_again(&mut self) {
        self.kill();
        assert!(self.try_start(), "redis-server does not start again");
    }

    /// The same server again, which takes long to read what it has on its disk; returns while it does.
    pub fn start_again_slowly(&mut self) {
        // A tenth of a second for each key, and clients are answered in between.
        let filler =
            "for i = 1, 1000 do redis.call('SET', 'filler' .. i, string.rep('x', 2000)) end";
        self.cli(&["CONFIG", "SET", "rdbcompression", "no"]);
        self.cli(&["EVAL", filler, "0"]);
        self.rewrite_log();
        self.kill();
        let file = self.folder.path().join("redis.conf");
        let mut text = std::fs::read_to_string(&file).unwrap();
        text.push_str(SLOWLY);
        std::fs::write(&file, text).unwrap();
        self.child = Some(spawn(self.options.program.as_deref(), &file));
        wait("the server loads", || {
            self.try_cli(&["PING"])
                .is_some_and(|said| said.contains("LOADING"))
        });
    }

    /// Has the server write its append-only file anew, and waits until the process that does so has ended.
    pub fn rewrite_log(&self) {
        self.cli(&["BGREWRITEAOF"]);
        wait("the log is rewritten", || {
            let said = self.cli(&["INFO", "persistence"]);
            said.contains("aof_rewrite_in_progress:0") && said.contains("aof_rewrite_scheduled:0")
        });
    }

    /// After [`RedisServer::start_again_slowly`].
    pub fn start_again_quickly(&mut self) {
        self.kill();
        let file = self.folder.path().join("redis.conf");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace(SLOWLY, "")).unwrap();
        self.start_again();
    }

    fn try_start(&mut self) -> bool {
        let folder = self.folder.path();
        // What is acknowledged is in the file by then, and so survives a kill. With `everysec` the server puts off even the
        // writing while the disk is busy with an earlier fsync; with `always` tests would wait for the disk.
        let mut text = format!(
            "bind 127.0.0.1\ndir {folder:?}\nsave \"\"\nappendonly yes\nappendfsync no\n\
             daemonize no\nlogfile \"\"\nrepl-diskless-sync-delay 0\n{}\n",
            self.options.lines
        );
        match self.options.secured {
            false => text.push_str(&format!("port {}\n", self.port)),
            true => text.push_str(&format!(
                "{}user default off ~* &* +@all\nmasteruser admin\nmasterauth \"{REDIS_PASSWORD}\"\n\
                 user {REDIS_USER} on >\"{REDIS_PASSWORD}\" ~vestibule:* +@all -@dangerous +role +info\n\
                 user admin on >\"{REDIS_PASSWORD}\" ~* &* +@all\n",
                over_tls(self.port)
            )),
        }
        if self.options.cluster {
            text.push_str("cluster-enabled yes\ncluster-node-timeout 1500\n");
            if self.options.secured {
                text.push_str("tls-cluster yes\n");
            }
        }
        if let Some(master) = self.options.replica_of {
            text.push_str(&format!("replicaof 127.0.0.1 {master}\n"));
        }
        // A Sentinel that has taken over the configuration has written it anew.
        let file = folder.join("redis.conf");
        if !file.exists() {
            std::fs::write(&file, text).unwrap();
        }
        self.child = Some(spawn(self.options.program.as_deref(), &file));
        let started = Instant::now();
        while started.elapsed() < DEADLINE {
            if self.child.as_mut().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            if self.try_cli(&["PING"]).is_some_and(|said| said == "PONG") {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// As a process that crashes.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// It stays, and does nothing.
    pub fn pause(&self) {
        signal("STOP", self.pid());
    }

    pub fn resume(&self) {
        signal("CONT", self.pid());
    }

    /// Runs a command by the server's own tool; what it said.
    pub fn cli(&self, words: &[&str]) -> String {
        self.try_cli(words)
            .unwrap_or_else(|| panic!("redis-cli {words:?} failed"))
    }

    /// The same; `None` when the server broke off, or is not there.
    pub fn try_cli(&self, words: &[&str]) -> Option<String> {
        let mut command = self.tool();
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        let output = command.args(words).stdin(Stdio::null()).output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// The server's own tool, as its administrator.
    fn tool(&self) -> Command {
        let mut command = Command::new("redis-cli");
        if self.options.secured {
            command
                .args(["--tls", "--cacert", "ca.pem", "--user", "admin"])
                .env("REDISCLI_AUTH", REDIS_PASSWORD)
                .current_dir(self.folder.path());
        }
        command
    }

    /// `store.url`.
    pub fn url(&self) -> String {
        match self.options.secured {
            false => format!("redis://127.0.0.1:{}", self.port),
            true => format!("rediss://localhost:{}", self.port),
        }
    }

    /// The certificate authority of a secured server.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Where it keeps its data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Lines for `[store]` of a gateway on this server.
    pub fn store_lines(&self) -> String {
        let lines = store_lines(&self.url());
        match self.options.secured {
            false => lines,
            true => format!(
                "{}\nca = {:?}\npassword_file = {:?}\n",
                lines.replace("://", &format!("://{REDIS_USER}@")),
                self.ca(),
                self.password_file()
            ),
        }
    }

    fn password_file(&self) -> PathBuf {
        let path = self.folder.path().join("password");
        std::fs::write(&path, REDIS_PASSWORD).unwrap();
        path
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Lines for `[store]` of a gateway.
pub fn store_lines(url: &str) -> String {
    format!("kind = \"redis\"\nurl = \"{url}\"\n")
}

/// A master, a replica, and three Sentinels that watch them.
pub struct Watched {
    pub master: RedisServer,
    pub replica: RedisServer,
    pub sentinels: Vec<RedisSentinel>,
}

pub struct RedisSentinel {
    pub port: u16,
    folder: tempfile::TempDir,
    secured: bool,
    child: Child,
}

impl Watched {
    pub fn start() -> Self {
        Self::with(RedisOptions::default())
    }

    /// Over TLS, with passwords everywhere: that of the Sentinels is their own.
    pub fn secured() -> Self {
        Self::with(RedisOptions {
            secured: true,
            ..RedisOptions::default()
        })
    }

    /// Servers that are started with this.
    pub fn with(options: RedisOptions) -> Self {
        let master = RedisServer::with(options.clone());
        let replica = RedisServer::with(RedisOptions {
            replica_of: Some(master.port),
            certificates: options.secured.then(|| master.folder().to_owned()),
            ..options
        });
        wait("the replica follows", || {
            replica
                .cli(&["INFO", "replication"])
                .contains("master_link_status:up")
        });
        let sentinels: Vec<_> = (0..3).map(|_| RedisSentinel::start(&master)).collect();
        wait("the Sentinels know each other and the replica", || {
            sentinels.iter().all(|sentinel| {
                let said = sentinel.cli(&["SENTINEL", "MASTER", "main"]);
                let after = |name: &str| {
                    let mut lines = said.lines();
                    lines.find(|line| *line == name)?;
                    lines.next().map(str::to_owned)
                };
                after("num-slaves").as_deref() == Some("1")
                    && after("num-other-sentinels").as_deref() == Some("2")
            })
        });
        Watched {
            master,
            replica,
            sentinels,
        }
    }

    pub fn url(&self) -> String {
        let places: Vec<_> = self
            .sentinels
            .iter()
            .map(|sentinel| format!("127.0.0.1:{}", sentinel.port))
            .collect();
        let scheme = scheme(self.master.options.secured);
        format!("{scheme}+sentinel://{}/main", places.join(","))
    }
}

impl RedisSentinel {
    fn start(master: &RedisServer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let secured = master.options.secured;
        let how = match secured {
            false => format!("port {port}\n"),
            true => {
                copy_certificates(master.folder(), folder.path());
                format!(
                    "{}requirepass \"{SENTINEL_PASSWORD}\"\nsentinel sentinel-pass \"{SENTINEL_PASSWORD}\"\n",
                    over_tls(port)
                )
            }
        };
        let mut text = format!(
            "{how}bind 127.0.0.1\ndir {:?}\nsentinel monitor main 127.0.0.1 {} 2\n\
             sentinel down-after-milliseconds main 700\nsentinel failover-timeout main 5000\n",
            folder.path(),
            master.port
        );
        if secured {
            text.push_str(&format!(
                "sentinel auth-user main admin\nsentinel auth-pass main \"{REDIS_PASSWORD}\"\n"
            ));
        }
        let file = folder.path().join("sentinel.conf");
        std::fs::write(&file, text).unwrap();
        let mut program = match &master.options.program {
            None => Command::new("redis-sentinel"),
            // The same program is both, as told.
            Some(server) => Command::new(server),
        };
        let child = program
            .arg(&file)
            .arg("--sentinel")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-sentinel is installed (scripts/test --install)");
        let sentinel = RedisSentinel {
            port,
            folder,
            secured,
            child,
        };
        wait("the Sentinel answers", || sentinel.cli(&["PING"]) == "PONG");
        sentinel
    }

    pub fn cli(&self, words: &[&str]) -> String {
        let mut tool = Command::new("redis-cli");
        if self.secured {
            tool.args(["--tls", "--cacert", "ca.pem"])
                .env("REDISCLI_AUTH", SENTINEL_PASSWORD)
                .current_dir(self.folder.path());
        }
        let output = tool
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(words)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for RedisSentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Three masters that share the slots.
pub struct RedisCluster {
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    pub fn start() -> Self {
        Self::with("")
    }

    /// With further lines of each node's configuration.
    pub fn with(lines: &str) -> Self {
        Self::of((0..3).map(|_| RedisCluster::node(lines)).collect())
    }

    /// Over TLS, with a password.
    pub fn secured() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_certificates(folder.path());
        Self::made_with(RedisOptions {
            secured: true,
            certificates: Some(folder.path().to_owned()),
            ..RedisOptions::default()
        })
    }

    /// Of nodes that are started with this.
    pub fn made_with(options: RedisOptions) -> Self {
        let options = RedisOptions {
            cluster: true,
            ..options
        };
        let node = |_| RedisServer::with(options.clone());
        Self::of((0..3).map(node).collect())
    }

    fn of(nodes: Vec<RedisServer>) -> Self {
        let places: Vec<_> = nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port))
            .collect();
        let made = nodes[0]
            .tool()
            .args(["--cluster", "create"])
            .args(&places)
            .arg("--cluster-yes")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stdout)
        );
        let cluster = RedisCluster { nodes };
        cluster.settled();
        cluster
    }

    fn node(lines: &str) -> RedisServer {
        RedisServer::with(RedisOptions {
            cluster: true,
            lines: lines.to_owned(),
            ..RedisOptions::default()
        })
    }

    /// Gives one of the nodes a replica, which has all of its data when this returns; its number.
    pub fn add_replica_of(&mut self, master: usize) -> usize {
        let replica = RedisCluster::node("");
        let place = |node: &RedisServer| format!("127.0.0.1:{}", node.port);
        let id = self.nodes[master].cli(&["CLUSTER", "MYID"]);
        let added = Command::new("redis-cli")
            .args(["--cluster", "add-node"])
            .args([place(&replica), place(&self.nodes[master])])
            .args(["--cluster-slave", "--cluster-master-id", &id])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            added.status.success(),
            "{}",
            String::from_utf8_lossy(&added.stdout)
        );
        wait("the replica follows", || {
            let said = replica.cli(&["INFO", "replication"]);
            said.contains("master_link_status:up")
        });
        self.nodes.push(replica);
        self.settled();
        self.nodes.len() - 1
    }

    /// Makes a replica the owner of its master's slots although the master is gone, as an operator would who does not wait
    /// for the others to vote.
    pub fn take_over(&self, replica: usize) {
        self.nodes[replica].cli(&["CLUSTER", "FAILOVER", "TAKEOVER"]);
    }

    /// Waits until all nodes agree that all is well.
    pub fn settled(&self) {
        let known = format!("cluster_known_nodes:{}", self.nodes.len());
        wait("the cluster is well", || {
            self.nodes.iter().all(|node| {
                let said = node.cli(&["CLUSTER", "INFO"]);
                said.contains("cluster_state:ok") && said.contains(&known)
            })
        });
    }

    /// Which node holds a key.
    pub fn owner_of(&self, key: &str) -> usize {
        let slot = self.nodes[0].cli(&["CLUSTER", "KEYSLOT", key]);
        let found = self.nodes.iter().position(|node| {
            node.cli(&["CLUSTER", "COUNTKEYSINSLOT", &slot]) != "0"
                && node.cli(&["EXISTS", key]) == "1"
        });
        found.unwrap_or_else(|| panic!("nobody holds {key}"))
    }

    /// Moves that many slots, with what is in them, while everybody goes on.
    pub fn move_slots(&self, from: usize, to: usize, count: usize) {
        let id = |node: &RedisServer| node.cli(&["CLUSTER", "MYID"]);
        let moved = Command::new("redis-cli")
            .args(["--cluster", "reshard"])
            .arg(format!("127.0.0.1:{}", self.nodes[from].port))
            .args(["--cluster-from", &id(&self.nodes[from])])
            .args(["--cluster-to", &id(&self.nodes[to])])
            .args(["--cluster-slots", &count.to_string(), "--cluster-yes"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            moved.status.success(),
            "{}",
            String::from_utf8_lossy(&moved.stdout)
        );
        self.settled();
    }

    pub fn url(&self) -> String {
        let places: Vec<_> = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port))
            .collect();
        let scheme = scheme(self.nodes[0].options.secured);
        format!("{scheme}+cluster://{}", places.join(","))
    }
}

fn spawn(program: Option<&Path>, file: &Path) -> Child {
    Command::new(program.unwrap_or("redis-server".as_ref()))
        .arg(file)
        .current_dir(file.parent().unwrap())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed (scripts/test --install)")
}

fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(name: &str, pid: u32) {
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -{name} {pid}")])
        .status()
        .unwrap();
    assert!(sent.success(), "kill -{name} {pid}");
}

/// Redis cannot be given port 0, and one that is started again wants the port that it had. So each test process takes a
/// range for itself, between 13000 and 19000: below what the system takes by itself, and with room for the second port of
/// a cluster's node, which lies 10000 higher.
fn free_port() -> u16 {
    const RANGE: u16 = 120;
    /// Whoever listens here has the range; until its process ends.
    static TAKEN: OnceLock<(TcpListener, u16)> = OnceLock::new();
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let listen = |port| TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let (_, first) = TAKEN.get_or_init(|| {
        let mut ranges = 0..50u16;
        ranges
            .find_map(|range| Some((listen(12_900 + range).ok()?, 13_000 + range * RANGE)))
            .expect("a range of ports")
    });
    for _ in 0..RANGE {
        let port = first + NEXT.fetch_add(1, Ordering::SeqCst) % RANGE;
        if listen(port).is_ok() && listen(port + 10_000).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

fn scheme(secured: bool) -> &'static str {
    match secured {
        true => "rediss",
        false => "redis",
    }
}

/// Lines of a server, or a Sentinel, that is reached over TLS and reaches others so.
fn over_tls(port: u16) -> String {
    format!(
        "port 0\ntls-port {port}\ntls-cert-file cert.pem\ntls-key-file key.pem\ntls-ca-cert-file ca.pem\n\
         tls-auth-clients no\ntls-replication yes\n"
    )
}

fn copy_certificates(from: &Path, to: &Path) {
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

/// An authority of its own, and a certificate of it for `localhost` and its address.
pub fn write_certificates(folder: &Path) {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority
        .distinguished_name
        .push(rcgen::DnType::CommonName, "store test authority");
    let certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(["localhost", "127.0.0.1"].map(str::to_owned))
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    std::fs::write(folder.join("ca.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("cert.pem"), leaf.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}
