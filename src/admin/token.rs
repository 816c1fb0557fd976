//! The secret that programs show to the admin API. Kept as a digest only: nothing here can print it.

use aws_lc_rs::{constant_time, digest};
use http::HeaderMap;
use http::header::AUTHORIZATION;

/// What a bearer token is compared with.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(***)")
    }
}

impl Token {
    /// Shorter ones could be guessed.
    pub const MIN_BYTES: usize = 24;

    /// Of the secret's text.
    pub fn new(secret: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, secret).as_ref());
        Token(bytes)
    }

    /// Whether the request carries it: `Authorization: Bearer …`, once (RFC 6750 section 2.1).
    pub fn admits(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return false;
        };
        let Some((scheme, shown)) = value.as_bytes().split_at_checked(7) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"bearer ")
            && constant_time::verify_slices_are_equal(&Token::new(shown).0, &self.0).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_shown_once_is_admitted() {
        let token = Token::new(b"a long enough secret text");
        let check = |values: &[&str], want: bool| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            assert_eq!(token.admits(&headers), want, "{values:?}");
        };
        check(&["Bearer a long enough secret text"], true);
        check(&["bearer a long enough secret text"], true);
        check(&["Bearer a long enough secret tex"], false);
        check(&["Basic a long enough secret text"], false);
        check(&["Bearer"], false);
        check(&["Bearer "], false);
        check(&[], false);
        let twice = "Bearer a long enough secret text";
        check(&[twice, twice], false);
        assert!(!format!("{token:?}").contains("97"));
    }
}
