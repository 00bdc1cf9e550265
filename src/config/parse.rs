//! One way from bytes to a type, with an error that names the file, the place in it and the property.

use super::strict::Strict;
use crate::error::{Error, Kind, Result};
use serde::de::DeserializeOwned;

/// Parses the JSON document `bytes` that came from `file` (its name, for the error).
///
/// # Errors
/// [`Kind::Config`]: not UTF-8, not JSON, more than one document, or a property of the wrong type. The message
/// names line, column and property.
pub fn json<T: DeserializeOwned>(bytes: &[u8], file: &str) -> Result<T> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::new(Kind::Config, format!("{file} is empty")));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| {
        Error::new(Kind::Config, format!("{file} is not UTF-8 (at byte {})", e.valid_up_to()))
    })?;
    // Keeping track of the place costs as much as parsing; a document that is wrong is parsed again for it.
    let mut de = serde_json::Deserializer::from_str(text);
    if let Ok(value) = T::deserialize(Strict(&mut de))
        && de.end().is_ok()
    {
        return Ok(value);
    }
    let mut de = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(Strict(&mut de)).map_err(|e| {
        let path = e.path().to_string();
        let inner = in_json_words(&e.into_inner().to_string());
        let place = if path == "." || path == "?" { String::new() } else { format!(" in {path}") };
        Error::new(Kind::Config, format!("{file}: {inner}{place}"))
    })?;
    de.end().map_err(|e| Error::new(Kind::Config, format!("{file}: {e}")))?;
    Ok(value)
}

/// The words of serde for Rust's types, in those of JSON.
fn in_json_words(message: &str) -> String {
    let Some((head, tail)) = message.split_once(", expected ") else { return message.to_owned() };
    let (what, place) = tail.split_once(" at line ").unwrap_or((tail, ""));
    let what = match what.split(' ').next().unwrap_or_default() {
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative",
        "f32" | "f64" => "a number",
        "struct" | "map" => "an object",
        _ if what == "a sequence" => "a list",
        _ => what,
    };
    let head = head
        .replace("invalid type: sequence", "invalid type: list")
        .replace("invalid type: map", "invalid type: object");
    let place = if place.is_empty() { String::new() } else { format!(" at line {place}") };
    format!("{head}, expected {what}{place}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::spec::Spec;

    fn fail(text: &str) -> String {
        json::<Spec>(text.as_bytes(), "config.json").unwrap_err().to_string()
    }

    #[test]
    fn errors_name_line_column_and_property() {
        let e = fail("{\n \"process\": {\"rlimits\": [{\"type\":\"RLIMIT_CORE\",\"soft\":\"1\"}]}}");
        assert!(e.starts_with("config.json: invalid type: string \"1\", expected a whole number that is not negative at line 2"), "{e}");
        assert!(e.ends_with("in process.rlimits[0].soft"), "{e}");
    }

    #[test]
    fn a_list_is_no_object() {
        for text in [
            "[]",
            "{\"hooks\":[]}",
            "{\"linux\":{\"resources\":[]}}",
            "{\"linux\":{\"resources\":{\"memory\":[1,2]}}}",
            "{\"linux\":{\"seccomp\":[\"SCMP_ACT_ALLOW\"]}}",
            "{\"mounts\":[[\"/proc\"]]}",
            "{\"linux\":{\"timeOffsets\":{\"monotonic\":[1,2]}}}",
        ] {
            let e = fail(text);
            assert!(e.contains("invalid type: list, expected an object"), "{text}: {e}");
        }
    }

    #[test]
    fn empty_truncated_trailing_and_deep_documents_are_errors() {
        assert_eq!(fail(" \n"), "config.json is empty");
        assert!(fail("{\"root\":").contains("EOF while parsing"));
        assert!(fail("{} {}").contains("trailing characters"));
        // Unknown members are skipped without recursion, known ones are of bounded depth.
        assert!(fail(&format!("{{\"x\":{}", "[".repeat(100_000))).contains("EOF while parsing"));
        assert!(fail(&format!("{{\"process\":{}", "[".repeat(100_000))).contains("invalid type"));
        assert!(json::<Spec>(b"{\"hostname\":\"\xff\"}", "config.json").is_err());
    }

    #[test]
    fn null_is_absent_and_unknown_properties_are_ignored() {
        let s: Spec = json(
            br#"{"ociVersion":"1.3.0","mounts":null,"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","architectures":null},
                 "resources":{"pids":{}}},"process":{"cwd":"/","future":1}}"#,
            "config.json",
        )
        .unwrap();
        assert_eq!(s.linux.resources.unwrap().pids.unwrap().limit, None, "an absent limit is not 0");
        assert_eq!(s.process.unwrap().user.uid, 0);
    }
}
