//! Texts of the configuration in the form that the kernel takes.

use std::ffi::CString;
use std::path::{Path, PathBuf};

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

/// A path of the host that may be relative to the bundle.
pub(super) fn absolute(bundle: &Path, path: &str) -> PathBuf {
    if path.starts_with('/') { PathBuf::from(path) } else { bundle.join(path) }
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
