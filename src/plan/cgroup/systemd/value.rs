//! Values of unit properties: the types of D-Bus that systemd's properties have, and their text form.

use std::fmt;

/// A typed value (D-Bus specification, "Type system").
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `b`.
    Bool(bool),
    /// `y`.
    Byte(u8),
    /// `n`.
    I16(i16),
    /// `q`.
    U16(u16),
    /// `i`.
    I32(i32),
    /// `u`.
    U32(u32),
    /// `x`.
    I64(i64),
    /// `t`.
    U64(u64),
    /// `d`.
    Double(f64),
    /// `s`.
    Str(String),
    /// The signature of the elements, which all have it.
    Array(String, Vec<Value>),
    /// `(...)`.
    Struct(Vec<Value>),
}

impl Value {
    /// A string.
    pub fn text(text: impl Into<String>) -> Value {
        Value::Str(text.into())
    }

    /// An array of strings.
    pub fn texts(list: &[&str]) -> Value {
        Value::Array("s".into(), list.iter().map(|t| Value::text(*t)).collect())
    }

    /// The type, as D-Bus writes it: `a(ss)`.
    pub fn signature(&self) -> String {
        let letter = match self {
            Value::Bool(_) => "b",
            Value::Byte(_) => "y",
            Value::I16(_) => "n",
            Value::U16(_) => "q",
            Value::I32(_) => "i",
            Value::U32(_) => "u",
            Value::I64(_) => "x",
            Value::U64(_) => "t",
            Value::Double(_) => "d",
            Value::Str(_) => "s",
            Value::Array(of, _) => return format!("a{of}"),
            Value::Struct(parts) => {
                return format!("({})", parts.iter().map(Value::signature).collect::<String>());
            }
        };
        letter.to_owned()
    }
}

/// As people write it; the largest number is what systemd shows as `infinity`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, open: &str, parts: &[Value], close: &str| {
            f.write_str(open)?;
            for (i, v) in parts.iter().enumerate() {
                if i > 0 {
                    f.write_str(", ")?;
                }
                write!(f, "{v}")?;
            }
            f.write_str(close)
        };
        match self {
            Value::Bool(v) => write!(f, "{v}"),
            Value::Byte(v) => write!(f, "{v:#04x}"),
            Value::I16(v) => write!(f, "{v}"),
            Value::U16(v) => write!(f, "{v}"),
            Value::I32(v) => write!(f, "{v}"),
            Value::U32(v) => write!(f, "{v}"),
            Value::I64(v) => write!(f, "{v}"),
            Value::U64(u64::MAX) => f.write_str("infinity"),
            Value::U64(v) => write!(f, "{v}"),
            Value::Double(v) => write!(f, "{v}"),
            Value::Str(v) => write!(f, "{v:?}"),
            Value::Array(_, parts) => list(f, "[", parts, "]"),
            Value::Struct(parts) => list(f, "(", parts, ")"),
        }
    }
}
