//! The list of operations under construction, each with the property that asks for it.

use super::op::Op;
use std::ffi::CString;

/// Operations in order, and for each the property of config.json that asks for it (empty: always done).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Steps {
    pub ops: Vec<Op>,
    pub properties: Vec<String>,
}

impl Steps {
    /// Appends an operation.
    pub fn push(&mut self, op: Op, property: impl Into<String>) {
        self.ops.push(op);
        self.properties.push(property.into());
    }

    /// Appends another list.
    pub fn append(&mut self, mut other: Steps) {
        self.ops.append(&mut other.ops);
        self.properties.append(&mut other.properties);
    }
}

/// A C string of text that was checked to hold no NUL byte; what follows one is cut.
pub(super) fn cstring(text: impl Into<Vec<u8>>) -> CString {
    let mut bytes = text.into();
    if let Some(nul) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(nul);
    }
    // There is no NUL left, so this cannot fail.
    CString::new(bytes).unwrap_or_default()
}

/// A path of the container, relative to its root: no leading slash, no `.`, and no `..` that leads above the root.
pub(super) fn in_root(path: &str) -> CString {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            p => parts.push(p),
        }
    }
    cstring(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        assert_eq!(in_root("/proc").as_c_str(), c"proc");
        assert_eq!(in_root("../../etc/./x//y/..").as_c_str(), c"etc/x");
        assert_eq!(in_root("/").as_c_str(), c"");
    }
}
