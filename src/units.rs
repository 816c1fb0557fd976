//! Text with units: durations (`"5m"`), sizes (`"64KiB"`), secrets that never print themselves, and what others wrote made visible.
//!
//! Must not know any configuration key: it turns text into values and says why it cannot.

use std::fmt;
use std::time::Duration;

/// `1 session`, `2 sessions`.
pub fn count(number: usize, word: &str) -> String {
    match number {
        1 => format!("1 {word}"),
        _ => format!("{number} {word}s"),
    }
}

/// Somebody else's text, fit for a terminal and for one line: what would move the cursor, begin a line or turn the reading
/// direction is shown as its escape.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match is_unsafe(character) {
            true => shown.extend(character.escape_unicode()),
            false => shown.push(character),
        }
    }
    shown
}

/// Control characters of both sets, line and paragraph separators, marks that turn the reading direction, and the byte
/// order mark.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Why a text with a unit could not be read; the message names what is accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a duration.
    #[error(
        "not a duration: write a number and a unit, such as \"30s\", \"5m\", \"2h\" or \"14d\""
    )]
    Duration,
    /// Not a size.
    #[error(
        "not a size: write a number and a unit, such as \"512B\", \"64KiB\" or \"10MiB\", or \"unlimited\""
    )]
    Size,
}

/// Reads `"250ms"`, `"30s"`, `"5m"`, `"2h"`, `"14d"`, or several such parts (`"1h 30m"`). No unit, no sign, no months.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(UnitError::Duration);
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .ok_or(UnitError::Duration)?;
        let number: u64 = rest[..digits].parse().map_err(|_| UnitError::Duration)?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        let millis_per_unit: u64 = match &rest[..letters] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return Err(UnitError::Duration),
        };
        let millis = number
            .checked_mul(millis_per_unit)
            .ok_or(UnitError::Duration)?;
        total = total
            .checked_add(Duration::from_millis(millis))
            .ok_or(UnitError::Duration)?;
        rest = rest[letters..].trim_start();
    }
    Ok(total)
}

/// Units of a size, in bytes.
const SIZES: [(&str, u64); 8] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1000),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// Reads `"512B"`, `"64KiB"`, `"10MiB"`, `"2GiB"` (powers of 1024), `"10MB"` (powers of 1000); `None` = `"unlimited"`.
pub fn parse_size(text: &str) -> Result<Option<u64>, UnitError> {
    let text = text.trim();
    if text == "unlimited" {
        return Ok(None);
    }
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .ok_or(UnitError::Size)?;
    let number: u64 = text[..digits].parse().map_err(|_| UnitError::Size)?;
    let unit = text[digits..].trim_start();
    let (_, bytes) = SIZES
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or(UnitError::Size)?;
    number.checked_mul(*bytes).map(Some).ok_or(UnitError::Size)
}

/// Writes a duration the way [`parse_duration`] reads it: `90s` -> `1m 30s`.
pub fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut parts = Vec::new();
    for (unit, millis) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ] {
        if rest >= millis {
            parts.push(format!("{}{unit}", rest / millis));
            rest %= millis;
        }
    }
    parts.join(" ")
}

/// Bytes that must never be shown: Debug and Display print a mask, and memory is wiped on drop.
#[derive(Clone, zeroize::ZeroizeOnDrop)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes ownership of secret bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Secret(bytes.into())
    }

    /// The bytes, for the one call that needs them; the name makes a reviewer look.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, want: Option<u64>| {
            assert_eq!(
                parse_duration(text)
                    .ok()
                    .map(|d| u64::try_from(d.as_millis()).unwrap()),
                want,
                "{text:?}"
            );
        };
        check("30s", Some(30_000));
        check("1h 30m", Some(5_400_000));
        check("1h30m", Some(5_400_000));
        check("250ms", Some(250));
        check("14d", Some(1_209_600_000));
        check("0s", Some(0));
        for bad in [
            "",
            " ",
            "5",
            "m",
            "-5m",
            "5 m",
            "5 months",
            "1.5h",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn durations_round_trip() {
        for text in ["30s", "1h 30m", "250ms", "14d", "1m 30s"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("64KiB"), Ok(Some(65_536)));
        assert_eq!(parse_size("10MB"), Ok(Some(10_000_000)));
        assert_eq!(parse_size("unlimited"), Ok(None));
        for bad in [
            "",
            "64",
            "KiB",
            "64 KB/s",
            "-1B",
            "99999999999999999999B",
            "18446744073709551615GiB",
        ] {
            assert_eq!(parse_size(bad), Err(UnitError::Size), "{bad:?}");
        }
    }

    #[test]
    fn the_documentation_names_every_unit_of_a_size() {
        let documented = include_str!("../docs/configuration.md");
        for (unit, bytes) in SIZES {
            assert_eq!(parse_size(&format!("3{unit}")), Ok(Some(3 * bytes)));
            assert!(documented.contains(&format!("`{unit}`")), "{unit}");
        }
    }

    #[test]
    fn a_secret_never_prints_itself() {
        let secret = Secret::new(*b"hunter2");
        assert!(!format!("{secret:?} {secret}").contains("hunter2"));
    }
}
