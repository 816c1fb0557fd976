//! Host + path -> route. Ambiguous tables cannot be built; the longest prefix on a segment boundary wins.
//!
//! The longest path decides *before* the method is looked at: a rule for `/admin` can never be escaped by sending a
//! method that it does not list (the answer is 405, not a shorter and laxer rule).

use std::collections::BTreeMap;
use std::fmt;

use http::Method;

use crate::auth::allow::Allow;
use crate::auth::path::{CanonicalTarget, without_parameters};

/// Which upstream a route leads to: an index into the configured list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamId(pub usize);

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody; no identity is sent.
    Public,
    /// Everybody; the identity is sent when there is one.
    Optional,
    /// Only who is signed in.
    Authenticated,
}

/// What to do with a CORS preflight, which carries no cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preflight {
    /// Forward it without identity.
    Forward,
    /// Judge it like any other request.
    Deny,
}

/// How a revoked session is noticed on a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// Stateless plus pushed revocations.
    Pushed,
    /// Ask the store each time.
    Checked,
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Route {
    /// Host it applies to, lower case, without port.
    pub host: String,
    /// Path prefix, percent-decoded; begins with `/`; matches on segment boundaries. A `/` at its end means nothing:
    /// `/admin/` covers `/admin` too.
    pub path: String,
    /// Methods, compared with case; empty = all. `GET` includes `HEAD`. A preflight is an `OPTIONS` like any other here.
    pub methods: Vec<Method>,
    /// Where it leads.
    pub upstream: UpstreamId,
    /// Who may use it.
    pub access: Access,
    /// Whom of the signed-in it admits.
    pub allow: Allow,
    /// CORS preflights.
    pub preflight: Preflight,
    /// How revocations are noticed.
    pub revocation: Revocation,
}

/// Its place and whom it admits, in one line for people.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.host, self.path)?;
        if !self.methods.is_empty() {
            let names: Vec<_> = self.methods.iter().map(Method::as_str).collect();
            write!(f, " [{}]", names.join(", "))?;
        }
        f.write_str(match self.access {
            Access::Public => ": public",
            Access::Optional => ": optional",
            Access::Authenticated => ": authenticated",
        })?;
        write!(f, "{}", self.allow)?;
        if self.revocation == Revocation::Checked {
            f.write_str(", asks the store each time")?;
        }
        Ok(())
    }
}

/// Two rules that cannot be told apart (indices into the list given to [`RouteTable::build`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ambiguous(pub usize, pub usize);

/// What a request meets in the table.
#[derive(Clone, Copy, Debug)]
pub enum Matched<'a> {
    /// A rule; `usize` is its index in the list given to [`RouteTable::build`], for logs.
    Route(usize, &'a Route),
    /// No rule for this host at all (421 or 404).
    UnknownHost,
    /// The host is known, the path is not (404).
    NoRoute,
    /// A rule for the path exists, but not for this method (405); the methods it lists.
    WrongMethod(&'a [Method]),
    /// The path reads differently with and without `;parameters`, and the two readings meet different rules (400).
    AmbiguousPath,
}

impl Route {
    /// Whether the rule covers this method.
    fn takes(&self, method: &Method) -> bool {
        self.methods.is_empty()
            || self.methods.contains(method)
            || (method == Method::HEAD && self.methods.contains(&Method::GET))
    }

    fn overlaps(&self, other: &Route) -> bool {
        match (self.methods.is_empty(), other.methods.is_empty()) {
            (true, _) | (_, true) => true,
            (false, false) => {
                self.methods.iter().any(|method| other.takes(method))
                    || other.methods.iter().any(|method| self.takes(method))
            }
        }
    }
}

/// All rules, ready to match.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Route>,
    /// Per host, the longest prefix first.
    hosts: BTreeMap<Box<str>, Vec<Prefix>>,
}

/// All rules of one path.
#[derive(Debug)]
struct Prefix {
    /// Without a `/` at its end; the root is empty.
    path: Box<str>,
    /// Indices into the list of routes; their methods do not overlap.
    routes: Vec<usize>,
    /// All methods that they list.
    methods: Vec<Method>,
}

impl Prefix {
    fn covers(&self, path: &str) -> bool {
        path.strip_prefix(&*self.path)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl RouteTable {
    /// Builds the table, or names the first pair with the same host, the same path and overlapping methods.
    pub fn build(routes: Vec<Route>) -> Result<Self, Ambiguous> {
        let mut hosts: BTreeMap<Box<str>, Vec<Prefix>> = BTreeMap::new();
        for (index, route) in routes.iter().enumerate() {
            let prefixes = hosts
                .entry(route.host.to_ascii_lowercase().into_boxed_str())
                .or_default();
            let path = route.path.trim_end_matches('/');
            let Some(prefix) = prefixes.iter_mut().find(|prefix| &*prefix.path == path) else {
                prefixes.push(Prefix {
                    path: path.into(),
                    routes: vec![index],
                    methods: route.methods.clone(),
                });
                continue;
            };
            for &earlier in &prefix.routes {
                if routes
                    .get(earlier)
                    .is_some_and(|earlier| earlier.overlaps(route))
                {
                    return Err(Ambiguous(earlier, index));
                }
            }
            prefix.routes.push(index);
            prefix.methods.extend(route.methods.iter().cloned());
        }
        for prefixes in hosts.values_mut() {
            prefixes.sort_by_key(|prefix| std::cmp::Reverse(prefix.path.len()));
            for prefix in prefixes {
                if prefix.methods.contains(&Method::GET) && !prefix.methods.contains(&Method::HEAD)
                {
                    prefix.methods.push(Method::HEAD);
                }
            }
        }
        Ok(RouteTable { routes, hosts })
    }

    /// Finds the rule. `host` is lower case and without port.
    pub fn find(&self, host: &str, target: &CanonicalTarget, method: &Method) -> Matched<'_> {
        let Some(prefixes) = self.hosts.get(host) else {
            return Matched::UnknownHost;
        };
        let path = target.for_matching();
        let found = longest(prefixes, path);
        if path.contains(';') {
            let other = longest(prefixes, &strip_parameters(path));
            if other.map(|prefix| &prefix.path) != found.map(|prefix| &prefix.path) {
                return Matched::AmbiguousPath;
            }
        }
        let Some(prefix) = found else {
            return Matched::NoRoute;
        };
        prefix
            .routes
            .iter()
            .filter_map(|&index| Some((index, self.routes.get(index)?)))
            .find(|(_, route)| route.takes(method))
            .map_or(Matched::WrongMethod(&prefix.methods), |(index, route)| {
                Matched::Route(index, route)
            })
    }

    /// Whether any rule names this host.
    pub fn knows_host(&self, host: &str) -> bool {
        self.hosts.contains_key(host)
    }

    /// All rules in the order given.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }
}

/// The first that covers the path is the longest.
fn longest<'a>(prefixes: &'a [Prefix], path: &str) -> Option<&'a Prefix> {
    prefixes.iter().find(|prefix| prefix.covers(path))
}

/// The path as a server reads it that takes `;parameters` out of every segment.
fn strip_parameters(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').map(without_parameters).collect();
    segments.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "app.example.com";

    fn route(path: &str, methods: &[&str]) -> Route {
        Route {
            host: HOST.to_owned(),
            path: path.to_owned(),
            methods: methods.iter().map(|m| m.parse().unwrap()).collect(),
            upstream: UpstreamId(0),
            access: Access::Authenticated,
            allow: Allow::default(),
            preflight: Preflight::Deny,
            revocation: Revocation::Pushed,
        }
    }

    fn found(table: &RouteTable, host: &str, target: &str, method: &str) -> String {
        let target = CanonicalTarget::parse(target).unwrap();
        match table.find(host, &target, &method.parse().unwrap()) {
            Matched::Route(index, route) => {
                assert!(std::ptr::eq(route, &table.routes()[index]));
                index.to_string()
            }
            Matched::UnknownHost => "host".to_owned(),
            Matched::NoRoute => "none".to_owned(),
            Matched::WrongMethod(methods) => {
                let methods: Vec<_> = methods.iter().map(Method::as_str).collect();
                methods.join(",")
            }
            Matched::AmbiguousPath => "ambiguous".to_owned(),
        }
    }

    #[test]
    fn the_longest_prefix_on_a_boundary_wins() {
        let table = RouteTable::build(vec![
            route("/app", &[]),
            route("/app/admin/", &[]),
            route("/app/a b", &[]),
            route("/app/한", &[]),
            Route {
                host: "Other.example.com".to_owned(),
                ..route("/", &[])
            },
        ])
        .unwrap();
        let check = |target, want| assert_eq!(found(&table, HOST, target, "GET"), want, "{target}");
        check("/app", "0");
        check("/app?x=/app/admin", "0");
        check("/app/", "0");
        check("/app/administrator", "0");
        check("/app/admin", "1");
        check("/app/admin/", "1");
        check("/app/%61dmin/x", "1");
        check("/app/admin%3fx", "0");
        check("/app/%61%64min%23", "0");
        check("/app/%2561dmin", "0");
        check("/app/a%20b", "2");
        check("/app/%ED%95%9C/x", "3");
        check("/", "none");
        check("/application", "none");
        check("/APP", "none");
        assert_eq!(found(&table, "other.example.com", "/x", "POST"), "4");
        assert_eq!(found(&table, "evil.example.com", "/app", "GET"), "host");
        assert!(table.knows_host(HOST) && !table.knows_host("example.com"));
    }

    #[test]
    fn the_path_decides_before_the_method() {
        let table = RouteTable::build(vec![
            route("/", &[]),
            route("/admin", &["POST"]),
            route("/pub", &["GET"]),
            route("/pub", &["PUT", "get"]),
        ])
        .unwrap();
        let check = |method, target, want: &str| {
            assert_eq!(
                found(&table, HOST, target, method),
                want,
                "{method} {target}"
            );
        };
        check("POST", "/admin", "1");
        check("GET", "/admin", "POST");
        check("GET", "/pub/x", "2");
        check("HEAD", "/pub/x", "2");
        check("PUT", "/pub/x", "3");
        check("get", "/pub/x", "3");
        check("POST", "/pub/x", "GET,PUT,get,HEAD");
        check("Get", "/pub/x", "GET,PUT,get,HEAD");
        check("OPTIONS", "/x", "0");
    }

    #[test]
    fn parameters_never_choose_the_rule() {
        let table = RouteTable::build(vec![
            route("/", &[]),
            route("/admin", &[]),
            route("/public", &[]),
        ])
        .unwrap();
        let check = |target, want| assert_eq!(found(&table, HOST, target, "GET"), want, "{target}");
        check("/admin;x=/public", "ambiguous");
        check("/admin;x", "ambiguous");
        check("/admin%3Bx/y", "ambiguous");
        check("/%61dmin;x/y", "ambiguous");
        check("/admin/x;y=1/z", "1");
        check("/public/a;b", "2");
        check("/other;x", "0");
        check("/;jsessionid=1", "0");
        let without_root = RouteTable::build(vec![route("/admin", &[])]).unwrap();
        assert_eq!(found(&without_root, HOST, "/admin;x", "GET"), "ambiguous");
        assert_eq!(found(&without_root, HOST, "/x;y", "GET"), "none");
    }

    #[test]
    fn ambiguous_tables_cannot_be_built() {
        let check = |rules: &[(&str, &[&str])], want: Option<(usize, usize)>| {
            let routes = rules
                .iter()
                .map(|(path, methods)| route(path, methods))
                .collect();
            let built = RouteTable::build(routes).map(|_| ());
            assert_eq!(built.err(), want.map(|(a, b)| Ambiguous(a, b)), "{rules:?}");
        };
        check(&[], None);
        check(&[("/a", &[]), ("/b", &[]), ("/a/b", &[])], None);
        check(&[("/a", &["GET"]), ("/a", &["POST"])], None);
        check(&[("/a", &["GET"]), ("/a", &["get"])], None);
        check(&[("/", &[]), ("/a", &[]), ("/", &[])], Some((0, 2)));
        check(&[("/a", &[]), ("/a/", &["GET"])], Some((0, 1)));
        check(&[("/a", &["GET"]), ("/a", &[])], Some((0, 1)));
        check(&[("/a", &["GET"]), ("/a", &["HEAD"])], Some((0, 1)));
        check(&[("/a", &["HEAD"]), ("/a", &["GET"])], Some((0, 1)));
        check(
            &[("/a", &["PUT"]), ("/a", &["GET"]), ("/a", &["POST", "PUT"])],
            Some((0, 2)),
        );
    }
}
