//! The demonstration's upstream: a small app that knows nothing of sign-in and shows the headers it receives.
//!
//! Plain HTTP on loopback, a port of its own. It must not read cookies or tokens: what it shows is what any app behind
//! the gateway can rely on.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

const PAGE: &str = include_str!("page.html");

/// Starts the app on a free loopback port and returns its address; it runs as long as the runtime.
pub async fn start() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Out of file descriptors: let others finish before trying again.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            tokio::spawn(async move {
                let service =
                    service_fn(|request| async move { Ok::<_, Infallible>(answer(&request)) });
                // A connection that breaks is the gateway's to report.
                let _ = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    Ok(addr)
}

fn answer(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return reply(
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain; charset=utf-8",
            "only GET\n".to_owned(),
        );
    }
    match request.uri().path() {
        "/" => reply(
            StatusCode::OK,
            "text/html; charset=utf-8",
            page(request.headers()),
        ),
        "/headers.json" => reply(
            StatusCode::OK,
            "application/json",
            headers_json(request.headers()),
        ),
        _ => reply(
            StatusCode::NOT_FOUND,
            "text/plain; charset=utf-8",
            "this small app has only one page: /\n".to_owned(),
        ),
    }
}

fn reply(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        http::HeaderValue::from_static(content_type),
    );
    headers.insert(
        header::CACHE_CONTROL,
        http::HeaderValue::from_static("no-store"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        http::HeaderValue::from_static("nosniff"),
    );
    response
}

/// Header names and values in the order received, as pairs.
fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect()
}

fn headers_json(headers: &HeaderMap) -> String {
    serde_json::Value::from(
        pairs(headers)
            .into_iter()
            .map(|(name, value)| serde_json::json!([name, value]))
            .collect::<Vec<_>>(),
    )
    .to_string()
}

fn page(headers: &HeaderMap) -> String {
    let mut pairs = pairs(headers);
    // What the gateway says about the person comes first; a stable sort keeps the rest as received.
    pairs.sort_by_key(|(name, _)| {
        !name.starts_with("x-forwarded-") && !name.starts_with("x-vestibule-")
    });
    let rows: String = pairs
        .iter()
        .map(|(name, value)| {
            format!(
                "<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n",
                escape(name),
                escape(value)
            )
        })
        .collect();
    let user = headers
        .get("x-forwarded-user")
        .and_then(|value| value.to_str().ok())
        .unwrap_or("nobody");
    PAGE.replace("{{user}}", &escape(user))
        .replace("{{rows}}", &rows)
}

fn escape(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut out, c| {
            match c {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '"' => out.push_str("&quot;"),
                '\'' => out.push_str("&#39;"),
                c => out.push(c),
            }
            out
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_cannot_become_markup() {
        let mut headers = HeaderMap::new();
        headers.insert(
            "x-forwarded-user",
            http::HeaderValue::from_static("<script>alert(1)</script>"),
        );
        let page = page(&headers);
        assert!(!page.contains("<script>alert"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(1)"));
    }
}
