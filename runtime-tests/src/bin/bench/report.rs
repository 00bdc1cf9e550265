//! The table: one per bundle, in Markdown.

use std::fmt::Write as _;
use std::time::Duration;

/// A row's figures, one per column.
pub struct Row {
    pub label: String,
    pub unit: Unit,
    pub cells: Vec<Cell>,
    /// The column that the others are divided by.
    pub base: Option<usize>,
}

pub enum Cell {
    Figure(f64),
    MoreThan(f64),
    Nothing(&'static str),
}

#[derive(Clone, Copy)]
pub enum Unit {
    Milliseconds,
    Count,
    Kilobytes,
}

pub fn median(mut values: Vec<Duration>) -> Option<Duration> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

fn figure(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Milliseconds => format!("{value:.2} ms"),
        Unit::Kilobytes => format!("{value:.0} kB"),
        Unit::Count if value >= 100_000.0 => format!("{:.0} k", value / 1000.0),
        Unit::Count => format!("{value:.0}"),
    }
}

pub fn table(columns: &[String], rows: &[Row]) -> String {
    let mut text = format!("| | {} |\n|---|{}\n", columns.join(" | "), "---|".repeat(columns.len()));
    for row in rows {
        let base = row.base.and_then(|column| match row.cells.get(column) {
            Some(Cell::Figure(value)) if *value > 0.0 => Some(*value),
            _ => None,
        });
        let _ = write!(text, "| {} |", row.label);
        for (column, cell) in row.cells.iter().enumerate() {
            let _ = match (cell, base) {
                (Cell::Nothing(why), _) => write!(text, " {why} |"),
                (Cell::MoreThan(value), _) => write!(text, " > {} |", figure(*value, row.unit)),
                (Cell::Figure(value), Some(base)) if row.base != Some(column) => {
                    write!(text, " {} ({:.2}) |", figure(*value, row.unit), value / base)
                }
                (Cell::Figure(value), _) => write!(text, " {} |", figure(*value, row.unit)),
            };
        }
        text.push('\n');
    }
    text
}
