//! Rows for people: columns as wide as their widest cell. Must not know what is in them.

use std::fmt::Write as _;

/// The rows under their headings; cells are text of other people's making, so control characters are made visible.
pub(super) fn columns<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let cells: Vec<[String; N]> = std::iter::once(headings.map(str::to_owned))
        .chain(rows.iter().cloned())
        .map(|row| row.map(|cell| visible(&cell)))
        .collect();
    let mut widths = [0; N];
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &cells {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The text as [`crate::units::visible`] shows it; an empty one is a dash.
pub(super) fn visible(text: &str) -> String {
    match text {
        "" => "-".to_owned(),
        text => crate::units::visible(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_escapes_to_the_terminal() {
        let rows = [
            ["ana".to_owned(), "staff, dev".to_owned()],
            ["bo\u{1b}[31m".to_owned(), String::new()],
        ];
        assert_eq!(
            columns(["NAME", "GROUPS"], &rows),
            "NAME          GROUPS\nana           staff, dev\nbo\\u{1b}[31m  -\n"
        );
    }
}
