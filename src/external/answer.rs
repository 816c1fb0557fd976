//! What the service's answer to a refresh means: new tokens, a definite refusal, "not now", or that nobody can tell.
//!
//! Pure. The rule behind it: a token that *may* have been spent is never sent again, and only the service's own word ends a
//! sign-in. Must not verify tokens: that they are any good is found out by `check`.

use std::time::Duration;

use http::header::{RETRY_AFTER, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::auth::strict_json::{Json, Object};

/// Most `Set-Cookie` lines for the two cookies that are relayed from one answer.
const MAX_LINES: usize = 8;
/// Longest such line: what browsers keep (RFC 6265bis, "Limits": 4096 bytes) and some attributes.
const MAX_LINE: usize = 6 * 1024;
/// Longest time that a `Retry-After` is obeyed.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The token was spent for these.
    Renewed(NewTokens),
    /// The service does not accept the token: definite. What it said about the two cookies (a deletion, as a rule).
    Refused(Vec<HeaderValue>),
    /// The service did not do it, and says so: the token may be sent again, but not before this much time has passed.
    NotNow(Option<Duration>, NotNow),
    /// The token may have been spent, and what it was spent for did not arrive.
    Lost(Lost),
}

/// Why not now, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotNow {
    /// 429 or 5xx.
    #[error("the service answers with status {0}")]
    Status(u16),
    /// Any other status: the address is wrong, or it is no refresh endpoint.
    #[error(
        "the service answers a refresh with status {0}, which is neither new tokens nor a refusal: is the address right?"
    )]
    Unexpected(u16),
    /// RFC 6749 section 5.2, anything but `invalid_grant`: the gateway's registration with the service is wrong.
    #[error(
        "the token endpoint refuses the gateway itself (status {0}): are client_id and its secret right?"
    )]
    Client(u16),
}

/// Why nobody can tell, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Lost {
    /// 502 or 504: a proxy's word that it got no answer from the service.
    #[error("something between the gateway and the service answers with status {0}")]
    Between(u16),
    /// 2xx, and no new access cookie in it.
    #[error(
        "the service answers a refresh without setting a new access cookie: is `external.access_cookie` its name?"
    )]
    NoAccessToken,
    /// More or longer lines than any browser keeps.
    #[error("the service sets too many or too long cookies")]
    TooLarge,
    /// 2xx from a token endpoint, and not what RFC 6749 section 5.1 describes.
    #[error("the token endpoint's answer is not the JSON of RFC 6749")]
    NotJson,
    /// A token that no cookie can hold.
    #[error("the token endpoint's answer has a token that no cookie can hold")]
    NoCookie,
}

/// What a token was spent for.
#[derive(PartialEq, Eq)]
pub(super) struct NewTokens {
    /// The access token.
    pub(super) access: String,
    /// The refresh token; `None`: the one that was sent goes on.
    pub(super) refresh: Option<String>,
    /// `Set-Cookie` lines for the browser.
    pub(super) lines: Vec<HeaderValue>,
    /// How long the refresh token lives, where the answer says so.
    pub(super) refresh_life: Option<Duration>,
}

impl std::fmt::Debug for NewTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewTokens(…)")
    }
}

/// Reads the answer of a `refresh_url`: 2xx with cookies, 401 or 403 or `invalid_grant` for a refusal.
pub(super) fn of_cookies(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    access: &str,
    refresh: &str,
) -> Answer {
    let Some(found) = cookies(headers, access, refresh) else {
        return match status.is_success() {
            true => Answer::Lost(Lost::TooLarge),
            false => by_status(status, headers, body, Vec::new()),
        };
    };
    if !status.is_success() {
        return by_status(status, headers, body, found.lines);
    }
    match found.access {
        Some(access) if !access.is_empty() => Answer::Renewed(NewTokens {
            access,
            refresh: found.refresh.filter(|value| !value.is_empty()),
            lines: found.lines,
            refresh_life: None,
        }),
        _ => Answer::Lost(Lost::NoAccessToken),
    }
}

fn by_status(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    lines: Vec<HeaderValue>,
) -> Answer {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Answer::Refused(lines),
        StatusCode::BAD_REQUEST if error_of(body).as_deref() == Some("invalid_grant") => {
            Answer::Refused(lines)
        }
        other => trouble(other, headers),
    }
}

/// Reads the answer of a token endpoint (RFC 6749 sections 5.1 and 5.2). The lines are still to be written.
pub(super) fn of_token_endpoint(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Answer {
    if status.is_success() {
        return match tokens(body) {
            Ok(tokens) => Answer::Renewed(tokens),
            Err(lost) => Answer::Lost(lost),
        };
    }
    match (status, error_of(body).as_deref()) {
        (StatusCode::BAD_REQUEST, Some("invalid_grant")) => Answer::Refused(Vec::new()),
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _)
        | (
            StatusCode::BAD_REQUEST,
            Some("invalid_client" | "unauthorized_client" | "unsupported_grant_type"),
        ) => Answer::NotNow(None, NotNow::Client(status.as_u16())),
        _ => trouble(status, headers),
    }
}

/// A complete answer with 429 or 5xx says that the service did not do it; a gateway's 502 or 504 says that it does not know.
fn trouble(status: StatusCode, headers: &HeaderMap) -> Answer {
    let code = status.as_u16();
    match status {
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => Answer::Lost(Lost::Between(code)),
        _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Answer::NotNow(pause(headers), NotNow::Status(code))
        }
        _ => Answer::NotNow(None, NotNow::Unexpected(code)),
    }
}

/// `Retry-After` in seconds (RFC 9110 section 10.2.3), bounded; a date is not worth a parser here.
fn pause(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = seconds.parse::<u64>().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_PAUSE))
}

/// The `error` member of an answer in JSON (RFC 6749 section 5.2).
fn error_of(body: &[u8]) -> Option<String> {
    Object::parse(body).ok()?.take_text("error")
}

fn tokens(body: &[u8]) -> Result<NewTokens, Lost> {
    let mut members = Object::parse(body).map_err(|_| Lost::NotJson)?;
    let access = members.take_text("access_token").ok_or(Lost::NotJson)?;
    let refresh = match members.take("refresh_token") {
        None | Some(Json::Null) => None,
        Some(Json::Text(token)) if !token.is_empty() => Some(token),
        Some(_) => return Err(Lost::NotJson),
    };
    if access.is_empty() {
        return Err(Lost::NotJson);
    }
    if !is_cookie_value(&access)
        || refresh
            .as_deref()
            .is_some_and(|token| !is_cookie_value(token))
    {
        return Err(Lost::NoCookie);
    }
    // Not of the standard, and known to several services; 0 means "without end" to one of them.
    let refresh_life = match members.take("refresh_expires_in") {
        Some(Json::Integer(seconds)) if seconds > 0 => {
            Some(Duration::from_secs(seconds.unsigned_abs()))
        }
        _ => None,
    };
    Ok(NewTokens {
        access,
        refresh,
        lines: Vec::new(),
        refresh_life,
    })
}

/// RFC 6265 section 4.1.1, `cookie-octet`.
fn is_cookie_value(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\'))
}

/// What an answer says about the two cookies. An empty text is a deletion.
#[derive(Default)]
struct Found {
    access: Option<String>,
    refresh: Option<String>,
    lines: Vec<HeaderValue>,
}

/// `None`: more than any browser keeps.
fn cookies(headers: &HeaderMap, access: &str, refresh: &str) -> Option<Found> {
    let mut found = Found::default();
    for line in headers.get_all(SET_COOKIE) {
        let Some((name, value)) = cookie_of(line) else {
            continue;
        };
        // The last line for a name is the one that a browser ends up with.
        if name == access {
            found.access = Some(value);
        } else if name == refresh {
            found.refresh = Some(value);
        } else {
            continue;
        }
        if found.lines.len() == MAX_LINES || line.len() > MAX_LINE {
            return None;
        }
        let mut line = line.clone();
        line.set_sensitive(true);
        found.lines.push(line);
    }
    Some(found)
}

/// Name and value of a `Set-Cookie` line (RFC 6265bis section 5.6); the value is empty where the line is a deletion.
pub(super) fn cookie_of(line: &HeaderValue) -> Option<(String, String)> {
    let text = std::str::from_utf8(line.as_bytes()).ok()?;
    let mut parts = text.split(';');
    let (name, value) = parts.next()?.split_once('=')?;
    let over = parts
        .filter_map(|attribute| attribute.split_once('='))
        .filter(|(key, _)| key.trim().eq_ignore_ascii_case("max-age"))
        .any(|(_, age)| {
            let age = age.trim();
            age.starts_with('-') || (!age.is_empty() && age.bytes().all(|digit| digit == b'0'))
        });
    let value = if over { "" } else { value.trim() };
    Some((name.trim().to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn cookies_of(status: u16, lines: &[(&'static str, &str)], body: &str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        of_cookies(status, &headers(lines), body.as_bytes(), "at", "rt")
    }

    fn json(status: u16, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        of_token_endpoint(status, &HeaderMap::new(), body.as_bytes())
    }

    fn renewed(answer: Answer) -> NewTokens {
        match answer {
            Answer::Renewed(tokens) => tokens,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn new_cookies_are_relayed_as_they_stand_and_nothing_else_is() {
        let at = "at=new; Max-Age=300; Path=/; HttpOnly; Secure; SameSite=Lax";
        let rt = "rt=a%20b; Path=/x; Expires=Wed, 01 Jan 2031 00:00:00 GMT; Partitioned; Foo=bar";
        let lines = [
            ("set-cookie", "theme=dark"),
            ("set-cookie", at),
            ("set-cookie", "att=x"),
            ("set-cookie", "AT=x"),
            ("set-cookie", rt),
        ];
        let tokens = renewed(cookies_of(200, &lines, ""));
        assert_eq!(tokens.access, "new");
        assert_eq!(tokens.refresh.as_deref(), Some("a%20b"));
        assert_eq!(tokens.lines, [at, rt]);
        assert!(tokens.lines.iter().all(HeaderValue::is_sensitive));
        assert_eq!(
            format!("{:?}", Answer::Renewed(tokens)),
            "Renewed(NewTokens(…))"
        );
        renewed(cookies_of(204, &[("set-cookie", at)], ""));
    }

    #[test]
    fn the_last_line_for_a_name_counts_and_all_are_relayed_in_order() {
        let lines = [
            ("set-cookie", "at=; Max-Age=0; Path=/old"),
            ("set-cookie", " at = new ; Path=/"),
        ];
        let tokens = renewed(cookies_of(200, &lines, ""));
        assert_eq!((tokens.access.as_str(), tokens.lines.len()), ("new", 2));
        assert_eq!(tokens.refresh, None);
        let turned = [lines[1], lines[0]];
        assert_eq!(
            cookies_of(200, &turned, ""),
            Answer::Lost(Lost::NoAccessToken)
        );
    }

    #[test]
    fn an_answer_without_a_new_access_cookie_has_spent_the_token_for_nothing() {
        for lines in [
            &[][..],
            &[("set-cookie", "rt=new")],
            &[("set-cookie", "at=")],
            &[("set-cookie", "at")],
            &[("set-cookie", "at=x; max-age=-1")],
            &[("set-cookie", "at=x; MAX-AGE = 00")],
        ] {
            let answer = cookies_of(200, lines, r#"{"access_token":"x"}"#);
            assert_eq!(answer, Answer::Lost(Lost::NoAccessToken), "{lines:?}");
        }
    }

    #[test]
    fn what_no_browser_keeps_is_not_relayed() {
        let long = format!("at={}", "x".repeat(MAX_LINE));
        assert_eq!(
            cookies_of(200, &[("set-cookie", &long)], ""),
            Answer::Lost(Lost::TooLarge)
        );
        let many = [("set-cookie", "at=x"); MAX_LINES + 1];
        assert_eq!(cookies_of(200, &many, ""), Answer::Lost(Lost::TooLarge));
        // A refusal stays one.
        assert_eq!(cookies_of(401, &many, ""), Answer::Refused(Vec::new()));
        renewed(cookies_of(200, &many[1..], ""));
    }

    #[test]
    fn i09_only_the_services_own_word_is_a_refusal() {
        let gone = "at=; Max-Age=0; Path=/";
        for (status, body) in [
            (401, ""),
            (403, "no"),
            (400, r#"{"error":"invalid_grant"}"#),
        ] {
            let answer = cookies_of(status, &[("set-cookie", gone), ("set-cookie", "x=y")], body);
            assert_eq!(
                answer,
                Answer::Refused(vec![HeaderValue::from_static("at=; Max-Age=0; Path=/")])
            );
        }
        for status in [500, 501, 503, 507, 429] {
            let answer = cookies_of(
                status,
                &[("set-cookie", gone)],
                r#"{"error":"invalid_grant"}"#,
            );
            assert_eq!(answer, Answer::NotNow(None, NotNow::Status(status)));
        }
        for status in [301, 302, 303, 400, 404, 405, 415, 422] {
            let answer = cookies_of(
                status,
                &[("set-cookie", "at=x")],
                r#"{"error":"invalid_request"}"#,
            );
            assert_eq!(answer, Answer::NotNow(None, NotNow::Unexpected(status)));
        }
        for status in [502, 504] {
            assert_eq!(
                cookies_of(status, &[], ""),
                Answer::Lost(Lost::Between(status))
            );
        }
    }

    #[test]
    fn a_pause_is_obeyed_within_bounds() {
        for (text, want) in [
            ("3", Some(3)),
            (" 7 ", Some(7)),
            ("86400", Some(60)),
            ("-1", None),
            ("soon", None),
        ] {
            let answer = cookies_of(503, &[("retry-after", text)], "");
            let want = want.map(Duration::from_secs);
            assert_eq!(answer, Answer::NotNow(want, NotNow::Status(503)), "{text}");
        }
    }

    #[test]
    fn a_token_endpoint_answers_in_json() {
        let tokens = renewed(json(
            200,
            r#"{"access_token":"a.b.c","refresh_token":"r","token_type":"Bearer","expires_in":300,"refresh_expires_in":1800}"#,
        ));
        assert_eq!(
            (tokens.access.as_str(), tokens.refresh.as_deref()),
            ("a.b.c", Some("r"))
        );
        assert_eq!(tokens.refresh_life, Some(Duration::from_secs(1800)));
        let same = renewed(json(200, r#"{"access_token":"a","refresh_expires_in":0}"#));
        assert_eq!((same.refresh, same.refresh_life), (None, None));
        for (body, lost) in [
            ("", Lost::NotJson),
            ("[]", Lost::NotJson),
            ("access_token=a", Lost::NotJson),
            (r#"{"refresh_token":"r"}"#, Lost::NotJson),
            (r#"{"access_token":1}"#, Lost::NotJson),
            (r#"{"access_token":""}"#, Lost::NotJson),
            (r#"{"access_token":"a","access_token":"b"}"#, Lost::NotJson),
            (r#"{"access_token":"a","refresh_token":1}"#, Lost::NotJson),
            (r#"{"access_token":"a; Path=/"}"#, Lost::NoCookie),
            (
                r#"{"access_token":"a","refresh_token":"x\r\ny"}"#,
                Lost::NoCookie,
            ),
            (r#"{"access_token":"é"}"#, Lost::NoCookie),
        ] {
            assert_eq!(json(200, body), Answer::Lost(lost), "{body}");
        }
    }

    #[test]
    fn i09_of_a_token_endpoint_only_invalid_grant_is_about_the_person() {
        assert_eq!(
            json(400, r#"{"error":"invalid_grant"}"#),
            Answer::Refused(Vec::new())
        );
        for (status, body) in [
            (401, r#"{"error":"invalid_client"}"#),
            (401, r#"{"error":"invalid_grant"}"#),
            (403, ""),
            (400, r#"{"error":"unauthorized_client"}"#),
        ] {
            assert_eq!(
                json(status, body),
                Answer::NotNow(None, NotNow::Client(status)),
                "{status} {body}"
            );
        }
        assert_eq!(
            json(400, r#"{"error":"invalid_request"}"#),
            Answer::NotNow(None, NotNow::Unexpected(400))
        );
        assert_eq!(
            json(500, r#"{"error":"invalid_grant"}"#),
            Answer::NotNow(None, NotNow::Status(500))
        );
        assert_eq!(json(504, ""), Answer::Lost(Lost::Between(504)));
    }
}
