//! Scalars of manifests: each type's values, and what to say about others.

use serde_json::Value;

use super::fix;
use super::schema::{Type, last};
use crate::config::document::Data;
use crate::config::document::diagnostic::Diagnostic;
use crate::config::document::reader::{Item, similar};
use crate::config::quantity::{self, Bytes, Factor, MilliCpu, Signal};

type Wrong = Box<Diagnostic>;

/// Reads a scalar of type `ty` into its one form: numbers and booleans as such, everything else as text.
///
/// # Errors
/// The reason why it is invalid.
pub fn read(ty: &Type, item: &Item<'_>) -> Result<Value, Wrong> {
    let data = &item.node.data;
    match (ty, data) {
        (Type::Bool, Data::Bool(b)) => Ok((*b).into()),
        (Type::Int { least, most }, Data::Number(text)) => {
            let number = text.parse().ok().filter(|n: &i64| (*least..=*most).contains(n));
            number.map(Value::from).ok_or_else(|| wrong(ty, item))
        }
        (Type::Count { least, most }, Data::Number(text) | Data::String(text)) => {
            let number = count(text).filter(|n| (*least..=*most).contains(n));
            number.map(Value::from).ok_or_else(|| wrong(ty, item))
        }
        (Type::Bool | Type::Int { .. }, _) => Err(unquoted(ty, item)),
        (Type::String, Data::String(text)) => no_nul(text, item),
        (Type::String, _) => Err(quote(item)),
        (Type::Label, Data::String(text)) => label(text, item),
        (Type::Name, Data::String(text)) if is_name(text) => Ok(text.as_str().into()),
        (Type::Name, Data::String(text)) => Err(plain_name(ty, text, item)),
        (Type::Label | Type::Name, data) if data.text().is_some() => Err(quote(item)),
        (Type::Mode(most), data) => mode(*most, data.text(), item),
        (Type::IntOrString, Data::Number(text)) => match text.parse::<u32>() {
            Ok(n) => Ok(n.into()),
            Err(_) => Err(wrong(ty, item)),
        },
        (Type::IntOrString, Data::String(text)) if !text.is_empty() => no_nul(text, item),
        (Type::Word(words), data) => word(words, data.text().unwrap_or_default(), item),
        (Type::Bytes, Data::Number(text) | Data::String(text)) => bytes(text, item),
        (_, Data::Number(text) | Data::String(text)) if is_valid(ty, text) => Ok(text.as_str().into()),
        _ => Err(wrong(ty, item)),
    }
}

fn is_valid(ty: &Type, text: &str) -> bool {
    match ty {
        Type::Cpu => MilliCpu::parse(text).is_some_and(|cpu| cpu.0 > 0),
        Type::Quantity => Bytes::parse(text).is_some() || MilliCpu::parse(text).is_some(),
        Type::Base64 => base64(text).is_some(),
        Type::Duration => quantity::duration(text).is_some(),
        Type::Factor => Factor::parse(text).is_some(),
        Type::Signal => Signal::parse(text).is_some(),
        _ => false,
    }
}

/// A whole number, or a quantity that is one: `2k`.
fn count(text: &str) -> Option<i64> {
    let scaled =
        || Bytes::parse(text).filter(|_| !text.contains('.') && text.ends_with(['k', 'i', 'M', 'G']));
    text.parse().ok().or_else(|| i64::try_from(scaled()?.0).ok())
}

fn problem(item: &Item<'_>, message: String) -> Wrong {
    Box::new(Diagnostic::new(item.node.place, &item.path, message))
}

fn wrong(ty: &Type, item: &Item<'_>) -> Wrong {
    problem(item, format!("{} must be {}", last(&item.path), ty.noun()))
}

/// A scalar that looks like something else than a string: which characters are meant is what is written.
fn quote(item: &Item<'_>) -> Wrong {
    let noun = item.node.data.noun();
    let mut problem = problem(item, format!("{} must be a string, not {noun}", last(&item.path)));
    if let Some(text) = item.node.data.text() {
        problem.hint = Some(format!("write it in quotes: {}", quoted(text)));
        problem.fix = fix::replace(item.node, &quoted(text));
    }
    problem
}

/// A string instead of a number or boolean.
fn unquoted(ty: &Type, item: &Item<'_>) -> Wrong {
    if let Data::String(text) = &item.node.data {
        let fits = match ty {
            Type::Bool => text == "true" || text == "false",
            Type::Int { least, most } => text.parse().is_ok_and(|n: i64| (*least..=*most).contains(&n)),
            _ => false,
        };
        if fits {
            let noun = if *ty == Type::Bool { "true or false" } else { "a number" };
            let mut problem = problem(item, format!("{} must be {noun}, not a string", last(&item.path)));
            problem.hint = Some(format!("write it without quotes: {text}"));
            problem.fix = fix::replace(item.node, text);
            return problem;
        }
        let boolean = match text.to_lowercase().as_str() {
            "yes" | "on" => "true",
            "no" | "off" => "false",
            _ => return wrong(ty, item),
        };
        if *ty == Type::Bool {
            let mut problem = wrong(ty, item);
            problem.hint = Some(format!("write `{boolean}`"));
            problem.fix = fix::replace(item.node, boolean);
            return problem;
        }
    }
    wrong(ty, item)
}

fn no_nul(text: &str, item: &Item<'_>) -> Result<Value, Wrong> {
    if text.contains('\0') {
        return Err(problem(item, format!("{} must not contain a NUL character", last(&item.path))));
    }
    Ok(text.into())
}

fn word(words: &[&'static str], given: &str, item: &Item<'_>) -> Result<Value, Wrong> {
    if words.contains(&given) || (given.is_empty() && item.node.data == Data::String(String::new())) {
        return Ok(given.into());
    }
    let mut problem = wrong(&Type::Word(words.to_vec()), item);
    let same = words.iter().find(|word| word.eq_ignore_ascii_case(given)).copied();
    if let Some(meant) = same.or_else(|| similar(given, words)) {
        problem.hint = Some(format!("did you mean {meant:?}?"));
        problem.fix = fix::replace(item.node, meant);
    }
    Err(problem)
}

fn label(text: &str, item: &Item<'_>) -> Result<Value, Wrong> {
    if is_label(text) {
        return Ok(text.into());
    }
    Err(plain_name(&Type::Label, text, item))
}

/// A name with other characters, and one like it without them.
fn plain_name(ty: &Type, text: &str, item: &Item<'_>) -> Wrong {
    let mut problem = wrong(ty, item);
    let plain: String = text.to_lowercase().replace(['_', '.', ' '], "-");
    if is_label(&plain) {
        problem.hint = Some(format!("for example {plain:?}"));
    } else if text.contains('$') {
        problem.hint = Some("variables are not replaced: use a tool such as envsubst first".to_owned());
    }
    problem
}

/// The name of an object: labels with dots between them (RFC 1123), 63 characters in all so that the names of its
/// containers fit into file names.
pub fn is_name(text: &str) -> bool {
    text.len() <= 63 && text.split('.').all(is_label)
}

/// A DNS label (RFC 1123).
pub fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let outer = |b: Option<&u8>| b.is_some_and(|b| inner(*b) && *b != b'-');
    let bytes = text.as_bytes();
    bytes.len() <= 63 && bytes.iter().all(|b| inner(*b)) && outer(bytes.first()) && outer(bytes.last())
}

/// A label's value, or its key without the prefix.
pub fn is_label_text(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text.len() <= 63 && text.chars().all(inner) && ends(text.chars().next()) && ends(text.chars().next_back())
}

/// Bytes. Slips that would mean something else are errors: `400m` is less than one byte.
fn bytes(text: &str, item: &Item<'_>) -> Result<Value, Wrong> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let fits = Bytes::parse(text).is_some_and(|bytes| bytes.0 > 0 && !["m", "u", "n"].contains(&unit));
    if fits {
        return Ok(text.into());
    }
    let mut problem = wrong(&Type::Bytes, item);
    let binary = ["K", "M", "G", "T", "P"].into_iter().find(|u| unit.to_uppercase().starts_with(u));
    problem.hint = binary.filter(|_| !number.is_empty()).map(|u| format!("did you mean {number}{u}i?"));
    Err(problem)
}

/// Permission bits. `0644` is octal, as YAML 1.1 and Kubernetes read it; so are `0o644` and quoted ones. A decimal
/// number is what it says in Kubernetes, too, and almost never what was meant.
fn mode(most: u32, text: Option<&str>, item: &Item<'_>) -> Result<Value, Wrong> {
    let text = text.unwrap_or_default();
    let octal = text.strip_prefix("0o").or_else(|| text.strip_prefix('0').filter(|rest| !rest.is_empty()));
    let bits = match octal {
        Some(digits) => u32::from_str_radix(digits, 8).ok(),
        None => text.parse().ok(),
    };
    if let Some(bits) = bits.filter(|bits| *bits <= most) {
        return Ok(bits.into());
    }
    let mut problem = wrong(&Type::Mode(most), item);
    if octal.is_none() && text.len() == 3 && u32::from_str_radix(text, 8).is_ok() {
        problem.hint = Some(format!("{text} is a decimal number: write 0{text}"));
        problem.fix = fix::replace(item.node, &format!("0{text}"));
    }
    Err(problem)
}

/// Encodes as base64 with padding (RFC 4648).
pub fn to_base64(bytes: &[u8]) -> String {
    const SYMBOLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |n: usize| u32::from(group.get(n).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..4 {
            let symbol = SYMBOLS[(bits >> (18 - 6 * n) & 63) as usize];
            text.push(if n > group.len() { '=' } else { char::from(symbol) });
        }
    }
    text
}

/// Decodes base64 with padding (RFC 4648); white space is left out, as Kubernetes does.
pub fn base64(text: &str) -> Option<Vec<u8>> {
    let symbols: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    if !symbols.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::with_capacity(symbols.len() / 4 * 3);
    for (n, group) in symbols.chunks(4).enumerate() {
        let is_last = (n + 1) * 4 == symbols.len();
        let padding = group.iter().rev().take_while(|b| **b == b'=').count();
        if padding > 2 || (padding > 0 && !is_last) {
            return None;
        }
        let mut bits = 0u32;
        for b in &group[..4 - padding] {
            let value = match b {
                b'A'..=b'Z' => b - b'A',
                b'a'..=b'z' => b - b'a' + 26,
                b'0'..=b'9' => b - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        bits <<= 6 * padding;
        bytes.extend_from_slice(&bits.to_be_bytes()[1..4 - padding]);
    }
    Some(bytes)
}

/// Text in the quotes of YAML and JSON.
pub fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::document::Node;
    use crate::config::document::diagnostic::Position;

    fn of(ty: &Type, data: Data) -> Result<Value, String> {
        let length = data.text().map_or(1, str::len);
        let node = Node { place: Position::new(1, 1, length), data };
        let item = Item { node: &node, path: "a.b".into() };
        read(ty, &item).map_err(|d| {
            let hint = d.hint.map(|h| format!(" [{h}]")).unwrap_or_default();
            let fix = d.fix.map(|f| format!(" <{}>", f.text)).unwrap_or_default();
            format!("{}{hint}{fix}", d.message)
        })
    }

    #[test]
    fn modes_are_octal_with_a_leading_zero_and_decimal_ones_are_checked() {
        let number = |text: &str| of(&Type::Mode(0o777), Data::Number(text.into()));
        for (text, bits) in [("0644", 0o644), ("0o640", 0o640), ("420", 420), ("0", 0), ("0777", 0o777)] {
            assert_eq!(number(text), Ok(bits.into()), "{text}");
        }
        assert_eq!(of(&Type::Mode(0o777), Data::String("0400".into())), Ok(0o400.into()));
        let e = number("644").unwrap_err();
        assert!(e.ends_with("[644 is a decimal number: write 0644] <0644>"), "{e}");
        for text in ["0888", "01777", "-1", "1.5", "07777777777777777"] {
            assert!(number(text).is_err(), "{text}");
        }
        let sticky = of(&Type::Mode(0o1777), Data::Number("01777".into()));
        assert_eq!(sticky, Ok(0o1777.into()));
        let e = of(&Type::Mode(0o1777), Data::Number("02777".into())).unwrap_err();
        assert_eq!(e, "b must be permission bits from 0 to 01777");
    }

    #[test]
    fn base64_is_decoded_exactly() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("YQ==", b"a"),
            ("YWI=", b"ab"),
            ("YWJj", b"abc"),
            ("/+8=", b"\xff\xef"),
            ("YWJj\nZA==", b"abcd"),
        ] {
            assert_eq!(base64(text).as_deref(), Some(bytes), "{text}");
            assert_eq!(to_base64(bytes), text.replace('\n', ""));
        }
        for text in ["YQ", "Y===", "YQ==YQ==", "a-b_", "YQ= =x", "====", "=YQ="] {
            assert_eq!(base64(text), None, "{text}");
        }
    }

    #[test]
    fn counts_are_whole_numbers_also_as_quantities() {
        let ty = Type::Count { least: 1, most: 4096 };
        for (text, number) in [("2048", 2048), ("2k", 2000), ("2Ki", 2048), ("1", 1)] {
            assert_eq!(of(&ty, Data::String(text.into())), Ok(number.into()), "{text}");
            assert_eq!(of(&ty, Data::Number(text.into())), Ok(number.into()), "{text}");
        }
        for text in ["0", "1.5", "1500m", "5k", "-1", "", "max", "0x10"] {
            let e = of(&ty, Data::String(text.into())).unwrap_err();
            assert_eq!(e, "b must be a whole number from 1 to 4096", "{text}");
        }
        assert!(of(&ty, Data::Bool(true)).is_err());
    }

    #[test]
    fn names_with_variables_get_a_hint() {
        let name = |text: &str| of(&Type::Name, Data::String(text.into())).unwrap_err();
        assert!(name("item-$ITEM").contains("[variables are not replaced"), "{}", name("item-$ITEM"));
        assert!(name("${NAME}").contains("envsubst"));
        assert!(name("My_App").contains("[for example \"my-app\"]"));
    }

    #[test]
    fn strings_and_numbers_are_not_mixed_up() {
        let text = |t: &str| Data::String(t.into());
        let int = Type::Int { least: 0, most: 9 };
        let expected = "b must be a number, not a string [write it without quotes: 3] <3>";
        assert_eq!(of(&int, text("3")), Err(expected.to_owned()));
        assert_eq!(
            of(&int, Data::Number("10".into())),
            Err("b must be a whole number from 0 to 9".to_owned())
        );
        let expected = "b must be a string, not a number [write it in quotes: \"1.10\"] <\"1.10\">";
        assert_eq!(of(&Type::String, Data::Number("1.10".into())), Err(expected.to_owned()));
        assert_eq!(
            of(&Type::Bool, text("yes")),
            Err("b must be true or false [write `true`] <true>".to_owned())
        );
        assert_eq!(of(&Type::IntOrString, text("25%")), Ok("25%".into()));
        assert_eq!(of(&Type::IntOrString, Data::Number("2".into())), Ok(2.into()));
        assert!(of(&Type::IntOrString, Data::Number("2.5".into())).is_err());
        assert!(of(&Type::String, text("a\0")).unwrap_err().contains("NUL"));
    }
}
