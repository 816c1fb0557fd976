//! What a token endpoint answered (RFC 6749 sections 5.1 and 5.2, OpenID Connect Core section 3.1.3.3). Must not believe an
//! ID token: it only finds it.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use serde::Deserialize;

use super::callback::{ProviderError, error_code, printable};
use crate::units::Secret;

/// Longest token of any kind, in bytes.
const MAX_TOKEN: usize = 64 << 10;

/// What a code or a refresh token was exchanged for.
#[derive(Debug)]
pub struct Tokens {
    /// Opens userinfo.
    pub access_token: Secret,
    /// Says who signed in; unverified.
    pub id_token: Option<Secret>,
    /// Asks again later.
    pub refresh_token: Option<Secret>,
}

/// Why there are none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// A definite answer: an `error` of section 5.2.
    #[error("the provider refused: {}", .0.code)]
    Refused(ProviderError),
    /// It cannot answer now: 5xx, 408, 429.
    #[error("the provider answered with status {0}")]
    Unavailable(u16),
    /// No answer of a token endpoint.
    #[error("the provider's answer cannot be used: {0}")]
    Unusable(&'static str),
}

#[derive(Deserialize)]
struct Answer {
    access_token: Option<String>,
    token_type: Option<String>,
    id_token: Option<String>,
    refresh_token: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// Reads an answer.
pub fn read(response: &Response<Bytes>) -> Result<Tokens, TokenRefusal> {
    let status = response.status();
    if status.is_redirection() {
        return Err(TokenRefusal::Unusable(
            "it leads elsewhere; no redirect is followed",
        ));
    }
    if is_unavailable(status) {
        return Err(TokenRefusal::Unavailable(status.as_u16()));
    }
    if !is_json(response) {
        return Err(TokenRefusal::Unusable("it is not application/json"));
    }
    // A member twice is an error of this reader.
    let answer: Answer = serde_json::from_slice(response.body())
        .map_err(|_| TokenRefusal::Unusable("it is not the JSON of a token endpoint"))?;
    if let Some(error) = answer.error {
        return Err(TokenRefusal::Refused(ProviderError {
            code: error_code(&error),
            description: answer
                .error_description
                .map(|text| printable(&text))
                .filter(|text| !text.is_empty()),
        }));
    }
    if status != StatusCode::OK {
        return Err(TokenRefusal::Unusable("its status is not 200"));
    }
    let bearer = |kind: &str| kind.eq_ignore_ascii_case("bearer");
    if !answer.token_type.as_deref().is_some_and(bearer) {
        return Err(TokenRefusal::Unusable("its token_type is not Bearer"));
    }
    let token = |text: String| match (1..=MAX_TOKEN).contains(&text.len()) {
        true => Ok(Secret::new(text.into_bytes())),
        false => Err(TokenRefusal::Unusable("a token is empty or too long")),
    };
    Ok(Tokens {
        access_token: token(
            answer
                .access_token
                .ok_or(TokenRefusal::Unusable("it has no access_token"))?,
        )?,
        id_token: answer.id_token.map(token).transpose()?,
        refresh_token: answer.refresh_token.map(token).transpose()?,
    })
}

/// A status that says nothing about what was asked, only that it cannot be answered now.
pub fn is_unavailable(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
}

/// Whether the body says that it is JSON; once, whatever its parameters.
pub fn is_json(response: &Response<Bytes>) -> bool {
    let mut types = response.headers().get_all(CONTENT_TYPE).iter();
    let is_json = types
        .next()
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"));
    is_json && types.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, content_type: &str, body: &str) -> Result<Tokens, TokenRefusal> {
        let mut response = Response::new(Bytes::from(body.to_owned()));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        if !content_type.is_empty() {
            let value = content_type.parse().unwrap();
            response.headers_mut().insert(CONTENT_TYPE, value);
        }
        read(&response)
    }

    #[test]
    fn tokens_are_found() {
        let body = r#"{"access_token":"a","token_type":"bearer","expires_in":3600,"id_token":"i","refresh_token":"r","x":{}}"#;
        let tokens = answered(200, "Application/JSON; charset=utf-8", body).unwrap();
        assert_eq!(tokens.access_token.expose(), b"a");
        assert_eq!(tokens.id_token.unwrap().expose(), b"i");
        assert_eq!(tokens.refresh_token.unwrap().expose(), b"r");
        let plain = r#"{"access_token":"a","token_type":"Bearer"}"#;
        let tokens = answered(200, "application/json", plain).unwrap();
        assert!(tokens.id_token.is_none() && tokens.refresh_token.is_none());
    }

    #[test]
    fn e12_what_is_no_answer_of_a_token_endpoint_is_refused() {
        let good = r#"{"access_token":"a","token_type":"Bearer"}"#;
        let check = |status, kind: &str, body: &str, want: &str| {
            let error = answered(status, kind, body).unwrap_err().to_string();
            assert!(error.contains(want), "{status} {kind} {body}: {error}");
        };
        let json = "application/json";
        for status in [301, 302, 303, 307, 308] {
            check(status, json, good, "no redirect is followed");
        }
        for status in [500, 502, 503, 504, 429, 408] {
            check(status, json, good, "answered with status");
        }
        for kind in [
            "",
            "text/html",
            "text/plain",
            "application/jsonx",
            "application/jwt",
        ] {
            check(200, kind, good, "application/json");
        }
        check(201, json, good, "not 200");
        check(404, json, "{}", "not 200");
        for body in [
            "",
            "[]",
            "null",
            "access_token=a&token_type=bearer",
            r#"{"access_token":1,"token_type":"Bearer"}"#,
            r#"{"access_token":"a","access_token":"b","token_type":"Bearer"}"#,
            r#"{"access_token":"a","token_type":"Bearer"} x"#,
        ] {
            check(200, json, body, "not the JSON");
        }
        check(200, json, r#"{"access_token":"a"}"#, "token_type");
        check(
            200,
            json,
            r#"{"access_token":"a","token_type":"DPoP"}"#,
            "token_type",
        );
        check(200, json, r#"{"token_type":"Bearer"}"#, "no access_token");
        check(
            200,
            json,
            r#"{"access_token":"","token_type":"Bearer"}"#,
            "empty",
        );
    }

    #[test]
    fn an_error_is_a_definite_answer_whatever_its_status() {
        for status in [200, 400, 401] {
            let body = r#"{"error":"invalid_grant","error_description":"spent\r\n<b>"}"#;
            let Err(TokenRefusal::Refused(error)) = answered(status, "application/json", body)
            else {
                panic!("{status}");
            };
            assert_eq!(error.code, "invalid_grant");
            assert_eq!(error.description.as_deref(), Some("spent <b>"));
        }
        let long = format!(r#"{{"error":"{}"}}"#, "t".repeat(41));
        for odd in [
            &*long,
            r#"{"error":"a\nb"}"#,
            r#"{"error":"토큰"}"#,
            r#"{"error":""}"#,
        ] {
            let Err(TokenRefusal::Refused(error)) = answered(400, "application/json", odd) else {
                panic!("{odd}");
            };
            assert_eq!(error.code, "unreadable_error");
        }
        // But not when the provider is in trouble.
        let body = r#"{"error":"invalid_grant"}"#;
        assert_eq!(
            answered(503, "application/json", body).unwrap_err(),
            TokenRefusal::Unavailable(503)
        );
    }

    #[test]
    fn no_token_is_printed() {
        let body = r#"{"access_token":"s3cret","token_type":"Bearer","refresh_token":"s3cret"}"#;
        let tokens = answered(200, "application/json", body).unwrap();
        assert!(!format!("{tokens:?}").contains("s3cret"));
    }
}
