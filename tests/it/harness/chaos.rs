//! A network that fails: a TCP proxy between client and gateway, without any idea of what it carries.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

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
}

impl Chaos {
    pub async fn before(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let chaos = Chaos {
            addr: listener.local_addr().unwrap(),
            state: Arc::new(State {
                to,
                swallow: AtomicBool::new(false),
                swallowed: AtomicU64::new(0),
                open: AtomicUsize::new(0),
                cut: Notify::new(),
            }),
        };
        let state = chaos.state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
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

    /// From now on nothing that the gateway says arrives; what clients say still does.
    pub fn swallow_answers(&self) {
        self.state.swallowed.store(0, Ordering::SeqCst);
        self.state.swallow.store(true, Ordering::SeqCst);
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
}

async fn pass(client: TcpStream, state: &State) -> std::io::Result<()> {
    let gateway = TcpStream::connect(state.to).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_gateway, mut to_gateway) = gateway.into_split();
    let up = async {
        tokio::io::copy(&mut from_client, &mut to_gateway).await?;
        to_gateway.shutdown().await
    };
    let down = async {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let n = from_gateway.read(&mut buffer).await?;
            if n == 0 {
                return to_client.shutdown().await;
            }
            if state.swallow.load(Ordering::SeqCst) {
                state.swallowed.fetch_add(n as u64, Ordering::SeqCst);
            } else {
                to_client.write_all(&buffer[..n]).await?;
            }
        }
    };
    tokio::try_join!(up, down).map(|_| ())
}
