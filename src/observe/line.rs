//! One log line, byte by byte: `{"key":"value"}` or `key=value`, always exactly one line whatever the values hold.
//!
//! A line is written once per request, so it is built in a buffer that is kept, without a formatter's detours. Must not
//! know what it writes about. What could end the line, move a terminal's cursor or turn text around is escaped, also where
//! JSON alone would not ask for it.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::observe::Format;
use crate::units::is_unsafe;

/// Longer values are cut here, at a character boundary, and end in `…`: a request may carry 64 KiB of path.
pub const MAX_VALUE: usize = 2048;

/// A line under construction in a borrowed buffer.
pub struct Line<'a> {
    buffer: &'a mut Vec<u8>,
    format: Format,
}

impl<'a> Line<'a> {
    /// Begins a line at the end of `buffer`: when, and which stream (`access`, `audit`).
    pub fn begin(
        buffer: &'a mut Vec<u8>,
        format: Format,
        time: Timestamp,
        stream: &'static str,
    ) -> Self {
        let mut line = Line { buffer, format };
        match format {
            Format::Json => {
                line.push(b"{\"timestamp\":\"");
                push_rfc3339(line.buffer, time);
                line.push(b"\",\"target\":\"");
                line.push(stream.as_bytes());
                line.push(b"\"");
            }
            Format::Text => {
                push_rfc3339(line.buffer, time);
                line.push(b" ");
                line.push(stream.as_bytes());
            }
        }
        line
    }

    /// A text value.
    pub fn text(&mut self, key: &'static str, value: &str) -> &mut Self {
        self.key(key);
        let (value, was_cut) = cut(value);
        let quoted = self.format == Format::Json || !is_plain(value);
        if quoted {
            self.push(b"\"");
        }
        push_escaped(self.buffer, value);
        if was_cut {
            self.push("…".as_bytes());
        }
        if quoted {
            self.push(b"\"");
        }
        self
    }

    /// A text value, when there is one.
    pub fn maybe(&mut self, key: &'static str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(key, value),
            None => self,
        }
    }

    /// A value that writes itself in harmless characters only: an address, a session id.
    pub fn display(&mut self, key: &'static str, value: impl std::fmt::Display) -> &mut Self {
        use std::fmt::Write as _;
        self.key(key);
        if self.format == Format::Json {
            self.push(b"\"");
        }
        // Writing to memory cannot fail; whatever it writes is escaped all the same.
        let _ = write!(Escaping(self.buffer), "{value}");
        if self.format == Format::Json {
            self.push(b"\"");
        }
        self
    }

    /// A whole number.
    pub fn number(&mut self, key: &'static str, value: u64) -> &mut Self {
        self.key(key);
        push_number(self.buffer, value);
        self
    }

    /// A duration in milliseconds with three decimals.
    pub fn millis(&mut self, key: &'static str, value: Duration) -> &mut Self {
        self.key(key);
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        push_number(self.buffer, micros / 1000);
        self.push(b".");
        push_padded(self.buffer, micros % 1000, 3);
        self
    }

    /// Ends the line.
    pub fn end(self) {
        if self.format == Format::Json {
            self.buffer.push(b'}');
        }
        self.buffer.push(b'\n');
    }

    fn key(&mut self, key: &'static str) {
        match self.format {
            Format::Json => {
                self.push(b",\"");
                self.push(key.as_bytes());
                self.push(b"\":");
            }
            Format::Text => {
                self.push(b" ");
                self.push(key.as_bytes());
                self.push(b"=");
            }
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }
}

/// The part of a value that is written, and whether something is missing.
fn cut(value: &str) -> (&str, bool) {
    if value.len() <= MAX_VALUE {
        return (value, false);
    }
    let mut end = MAX_VALUE;
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    (value.get(..end).unwrap_or_default(), true)
}

/// Whether a value reads well without quotes in a text line.
fn is_plain(value: &str) -> bool {
    !value.is_empty()
        && value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~/:@+%,*".contains(&b))
}

struct Escaping<'a>(&'a mut Vec<u8>);

impl std::fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        push_escaped(self.0, text);
        Ok(())
    }
}

/// Writes `text` with JSON's escapes; runs of harmless bytes are copied whole.
pub fn push_escaped(buffer: &mut Vec<u8>, text: &str) {
    if text
        .bytes()
        .all(|b| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\')
    {
        buffer.extend_from_slice(text.as_bytes());
        return;
    }
    for c in text.chars() {
        match c {
            '"' => buffer.extend_from_slice(b"\\\""),
            '\\' => buffer.extend_from_slice(b"\\\\"),
            '\n' => buffer.extend_from_slice(b"\\n"),
            '\r' => buffer.extend_from_slice(b"\\r"),
            '\t' => buffer.extend_from_slice(b"\\t"),
            c if is_unsafe(c) => {
                // Every character of that list is in the basic plane: one escape of four digits.
                buffer.extend_from_slice(b"\\u");
                for shift in [12, 8, 4, 0] {
                    let digit = (u32::from(c) >> shift) & 0xf;
                    buffer.push(char::from_digit(digit, 16).map_or(b'0', |d| d as u8));
                }
            }
            c => buffer.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

fn push_number(buffer: &mut Vec<u8>, mut value: u64) {
    let start = buffer.len();
    loop {
        buffer.push(b'0' + (value % 10) as u8);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    if let Some(digits) = buffer.get_mut(start..) {
        digits.reverse();
    }
}

fn push_padded(buffer: &mut Vec<u8>, value: u64, width: u32) {
    for place in (0..width).rev() {
        buffer.push(b'0' + (value / 10_u64.pow(place) % 10) as u8);
    }
}

/// Writes `2026-11-22T01:02:03.456Z`. The calendar arithmetic counts years from March, so that leap days come last
/// (the civil calendar of ISO 8601, days since 0000-03-01).
pub fn push_rfc3339(buffer: &mut Vec<u8>, time: Timestamp) {
    // Years outside 0000..=9999 cannot be written in RFC 3339; such a clock is broken, and the line still appears.
    let millis = time
        .as_millis()
        .clamp(-62_167_219_200_000, 253_402_300_799_999);
    let (days, of_day) = (
        millis.div_euclid(86_400_000),
        millis.rem_euclid(86_400_000) as u64,
    );
    let since_march_0000 = days + 719_468;
    let era = since_march_0000.div_euclid(146_097);
    let day_of_era = since_march_0000.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    for (value, width, after) in [
        (year as u64, 4, b'-'),
        (month as u64, 2, b'-'),
        (day as u64, 2, b'T'),
        (of_day / 3_600_000, 2, b':'),
        (of_day / 60_000 % 60, 2, b':'),
        (of_day / 1000 % 60, 2, b'.'),
        (of_day % 1000, 3, b'Z'),
    ] {
        push_padded(buffer, value, width);
        buffer.push(after);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(format: Format, key: &'static str, value: &str) -> String {
        let mut buffer = Vec::new();
        let mut line = Line::begin(&mut buffer, format, Timestamp::EPOCH, "access");
        line.text(key, value).number("status", 200);
        line.end();
        String::from_utf8(buffer).unwrap()
    }

    #[test]
    fn json_and_text() {
        assert_eq!(
            written(Format::Json, "path", "/a \"b\"\\\n"),
            "{\"timestamp\":\"1970-01-01T00:00:00.000Z\",\"target\":\"access\",\"path\":\"/a \\\"b\\\"\\\\\\n\",\"status\":200}\n"
        );
        assert_eq!(
            written(Format::Text, "path", "/a"),
            "1970-01-01T00:00:00.000Z access path=/a status=200\n"
        );
        assert_eq!(
            written(Format::Text, "path", "/a status=500\r\n"),
            "1970-01-01T00:00:00.000Z access path=\"/a status=500\\r\\n\" status=200\n"
        );
    }

    #[test]
    fn terminal_and_direction_tricks_are_escaped() {
        for trick in ["\u{1b}[2J", "\u{9b}2J", "\u{202e}gpj", "\u{2028}", "\u{7f}"] {
            let line = written(Format::Json, "user", trick);
            assert!(line.contains("\\u"), "{line:?}");
            assert!(!line.contains(trick));
        }
        assert!(written(Format::Json, "user", "한국어 äöü").contains("한국어 äöü"));
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        let line = written(Format::Json, "path", &"한".repeat(MAX_VALUE));
        assert!(line.len() < MAX_VALUE + 200, "{}", line.len());
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(parsed["path"].as_str().unwrap().starts_with("한한"));
    }

    #[test]
    fn durations_have_three_decimals() {
        let mut buffer = Vec::new();
        let mut line = Line::begin(&mut buffer, Format::Text, Timestamp::EPOCH, "access");
        line.millis("total_ms", Duration::from_micros(12_034));
        line.millis("upstream_ms", Duration::from_micros(7));
        line.end();
        let text = String::from_utf8(buffer).unwrap();
        assert!(
            text.ends_with(" total_ms=12.034 upstream_ms=0.007\n"),
            "{text}"
        );
    }

    proptest! {
        #[test]
        fn every_line_is_one_line_and_valid_json(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            let value = String::from_utf8_lossy(&bytes);
            let line = written(Format::Json, "path", &value);
            prop_assert_eq!(line.matches('\n').count(), 1);
            prop_assert!(line.ends_with('\n'));
            let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(&parsed["status"], 200);
            if value.len() <= MAX_VALUE {
                prop_assert_eq!(parsed["path"].as_str(), Some(&*value));
            }
            let text = written(Format::Text, "path", &value);
            prop_assert_eq!(text.matches('\n').count(), 1);
            prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
        }

        #[test]
        fn dates_agree_with_the_calendar(millis in -62_167_219_200_000_i64..253_402_200_000_000) {
            let mut buffer = Vec::new();
            push_rfc3339(&mut buffer, Timestamp::from_millis(millis));
            let text = String::from_utf8(buffer).unwrap();
            let read: jiff::Timestamp = text.parse().unwrap();
            prop_assert_eq!(read.as_millisecond(), millis, "{}", text);
        }
    }
}
