//! Where a shared store is: one URL for each way in which Redis is run.
//!
//! ```text
//! redis://host[:port][/database]                      one server (or whatever a name leads to)
//! redis+sentinel://host[:port],…/master[/database]    Sentinels, and the name that they watch it under
//! redis+cluster://host[:port],…                       some nodes of a cluster, from which the others are found
//! ```
//!
//! `rediss` instead of `redis`: over TLS. Must not connect to anything.

use std::fmt;

/// Where the store is.
#[derive(Clone, Debug)]
pub struct Address {
    /// Over TLS.
    pub tls: bool,
    /// What is found there.
    pub topology: Topology,
    /// The database number; a cluster has only 0.
    pub database: i64,
    /// User name for AUTH, when the URL has one.
    pub user: Option<String>,
    /// The password of the URL, when it has one; never shown.
    pub password: Option<crate::units::Secret>,
}

/// How Redis is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Single(Place),
    /// A master and its replicas, watched by Sentinels.
    Sentinel {
        /// The Sentinels.
        sentinels: Vec<Place>,
        /// The name that they know the master by.
        master: String,
    },
    /// A cluster.
    Cluster(Vec<Place>),
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

impl Address {
    /// Reads a URL; the error says what is wrong with it, and nothing of a password.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = url.split_once("://").ok_or(
            "expected redis://host:port, redis+sentinel://host,host/master or redis+cluster://host,host",
        )?;
        let (transport, kind) = match scheme.split_once('+') {
            Some((transport, kind)) => (transport, Some(kind)),
            None => (scheme, None),
        };
        let tls = match transport {
            "redis" => false,
            "rediss" => true,
            _ => return Err("the scheme must be redis or rediss (over TLS)"),
        };
        if rest.contains(['?', '#']) {
            return Err("nothing may follow the path: options are keys of [store]");
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, password, hosts) = match authority.rsplit_once('@') {
            None => (None, None, authority),
            Some((info, hosts)) => {
                let (user, password) = match info.split_once(':') {
                    Some((user, password)) => (user, Some(decoded(password)?)),
                    None => (info, None),
                };
                let user = Some(decoded(user)?).filter(|user| !user.is_empty());
                let password = password.map(crate::units::Secret::new);
                (user, password, hosts)
            }
        };
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let port = match kind {
            Some("sentinel") => SENTINEL_PORT,
            _ => PORT,
        };
        let mut places = hosts
            .split(',')
            .map(|host| Place::parse(host, port))
            .collect::<Result<Vec<_>, _>>()?;
        let topology = match kind {
            None if places.len() == 1 => Topology::Single(places.remove(0)),
            None => return Err("several hosts need redis+sentinel:// or redis+cluster://"),
            Some("sentinel") => Topology::Sentinel {
                sentinels: places,
                master: decoded(segments.next().ok_or(
                    "the name of the master is missing: redis+sentinel://host,host/NAME",
                )?)?,
            },
            Some("cluster") => Topology::Cluster(places),
            Some(_) => return Err("what follows redis+ must be sentinel or cluster"),
        };
        let database = match segments.next() {
            None => 0,
            Some(number) => number
                .parse()
                .ok()
                .filter(|number| (0..=9999).contains(number))
                .ok_or("the database is a number")?,
        };
        if segments.next().is_some() {
            return Err("there is more in the path than was expected");
        }
        if database != 0 && matches!(topology, Topology::Cluster(_)) {
            return Err("a cluster has only database 0");
        }
        Ok(Address {
            tls,
            topology,
            database,
            user,
            password,
        })
    }
}

impl Place {
    /// `host`, `host:port`, `[::1]:port`.
    fn parse(text: &str, port: u16) -> Result<Self, &'static str> {
        let (host, digits) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or("a bracket is not closed")?;
                host.parse::<std::net::Ipv6Addr>()
                    .map_err(|_| "what stands in brackets is no IPv6 address")?;
                match rest.strip_prefix(':') {
                    Some(digits) => (host, Some(digits)),
                    None if rest.is_empty() => (host, None),
                    None => return Err("only a port may follow the bracket"),
                }
            }
            None => match text.split_once(':') {
                Some((host, digits)) => (host, Some(digits)),
                None => (text, None),
            },
        };
        if host.is_empty() {
            return Err("a host is missing");
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        if !host.chars().all(fits) {
            return Err("a host has characters that no host has");
        }
        let port = match digits {
            None => port,
            Some(digits) => digits
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or("a port is a number from 1 to 65535")?,
        };
        Ok(Place {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// As it may be shown: without user and password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, places) = match &self.topology {
            Topology::Single(place) => ("", std::slice::from_ref(place)),
            Topology::Sentinel { sentinels, .. } => ("+sentinel", sentinels.as_slice()),
            Topology::Cluster(nodes) => ("+cluster", nodes.as_slice()),
        };
        write!(f, "redis{}{kind}://", if self.tls { "s" } else { "" })?;
        for (index, place) in places.iter().enumerate() {
            write!(f, "{}{place}", if index == 0 { "" } else { "," })?;
        }
        if let Topology::Sentinel { master, .. } = &self.topology {
            write!(f, "/{master}")?;
        }
        match self.database {
            0 => Ok(()),
            number => write!(f, "/{number}"),
        }
    }
}

fn decoded(text: &str) -> Result<String, &'static str> {
    percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| "user, password and names are percent-encoded UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_shown_without_its_password() {
        for (url, shown) in [
            ("redis://cache", "redis://cache:6379"),
            ("rediss://u:p%40ss@cache:6380/2", "rediss://cache:6380/2"),
            ("redis://[::1]:7000", "redis://[::1]:7000"),
            (
                "rediss+sentinel://:pw@a,b:5000/main/3",
                "rediss+sentinel://a:26379,b:5000/main/3",
            ),
            (
                "redis+cluster://10.0.0.1:7000,10.0.0.2:7001",
                "redis+cluster://10.0.0.1:7000,10.0.0.2:7001",
            ),
        ] {
            assert_eq!(Address::parse(url).unwrap().to_string(), shown);
        }
        let address = Address::parse("rediss://u:p%40ss@cache").unwrap();
        assert_eq!(address.user.as_deref(), Some("u"));
        assert_eq!(address.password.as_ref().unwrap().expose(), b"p@ss");
        assert!(!format!("{address:?}").contains("p@ss"), "{address:?}");
        let only_password = Address::parse("redis://:pw@cache").unwrap();
        assert_eq!(only_password.user, None);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for url in [
            "",
            "cache:6379",
            "http://cache",
            "redis://",
            "redis://a,b",
            "redis://a b",
            "redis://a:0",
            "redis://a:99999",
            "redis://a/x",
            "redis://a/0/1",
            "redis://a?db=1",
            "redis://[::1",
            "redis://[cache]",
            "redis+sentinel://a",
            "redis+cluster://a/1",
            "redis+proxy://a",
        ] {
            assert!(Address::parse(url).is_err(), "{url}");
        }
    }
}
