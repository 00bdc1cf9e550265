//! The options of the version 2 hierarchy, as nsdelegate and memory_recursiveprot. CRIU mounts that file system again to look into
//! it, without any, and so takes them from the whole host: from then on a container could write its own limits. They are
//! restored when CRIU has exited.
//!
//! Of several CRIUs at a time only the first sees the options. The runtime that started it writes them down, in an
//! extended attribute of the hierarchy, and the last one removes that.

use crate::error::Errno;
use crate::log;
use crate::sys::{self, SysResult, file, mount, path};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};

const NOTE: &std::ffi::CStr = c"trusted.orun.options";
/// More than all options there are.
const LONGEST: usize = 512;

/// Mount options that are restored when this is dropped.
#[derive(Debug)]
pub struct Options {
    place: String,
    dir: OwnedFd,
    all: BTreeSet<String>,
}

impl Options {
    /// Reads the current options; `None` where there is nothing to lose.
    pub fn note() -> Option<Options> {
        let (place, now) = hierarchy(&std::fs::read_to_string("/proc/self/mountinfo").ok()?)?;
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let dir = path::openat(sys::CWD, &CString::new(place.as_str()).ok()?, flags, 0).ok()?;
        // Nobody removes the note while this is held.
        file::flock(dir.as_raw_fd(), libc::LOCK_SH).ok()?;
        let mut note = [0; LONGEST];
        let length = file::getxattr(dir.as_raw_fd(), NOTE, &mut note).unwrap_or(0);
        let noted = String::from_utf8_lossy(&note[..length]).into_owned();
        let all: BTreeSet<String> = now.into_iter().chain(options(&noted)).collect();
        if all.is_empty() {
            return None;
        }
        let text = all.iter().cloned().collect::<Vec<_>>().join(",");
        // Without the right to it this one alone puts back what it saw.
        let _ = file::setxattr(dir.as_raw_fd(), NOTE, text.as_bytes());
        Some(Options { place, dir, all })
    }

    fn put_back(&self) -> SysResult<()> {
        let text = std::fs::read_to_string("/proc/self/mountinfo").map_err(Errno::from)?;
        if hierarchy(&text).is_some_and(|(_, now)| self.all.is_subset(&now)) {
            return Ok(());
        }
        let fs = mount::fspick(self.dir.as_raw_fd())?;
        for option in &self.all {
            mount::fsconfig_set(fs.as_raw_fd(), &CString::new(option.as_str()).unwrap_or_default(), None)?;
        }
        mount::fsconfig_reconfigure(fs.as_raw_fd())
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        if let Err(e) = self.put_back() {
            let all = self.all.iter().cloned().collect::<Vec<_>>().join(",");
            log::warn(format!(
                "criu removed the mount options {all} of {:?}, and they cannot be restored: {e}",
                self.place
            ));
        }
        if file::flock(self.dir.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB).is_ok() {
            let _ = file::removexattr(self.dir.as_raw_fd(), NOTE);
        }
    }
}

/// The options in a list of them; whether it can be written to is not one of the hierarchy's own.
fn options(list: &str) -> impl Iterator<Item = String> {
    list.split(',').filter(|o| !matches!(*o, "" | "rw" | "ro")).map(str::to_owned)
}

/// Where the whole version 2 hierarchy is mounted, and its options: proc_pid_mountinfo(5).
fn hierarchy(mountinfo: &str) -> Option<(String, BTreeSet<String>)> {
    mountinfo.lines().find_map(|line| {
        let (mount, fs) = line.split_once(" - ")?;
        let (mount, fs): (Vec<_>, Vec<_>) = (mount.split(' ').collect(), fs.split(' ').collect());
        let whole = fs.len() == 3 && fs[0] == "cgroup2" && *mount.get(3)? == "/";
        whole.then(|| (mount[4].to_owned(), options(fs[2]).collect()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_of_the_hierarchy() {
        let text = "22 1 0:20 / /proc rw,nosuid shared:5 - proc proc rw\n\
                    31 1 0:27 /a /b rw shared:8 - cgroup2 cgroup2 rw,favordynmods\n\
                    32 1 0:27 / /sys/fs/cgroup rw,nosuid shared:8 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
        let want = ["memory_recursiveprot", "nsdelegate"].map(str::to_owned);
        assert_eq!(hierarchy(text), Some(("/sys/fs/cgroup".to_owned(), BTreeSet::from(want))));
        assert_eq!(hierarchy("31 1 0:27 /a /b rw - cgroup2 cgroup2 rw\n"), None);
        let bare = "31 1 0:27 / /b rw - cgroup2 none rw\n";
        assert_eq!(hierarchy(bare), Some(("/b".to_owned(), BTreeSet::new())));
    }
}
