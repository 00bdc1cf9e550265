//! Landlock (landlock(7)): what the calling thread may still do, whoever it is.

use super::{SysResult, check, unit};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

pub const WRITE_FILE: u64 = 1 << 1;
pub const READ_FILE: u64 = 1 << 2;
pub const READ_DIR: u64 = 1 << 3;
pub const REMOVE_DIR: u64 = 1 << 4;
pub const REMOVE_FILE: u64 = 1 << 5;
pub const MAKE_CHAR: u64 = 1 << 6;
pub const MAKE_DIR: u64 = 1 << 7;
pub const MAKE_REG: u64 = 1 << 8;
pub const MAKE_FIFO: u64 = 1 << 10;
pub const MAKE_BLOCK: u64 = 1 << 11;
pub const MAKE_SYM: u64 = 1 << 12;
pub const REFER: u64 = 1 << 13;
pub const TRUNCATE: u64 = 1 << 14;

const VERSION: u32 = 1;
const PATH_BENEATH: u32 = 1;

/// `struct landlock_ruleset_attr`. Older kernels take the longer form, as long as they know what is set in it.
#[repr(C)]
struct Ruleset {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: i32,
}

/// The version of the kernel's interface.
///
/// # Errors
/// ENOSYS or EOPNOTSUPP: the kernel has none.
pub fn version() -> SysResult<u32> {
    // SAFETY: without a ruleset the kernel reads no memory.
    let version = check(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<Ruleset>(), 0_usize, VERSION)
    });
    version.map(|v| v as u32)
}

/// Everything that a version of the interface can forbid: access to files, to the network, and to what lies outside of the domain.
fn everything(version: u32) -> Ruleset {
    Ruleset {
        handled_access_fs: match version {
            0 | 1 => (1 << 13) - 1,
            2 => (1 << 14) - 1,
            3 | 4 => (1 << 15) - 1,
            _ => (1 << 16) - 1,
        },
        handled_access_net: if version >= 4 { 3 } else { 0 },
        scoped: if version >= 6 { 3 } else { 0 },
    }
}

/// Forbids the calling thread, for good, all that `version` of the interface knows, but for what each of `allowed` says for what is
/// below a directory, and with `network` but for connections. The thread has no new privileges.
pub fn restrict(version: u32, allowed: &[(u64, RawFd)], network: bool) -> SysResult<()> {
    let mut attributes = everything(version);
    if network {
        attributes.handled_access_net = 0;
    }
    let size = size_of::<Ruleset>();
    // SAFETY: the ruleset is valid for reading `size` bytes.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attributes, size, 0_u32)
    })?;
    // SAFETY: the kernel has made the descriptor for us.
    let _ruleset = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
    for (allowed, below) in allowed {
        let rule = PathBeneath { allowed_access: allowed & attributes.handled_access_fs, parent_fd: *below };
        // SAFETY: the rule is valid for reading.
        unit(unsafe {
            libc::syscall(libc::SYS_landlock_add_rule, fd, PATH_BENEATH, &raw const rule, 0_u32)
        })?;
    }
    // SAFETY: no memory is passed.
    unit(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, fd, 0_u32) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_thread_can_write_below_a_directory_and_read_nothing() {
        let Ok(version) = version() else {
            println!("SKIP: the kernel has no Landlock");
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("old"), "x").unwrap();
        let at = dir.path().to_owned();
        let work = move || {
            crate::sys::prctl::set_no_new_privs().unwrap();
            let below = fs::File::open(&at).unwrap();
            let allowed = WRITE_FILE | MAKE_REG | TRUNCATE;
            restrict(version, &[(allowed, below.as_raw_fd())], false).unwrap();
            let denied = |r: std::io::Result<()>| r.unwrap_err().raw_os_error() == Some(libc::EACCES);
            fs::write(at.join("new"), "y").unwrap();
            assert!(denied(fs::read(at.join("old")).map(drop)));
            assert!(denied(fs::write("/dev/null", "")));
            assert!(denied(fs::create_dir(at.join("dir"))));
            if version >= 4 {
                assert!(denied(std::net::TcpListener::bind("127.0.0.1:0").map(drop)));
            }
        };
        std::thread::spawn(work).join().unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("new")).unwrap(), "y", "other threads may");
    }
}
