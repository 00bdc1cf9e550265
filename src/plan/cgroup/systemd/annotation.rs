//! Annotations `org.systemd.property.NAME`: properties of the unit that the bundle sets itself.

use super::{Property, Value, Violation, gvariant};

/// The beginning of such a key.
pub const PREFIX: &str = "org.systemd.property.";
/// Microseconds in a second.
const SECOND: u64 = 1_000_000;

/// The property of an annotation, if it is one.
///
/// # Errors
/// An invalid name or value.
pub(super) fn property(key: &str, text: &str) -> Result<Option<Property>, Violation> {
    let Some(name) = key.strip_prefix(PREFIX) else { return Ok(None) };
    let because = format!("annotations[{key:?}]");
    // runc's rule, which keeps out typing errors and nothing that systemd has.
    if name.len() < 3 || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
        let what = format!("{name:?} is not a valid property name: expected three or more letters");
        return Err(Violation::new(because, what));
    }
    let value = gvariant::parse(text).map_err(|why| {
        Violation::new(because.clone(), format!("invalid value {text:?}: {why}"))
            .hint("use the text format of GVariant: true, 'text', 42, uint64 42, ['a', 'b']")
    })?;
    // The manual pages use seconds, the bus microseconds.
    match name.strip_suffix("Sec").filter(|n| n.ends_with(|c: char| c.is_ascii_lowercase())) {
        Some(stem) => {
            let value = microseconds(&value).ok_or_else(|| {
                Violation::new(because.clone(), format!("{text:?} is not a number of seconds"))
            })?;
            Ok(Some(Property::new(&format!("{stem}USec"), Value::U64(value), because)))
        }
        None => Ok(Some(Property::new(name, value, because))),
    }
}

fn microseconds(seconds: &Value) -> Option<u64> {
    let whole = match *seconds {
        Value::Byte(n) => n.into(),
        Value::U16(n) => n.into(),
        Value::U32(n) => n.into(),
        Value::U64(n) => n,
        Value::I16(n) => u64::try_from(n).ok()?,
        Value::I32(n) => u64::try_from(n).ok()?,
        Value::I64(n) => u64::try_from(n).ok()?,
        Value::Double(n) if n >= 0.0 => return Some((n * SECOND as f64) as u64),
        _ => return None,
    };
    whole.checked_mul(SECOND)
}
