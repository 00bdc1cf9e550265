//! Corrections that are certain, and files with them.

use crate::config::document::diagnostic::{Diagnostic, Fix};
use crate::config::document::{Data, Node};

/// Puts `text` in the place of a scalar that takes one line.
pub fn replace(node: &Node, text: &str) -> Option<Fix> {
    if !matches!(node.data, Data::String(_) | Data::Number(_) | Data::Bool(_)) {
        return None;
    }
    let place = node.place;
    let written = node.data.text().map_or(0, |text| text.chars().count() as u32);
    // The parser gives values of several lines the length 1.
    (place.length >= written).then(|| Fix {
        from: (place.line, place.column),
        to: (place.line, place.column + place.length),
        text: text.to_owned(),
    })
}

/// The path without the numbers of entries: `containers[0].env` is `containers[].env`.
pub fn without_indexes(path: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            _ if inside => continue,
            _ => {}
        }
        out.push(c);
    }
    out
}

/// Moves a field into a mapping that `parent`, at the path `here`, has already: how far, in words, and the text.
pub fn to_home(text: &str, parent: &Node, key: &Node, here: &str, home: &str) -> Option<(String, Fix)> {
    let way = if here.is_empty() { home } else { home.strip_prefix(here)?.strip_prefix('.')? };
    if way.contains('[') {
        return None;
    }
    let mut node = parent;
    for name in way.split('.') {
        let Data::Map(entries) = &node.data else { return None };
        node = &entries.iter().find(|(k, _)| k.data.text() == Some(name))?.1;
    }
    let Data::Map(entries) = &node.data else { return None };
    let first = entries.first()?.0.place;
    let lines: Vec<&str> = text.lines().collect();
    let line = |n: u32| lines.get(n as usize - 1).copied().unwrap_or_default();
    let starts_line = |n: u32, column: u32| line(n).chars().take(column as usize - 1).all(|c| c == ' ');
    if !starts_line(key.place.line, key.place.column) || !starts_line(first.line, first.column) {
        return None;
    }
    let from = key.place.line as usize - 1;
    let to = block_end(&lines, from, key.place.column as usize);
    let into = block_end(&lines, first.line as usize - 1, first.column as usize - 1);
    let shift = first.column as usize - key.place.column as usize;
    let moved: Vec<String> = lines[from..to]
        .iter()
        .map(|l| if l.trim().is_empty() { String::new() } else { format!("{}{l}", " ".repeat(shift)) })
        .collect();
    let (low, high, order) = if from >= into { (into, to, true) } else { (from, into, false) };
    let between: Vec<String> =
        if order { &lines[into..from] } else { &lines[to..into] }.iter().map(|l| (*l).to_owned()).collect();
    let all = if order { [moved, between].concat() } else { [between, moved].concat() };
    let columns = match shift {
        1 => "one column further right".to_owned(),
        2 => "two columns further right".to_owned(),
        n => format!("{n} columns further right"),
    };
    let fix = Fix {
        from: (low as u32 + 1, 1),
        to: (high as u32, lines.get(high - 1)?.chars().count() as u32 + 1),
        text: all.join("\n"),
    };
    Some((columns, fix))
}

/// The index after the last line of the block that begins in line `from` and is indented by more than `column - 1`.
fn block_end(lines: &[&str], from: usize, column: usize) -> usize {
    let mut end = from + 1;
    for (n, line) in lines.iter().enumerate().skip(from + 1) {
        let indent = line.chars().take_while(|c| *c == ' ').count();
        if line.trim().is_empty() {
            continue;
        }
        let entry = indent + 1 == column && line.trim_start().starts_with("- ") && n > from;
        if (indent < column && !entry) || line.starts_with("---") || line.starts_with("...") {
            break;
        }
        end = n + 1;
    }
    end
}

/// The text with all corrections, and how many there were. Of two that overlap the first is done.
pub fn apply(text: &str, problems: &[Diagnostic]) -> (String, usize) {
    let mut starts: Vec<usize> = vec![0];
    starts.extend(text.match_indices('\n').map(|(at, _)| at + 1));
    let offset = |(line, column): (u32, u32)| -> Option<usize> {
        let start = *starts.get(line as usize - 1)?;
        let line = text[start..].lines().next().unwrap_or_default();
        let mark = usize::from(start == 0 && line.starts_with('\u{feff}'));
        let chars = column as usize - 1 + mark;
        Some(start + line.char_indices().nth(chars).map_or(line.len(), |(at, _)| at))
    };
    let span = |f: &Fix| Some((offset(f.from)?, offset(f.to)?, f.text.clone()));
    let mut fixes: Vec<(usize, usize, String)> =
        problems.iter().filter_map(|d| d.fix.as_ref()).filter_map(span).filter(|(a, b, _)| a <= b).collect();
    fixes.sort();
    fixes.dedup();
    let (mut out, mut at, mut count) = (String::new(), 0, 0);
    for (from, to, new) in fixes {
        if from < at {
            continue;
        }
        out.push_str(&text[at..from]);
        out.push_str(&new);
        (at, count) = (to, count + 1);
    }
    out.push_str(&text[at..]);
    (out, count)
}
