//! A problem of a file: what, where, and what to do about it.

use serde::Serialize;
use std::fmt;

use crate::log::{is_obeyed, printable};

/// A position: line and column from 1, in characters, and how many characters of the line it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    pub line: u32,
    pub column: u32,
    pub length: u32,
    /// Which of the files that are read together; 0 where there is one.
    #[serde(skip)]
    pub file: u16,
}

impl Position {
    pub const START: Position = Position { line: 1, column: 1, length: 1, file: 0 };

    pub fn new(line: usize, column: usize, length: usize) -> Position {
        let small = |n: usize| u32::try_from(n.max(1)).unwrap_or(u32::MAX);
        Position { line: small(line), column: small(column), length: small(length), file: 0 }
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be used.
    #[default]
    Error,
    /// The file can be used, and something in it has no effect.
    Warning,
}

impl Severity {
    fn is_error(&self) -> bool {
        *self == Severity::Error
    }
}

/// A text instead of a part of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fix {
    /// Line and column, from 1, in characters.
    pub from: (u32, u32),
    /// The first character that stays.
    pub to: (u32, u32),
    pub text: String,
}

/// One finding about a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    #[serde(skip_serializing_if = "Severity::is_error")]
    pub severity: Severity,
    #[serde(flatten)]
    pub place: Position,
    /// The property, as `spec.containers[0].env`; empty for the file as a whole.
    #[serde(rename = "path", skip_serializing_if = "String::is_empty")]
    pub property: String,
    /// Lower case, without a full stop.
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The correction, if it is unambiguous.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<Fix>,
}

impl Diagnostic {
    pub fn new(place: Position, property: impl Into<String>, message: impl Into<String>) -> Diagnostic {
        let (property, message) = (property.into(), message.into());
        Diagnostic { severity: Severity::Error, place, property, message, hint: None, fix: None }
    }

    /// The same as a warning.
    pub fn warning(self) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..self }
    }

    /// Adds what to write.
    pub fn fix(self, fix: Option<Fix>) -> Diagnostic {
        Diagnostic { fix, ..self }
    }

    pub fn is_error(&self) -> bool {
        self.severity.is_error()
    }

    /// Adds the way out.
    pub fn hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }
}

/// All findings about one file, in the order of their lines, shown with the lines themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    /// The file's name as the user gave it.
    pub file: String,
    pub list: Vec<Diagnostic>,
    /// The lines that the list names, by their numbers.
    lines: Vec<(u32, String)>,
}

impl Diagnostics {
    /// `text` is the file's content.
    pub fn new(file: &str, text: &str, mut list: Vec<Diagnostic>) -> Diagnostics {
        list.sort_by_key(|d| (d.place.line, d.place.column));
        let wanted = |n: u32| list.iter().any(|d| d.place.line == n);
        let numbered = text.lines().zip(1u32..).filter(|(_, n)| wanted(*n));
        let lines = numbered.map(|(line, n)| (n, line.to_owned())).collect();
        Diagnostics { file: file.to_owned(), list, lines }
    }

    /// How many of them are errors.
    pub fn errors(&self) -> usize {
        self.list.iter().filter(|d| d.is_error()).count()
    }

    fn show(&self, f: &mut fmt::Formatter<'_>, d: &Diagnostic) -> fmt::Result {
        let Position { line, column, length, .. } = d.place;
        let width = line.to_string().len();
        let severity = if d.is_error() { "error" } else { "warning" };
        writeln!(f, "{severity}: {}", printable(&d.message))?;
        write!(f, "{:width$}--> {}:{line}:{column}", "", printable(&self.file))?;
        if !d.property.is_empty() {
            write!(f, " ({})", printable(&d.property))?;
        }
        writeln!(f)?;
        if let Some((_, text)) = self.lines.iter().find(|(n, _)| *n == line) {
            let (text, column) = excerpt(text, column as usize);
            let room = text.chars().count().saturating_sub(column - 1).max(1);
            let carets = "^".repeat((length as usize).min(room));
            writeln!(f, "{line} | {text}")?;
            writeln!(f, "{:width$} | {:indent$}{carets}", "", "", indent = column - 1)?;
        }
        if let Some(hint) = &d.hint {
            writeln!(f, "{:width$} = hint: {}", "", printable(hint))?;
        }
        Ok(())
    }
}

/// At most 100 characters of a line around `column`, made printable, and the column in them.
fn excerpt(line: &str, column: usize) -> (String, usize) {
    const WIDEST: usize = 100;
    let start = if column > WIDEST { column - WIDEST / 2 } else { 1 };
    let shown = line.chars().skip(start - 1).take(WIDEST);
    (shown.map(|c| if is_obeyed(c) { ' ' } else { c }).collect(), column - start + 1)
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for d in &self.list {
            self.show(f, d)?;
            writeln!(f)?;
        }
        let file = printable(&self.file);
        let count = |n: usize, one: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") };
        let (errors, warnings) = (self.errors(), self.list.len() - self.errors());
        match (errors, warnings) {
            (_, 0) => write!(f, "{file}: {}", count(errors, "error")),
            (0, _) => write!(f, "{file}: {}", count(warnings, "warning")),
            _ => write!(f, "{file}: {}, {}", count(errors, "error"), count(warnings, "warning")),
        }
    }
}

impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_shown_in_the_order_of_the_lines_with_carets_below() {
        let text = "a: 1\n  bee: 22\n";
        let list = vec![
            Diagnostic::new(Position::new(2, 8, 2), "a.bee", "too many").hint("write 2"),
            Diagnostic::new(Position::new(1, 1, 1), "", "odd"),
        ];
        let shown = Diagnostics::new("f.yaml", text, list).to_string();
        let expected = "error: odd
 --> f.yaml:1:1
1 | a: 1
  | ^

error: too many
 --> f.yaml:2:8 (a.bee)
2 |   bee: 22
  |        ^^
  = hint: write 2

f.yaml: 2 errors";
        assert_eq!(shown, expected);
    }

    #[test]
    fn long_lines_and_lines_that_are_not_there_are_no_trouble() {
        let long = format!("k: {}X", "é".repeat(400));
        let at = |line, column| vec![Diagnostic::new(Position::new(line, column, 900), "", "wrong")];
        let shown = Diagnostics::new("f", &long, at(1, 404)).to_string();
        assert!(shown.lines().any(|l| l.ends_with("éX")), "{shown}");
        assert!(shown.lines().any(|l| l.ends_with(" ^")), "{shown}");
        assert!(Diagnostics::new("f", "", at(7, 3)).to_string().contains("f:7:3"));
    }

    #[test]
    fn nothing_of_a_file_reaches_the_terminal_as_a_control_character() {
        let evil = "a\u{1b}[31m\u{202e}";
        let list = vec![Diagnostic::new(Position::new(1, 1, 1), evil, evil).hint(evil)];
        let shown = Diagnostics::new(evil, evil, list).to_string();
        assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown:?}");
        assert_eq!(shown.matches("a\\u{1b}[31m\\u{202e}").count(), 5, "{shown}");
    }
}
