//! Request headers -> credentials. Garbage is data here, not an error: what it means is decided in `decision`.

use http::HeaderMap;
use http::header::COOKIE;

/// The names of our cookies, which depend on `cookie_domain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieNames {
    /// `__Host-vestibule-access` or `__Secure-vestibule-access`.
    pub access: String,
    /// `__Host-vestibule-refresh` or `__Secure-vestibule-refresh`.
    pub refresh: String,
    /// `__Host-vestibule-login` or `__Secure-vestibule-login`.
    pub login: String,
}

impl CookieNames {
    /// `__Host-` without a domain, `__Secure-` with one (RFC 6265bis, "Cookie Name Prefixes").
    pub fn new(with_domain: bool) -> Self {
        let prefix = if with_domain { "__Secure-" } else { "__Host-" };
        CookieNames {
            access: format!("{prefix}vestibule-access"),
            refresh: format!("{prefix}vestibule-refresh"),
            login: format!("{prefix}vestibule-login"),
        }
    }
}

/// One cookie of ours as the request has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented<'a> {
    /// Not there.
    Absent,
    /// There, once (or several times with the same value). Bytes, because most of them are looked up as they are.
    Value(&'a [u8]),
    /// There with different values: counts as no session at all.
    Conflicting,
}

/// What a request brings to prove who it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials<'a> {
    /// The access token cookie.
    pub access: Presented<'a>,
    /// The refresh token cookie.
    pub refresh: Presented<'a>,
}

/// Reads our cookies from every `Cookie` header line. Names are compared exactly (case-sensitive, no blanks but the one that
/// separates); `$Version` and quotes have no meaning; anything that is not `name=value` is passed over.
pub fn from_headers<'a>(headers: &'a HeaderMap, names: &CookieNames) -> Credentials<'a> {
    let mut found = Credentials {
        access: Presented::Absent,
        refresh: Presented::Absent,
    };
    for line in headers.get_all(COOKIE) {
        let mut rest = Some(line.as_bytes());
        while let Some(bytes) = rest {
            let pair;
            (pair, rest) = match memchr::memchr(b';', bytes) {
                Some(end) => {
                    let (pair, tail) = bytes.split_at(end);
                    let tail = tail.strip_prefix(b";").unwrap_or(tail);
                    (pair, Some(tail.strip_prefix(b" ").unwrap_or(tail)))
                }
                None => (bytes, None),
            };
            if let Some(value) = value_of(pair, &names.access) {
                found.access = found.access.and(value);
            } else if let Some(value) = value_of(pair, &names.refresh) {
                found.refresh = found.refresh.and(value);
            }
        }
    }
    found
}

/// A cookie that few requests carry and only our own endpoints look for.
pub fn single<'a>(headers: &'a HeaderMap, name: &str) -> Presented<'a> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|pair| value_of(pair.strip_prefix(b" ").unwrap_or(pair), name))
        .fold(Presented::Absent, Presented::and)
}

impl Credentials<'_> {
    /// Whether a cookie of ours occurred twice with different values.
    pub fn conflicting(&self) -> bool {
        self.access == Presented::Conflicting || self.refresh == Presented::Conflicting
    }
}

impl<'a> Presented<'a> {
    /// The value, when there is exactly one.
    pub fn value(self) -> Option<&'a [u8]> {
        match self {
            Presented::Value(value) => Some(value),
            Presented::Absent | Presented::Conflicting => None,
        }
    }

    fn and(self, value: &'a [u8]) -> Self {
        match self {
            Presented::Absent => Presented::Value(value),
            Presented::Value(first) if first == value => self,
            Presented::Value(_) | Presented::Conflicting => Presented::Conflicting,
        }
    }
}

/// The value of `name=value`.
fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const A: &str = "__Host-vestibule-access";
    const R: &str = "__Host-vestibule-refresh";

    fn check(lines: &[&[u8]], access: Presented<'_>, refresh: Presented<'_>) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_bytes(line).unwrap());
        }
        let found = from_headers(&headers, &CookieNames::new(false));
        assert_eq!(found, Credentials { access, refresh }, "{lines:?}");
        assert_eq!(
            found.conflicting(),
            access == Presented::Conflicting || refresh == Presented::Conflicting
        );
    }

    #[test]
    fn ours_are_found_wherever_they_stand() {
        use Presented::{Absent, Value};
        check(&[], Absent, Absent);
        check(&[b""], Absent, Absent);
        check(&[b";", b"; ;;= ;=;"], Absent, Absent);
        check(
            &[format!("a=b; {A}=x; c=d; {R}=y").as_bytes()],
            Value(b"x"),
            Value(b"y"),
        );
        check(
            &[format!("{R}=y;{A}=x").as_bytes()],
            Value(b"x"),
            Value(b"y"),
        );
        check(
            &[
                format!("{A}=x").as_bytes(),
                b"a=b",
                format!("{R}=y").as_bytes(),
            ],
            Value(b"x"),
            Value(b"y"),
        );
        check(&[format!("{A}=").as_bytes()], Value(b""), Absent);
        check(&[format!("{A}=x=y").as_bytes()], Value(b"x=y"), Absent);
        check(
            &[format!("$Version=1; {A}=\"x\"").as_bytes()],
            Value(b"\"x\""),
            Absent,
        );
    }

    #[test]
    fn a_single_cookie_is_found_by_the_same_rules() {
        let check = |lines: &[&str], want| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(COOKIE, line.parse().unwrap());
            }
            assert_eq!(single(&headers, "login"), want, "{lines:?}");
        };
        check(&[], Presented::Absent);
        check(&["a=b; login=x; c=d"], Presented::Value(b"x"));
        check(&["login=x", "a=b;login=x"], Presented::Value(b"x"));
        check(&["login=x; login=y"], Presented::Conflicting);
        check(
            &["Login=x; xlogin=y; login2=z;  login=w"],
            Presented::Absent,
        );
    }

    #[test]
    fn look_alikes_are_other_cookies() {
        use Presented::Absent;
        for name in [
            A.to_ascii_lowercase(),
            A.to_ascii_uppercase(),
            format!("\u{2000}{A}"),
            format!("\t{A}"),
            format!("a=b;  {A}"),
            format!("{A} "),
            format!("{A}2"),
            format!("x{A}"),
            A.replace("__Host-", "__Secure-"),
        ] {
            check(&[format!("{name}=x").as_bytes()], Absent, Absent);
        }
        check(&[A.as_bytes()], Absent, Absent);
    }

    #[test]
    fn twice_with_different_values_conflicts_in_any_order() {
        use Presented::{Absent, Conflicting, Value};
        check(&[format!("{A}=x; {A}=x").as_bytes()], Value(b"x"), Absent);
        check(&[format!("{A}=x; {A}=y").as_bytes()], Conflicting, Absent);
        check(
            &[format!("{A}=y; {A}=x; {A}=y").as_bytes()],
            Conflicting,
            Absent,
        );
        check(
            &[format!("{R}=x").as_bytes(), format!("{R}=y").as_bytes()],
            Absent,
            Conflicting,
        );
        check(&[format!("{A}=x; {A}=").as_bytes()], Conflicting, Absent);
    }

    #[test]
    fn bytes_that_are_no_text_are_a_value_like_any_other() {
        let mut line = format!("{A}=").into_bytes();
        line.extend_from_slice(&[0xff, 0xfe]);
        check(&[&line], Presented::Value(&[0xff, 0xfe]), Presented::Absent);
    }
}
