//! Reads `application/x-www-form-urlencoded` bodies and queries, strictly: what could be read two ways is refused.
//!
//! Must not know what a field means. What it read may be a password: it shows names only, and wipes values on drop.

use std::fmt;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use zeroize::Zeroize as _;

use crate::body::{Body, BodyError};
use crate::units::Secret;

/// The largest body that [`parse`] looks at; a sign-in form with every field at its limit is well below it.
pub const MAX_BYTES: usize = 16 * 1024;
/// Most fields.
pub const MAX_FIELDS: usize = 16;

/// Why a form was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// More than [`MAX_BYTES`] or [`MAX_FIELDS`].
    #[error("the form is too large")]
    TooLarge,
    /// A `%` that is not followed by two hexadecimal digits.
    #[error("the form has a broken percent-encoding")]
    Encoding,
    /// A name or value that is not UTF-8.
    #[error("the form is not UTF-8")]
    NotUtf8,
    /// The same name twice (attacks E10): whoever picks the other one would see another form.
    #[error("a form field occurs twice")]
    Duplicate,
}

/// Fields in their order, each name once.
pub struct Form {
    fields: Vec<(String, String)>,
}

impl Form {
    /// The value of a field; `None` when it was not sent.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, value)| value.as_str())
    }

    /// The value of a field that must never be shown.
    pub fn secret(&self, name: &str) -> Option<Secret> {
        self.field(name).map(Secret::new)
    }
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.fields.iter().map(|(name, _)| name))
            .finish()
    }
}

impl Drop for Form {
    fn drop(&mut self) {
        for (_, value) in &mut self.fields {
            value.zeroize();
        }
    }
}

/// Why the body of a request is no form.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The `Content-Type` is another one, or there are several (415).
    #[error("the body is no form")]
    ContentType,
    /// What was sent is refused (413 for [`FormError::TooLarge`], else 400).
    #[error(transparent)]
    Form(#[from] FormError),
    /// The body broke off (400).
    #[error("the form did not arrive completely")]
    Incomplete(#[source] BodyError),
}

/// Reads the body of a request, never more than [`MAX_BYTES`] of it. How long it may take is the server's business.
pub async fn read(headers: &HeaderMap, body: Body) -> Result<Form, ReadError> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let is_form = types
        .next()
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| {
            essence
                .trim()
                .eq_ignore_ascii_case("application/x-www-form-urlencoded")
        });
    if !is_form || types.next().is_some() {
        return Err(ReadError::ContentType);
    }
    match Limited::new(body, MAX_BYTES).collect().await {
        Ok(collected) => Ok(parse(&collected.to_bytes())?),
        Err(error) if error.is::<LengthLimitError>() => Err(FormError::TooLarge.into()),
        Err(error) => Err(ReadError::Incomplete(error)),
    }
}

/// Reads a body or a query (without `?`).
pub fn parse(bytes: &[u8]) -> Result<Form, FormError> {
    if bytes.len() > MAX_BYTES {
        return Err(FormError::TooLarge);
    }
    let mut form = Form { fields: Vec::new() };
    for pair in bytes.split(|&b| b == b'&').filter(|pair| !pair.is_empty()) {
        if form.fields.len() == MAX_FIELDS {
            return Err(FormError::TooLarge);
        }
        let mut halves = pair.splitn(2, |&b| b == b'=');
        let name = decode(halves.next().unwrap_or_default())?;
        let value = decode(halves.next().unwrap_or_default())?;
        if form.field(&name).is_some() {
            return Err(FormError::Duplicate);
        }
        form.fields.push((name, value));
    }
    Ok(form)
}

fn decode(bytes: &[u8]) -> Result<String, FormError> {
    // Never grows beyond this, so no copy of a password is left behind by a reallocation.
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = rest.next().copied().and_then(hex);
                let low = rest.next().copied().and_then(hex);
                match (high, low) {
                    (Some(high), Some(low)) => high << 4 | low,
                    _ => return Err(FormError::Encoding),
                }
            }
            other => other,
        });
    }
    String::from_utf8(decoded).map_err(|_| FormError::NotUtf8)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(form: &Form) -> Vec<(&str, &str)> {
        form.fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }

    #[test]
    fn forms_that_browsers_send() {
        let form =
            parse("username=al%69ce+b&password=%26%3D%2B%ed%95%9c&rd=%2Fx%3Fy&e=".as_bytes())
                .unwrap();
        assert_eq!(
            fields(&form),
            [
                ("username", "alice b"),
                ("password", "&=+한"),
                ("rd", "/x?y"),
                ("e", "")
            ]
        );
        assert_eq!(form.field("absent"), None);
        assert_eq!(
            form.secret("password").unwrap().expose(),
            "&=+한".as_bytes()
        );
        assert_eq!(fields(&parse(b"").unwrap()), []);
        assert_eq!(fields(&parse(b"&&a&&=b&").unwrap()), [("a", ""), ("", "b")]);
        assert_eq!(fields(&parse(b"a=b=c").unwrap()), [("a", "b=c")]);
    }

    #[test]
    fn what_could_be_read_two_ways_is_refused() {
        let check = |body: &[u8], want| assert_eq!(parse(body).unwrap_err(), want, "{body:?}");
        check(b"a=1&a=2", FormError::Duplicate);
        check(b"a=1&%61=1", FormError::Duplicate);
        check(b"a=%", FormError::Encoding);
        check(b"a=%4", FormError::Encoding);
        check(b"a=%zz", FormError::Encoding);
        check(b"a=%+1", FormError::Encoding);
        check(b"a=%ff", FormError::NotUtf8);
        check(b"a=\xff", FormError::NotUtf8);
        check(b"a=%c0%af", FormError::NotUtf8);
        check(&vec![b'a'; MAX_BYTES + 1], FormError::TooLarge);
        check("a=1&".repeat(20).as_bytes(), FormError::Duplicate);
        let many: String = (0..=MAX_FIELDS).map(|n| format!("f{n}=1&")).collect();
        check(many.as_bytes(), FormError::TooLarge);
    }

    #[tokio::test]
    async fn only_bounded_bodies_that_say_they_are_forms_are_read() {
        let read_as = async |types: &[&str], body: Body| {
            let mut headers = HeaderMap::new();
            for value in types {
                headers.append(CONTENT_TYPE, value.parse().unwrap());
            }
            read(&headers, body).await.map(|form| form.fields.len())
        };
        let form = "application/x-www-form-urlencoded";
        assert!(matches!(read_as(&[form], "a=1&b=2".into()).await, Ok(2)));
        let with_charset = "Application/X-WWW-Form-Urlencoded ; charset=utf-8";
        assert!(matches!(
            read_as(&[with_charset], Body::empty()).await,
            Ok(0)
        ));
        for types in [
            &[][..],
            &["text/plain"],
            &["multipart/form-data"],
            &[form, form],
        ] {
            assert!(matches!(
                read_as(types, "a=1".into()).await,
                Err(ReadError::ContentType)
            ));
        }
        assert!(matches!(
            read_as(&[form], vec![b'a'; MAX_BYTES + 1].into()).await,
            Err(ReadError::Form(FormError::TooLarge))
        ));
        let broken = http_body_util::StreamBody::new(futures_util::stream::iter([
            Ok(http_body::Frame::data(bytes::Bytes::from_static(b"a=1"))),
            Err(std::io::Error::other("gone")),
        ]));
        assert!(matches!(
            read_as(&[form], Body::stream(broken)).await,
            Err(ReadError::Incomplete(_))
        ));
    }

    #[test]
    fn values_are_never_printed() {
        let form = parse(b"username=alice&password=hunter2").unwrap();
        assert_eq!(format!("{form:?}"), r#"["username", "password"]"#);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(form) = parse(&bytes) {
                prop_assert!(form.fields.len() <= MAX_FIELDS);
            }
        }

        #[test]
        fn any_text_round_trips(value in "\\PC{0,60}", other in any::<String>()) {
            let body = format!(
                "a={}&b={}",
                percent_encoding::utf8_percent_encode(&value, percent_encoding::NON_ALPHANUMERIC),
                percent_encoding::utf8_percent_encode(&other, percent_encoding::NON_ALPHANUMERIC),
            );
            let form = parse(body.as_bytes()).unwrap();
            prop_assert_eq!(form.field("a"), Some(value.as_str()));
            prop_assert_eq!(form.field("b"), Some(other.as_str()));
        }
    }
}
