//! A network that fails: a TCP proxy in front of a gateway or a store, without any idea of what it carries.
//!
//! It can lose what comes back, delay it, break every connection, refuse new ones, or keep them open and carry nothing.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

#[derive(Clone)]
pub struct Chaos {
    pub addr: SocketAddr,
    state: Arc<State>,
}

struct State {
    to: SocketAddr,
    swallow: AtomicBool,
    swallowed: AtomicU64,
    open: AtomicUsize,
    cut: Notify,
    refuse: AtomicBool,
    /// Whether bytes go on, in either direction.
    flows: watch::Sender<bool>,
    /// Once a client says this, every answer is lost, beginning with the answer to this.
    last_words: Mutex<Option<Vec<u8>>>,
    /// A connection on which a client says this hears nothing from then on; the others do.
    mute: Mutex<Option<Vec<u8>>>,
    /// Each piece of an answer waits between these two.
    delay: Mutex<(Duration, Duration)>,
}

impl Chaos {
    pub async fn before(to: SocketAddr) -> Self {
        network().spawn(Chaos::start(to)).await.unwrap()
    }

    async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let chaos = Chaos {
            addr: listener.local_addr().unwrap(),
            state: Arc::new(State {
                to,
                swallow: AtomicBool::new(false),
                swallowed: AtomicU64::new(0),
                open: AtomicUsize::new(0),
                cut: Notify::new(),
                refuse: AtomicBool::new(false),
                flows: watch::Sender::new(true),
                last_words: Mutex::default(),
                mute: Mutex::default(),
                delay: Mutex::default(),
            }),
        };
        let state = chaos.state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if state.refuse.load(Ordering::SeqCst) {
                    continue;
                }
                let state = state.clone();
                tokio::spawn(async move {
                    state.open.fetch_add(1, Ordering::SeqCst);
                    let cut = state.cut.notified();
                    tokio::select! {
                        _ = pass(client, &state) => {}
                        () = cut => {}
                    }
                    state.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        chaos
    }

    /// From now on nothing that the other side says arrives; what clients say still does.
    pub fn swallow_answers(&self) {
        self.state.swallowed.store(0, Ordering::SeqCst);
        self.state.swallow.store(true, Ordering::SeqCst);
    }

    /// As [`Self::swallow_answers`] from the moment on that a client says `words`, which still arrive.
    pub fn swallow_answers_to(&self, words: &str) {
        self.state.swallowed.store(0, Ordering::SeqCst);
        *self.state.last_words.lock().unwrap() = Some(words.as_bytes().to_vec());
    }

    /// Each connection on which a client says `words` hears nothing from then on; the others are as they were.
    pub fn mute(&self, words: &str) {
        *self.state.mute.lock().unwrap() = Some(words.as_bytes().to_vec());
    }

    /// How many bytes of answers were lost.
    pub fn swallowed(&self) -> u64 {
        self.state.swallowed.load(Ordering::SeqCst)
    }

    /// Every connection breaks; new ones work again.
    pub fn cut(&self) {
        self.state.cut.notify_waiters();
        self.state.swallow.store(false, Ordering::SeqCst);
    }

    /// Every connection breaks, and new ones end as they begin, until [`Self::mend`].
    pub fn down(&self) {
        self.state.refuse.store(true, Ordering::SeqCst);
        self.cut();
    }

    /// Nothing passes in either direction and nothing breaks (as when a cable is pulled), until [`Self::mend`].
    pub fn stall(&self) {
        self.state.flows.send_replace(false);
    }

    /// Each piece of an answer takes so long, at random between the two, in order.
    pub fn delay(&self, least: Duration, most: Duration) {
        *self.state.delay.lock().unwrap() = (least, most);
    }

    /// All is well again.
    pub fn mend(&self) {
        self.delay(Duration::ZERO, Duration::ZERO);
        *self.state.last_words.lock().unwrap() = None;
        *self.state.mute.lock().unwrap() = None;
        self.state.refuse.store(false, Ordering::SeqCst);
        self.state.swallow.store(false, Ordering::SeqCst);
        self.state.flows.send_replace(true);
    }
}

/// A thread of its own: it carries bytes while a test waits for a process to start or to end.
fn network() -> &'static Runtime {
    static NETWORK: OnceLock<Runtime> = OnceLock::new();
    NETWORK.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder
            .worker_threads(1)
            .thread_name("network")
            .enable_all();
        builder.build().unwrap()
    })
}

async fn pass(client: TcpStream, state: &State) -> std::io::Result<()> {
    let server = TcpStream::connect(state.to).await?;
    let _ = server.set_nodelay(true);
    let _ = client.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mute = AtomicBool::new(false);
    let up = relay(from_client, to_server, state, |piece| {
        let says = |words: &Mutex<Option<Vec<u8>>>| {
            let words = words.lock().unwrap();
            let said = |words: &Vec<u8>| piece.windows(words.len()).any(|at| at == words);
            words.as_ref().is_some_and(said)
        };
        if says(&state.last_words) {
            state.swallow.store(true, Ordering::SeqCst);
        }
        if says(&state.mute) {
            mute.store(true, Ordering::SeqCst);
        }
        Some(Duration::ZERO)
    });
    let down = relay(from_server, to_client, state, |piece| {
        if state.swallow.load(Ordering::SeqCst) || mute.load(Ordering::SeqCst) {
            state
                .swallowed
                .fetch_add(piece.len() as u64, Ordering::SeqCst);
            return None;
        }
        let (least, most) = *state.delay.lock().unwrap();
        Some(between(least, most))
    });
    tokio::try_join!(up, down).map(|_| ())
}

/// One direction: `fate` says of each piece how long it takes, or that it is lost.
async fn relay(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    state: &State,
    fate: impl Fn(&[u8]) -> Option<Duration>,
) -> std::io::Result<()> {
    let (queue, mut queued) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
    let read = async move {
        let mut buffer = vec![0; 16 << 10];
        let mut last = Instant::now();
        loop {
            let n = from.read(&mut buffer).await?;
            if n == 0 {
                return Ok(());
            }
            let Some(delay) = fate(&buffer[..n]) else {
                continue;
            };
            last = last.max(Instant::now() + delay);
            if queue.send((last, buffer[..n].to_vec())).await.is_err() {
                return Ok(());
            }
        }
    };
    let write = async move {
        let mut flows = state.flows.subscribe();
        while let Some((due, bytes)) = queued.recv().await {
            if due > Instant::now() {
                tokio::time::sleep_until(due).await;
            }
            let _ = flows.wait_for(|flows| *flows).await;
            to.write_all(&bytes).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(|_: ((), ())| ())
}

/// Evenly at random.
fn between(least: Duration, most: Duration) -> Duration {
    let mut bytes = [0; 4];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    least
        + (most.saturating_sub(least))
            .mul_f64(f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX))
}
