//! `[server]`: listeners, origin, trusted proxies, limits.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;

use super::{Reader, names};
use crate::auth::route::Route;
use crate::config::file::Section;
use crate::config::{Origin, defaults};
use crate::{admin, server};

/// The smallest head that HTTP/1 servers must be able to take in one piece.
const LEAST_HEADER_BYTES: u64 = 8 << 10;
const MOST_HEADER_BYTES: u64 = 1 << 20;

const DAY: Duration = Duration::from_secs(86_400);
const LEAST_TIMEOUT: Duration = Duration::from_millis(100);

pub(super) fn origin(reader: &Reader<'_>, table: &Section<'_>) -> Option<Origin> {
    let text = reader.required(table, "origin")?;
    names::origin(text.get_ref())
        .inspect_err(|hint| {
            reader
                .problems
                .error(text.span(), "`server.origin` is not an https origin", hint);
        })
        .ok()
}

pub(super) fn settings(
    reader: &Reader<'_>,
    table: &Section<'_>,
    origin: &Origin,
    admin: Option<&admin::Settings>,
) -> server::Settings {
    let listen = listeners(reader, table);
    let redirect = table.text("redirect_http");
    let redirect_http = redirect.as_ref().and_then(|text| address(reader, text));
    if let (Some(text), Some(addr)) = (&redirect, redirect_http)
        && addr.port() != 0
        && (listen.contains(&addr) || admin.is_some_and(|admin| admin.listen == addr))
    {
        reader.problems.error(
            text.span(),
            format!("{addr} is already used by another listener"),
            "plain http and https cannot share a port: http is mostly on port 80",
        );
    }
    if let Some(admin) = admin
        && admin.listen.port() != 0
        && listen.contains(&admin.listen)
    {
        let span = table.value("listen").map_or(table.span(), Spanned::span);
        reader.problems.error(
            span,
            format!("{} is also the admin listener", admin.listen),
            "give [admin] listen another port",
        );
    }
    server::Settings {
        listen,
        redirect_http,
        origin: origin.to_string(),
        origins: BTreeMap::new(),
        limits: limits(reader, &table.section("limits")),
        workers: std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// Host -> origin, for every host that is served: the origin's and those of the routes, all on the origin's port.
pub(super) fn origins(origin: &Origin, routes: &[Route]) -> BTreeMap<String, String> {
    let hosts = routes.iter().map(|route| &route.host);
    std::iter::once(&origin.host)
        .chain(hosts)
        .map(|host| {
            let origin = Origin {
                host: host.clone(),
                port: origin.port,
            };
            (host.clone(), origin.to_string())
        })
        .collect()
}

fn listeners(reader: &Reader<'_>, table: &Section<'_>) -> Vec<SocketAddr> {
    let Some(texts) = table.texts("listen") else {
        return defaults::value("server.listen")
            .parse()
            .into_iter()
            .collect();
    };
    let mut addresses = Vec::new();
    for text in &texts {
        if let Some(addr) = address(reader, text) {
            if addr.port() != 0 && addresses.contains(&addr) {
                reader
                    .problems
                    .error(text.span(), format!("{addr} is listed twice"), "remove one");
            }
            addresses.push(addr);
        }
    }
    if texts.is_empty()
        && let Some(value) = table.value("listen")
    {
        reader.problems.error(
            value.span(),
            "`server.listen` is empty",
            "name at least one address: [\"0.0.0.0:443\"]",
        );
    }
    addresses
}

/// `address:port`.
pub(super) fn address(reader: &Reader<'_>, text: &Spanned<&str>) -> Option<SocketAddr> {
    let typed = *text.get_ref();
    let parsed = typed.parse::<SocketAddr>();
    if parsed.is_err() {
        let hint = if let Some(port) = typed
            .strip_prefix(':')
            .or(Some(typed))
            .filter(|port| port.parse::<u16>().is_ok())
        {
            format!(
                "write \"0.0.0.0:{port}\" for all addresses, \"127.0.0.1:{port}\" for this machine alone"
            )
        } else if typed.starts_with("localhost:") {
            "write the address: \"127.0.0.1:…\" or \"[::1]:…\"".to_owned()
        } else if typed.parse::<std::net::IpAddr>().is_ok() {
            if typed.contains(':') {
                format!("a port is missing: \"[{typed}]:443\"")
            } else {
                format!("a port is missing: \"{typed}:443\"")
            }
        } else {
            "write an IP address and a port: \"127.0.0.1:8443\" or \"[::1]:8443\"".to_owned()
        };
        reader.problems.error(
            text.span(),
            format!("{typed:?} is not an address to listen on"),
            &hint,
        );
    }
    parsed.ok()
}

pub(super) fn trusted_proxies(reader: &Reader<'_>, table: &Section<'_>) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for text in table.texts("trusted_proxies").unwrap_or_default() {
        let typed = *text.get_ref();
        let network = typed.parse::<IpNet>().or_else(|error| {
            typed
                .parse::<std::net::IpAddr>()
                .map(IpNet::from)
                .map_err(|_| error)
        });
        match network {
            Ok(network) => {
                if network.prefix_len() == 0 {
                    reader.problems.warning(
                        text.span(),
                        "everybody is a trusted proxy: any client can claim any address",
                        "list the addresses of your own proxies alone",
                    );
                }
                networks.push(network.trunc());
            }
            Err(_) => reader.problems.error(
                text.span(),
                format!("{typed:?} is not a network"),
                "write an address with a prefix length: \"10.0.0.0/8\", \"192.0.2.7/32\", \"2001:db8::/32\"",
            ),
        }
    }
    networks
}

fn limits(reader: &Reader<'_>, table: &Section<'_>) -> server::Limits {
    let timeout = |key| reader.duration(table, key, LEAST_TIMEOUT..=DAY);
    server::Limits {
        header_bytes: header_bytes(reader, table),
        headers: reader.count(table, "headers", 8..=10_000),
        body_bytes: reader.size(table, "body_bytes"),
        connections: reader.count(table, "connections", 1..=10_000_000),
        handshake_timeout: timeout("handshake_timeout"),
        header_timeout: timeout("header_timeout"),
        body_idle_timeout: timeout("body_idle_timeout"),
        idle_timeout: timeout("idle_timeout"),
        shutdown_grace: reader.duration(table, "shutdown_grace", Duration::ZERO..=DAY),
    }
}

fn header_bytes(reader: &Reader<'_>, table: &Section<'_>) -> usize {
    let bytes = reader.size(table, "header_bytes");
    match bytes {
        Some(bytes) if (LEAST_HEADER_BYTES..=MOST_HEADER_BYTES).contains(&bytes) => {
            usize::try_from(bytes).unwrap_or(usize::MAX)
        }
        _ => {
            let span = table
                .value("header_bytes")
                .map_or(table.span(), Spanned::span);
            reader.out_of_bounds(span, &table.path_of("header_bytes"), "8KiB", "1MiB");
            server::Limits::default().header_bytes
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::report::Problems;
    use toml::de::DeTable;

    #[test]
    fn the_defaults_are_those_of_the_server() {
        let problems = Problems::default();
        let reader = Reader {
            problems: &problems,
            purpose: super::super::Purpose::Serve,
            folder: std::path::Path::new(""),
        };
        let empty = DeTable::parse("").unwrap();
        let table = Section::root(empty.get_ref())
            .section("server")
            .section("limits");
        assert_eq!(limits(&reader, &table), server::Limits::default());
        assert!(problems.into_vec().is_empty());
    }
}
