//! `HEALTHCHECK` of a Dockerfile, in the configuration of an image (moby, "HealthcheckConfig"). Pure.

use super::configuration::Process;
use crate::workload::health_check::HealthCheck;
use serde::Deserialize;
use std::time::Duration;

/// Bytes of a command: each container has it.
const LONGEST: usize = 16 << 10;

/// Durations are nanoseconds; 0 is the default.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Declared {
    /// `["NONE"]`, `["CMD", ARGUMENTS...]` or `["CMD-SHELL", TEXT]`; empty: that of the image below.
    test: Option<Vec<String>>,
    interval: u64,
    timeout: u64,
    start_period: u64,
    start_interval: u64,
    retries: u32,
}

/// The health check of an image. `None`: it has none, or turns that of the image below off.
///
/// # Errors
/// Why the check cannot be carried out.
pub fn read(image: &Process) -> Result<Option<HealthCheck>, String> {
    let Some(value) = &image.healthcheck else { return Ok(None) };
    let declared = Option::<Declared>::deserialize(value).map_err(|e| e.to_string())?;
    let Some(declared) = declared else { return Ok(None) };
    let test = declared.test.unwrap_or_default();
    let mut command = match test.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["NONE"] => return Ok(None),
        [] => Vec::new(),
        ["CMD", _, ..] => test[1..].to_vec(),
        ["CMD-SHELL", line] if image.shell.is_empty() => {
            vec!["/bin/sh".to_owned(), "-c".to_owned(), line.to_owned()]
        }
        ["CMD-SHELL", line] => image.shell.iter().cloned().chain([line.to_owned()]).collect(),
        [first, ..] => return Err(format!("{first:?} is not followed by a command")),
    };
    if command.iter().map(String::len).sum::<usize>() > LONGEST {
        return Err(format!("its command exceeds {LONGEST} bytes"));
    }
    if command.iter().any(|word| word.contains('\0')) {
        return Err("its command contains a null byte".to_owned());
    }
    command.shrink_to_fit();
    let time = |nanos| Some(Duration::from_nanos(nanos)).filter(|d| !d.is_zero());
    Ok(Some(HealthCheck {
        command,
        interval: time(declared.interval),
        timeout: time(declared.timeout),
        start_period: time(declared.start_period),
        start_interval: time(declared.start_interval),
        retries: Some(declared.retries).filter(|n| *n > 0),
        restart: false,
        gate: false,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::configuration::Configuration;

    fn parse_config(config: &str) -> Result<Option<HealthCheck>, String> {
        read(&Configuration::parse(format!(r#"{{"config": {config}}}"#).as_bytes(), "c").unwrap().config)
    }

    #[test]
    fn a_health_check_is_read() {
        let text = r#"{"Healthcheck": {"Test": ["CMD-SHELL", "up"], "Interval": 5000000000, "Retries": 3}}"#;
        let check = parse_config(text).unwrap().unwrap();
        assert_eq!(check.command, ["/bin/sh", "-c", "up"]);
        assert_eq!((check.interval, check.retries), (Some(Duration::from_secs(5)), Some(3)));
        assert_eq!(check.timeout, None);
        let shell = r#"{"Shell": ["/bin/bash", "-ec"], "Healthcheck": {"Test": ["CMD-SHELL", "up"]}}"#;
        assert_eq!(parse_config(shell).unwrap().unwrap().command, ["/bin/bash", "-ec", "up"]);
        let program = r#"{"Shell": ["/x"], "Healthcheck": {"Test": ["CMD", "/up", "-q"]}}"#;
        assert_eq!(parse_config(program).unwrap().unwrap().command, ["/up", "-q"]);
        for none in [r#"{"Healthcheck": null}"#, "{}", r#"{"Healthcheck": {"Test": ["NONE"]}}"#] {
            assert_eq!(parse_config(none), Ok(None), "{none}");
        }
        let times = parse_config(r#"{"Healthcheck": {"Test": null, "Timeout": 1}}"#).unwrap().unwrap();
        assert!(times.command.is_empty() && times.timeout == Some(Duration::from_nanos(1)));
    }

    #[test]
    fn what_cannot_be_carried_out_is_refused_and_the_image_is_not() {
        for (text, expected) in [
            (r#"{"Healthcheck": {"Test": ["CMD"]}}"#, "\"CMD\" is not followed by a command"),
            (r#"{"Healthcheck": {"Test": ["curl", "x"]}}"#, "\"curl\" is not followed by a command"),
            (r#"{"Healthcheck": {"Test": ["CMD", "a\u0000b"]}}"#, "null byte"),
            (r#"{"Healthcheck": {"Test": ["CMD", "x"], "Interval": -1}}"#, "invalid value"),
            (r#"{"Healthcheck": "x"}"#, "invalid type"),
        ] {
            let e = parse_config(text).unwrap_err();
            assert!(e.contains(expected), "{e}");
        }
        let long = format!(r#"{{"Healthcheck": {{"Test": ["CMD", "{}"]}}}}"#, "x".repeat(LONGEST + 1));
        assert!(parse_config(&long).unwrap_err().contains("exceeds 16384 bytes"));
    }
}
