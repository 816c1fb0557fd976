//! Which language a page speaks: what the browser prefers (RFC 9110 section 12.5.4), English when it prefers neither.
//!
//! Must not fail: a header that makes no sense is a header without wishes.

use http::HeaderMap;
use http::header::ACCEPT_LANGUAGE;

/// A language that the pages are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Korean.
    Korean,
}

/// More ranges than any browser sends; the rest is not looked at.
const MAX_RANGES: usize = 32;

impl Language {
    /// The BCP 47 tag, for `lang` and `Content-Language`.
    pub const fn tag(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::Korean => "ko",
        }
    }

    /// The language with the highest weight in `Accept-Language`; on equal weights the one named first.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let mut best: Option<(u16, Language)> = None;
        let ranges = headers
            .get_all(ACCEPT_LANGUAGE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .take(MAX_RANGES);
        for range in ranges {
            let mut parts = range.split(';');
            let tag = parts.next().unwrap_or_default().trim();
            let Some(weight) = weight(parts) else {
                continue;
            };
            let Some(language) = Language::speaking(tag) else {
                continue;
            };
            if weight > 0 && best.is_none_or(|(most, _)| weight > most) {
                best = Some((weight, language));
            }
        }
        best.map_or(Language::English, |(_, language)| language)
    }

    /// The language for a range such as `ko`, `ko-KR` or `*`.
    fn speaking(range: &str) -> Option<Self> {
        let primary = range.split('-').next().unwrap_or_default();
        if primary.eq_ignore_ascii_case("ko") {
            Some(Language::Korean)
        } else if primary.eq_ignore_ascii_case("en") || primary == "*" {
            Some(Language::English)
        } else {
            None
        }
    }
}

/// The `q` parameter in thousandths; 1000 when absent, `None` when it is no weight.
fn weight<'a>(parameters: impl Iterator<Item = &'a str>) -> Option<u16> {
    for parameter in parameters {
        let Some((name, value)) = parameter.split_once('=') else {
            continue;
        };
        if !name.trim().eq_ignore_ascii_case("q") {
            continue;
        }
        let value = value.trim();
        let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
        if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let thousandths: u16 = format!("{fraction:0<3}").parse().ok()?;
        return match whole {
            "0" => Some(thousandths),
            "1" if thousandths == 0 => Some(1000),
            _ => None,
        };
    }
    Some(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[&str], want: Language) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT_LANGUAGE, value.parse().unwrap());
        }
        assert_eq!(Language::from_headers(&headers), want, "{values:?}");
    }

    #[test]
    fn the_most_wanted_language_we_speak() {
        use Language::{English, Korean};
        check(&[], English);
        check(&["ko"], Korean);
        check(&["KO-kr"], Korean);
        check(&["ko-KR,ko;q=0.9,en-US;q=0.8,en;q=0.7"], Korean);
        check(&["en-US,en;q=0.9,ko;q=0.8"], English);
        check(&["en;q=0.5,ko;q=0.501"], Korean);
        check(&["en;q=0.5 , ko ; q = 0.9"], Korean);
        check(&["de,fr;q=0.9"], English);
        check(&["de,ko;q=0.1"], Korean);
        check(&["ko;q=0,*;q=0.1"], English);
        check(&["ko;q=0"], English);
        check(&["en;q=0,ko;q=0.1"], Korean);
        check(&["fr", "ko;q=0.3"], Korean);
        check(&["ko,en"], Korean);
        check(&["en,ko"], English);
        check(&["korean"], English);
    }

    #[test]
    fn nonsense_is_no_wish() {
        for bad in [
            "ko;q=2",
            "ko;q=1.001",
            "ko;q=0.12345",
            "ko;q=-1",
            "ko;q=",
            ";;;",
            ",,,",
            "ko;q=a",
        ] {
            check(&[bad], Language::English);
        }
        check(&[&format!("{}ko", "de,".repeat(10_000))], Language::English);
    }
}
