//! The media type of a message, read from `Content-Type` (RFC 9110 section 8.3). Must not allocate: it is asked per request.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// Whether the message's media type begins with one of these, given in lower case and compared without regard to case
/// (RFC 9110 section 8.3.1). A prefix, so that `application/grpc` covers `application/grpc+proto`.
pub fn begins_with(headers: &HeaderMap, prefixes: &[&str]) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return false;
    };
    let value = value.as_bytes().trim_ascii_start();
    prefixes.iter().any(|prefix| {
        value
            .get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(content_type: &'static str) -> bool {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())]);
        begins_with(&headers, &["text/event-stream", "application/grpc"])
    }

    #[test]
    fn parameters_suffixes_and_case_do_not_matter() {
        assert!(asked("text/event-stream"));
        assert!(asked("Text/Event-Stream; charset=utf-8"));
        assert!(asked(" text/event-stream"));
        assert!(asked("application/grpc+proto"));
    }

    #[test]
    fn other_types_and_none_do_not_match() {
        assert!(!asked("text/html"));
        assert!(!asked("text/event"));
        assert!(!asked(""));
        assert!(!begins_with(&HeaderMap::new(), &["text/event-stream"]));
    }
}
