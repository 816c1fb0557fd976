//! The app of the benchmark: answers every request with 1 KiB, keep-alive, on one thread, and counts.
//!
//! It parses nothing but the end of a head, so that a comparison of what stands in front of it is not a comparison of apps.
//! `GET /count` answers how many other requests it has answered. It prints its port on stdout and ends when stdin closes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn main() -> std::io::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?
        .block_on(serve())
}

async fn serve() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    std::thread::spawn(|| {
        // The script holds the other end: when it goes, so does this.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    let answered = Arc::new(AtomicU64::new(0));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answered = answered.clone();
        tokio::spawn(async move {
            // A client that goes away in the middle is no matter of this program.
            let _ = connection(stream, &answered).await;
        });
    }
}

async fn connection(mut stream: TcpStream, answered: &AtomicU64) -> std::io::Result<()> {
    let body = "x".repeat(1024);
    let page = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut head = Vec::with_capacity(8 << 10);
    loop {
        head.clear();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        if head.starts_with(b"GET /count ") {
            let count = answered.load(Ordering::Relaxed).to_string();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{count}",
                count.len()
            );
            stream.write_all(answer.as_bytes()).await?;
        } else {
            answered.fetch_add(1, Ordering::Relaxed);
            stream.write_all(page.as_bytes()).await?;
        }
    }
}
