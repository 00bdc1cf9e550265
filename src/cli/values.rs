//! Values of flags and arguments: signals, durations, sizes.

use std::time::Duration;

use crate::config::quantity;
use crate::plan::tables::signals;

/// A signal's number or name, as [`signals::number`] reads it.
pub(super) fn parse_signal(text: &str) -> Result<i32, String> {
    signals::number(text).ok_or_else(|| "unknown signal".to_owned())
}

/// A duration that is greater than 0: `5s`, `1m30s`, `500ms`, `1.5h`; a bare number is seconds.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    match quantity::duration(text) {
        Some(duration) if !duration.is_zero() => Ok(duration),
        Some(_) => Err("must be greater than 0".to_owned()),
        None => Err("expected a duration such as 5s, 500ms or 1m30s".to_owned()),
    }
}

/// Bytes, as [`quantity::docker_bytes`] reads them. -1 means no limit.
pub(super) fn parse_bytes(text: &str) -> Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    let bytes = quantity::docker_bytes(text).and_then(|bytes| i64::try_from(bytes).ok());
    bytes.ok_or_else(|| "expected a number of bytes such as 1048576, 512m or 1.5g".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, millis) in
            [("5s", 5000), ("500ms", 500), ("1m30s", 90_000), ("1.5s", 1500), ("1h", 3_600_000), ("5", 5000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "0s", "-1s", "5x", "1..5s", "5 s", "1e400s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_have_binary_units() {
        for (text, bytes) in [
            ("0", 0),
            ("-1", -1),
            ("1048576", 1 << 20),
            ("512m", 512 << 20),
            ("512M", 512 << 20),
            ("64kb", 64 << 10),
            ("1GiB", 1 << 30),
            ("1.5g", 3 << 29),
            ("9223372036854775807", i64::MAX),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "-2", "m", "1x", "9223372036854775808", "99999999p", "1..2m"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
