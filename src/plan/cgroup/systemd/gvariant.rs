//! The text form of values in annotations (GLib, "GVariant Text Format"), as far as unit properties need it.

use super::value::Value;

/// Parses one value: `true`, `'text'`, `42`, `uint64 42`, `@t 42`, `['a', 'b']`, `@as []`, `(1, 'a')`.
///
/// # Errors
/// The error as text.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut p = Parser { rest: text };
    let v = p.value(None)?;
    p.blank();
    if p.rest.is_empty() { Ok(v) } else { Err(format!("{:?} follows the value", p.rest)) }
}

/// Deeper ones than any property has, so that no text can exhaust the stack.
const DEPTH: usize = 16;

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn blank(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, text: &str) -> bool {
        self.blank();
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> &'a str {
        self.blank();
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c)));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    /// A value of the type `kind`, or of the one that its form has.
    fn value(&mut self, kind: Option<&str>) -> Result<Value, String> {
        self.nested(kind, 0)
    }

    fn nested(&mut self, kind: Option<&str>, depth: usize) -> Result<Value, String> {
        if depth > DEPTH {
            return Err("it is nested too deeply".into());
        }
        self.blank();
        match self.rest.chars().next() {
            None => Err("a value is missing".into()),
            Some('@') => {
                self.rest = &self.rest[1..];
                let end = self.rest.find(char::is_whitespace).unwrap_or(self.rest.len());
                let (signature, rest) = self.rest.split_at(end);
                if one_type(signature) != Some(signature.len()) {
                    return Err(format!("{signature:?} is not a valid type"));
                }
                self.rest = rest;
                self.nested(Some(signature), depth + 1)
            }
            Some('[') => self.array(kind, depth),
            Some('(') => self.tuple(kind, depth),
            Some(quote @ ('\'' | '"')) => self.string(quote).and_then(|s| typed_text(s, kind)),
            Some(_) => {
                let word = self.word();
                match keyword(word) {
                    Some(kind) => self.nested(Some(kind), depth + 1),
                    None => scalar(word, kind, self.rest),
                }
            }
        }
    }

    fn array(&mut self, kind: Option<&str>, depth: usize) -> Result<Value, String> {
        let element = match kind {
            Some(k) => Some(k.strip_prefix('a').ok_or_else(|| format!("an array is not of type {k:?}"))?),
            None => None,
        };
        let list = self.list(']', |p, _, first| p.nested(element.or(first), depth + 1))?;
        let of = match (element, list.first()) {
            (Some(e), _) => e.to_owned(),
            (None, Some(v)) => v.signature(),
            (None, None) => return Err("an empty array needs a type, such as @as []".into()),
        };
        match list.iter().find(|v| v.signature() != of) {
            Some(v) => Err(format!("the array of type {of:?} holds {v}")),
            None => Ok(Value::Array(of, list)),
        }
    }

    fn tuple(&mut self, kind: Option<&str>, depth: usize) -> Result<Value, String> {
        let mut types = match kind {
            Some(k) => Some(split_struct(k).ok_or_else(|| format!("a tuple is not of type {k:?}"))?),
            None => None,
        };
        let list = self.list(')', |p, i, _| {
            let kind = types.as_mut().map(|t| t.get(i).copied().ok_or("it has too many parts".to_owned()));
            p.nested(kind.transpose()?, depth + 1)
        })?;
        if list.is_empty() || types.is_some_and(|t| t.len() != list.len()) {
            return Err("a tuple has too few parts".into());
        }
        Ok(Value::Struct(list))
    }

    /// The parts up to `close`; each gets its number and the type of the first one.
    fn list(
        &mut self,
        close: char,
        mut part: impl FnMut(&mut Self, usize, Option<&str>) -> Result<Value, String>,
    ) -> Result<Vec<Value>, String> {
        self.rest = &self.rest[1..];
        let mut list: Vec<Value> = Vec::new();
        let close = close.to_string();
        while !self.take(&close) {
            if !list.is_empty() {
                if !self.take(",") {
                    return Err(format!("\",\" or {close:?} is missing"));
                }
                if self.take(&close) {
                    break;
                }
            }
            let first = list.first().map(Value::signature);
            let v = part(self, list.len(), first.as_deref())?;
            list.push(v);
        }
        Ok(list)
    }

    fn string(&mut self, quote: char) -> Result<String, String> {
        let mut out = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((i, c)) = chars.next() {
            match c {
                '\\' => match chars.next().map(|(_, c)| c) {
                    Some('n') => out.push('\n'),
                    Some('t') => out.push('\t'),
                    Some(c @ ('\\' | '\'' | '"')) => out.push(c),
                    other => {
                        return Err(format!(
                            "\\{} is not a valid escape",
                            other.map_or(String::new(), String::from)
                        ));
                    }
                },
                '\0' => return Err("a text cannot hold a NUL".into()),
                c if c == quote => {
                    self.rest = &self.rest[i + 1..];
                    return Ok(out);
                }
                c => out.push(c),
            }
        }
        Err(format!("the closing {quote} is missing"))
    }
}

fn typed_text(text: String, kind: Option<&str>) -> Result<Value, String> {
    match kind {
        None | Some("s") => Ok(Value::Str(text)),
        Some(k) => Err(format!("{text:?} is not of type {k:?}")),
    }
}

fn keyword(word: &str) -> Option<&'static str> {
    Some(match word {
        "boolean" => "b",
        "byte" => "y",
        "int16" => "n",
        "uint16" => "q",
        "int32" => "i",
        "uint32" => "u",
        "int64" => "x",
        "uint64" => "t",
        "double" => "d",
        "string" => "s",
        _ => return None,
    })
}

fn scalar(word: &str, kind: Option<&str>, rest: &str) -> Result<Value, String> {
    let kind = match kind {
        Some(k) => k,
        None if matches!(word, "true" | "false") => "b",
        None if is_double(word) => "d",
        None if word.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+') => "i",
        None => return Err(format!("{:?} is not a value; a string needs quotes", format!("{word}{rest}"))),
    };
    let found = match kind {
        "b" => word.parse().ok().map(Value::Bool),
        "y" => whole(word).map(Value::Byte),
        "n" => whole(word).map(Value::I16),
        "q" => whole(word).map(Value::U16),
        "i" => whole(word).map(Value::I32),
        "u" => whole(word).map(Value::U32),
        "x" => whole(word).map(Value::I64),
        "t" => whole(word).map(Value::U64),
        "d" => word.parse().ok().map(Value::Double),
        _ => None,
    };
    found.ok_or_else(|| format!("{word:?} is not of type {kind:?}"))
}

fn is_double(word: &str) -> bool {
    !word.starts_with("0x") && word.contains(['.', 'e']) && word.parse::<f64>().is_ok()
}

/// Decimal, `0x` hexadecimal or `0` octal.
fn whole<T: TryFrom<i128>>(word: &str) -> Option<T> {
    let (negative, digits) = match word.strip_prefix('-') {
        Some(d) => (true, d),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    let (digits, radix) = match digits.strip_prefix("0x") {
        Some(hex) => (hex, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        None => (digits, 10),
    };
    // from_str_radix would take a second sign.
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    let n = i128::from_str_radix(digits, radix).ok()?;
    T::try_from(if negative { -n } else { n }).ok()
}

/// The length of the first complete type of a signature.
fn one_type(signature: &str) -> Option<usize> {
    match signature.as_bytes().first()? {
        b'a' => one_type(&signature[1..]).map(|n| n + 1),
        b'(' => {
            let mut at = 1;
            while *signature.as_bytes().get(at)? != b')' {
                at += one_type(&signature[at..])?;
            }
            (at > 1).then_some(at + 1)
        }
        c if b"bynqiuxtds".contains(c) => Some(1),
        _ => None,
    }
}

/// The types of the parts of a tuple.
fn split_struct(signature: &str) -> Option<Vec<&str>> {
    let mut inner = signature.strip_prefix('(')?.strip_suffix(')')?;
    let mut parts = Vec::new();
    while !inner.is_empty() {
        let (part, rest) = inner.split_at(one_type(inner)?);
        parts.push(part);
        inner = rest;
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_type_of_their_form_or_the_one_that_is_named() {
        let ok = |t: &str| parse(t).unwrap();
        assert_eq!(ok("true"), Value::Bool(true));
        assert_eq!(ok("'a \\'b'"), Value::text("a 'b"));
        assert_eq!(ok("\"a\""), Value::text("a"));
        assert_eq!(ok(" 42 "), Value::I32(42));
        assert_eq!(ok("-1"), Value::I32(-1));
        assert_eq!(ok("1.5"), Value::Double(1.5));
        assert_eq!(ok("uint64 5000000"), Value::U64(5_000_000));
        assert_eq!(ok("@t 5"), Value::U64(5));
        assert_eq!(ok("byte 0x1f"), Value::Byte(31));
        assert_eq!(ok("uint32 010"), Value::U32(8));
        assert_eq!(ok("uint64 18446744073709551615"), Value::U64(u64::MAX));
        assert_eq!(ok("['a', 'b']"), Value::texts(&["a", "b"]));
        assert_eq!(ok("@as []"), Value::texts(&[]));
        assert_eq!(ok("[uint64 1, 2]"), Value::Array("t".into(), vec![Value::U64(1), Value::U64(2)]));
        let pair = ok("@a(st) [('/dev/sda', 5)]");
        assert_eq!(pair.signature(), "a(st)");
        assert_eq!(pair.to_string(), "[(\"/dev/sda\", 5)]");
    }

    #[test]
    fn what_is_no_value_is_refused() {
        let deep = "[".repeat(10_000);
        for bad in [
            "",
            "abc",
            "'a",
            "[]",
            "[1, 'a']",
            "[1",
            "(1",
            "()",
            "uint64 -1",
            "byte 256",
            "@z 1",
            "@ 1",
            "@(s 1",
            "1 2",
            "uint64 'a'",
            "99999999999",
            "@as ['a', 1]",
            "@(ss) ('a')",
            "boolean 1",
            "'\\q'",
            "--1",
            "0x",
            deep.as_str(),
        ] {
            assert!(parse(bad).is_err(), "{:?}", bad.get(..40).unwrap_or(bad));
        }
    }
}
