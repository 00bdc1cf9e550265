//! Tables for people: columns that line up.

use crate::log::printable;
use std::fmt::Write;

/// Columns that keep their width from one call to the next, so that rows can follow later. The last one is not padded.
#[derive(Debug, Default)]
pub struct Columns {
    least: usize,
    widths: Vec<usize>,
}

impl Columns {
    /// Columns of at least `least` characters.
    pub fn at_least(least: usize) -> Columns {
        Columns { least, widths: Vec::new() }
    }

    /// The rows as lines, with columns that are wide enough for them and for all earlier ones.
    pub fn lines<S: AsRef<str>>(&mut self, rows: &[Vec<S>]) -> String {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        self.widths.resize(columns.max(self.widths.len()), self.least);
        for row in rows {
            for (cell, width) in row.iter().zip(&mut self.widths) {
                *width = (*width).max(cell.as_ref().chars().count());
            }
        }
        let mut out = String::new();
        for row in rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&self.widths) {
                let _ = write!(line, "{:width$}   ", printable(cell.as_ref()));
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}
