//! What is wrong with a configuration: problems with their place, rendered with the offending line and a hint.
//!
//! Must not know any key: whoever finds a problem words it. Values that look like secrets are masked before a line is
//! shown.

mod mask;
mod near;

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::json;

use mask::mask_secrets;
pub(crate) use near::{nearest, suggest};

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used; the deployer should know.
    Warning,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// Bytes of the file it is about; `None` = the file as a whole.
    pub span: Option<Range<usize>>,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
    /// Another place that belongs to it, and why.
    pub related: Option<(Range<usize>, String)>,
}

/// All problems of one file, in the order of its lines.
#[derive(Clone, Debug, Default)]
pub struct Report {
    name: String,
    source: String,
    problems: Vec<Problem>,
}

/// A place in the file as people count: both from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl Report {
    /// Sorts the problems by place. `source` is the file's text, `name` how messages call it.
    pub fn new(name: &str, source: &str, mut problems: Vec<Problem>) -> Self {
        for problem in &mut problems {
            problem.span = problem.span.take().map(|span| fitted(source, span));
            problem.related = problem
                .related
                .take()
                .map(|(span, why)| (fitted(source, span), why));
        }
        problems.sort_by_key(|problem| problem.span.as_ref().map(|span| span.start));
        problems.dedup();
        Report {
            name: name.to_owned(),
            source: mask_secrets(source),
            problems,
        }
    }

    /// A report of one problem with the file as a whole.
    pub fn whole_file(name: &str, message: String, hint: &str) -> Self {
        Report {
            name: name.to_owned(),
            source: String::new(),
            problems: vec![Problem {
                severity: Severity::Error,
                span: None,
                message,
                hint: Some(hint.to_owned()),
                related: None,
            }],
        }
    }

    /// The problems, sorted by place.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// How many problems make the configuration unusable.
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    /// How many problems are warnings only.
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    fn count(&self, severity: Severity) -> usize {
        self.problems
            .iter()
            .filter(|problem| problem.severity == severity)
            .count()
    }

    /// Where a problem begins.
    pub fn place(&self, problem: &Problem) -> Option<Place> {
        let span = problem.span.as_ref()?;
        let before = self.source.get(..span.start)?;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Some(Place {
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column: before.get(line_start..)?.chars().count() + 1,
        })
    }

    /// Every problem with its line, for people; `styled` = with terminal colours.
    pub fn render(&self, styled: bool) -> String {
        let renderer = if styled {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let mut text = String::new();
        for problem in &self.problems {
            text.push_str(&renderer.render(&[self.group(problem)]));
            text.push_str("\n\n");
        }
        text.push_str(&self.summary());
        text
    }

    fn group<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(problem.message.as_str());
        let mut group = match &problem.span {
            Some(span) => {
                let mut snippet = Snippet::source(self.source.as_str())
                    .path(self.name.as_str())
                    .annotation(AnnotationKind::Primary.span(span.clone()));
                if let Some((span, why)) = &problem.related {
                    snippet = snippet.annotation(
                        AnnotationKind::Context
                            .span(span.clone())
                            .label(why.as_str()),
                    );
                }
                title.element(snippet)
            }
            None => title.element(annotate_snippets::Origin::path(self.name.as_str())),
        };
        if let Some(hint) = &problem.hint {
            group = group.element(Level::HELP.message(hint.as_str()));
        }
        group
    }

    /// `gateway.toml: 2 errors, 1 warning`.
    pub fn summary(&self) -> String {
        let plural = |count: usize, word: &str| match count {
            1 => format!("1 {word}"),
            _ => format!("{count} {word}s"),
        };
        let counts: Vec<String> = [(self.errors(), "error"), (self.warnings(), "warning")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| plural(count, word))
            .collect();
        if counts.is_empty() {
            format!("{}: no problems", self.name)
        } else {
            format!("{}: {}", self.name, counts.join(", "))
        }
    }

    /// The same for scripts.
    pub fn to_json(&self) -> serde_json::Value {
        let problems: Vec<_> = self
            .problems
            .iter()
            .map(|problem| {
                let place = self.place(problem);
                json!({
                    "severity": problem.severity.word(),
                    "line": place.map(|place| place.line),
                    "column": place.map(|place| place.column),
                    "message": problem.message,
                    "hint": problem.hint,
                })
            })
            .collect();
        json!({
            "file": self.name,
            "errors": self.errors(),
            "warnings": self.warnings(),
            "problems": problems,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Report {}

/// Where problems are gathered while the rest is still being read.
#[derive(Default)]
pub(super) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    /// Notes an error at a place.
    pub(super) fn error(&self, span: Range<usize>, message: impl Into<String>, hint: &str) {
        self.push(Severity::Error, span, message.into(), hint, None);
    }

    /// Notes an error that involves a second place.
    pub(super) fn clash(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        hint: &str,
        other: Range<usize>,
        why: &str,
    ) {
        let related = Some((other, why.to_owned()));
        self.push(Severity::Error, span, message.into(), hint, related);
    }

    /// Notes something that can be used and should be known.
    pub(super) fn warning(&self, span: Range<usize>, message: impl Into<String>, hint: &str) {
        self.push(Severity::Warning, span, message.into(), hint, None);
    }

    /// Whether there is an error by now.
    pub(super) fn has_errors(&self) -> bool {
        let problems = self.0.borrow();
        problems
            .iter()
            .any(|problem| problem.severity == Severity::Error)
    }

    fn push(
        &self,
        severity: Severity,
        span: Range<usize>,
        message: String,
        hint: &str,
        related: Option<(Range<usize>, String)>,
    ) {
        self.0.borrow_mut().push(Problem {
            severity,
            span: Some(span),
            message,
            hint: (!hint.is_empty()).then(|| hint.to_owned()),
            related,
        });
    }

    pub(super) fn into_vec(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

/// A span inside the text, on character boundaries, that ends on the line where it begins.
fn fitted(source: &str, span: Range<usize>) -> Range<usize> {
    let down = |mut at: usize| {
        at = at.min(source.len());
        while !source.is_char_boundary(at) {
            at -= 1; // 0 is always a boundary
        }
        at
    };
    let start = down(span.start);
    let end = down(span.end).max(start);
    let line_end = source
        .get(start..)
        .and_then(|rest| rest.find(['\n', '\r']))
        .map_or(source.len(), |length| start + length);
    start..end.min(line_end).max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(span: Range<usize>, message: &str) -> Problem {
        Problem {
            severity: Severity::Error,
            span: Some(span),
            message: message.to_owned(),
            hint: Some("write it right".to_owned()),
            related: None,
        }
    }

    #[test]
    fn a_problem_is_shown_with_its_place_its_line_and_a_hint() {
        let source = "[server]\nlisten = 5\n";
        let report = Report::new("g.toml", source, vec![problem(18..19, "not a list")]);
        assert_eq!(
            report.render(false),
            "\
error: not a list
 --> g.toml:2:10
  |
2 | listen = 5
  |          ^
  |
  = help: write it right

g.toml: 1 error"
        );
    }

    #[test]
    fn problems_are_sorted_and_spans_outside_the_text_do_not_matter() {
        let report = Report::new(
            "g",
            "é\nä = 1",
            vec![
                problem(900..1000, "late"),
                problem(1..2, "early"),
                problem(1..2, "early"),
            ],
        );
        let messages: Vec<_> = report
            .problems()
            .iter()
            .map(|p| p.message.as_str())
            .collect();
        assert_eq!(messages, ["early", "late"]);
        assert!(report.render(true).contains("late"));
    }

    #[test]
    fn columns_count_characters() {
        let report = Report::new("g", "ä = é", vec![problem(5..7, "x")]);
        assert_eq!(
            report.place(&report.problems()[0]),
            Some(Place { line: 1, column: 5 })
        );
    }

    #[test]
    fn a_secret_written_into_the_file_is_never_shown() {
        let source = "[secret]\nvalue = \"hunter2 hunter2\"\n[x]\nclient_secret = 'hunter2'\nclient_secret_file = \"f\"\n\
                      url = \"rediss://u:hunter2@host/\"\nurl = \"redis://u:hun/ter2hunter2@host\"\n";
        let report = Report::new(
            "g",
            source,
            vec![
                problem(18..23, "a"),
                problem(50..55, "b"),
                problem(75..80, "c"),
                problem(100..110, "d"),
                problem(140..150, "e"),
            ],
        );
        let text = report.render(false);
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("client_secret_file = \"f\""), "{text}");
    }
}
