//! Names of containers.

use crate::error::{Error, Kind, Result};
use std::fmt;

/// A container's id: letters, digits, `_`, `+`, `.` and `-`, at most 255 bytes, neither `.` nor `..`. It is safe as
/// the name of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(String);

impl ContainerId {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`Kind::Usage`], with runc's words `invalid container ID format`.
    pub fn new(text: impl Into<String>) -> Result<ContainerId> {
        let text = text.into();
        if text.is_empty() {
            return Err(Error::new(Kind::Usage, "container id cannot be empty"));
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_+.-".contains(&b);
        if text.len() > 255 || text == "." || text == ".." || !text.bytes().all(allowed) {
            let e = Error::new(Kind::Usage, format!("invalid container ID format: {text:?}"));
            return Err(e.hint("an id has at most 255 letters, digits, \"_\", \"+\", \".\" and \"-\""));
        }
        Ok(ContainerId(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_safe_as_file_names() {
        for good in ["a", "A-b_c+d.e", "0", "...", ".x", "-", "k8s.io", &"f".repeat(255)] {
            assert_eq!(ContainerId::new(good).unwrap().as_str(), good);
        }
        for bad in [
            ".",
            "..",
            "a/b",
            "/",
            "../x",
            "a b",
            "a\0b",
            "a\n",
            "ä",
            "a:b",
            "a~",
            "a,b",
            "a%b",
            "@",
            &"f".repeat(256),
        ] {
            let e = ContainerId::new(bad).unwrap_err();
            assert!(e.to_string().starts_with("invalid container ID format"), "{bad:?}");
        }
        assert_eq!(ContainerId::new("").unwrap_err().to_string(), "container id cannot be empty");
    }
}
