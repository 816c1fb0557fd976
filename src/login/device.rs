//! What a person recognises a browser by: "Firefox" on "Android", read from the `User-Agent` text.
//!
//! A guess for people's eyes: anybody can send any text, so nothing may be decided by it. Must not grow into a database:
//! a name is here when people would look for it in a list of their own sessions.

/// Most characters of an unknown user agent that are shown.
const MAX_RAW: usize = 60;

/// A browser as people call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name, or the beginning of its user agent when that names none; empty when it sent none.
    pub browser: String,
    /// What it runs on, where its user agent says so.
    pub system: Option<&'static str>,
}

/// Mark in the text -> name. The first that occurs counts: browsers name those that they want to be taken for as well.
const BROWSERS: &[(&str, &str)] = &[
    ("KAKAOTALK", "KakaoTalk"),
    ("NAVER(", "NAVER"),
    ("Whale/", "Whale"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("YaBrowser/", "Yandex Browser"),
    ("Vivaldi/", "Vivaldi"),
    ("DuckDuckGo/", "DuckDuckGo"),
    ("OPR/", "Opera"),
    ("OPT/", "Opera"),
    ("EdgA/", "Edge"),
    ("EdgiOS/", "Edge"),
    ("Edg/", "Edge"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chromium/", "Chromium"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
];

/// The same for systems. Phones name the desktop systems that theirs are made of.
const SYSTEMS: &[(&str, &str)] = &[
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Macintosh", "macOS"),
    ("Linux", "Linux"),
    ("FreeBSD", "FreeBSD"),
];

impl Device {
    /// Reads a user agent.
    pub fn of(user_agent: &str) -> Self {
        let first = |marks: &[(&str, &'static str)]| {
            marks
                .iter()
                .find(|(mark, _)| user_agent.contains(mark))
                .map(|(_, name)| *name)
        };
        Device {
            browser: first(BROWSERS).map_or_else(|| raw(user_agent), str::to_owned),
            system: first(SYSTEMS),
        }
    }
}

/// The beginning of the text itself, without what could hide or reorder the text around it.
fn raw(user_agent: &str) -> String {
    let text = user_agent.trim();
    let mut shown: String = text
        .chars()
        .take(MAX_RAW)
        .map(|c| if is_printable(c) { c } else { '\u{fffd}' })
        .collect();
    if text.chars().nth(MAX_RAW).is_some() {
        shown.push('…');
    }
    shown
}

/// Neither a control character nor one that changes the direction of what follows or is not seen.
fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_called_what_people_call_them() {
        let check = |user_agent: &str, browser: &str, system: Option<&str>| {
            let device = Device::of(user_agent);
            assert_eq!(
                (device.browser.as_str(), device.system),
                (browser, system),
                "{user_agent}"
            );
        };
        check(
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
            "Chrome",
            Some("Windows"),
        );
        check(
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0",
            "Edge",
            Some("Windows"),
        );
        check(
            "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
            "Firefox",
            Some("Linux"),
        );
        check(
            "Mozilla/5.0 (Android 14; Mobile; rv:144.0) Gecko/144.0 Firefox/144.0",
            "Firefox",
            Some("Android"),
        );
        check(
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
            "Safari",
            Some("iPhone"),
        );
        check(
            "Mozilla/5.0 (iPad; CPU OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/140.0.7339.39 Mobile/15E148 Safari/604.1",
            "Chrome",
            Some("iPad"),
        );
        check(
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15",
            "Safari",
            Some("macOS"),
        );
        check(
            "Mozilla/5.0 (Linux; Android 14; SM-S921N) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36",
            "Samsung Internet",
            Some("Android"),
        );
        check(
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Whale/4.33.325.17 Safari/537.36",
            "Whale",
            Some("Windows"),
        );
        check(
            "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
            "Chrome",
            Some("ChromeOS"),
        );
        check("curl/8.14.1", "curl/8.14.1", None);
        check("  ", "", None);
    }

    #[test]
    fn an_unknown_text_is_bounded_and_cannot_rearrange_the_page() {
        let long = Device::of(&"x".repeat(1000)).browser;
        assert_eq!(long.chars().count(), MAX_RAW + 1);
        assert!(long.ends_with('…'));
        assert_eq!(
            Device::of("a\u{202e}b\tc\u{200b}d").browser,
            "a\u{fffd}b\u{fffd}c\u{fffd}d"
        );
    }
}
