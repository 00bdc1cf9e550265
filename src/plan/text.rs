//! Texts of the configuration in the form that the kernel takes.

use std::ffi::CString;
use std::path::{Path, PathBuf};

/// A C string of text that was checked to hold no NUL byte; what follows one is cut.
pub(super) fn cstring(text: impl Into<Vec<u8>>) -> CString {
    let mut bytes = text.into();
    // The NUL of its own.
    bytes.reserve_exact(1);
    CString::new(bytes).unwrap_or_else(|e| {
        let end = e.nul_position();
        let mut bytes = e.into_vec();
        bytes.truncate(end);
        // There is no NUL left, so this cannot fail.
        CString::new(bytes).unwrap_or_default()
    })
}

/// A path of the container, relative to its root: no leading slash, no `.`, and no `..` that leads above the root.
pub(super) fn in_root(path: &str) -> CString {
    let mut bytes = Vec::with_capacity(path.len() + 1);
    for part in path.as_bytes().split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => bytes.truncate(bytes.iter().rposition(|b| *b == b'/').unwrap_or(0)),
            p => {
                if !bytes.is_empty() {
                    bytes.push(b'/');
                }
                bytes.extend_from_slice(p);
            }
        }
    }
    cstring(bytes)
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
        assert_eq!(in_root("/a/b/../../..").as_c_str(), c"");
        assert_eq!(in_root("a/../b/c/..").as_c_str(), c"b");
        assert_eq!(in_root("/a\0b/c").as_c_str(), c"a");
    }
}
