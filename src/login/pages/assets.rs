//! The two files that pages load: one stylesheet and one icon, part of the program.
//!
//! Their URLs carry a hash of their content, so that browsers may keep them for good and a new version is never mixed up
//! with an old one.

use std::fmt;

use http::Response;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
    X_CONTENT_TYPE_OPTIONS,
};

use crate::body::Body;

const CSS: &str = include_str!("../../../templates/vestibule.css");
const ICON: &str = include_str!("../../../templates/vestibule.svg");

const CSS_PATH: &str = "/.auth/assets/vestibule.css";
const ICON_PATH: &str = "/.auth/assets/vestibule.svg";

/// What pages link to.
pub(super) const CSS_URL: Url = Url::new(CSS_PATH, CSS);
/// The same for the icon.
pub(super) const ICON_URL: Url = Url::new(ICON_PATH, ICON);

/// A path and the hash of what is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Url {
    path: &'static str,
    hash: u64,
}

impl Url {
    const fn new(path: &'static str, content: &str) -> Self {
        // FNV-1a: nobody gains by a collision, and it can be computed while compiling.
        let mut bytes = content.as_bytes();
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        while let [first, rest @ ..] = bytes {
            hash ^= *first as u64;
            hash = hash.wrapping_mul(0x0100_0000_01b3);
            bytes = rest;
        }
        Url { path, hash }
    }

    fn query(self) -> String {
        format!("v={:016x}", self.hash)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}?{}", self.path, self.query())
    }
}

/// The file at `path` (without the query), if there is one. Only the URL with the hash of this very content may be kept
/// for good: while a new version is rolled out, another node may link to another content.
pub fn asset(path: &str, query: Option<&str>) -> Option<Response<Body>> {
    let (url, content, content_type) = match path {
        CSS_PATH => (CSS_URL, CSS, "text/css; charset=utf-8"),
        ICON_PATH => (ICON_URL, ICON, "image/svg+xml"),
        _ => return None,
    };
    let cache = match query {
        Some(query) if query == url.query() => "public, max-age=31536000, immutable",
        _ => "no-cache",
    };
    let mut response = Response::new(Body::from(content));
    let headers = response.headers_mut();
    let mut fixed = |name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    fixed(CONTENT_TYPE, content_type);
    fixed(CACHE_CONTROL, cache);
    fixed(X_CONTENT_TYPE_OPTIONS, "nosniff");
    fixed(CONTENT_SECURITY_POLICY, "default-src 'none'");
    fixed(
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    );
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hashed_url_is_kept_for_good() {
        let cached = |query: Option<&str>| {
            let response = asset(CSS_PATH, query).unwrap();
            assert_eq!(
                response.headers()["content-type"],
                "text/css; charset=utf-8"
            );
            response.headers()["cache-control"]
                .to_str()
                .unwrap()
                .to_owned()
        };
        assert!(cached(Some(&CSS_URL.query())).contains("immutable"));
        assert_eq!(cached(Some("v=0")), "no-cache");
        assert_eq!(cached(None), "no-cache");
        assert!(asset(ICON_PATH, None).is_some());
        assert!(asset("/.auth/assets/", None).is_none());
        assert!(asset("/.auth/assets/../vestibule.css", None).is_none());
    }
}
