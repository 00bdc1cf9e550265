//! `probe try WHAT ARGS...`: tries one operation and says `ok`, `ok VALUE`, or the name of the errno.

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use runtime_tests::sys;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::Command;

/// Tries one operation.
pub fn attempt(words: &[&str]) -> String {
    match run(words) {
        Ok(value) if value.is_empty() => "ok".into(),
        Ok(value) => format!("ok {value}"),
        Err(e) => match e.raw_os_error() {
            Some(number) => format!("{:?}", Errno::from_raw(number)),
            None => format!("error: {e}"),
        },
    }
}

fn run(words: &[&str]) -> io::Result<String> {
    let done = |()| String::new();
    match words {
        ["mkdir", path] => fs::create_dir(path).map(done),
        ["rmdir", path] => fs::remove_dir(path).map(done),
        ["unlink", path] => fs::remove_file(path).map(done),
        ["read", path] => read(path),
        ["write", path, text] => write(path, text).map(done),
        ["open-read", path] => OpenOptions::new().read(true).open(path).map(|_| String::new()),
        ["open-write", path] => OpenOptions::new().write(true).open(path).map(|_| String::new()),
        ["lock", path] => {
            let file = fs::File::open(path)?;
            let held = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock);
            held.map(|_| String::new()).map_err(|(_, e)| e.into())
        }
        ["create", path] => OpenOptions::new().write(true).create_new(true).open(path).map(|_| String::new()),
        ["symlink", target, path] => symlink(target, path).map(done),
        ["chmod", path, mode] => {
            let mode = u32::from_str_radix(mode, 8).map_err(io::Error::other)?;
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).map(done)
        }
        ["chown", path, uid, gid] => {
            chown(path, Some(number(uid)? as u32), Some(number(gid)? as u32)).map(done)
        }
        ["touch", path] => Ok(nix::sys::stat::utimensat(
            nix::fcntl::AT_FDCWD,
            *path,
            &nix::sys::time::TimeSpec::UTIME_NOW,
            &nix::sys::time::TimeSpec::UTIME_NOW,
            nix::sys::stat::UtimensatFlags::FollowSymlink,
        )
        .map(done)?),
        ["setxattr", path, name] => setxattr(path, name).map(done),
        ["mknod", path, kind, major, minor] => {
            make_node(path, kind, number(major)?, number(minor)?).map(done)
        }
        ["mount", fstype, source, target] => {
            let none = None::<&str>;
            Ok(mount(Some(*source), *target, Some(*fstype), MsFlags::empty(), none).map(done)?)
        }
        ["remount-rw", target] => {
            let (none, flags) = (None::<&str>, MsFlags::MS_REMOUNT | MsFlags::MS_BIND);
            Ok(mount(none, *target, none, flags, none).map(done)?)
        }
        ["umount", target] => Ok(umount2(*target, MntFlags::empty()).map(done)?),
        ["exec", path] => Command::new(path).arg("true").status().map(|s| s.to_string()),
        ["sethostname", name] => Ok(nix::unistd::sethostname(name).map(done)?),
        ["chroot", path] => Ok(nix::unistd::chroot(*path).map(done)?),
        ["setuid", uid] => {
            sys::syscall(libc::SYS_setuid, [number(uid)?, 0, 0, 0, 0, 0]).map(|_| String::new())
        }
        ["setgroups-empty"] => sys::syscall(libc::SYS_setgroups, [0; 6]).map(|_| String::new()),
        ["syscall", name, args @ ..] => call(name, args),
        _ => Err(io::Error::other(format!("what is {words:?}?"))),
    }
}

fn number(word: &str) -> io::Result<u64> {
    let parsed = match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => word.parse::<i64>().map(|n| n as u64),
    };
    parsed.map_err(io::Error::other)
}

fn read(path: &str) -> io::Result<String> {
    let mut bytes = vec![0; 4096];
    let length = OpenOptions::new().read(true).open(path)?.read(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..length]).trim_end().to_owned())
}

fn setxattr(path: &str, name: &str) -> io::Result<()> {
    let (path, name) = (std::ffi::CString::new(path)?, std::ffi::CString::new(name)?);
    let args = [path.as_ptr() as u64, name.as_ptr() as u64, c"x".as_ptr() as u64, 1, 0, 0];
    sys::syscall(libc::SYS_setxattr, args).map(drop)
}

fn write(path: &str, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

fn make_node(path: &str, kind: &str, major: u64, minor: u64) -> io::Result<()> {
    let kind = match kind {
        "c" => SFlag::S_IFCHR,
        "b" => SFlag::S_IFBLK,
        _ => SFlag::S_IFIFO,
    };
    Ok(mknod(path, kind, Mode::from_bits_truncate(0o666), makedev(major, minor))?)
}

/// A raw system call by name or number, with numbers as arguments; `ok N` is its result.
fn call(name: &str, args: &[&str]) -> io::Result<String> {
    let known = [
        ("getpid", libc::SYS_getpid),
        ("getppid", libc::SYS_getppid),
        ("getuid", libc::SYS_getuid),
        ("getcwd", libc::SYS_getcwd),
        ("mkdirat", libc::SYS_mkdirat),
        ("sync", libc::SYS_sync),
        ("personality", libc::SYS_personality),
        ("socket", libc::SYS_socket),
        ("unshare", libc::SYS_unshare),
        ("setns", libc::SYS_setns),
        ("ptrace", libc::SYS_ptrace),
        ("keyctl", libc::SYS_keyctl),
        ("clone3", libc::SYS_clone3),
        ("openat2", libc::SYS_openat2),
        ("faccessat2", libc::SYS_faccessat2),
        ("acct", libc::SYS_acct),
        ("reboot", libc::SYS_reboot),
        ("sched_yield", libc::SYS_sched_yield),
        ("umask", libc::SYS_umask),
        ("dup", libc::SYS_dup),
        ("close", libc::SYS_close),
        ("prctl", libc::SYS_prctl),
    ];
    let nr = match known.iter().find(|(n, _)| *n == name) {
        Some((_, nr)) => *nr,
        None => number(name)? as i64,
    };
    let mut values = [0u64; 6];
    for (value, word) in values.iter_mut().zip(args) {
        *value = number(word)?;
    }
    sys::syscall(nr, values).map(|result| result.to_string())
}
