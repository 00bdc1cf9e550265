//! Files with variables: `.env` and those of `env_file`.
//!
//! `NAME=VALUE` in lines, with or without `export`. A value in single quotes is taken as it is, one in double quotes knows
//! `\n` and the like; both may have several lines. Variables are replaced in all but single quotes. `#` begins a comment, in a
//! value only after a space.

use super::interpolate::{self, Lookup};
use std::collections::BTreeMap;

/// An error and its line.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// From 1.
    pub line: usize,
    pub message: String,
}

/// Reads a file, in its order. What `lookup` knows goes before what the file itself has defined. A name without `=` has the
/// value that `lookup` gives, or is left out.
///
/// # Errors
/// The first line that cannot be read.
pub fn read(text: &str, lookup: Lookup<'_>) -> Result<Vec<(String, String)>, Wrong> {
    let mut found = Vec::new();
    let mut known = BTreeMap::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut reader = Reader { rest: &text, line: 1 };
    while let Some((name, value, line)) = reader.entry()? {
        let value = match value {
            None => match lookup(&name) {
                Some(value) => value,
                None => continue,
            },
            Some(Value::Literal(text)) => text,
            Some(Value::Text(text)) => {
                let of = |n: &str| lookup(n).or_else(|| known.get(n).cloned());
                interpolate::replace(&text, &of).map_err(|e| Wrong { line, message: e.message })?.text
            }
        };
        known.insert(name.clone(), value.clone());
        found.push((name, value));
    }
    Ok(found)
}

/// Reads a file whose values are taken as they are (`format: raw`).
#[must_use]
pub fn read_raw(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim_start).filter(|l| !l.is_empty() && !l.starts_with('#'));
    let entry = |l: &str| l.split_once('=').map(|(n, v)| (n.trim().to_owned(), v.to_owned()));
    lines.filter_map(entry).collect()
}

enum Value {
    Literal(String),
    /// With variables.
    Text(String),
}

struct Reader<'t> {
    rest: &'t str,
    line: usize,
}

/// A name, its value, and the line that it is in.
type Entry = (String, Option<Value>, usize);

impl<'t> Reader<'t> {
    fn take(&mut self, bytes: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    fn wrong<T>(&self, message: impl Into<String>) -> Result<T, Wrong> {
        Err(Wrong { line: self.line, message: message.into() })
    }

    fn entry(&mut self) -> Result<Option<Entry>, Wrong> {
        loop {
            let blank = self.rest.len() - self.rest.trim_start().len();
            self.take(blank);
            if self.rest.is_empty() {
                return Ok(None);
            }
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            if !self.rest.starts_with('#') {
                return self.of_line(end).map(Some);
            }
            self.take(end);
        }
    }

    /// The entry that begins here, in a line of `end` bytes.
    fn of_line(&mut self, end: usize) -> Result<Entry, Wrong> {
        let line = self.line;
        let whole = &self.rest[..end];
        let skip = match whole.strip_prefix("export") {
            Some(after) if after.starts_with([' ', '\t']) => whole.len() - after.trim_start().len(),
            _ => 0,
        };
        let whole = &whole[skip..];
        let Some(at) = whole.find(['=', ':']) else {
            let name = whole.split(" #").next().unwrap_or_default().trim();
            let name = self.name(name)?;
            self.take(end);
            return Ok((name, None, line));
        };
        let name = self.name(whole[..at].trim())?;
        self.take(skip + at + 1);
        let blank = self.rest.bytes().take_while(|b| matches!(b, b' ' | b'\t' | b'\r')).count();
        self.take(blank);
        Ok((name, Some(self.value()?), line))
    }

    fn name(&self, text: &str) -> Result<String, Wrong> {
        let valid = |c: char| c.is_ascii_alphanumeric() || "_.-[]".contains(c);
        if text.is_empty() || !text.chars().all(valid) {
            return self.wrong(format!("{text:?} is not the name of a variable"));
        }
        Ok(text.to_owned())
    }

    fn value(&mut self) -> Result<Value, Wrong> {
        let quote = self.rest.chars().next().filter(|c| matches!(c, '"' | '\''));
        let Some(quote) = quote else {
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            let text = self.take(end);
            let comment =
                if text.starts_with('#') { Some(0) } else { text.find(" #").or_else(|| text.find("\t#")) };
            let text = comment.map_or(text, |at| &text[..at]).trim();
            return Ok(Value::Text(text.to_owned()));
        };
        let Some(end) = closing(&self.rest[1..], quote) else {
            return self.wrong(format!("the value has no closing {quote}"));
        };
        let text = &self.take(end + 2)[1..=end];
        let line = self.rest.find('\n').unwrap_or(self.rest.len());
        let after = self.rest[..line].trim();
        if !after.is_empty() && !after.starts_with('#') {
            return self.wrong(format!("{after:?} follows the value"));
        }
        self.take(line);
        Ok(if quote == '\'' { Value::Literal(text.to_owned()) } else { Value::Text(unescaped(text)) })
    }
}

/// Where the quote closes.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = quote == '"' || text[at + 1..].starts_with('\''),
            c if c == quote => return Some(at),
            _ => {}
        }
    }
    None
}

/// The escapes of double quotes. An escaped dollar stays one.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('a') => out.push('\u{7}'),
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('v') => out.push('\u{b}'),
            Some('$') => out.push_str("$$"),
            Some(c @ ('"' | '\\')) => out.push(c),
            Some(c) => out.extend(['\\', c]),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        let lookup = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        match read(text, &lookup) {
            Ok(list) => list.iter().map(|(k, v)| format!("{k}={v:?}")).collect::<Vec<_>>().join(" "),
            Err(e) => format!("line {}: {}", e.line, e.message),
        }
    }

    #[test]
    fn lines_have_the_values_of_compose() {
        for (text, expected) in [
            ("A=1\nB=two words \n", r#"A="1" B="two words""#),
            ("# c\n\n  A = 1\r\n", r#"A="1""#),
            ("export A=1\n\texport   B=2", r#"A="1" B="2""#),
            ("exporter=1", r#"exporter="1""#),
            ("A: yes", r#"A="yes""#),
            ("A=", r#"A="""#),
            ("A=b # c\nB=b#c\nC=#c\nD=\"b # c\" # d", r##"A="b" B="b#c" C="" D="b # c""##),
            ("A='$HOME \\n'\nB=\"$HOME\\n\\t\\\"\\\\\"", r#"A="$HOME \\n" B="/root\n\t\"\\""#),
            ("A=\"x\ny\"\nB=2", r#"A="x\ny" B="2""#),
            ("A='x\ny'", r#"A="x\ny""#),
            ("A=1\nB=$A-${A}-${C:-d}-$$", r#"A="1" B="1-1-d-$""#),
            ("A=\"\\$HOME\"", r#"A="$HOME""#),
            ("HOME=x\nA=$HOME", r#"HOME="x" A="/root""#),
            ("HOME\nGONE\nA=1", r#"HOME="/root" A="1""#),
            ("A=http://x:80/?a=b", r#"A="http://x:80/?a=b""#),
            ("A.b-c=1", r#"A.b-c="1""#),
            ("A=\"x\r\ny\"\r\nB='1\r\n2'\r\n", r#"A="x\ny" B="1\n2""#),
            ("A=\"\\f\\v\\z\"", r#"A="\u{c}\u{b}\\z""#),
            ("A=${B:-{}}\nB=2\nC=$B", r#"A="{}" B="2" C="2""#),
            ("A=1\nA=2\nB=$A", r#"A="1" A="2" B="2""#),
            ("A='$$' \nB=\"$$\"\nC=$$", r#"A="$$" B="$" C="$""#),
            ("A=a=b=c\nB==", r#"A="a=b=c" B="=""#),
            ("A=\"a\\\\\"\nB=1", r#"A="a\\" B="1""#),
            ("  # c\n\t\nA=\t1 \t# c", r#"A="1""#),
            ("A=it's\nB=say \"x\"", r#"A="it's" B="say \"x\"""#),
            ("export A\nexport HOME", r#"HOME="/root""#),
            ("\u{feff}A=1", r#"A="1""#),
            ("A=\"\"", r#"A="""#),
            ("A='it\\'s'", r#"A="it\\'s""#),
            ("A=1\nB C=2", "line 2: \"B C\" is not the name of a variable"),
            ("A=1\n\n=2", "line 3: \"\" is not the name of a variable"),
            ("A=\"x", "line 1: the value has no closing \""),
            ("A=\"x\" y", "line 1: \"y\" follows the value"),
            ("A=1\nB=${", "line 2: \"${\" is not a variable"),
        ] {
            assert_eq!(of(text), expected, "{text:?}");
        }
        assert_eq!(
            read_raw("A=$B 'x'\n# c\n B = c"),
            [("A".into(), "$B 'x'".into()), ("B".into(), " c".into())]
        );
    }
}
