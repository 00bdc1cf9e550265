//! `spec`: a config.json to begin with.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use crate::config::defaults;
use crate::error::{Error, Kind, Result};
use crate::kernel::cgroup;
use crate::plan::facts::CgroupMode;

/// Writes the default config.json into the directory `bundle`; with `rootless`, one that the calling user can run
/// without privileges.
///
/// # Errors
/// [`Kind::Exists`] when there is a config.json; it is left alone.
pub fn spec(bundle: &Path, rootless: bool) -> Result<()> {
    let path = bundle.join("config.json");
    let mut document = if rootless {
        defaults::rootless(crate::sys::cred::geteuid(), crate::sys::cred::getegid())
    } else {
        defaults::spec()
    };
    if cgroup::probe()?.mode != CgroupMode::Unified {
        // As engines have it: programs written for version 1 look for their cgroups in /proc/self/cgroup, which a
        // namespace makes visible of the root.
        defaults::without_cgroup_namespace(&mut document);
    }
    let mut text = serde_json::to_string_pretty(&document)
        .map_err(|e| Error::new(Kind::Config, format!("the default configuration is not valid JSON: {e}")))?;
    text.push('\n');
    let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Error::new(Kind::Exists, format!("File {path:?} exists. Remove it first")));
        }
        Err(e) => return Err(Error::sys(format!("creating {path:?}"), e)),
    };
    file.write_all(text.as_bytes()).map_err(|e| {
        // Half a document would only be in the way of the next attempt.
        let _ = std::fs::remove_file(&path);
        Error::sys(format!("writing {path:?}"), e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::bundle::Bundle;

    #[test]
    fn the_file_is_a_bundle_and_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        spec(dir.path(), false).unwrap();
        let bundle = Bundle::load(dir.path()).unwrap();
        assert_eq!(bundle.spec.oci_version, defaults::OCI_VERSION);
        assert!(bundle.raw.ends_with(b"}\n"));
        let e = spec(dir.path(), true).unwrap_err();
        assert_eq!(e.kind(), Kind::Exists);
        assert_eq!(Bundle::load(dir.path()).unwrap().raw, bundle.raw);
    }

    #[test]
    fn a_rootless_one_has_a_user_namespace() {
        let dir = tempfile::tempdir().unwrap();
        spec(dir.path(), true).unwrap();
        let linux = Bundle::load(dir.path()).unwrap().spec.linux;
        assert!(linux.namespaces.iter().any(|n| n.kind == "user"));
        assert_eq!(linux.uid_mappings[0].host_id, crate::sys::cred::geteuid());
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        let e = spec(Path::new("/proc/nowhere"), false).unwrap_err().to_string();
        assert_eq!(e, "creating \"/proc/nowhere/config.json\": no such file or directory");
    }
}
