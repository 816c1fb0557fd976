//! Which header names only the gateway may write, and the removal of everything a client sent under them.
//!
//! Servers behind the gateway differ in how they read a name: CGI and its heirs see `X_Forwarded_User`,
//! `X-Forwarded.User` and `X-Forwarded-User` as one variable. So names are compared as the laxest of them would: without
//! case, and with every character that is no letter and no digit read as `-`. Must not know whose values are written.

use http::{HeaderMap, HeaderName};

/// Beginnings that belong to the gateway, whatever follows.
const PREFIXES: [&str; 11] = [
    "x-forwarded-",
    "x-vestibule-",
    "x-auth-request-",
    "x-webauth-",
    "x-original-",
    "x-rewrite-",
    "x-envoy-original-",
    "x-ssl-client-",
    "ssl-client-",
    "remote-",
    "x-remote-",
];

/// Whole names that belong to the gateway. `Proxy` is the CGI variable `HTTP_PROXY` ("httpoxy"); the names that end in
/// an address are what load balancers and content networks write, and what many frameworks believe before
/// `X-Forwarded-For`.
const NAMES: [&str; 16] = [
    "forwarded",
    "x-forwarded",
    "x-real-ip",
    "x-request-id",
    "x-ssl-cert",
    "proxy",
    "client-ip",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-proxyuser-ip",
    "x-host",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "fastly-client-ip",
    "fly-client-ip",
];

/// The names that no client may send: those of every preset, every configured mapping, and all forwarding data.
#[derive(Debug)]
pub struct GuardedNames {
    /// By first byte as [`reading`] reads it: most headers are let through after one look.
    by_first: Vec<Vec<Guarded>>,
}

/// A guarded name, or the beginning of guarded names; read as [`reading`] reads them.
#[derive(Debug, PartialEq, Eq)]
enum Guarded {
    Name(Box<[u8]>),
    Beginning(&'static [u8]),
}

/// How the laxest server reads one byte of a name.
const fn reading(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() {
        byte.to_ascii_lowercase()
    } else {
        b'-'
    }
}

impl GuardedNames {
    /// The built-in names and those that mappings use.
    pub fn new<'a>(configured: impl IntoIterator<Item = &'a HeaderName>) -> Self {
        let mut by_first: Vec<Vec<Guarded>> = Vec::new();
        by_first.resize_with(256, Vec::new);
        let mut guard = |first: Option<u8>, guarded: Guarded| {
            let list = first.and_then(|first| by_first.get_mut(usize::from(first)));
            if let Some(list) = list.filter(|list| !list.contains(&guarded)) {
                list.push(guarded);
            }
        };
        for prefix in PREFIXES.map(str::as_bytes) {
            guard(prefix.first().copied(), Guarded::Beginning(prefix));
        }
        let configured = configured.into_iter().map(HeaderName::as_str);
        for name in NAMES.into_iter().chain(configured) {
            let name: Box<[u8]> = name.bytes().map(reading).collect();
            guard(name.first().copied(), Guarded::Name(name));
        }
        GuardedNames { by_first }
    }

    /// Whether some server could read `name` as one that only the gateway writes.
    pub fn guards(&self, name: &HeaderName) -> bool {
        let name = name.as_str().as_bytes();
        let first = name.first().map_or(0, |first| reading(*first));
        let candidates = self.by_first.get(usize::from(first));
        candidates
            .into_iter()
            .flatten()
            .any(|guarded| match guarded {
                Guarded::Name(exact) => name.len() == exact.len() && reads_as(name, exact),
                Guarded::Beginning(prefix) => name.len() > prefix.len() && reads_as(name, prefix),
            })
    }

    /// Removes every guarded header.
    pub fn strip(&self, headers: &mut HeaderMap) {
        // Allocates only when there is something to remove, which an honest client's request never has.
        let doomed: Vec<HeaderName> = headers
            .keys()
            .filter(|name| self.guards(name))
            .cloned()
            .collect();
        for name in doomed {
            headers.remove(name);
        }
    }
}

/// Whether `name` begins like `guarded`.
fn reads_as(name: &[u8], guarded: &[u8]) -> bool {
    name.iter()
        .zip(guarded)
        .all(|(byte, guarded)| reading(*byte) == *guarded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HeaderName {
        HeaderName::from_bytes(text.as_bytes()).unwrap()
    }

    #[test]
    fn every_reading_of_a_guarded_name_is_guarded() {
        let mapped = [name("X-Team_Member"), name("App-User")];
        let names = GuardedNames::new(&mapped);
        for text in [
            "X-Forwarded-User",
            "X_Forwarded_User",
            "X-Forwarded_User",
            "x_FORWARDED-user",
            "X.Forwarded.User",
            "X~Forwarded!User",
            "X-Forwarded-For",
            "X-Forwarded-Uri",
            "X-Forwarded-Prefix",
            "Forwarded",
            "Remote-User",
            "REMOTE_USER",
            "X-Remote-User",
            "X-WEBAUTH-USER",
            "X-Auth-Request-Email",
            "X-Vestibule-Assertion",
            "x_vestibule_anything",
            "X-Real-IP",
            "X-Real_Ip",
            "True-Client-IP",
            "Client_IP",
            "X-Client-IP",
            "X-Cluster-Client-Ip",
            "CF-Connecting-IP",
            "Fastly-Client-IP",
            "X-Host",
            "X-Request-Id",
            "X-Original-URL",
            "X-Original-Method",
            "X-Rewrite-URL",
            "Proxy",
            "x-team-member",
            "x_team.member",
            "app_user",
        ] {
            assert!(names.guards(&name(text)), "{text}");
        }
    }

    #[test]
    fn other_names_pass_even_with_underscores_and_dots() {
        let names = GuardedNames::new([]);
        for text in [
            "host",
            "range",
            "referer",
            "x-requested-with",
            "x-request-idx",
            "my_header",
            "a.b",
            "forwarded-by-me",
            "x-csrf-token",
            "app-user",
            "from",
            "x",
        ] {
            assert!(!names.guards(&name(text)), "{text}");
        }
    }

    #[test]
    fn duplicates_go_with_the_name() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-user", "a".parse().unwrap());
        headers.append("x-forwarded-user", "b".parse().unwrap());
        headers.append("x_forwarded_user", "c".parse().unwrap());
        headers.append("accept", "d".parse().unwrap());
        GuardedNames::new([]).strip(&mut headers);
        assert_eq!(headers.len(), 1);
        assert!(headers.contains_key("accept"));
    }
}
