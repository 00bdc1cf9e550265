//! System calls by number.

use std::ffi::CString;
use std::os::raw::c_long;

/// The errno of a failed call.
pub type Errno = i32;

pub fn try_call(number: c_long, args: &[usize]) -> Result<usize, Errno> {
    let a = |i: usize| args.get(i).copied().unwrap_or(0);
    // SAFETY: every caller passes the arguments that the call of that number takes, and pointers to what outlives it.
    let result = unsafe { libc::syscall(number, a(0), a(1), a(2), a(3), a(4), a(5)) };
    if result < 0 {
        Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    } else {
        Ok(result as usize)
    }
}

/// A call that must succeed.
pub fn call(what: &str, number: c_long, args: &[usize]) -> usize {
    try_call(number, args).unwrap_or_else(|errno| {
        eprintln!("floor: {what}: {}", std::io::Error::from_raw_os_error(errno));
        std::process::exit(1)
    })
}

pub fn ptr<T: ?Sized>(value: &mut T) -> usize {
    value as *mut T as *mut u8 as usize
}

pub fn c(path: &str) -> CString {
    CString::new(path).expect("a path has no NUL")
}

const AT_FDCWD: usize = libc::AT_FDCWD as usize;

pub fn try_open(path: &str, flags: i32) -> Result<usize, Errno> {
    let path = c(path);
    try_call(libc::SYS_openat, &[AT_FDCWD, path.as_ptr() as usize, (flags | libc::O_CLOEXEC) as usize, 0])
}

pub fn open(path: &str, flags: i32) -> usize {
    try_open(path, flags).unwrap_or_else(|errno| {
        eprintln!("floor: opening {path}: {}", std::io::Error::from_raw_os_error(errno));
        std::process::exit(1)
    })
}

pub fn close(fd: usize) {
    call("close", libc::SYS_close, &[fd]);
}

/// A small file, up to 64 kB.
pub fn read_file(path: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::with_capacity(65536);
    let fd = open(path, libc::O_RDONLY);
    let n = call(path, libc::SYS_read, &[fd, bytes.as_mut_ptr() as usize, bytes.capacity()]);
    close(fd);
    // SAFETY: read(2) has initialized the first n bytes. Zeroing all 64 kB first would be most of the floor's instructions.
    unsafe { bytes.set_len(n) };
    bytes
}

/// Opens once and makes one write(2) per value, as the files of cgroups want it.
pub fn write_each(path: &str, values: &[&[u8]]) {
    let fd = open(path, libc::O_WRONLY);
    for value in values {
        call(path, libc::SYS_write, &[fd, value.as_ptr() as usize, value.len()]);
    }
    close(fd);
}

pub fn mkdir(path: &str) {
    call(path, libc::SYS_mkdirat, &[AT_FDCWD, c(path).as_ptr() as usize, 0o755]);
}

pub fn rmdir(path: &str) -> Result<usize, Errno> {
    try_call(libc::SYS_unlinkat, &[AT_FDCWD, c(path).as_ptr() as usize, libc::AT_REMOVEDIR as usize])
}

pub fn mknod(path: &str, mode: u32, major: u32, minor: u32) {
    let device = libc::makedev(major, minor) as usize;
    call(path, libc::SYS_mknodat, &[AT_FDCWD, c(path).as_ptr() as usize, mode as usize, device]);
}

pub fn symlink(target: &str, path: &str) {
    call(path, libc::SYS_symlinkat, &[c(target).as_ptr() as usize, AT_FDCWD, c(path).as_ptr() as usize]);
}

pub fn try_mount(
    source: &str,
    target: &str,
    kind: &str,
    flags: libc::c_ulong,
    data: &str,
) -> Result<usize, Errno> {
    let (source, target, kind, data) = (c(source), c(target), c(kind), c(data));
    try_call(
        libc::SYS_mount,
        &[
            source.as_ptr() as usize,
            target.as_ptr() as usize,
            kind.as_ptr() as usize,
            flags as usize,
            data.as_ptr() as usize,
        ],
    )
}

pub fn mount(source: &str, target: &str, kind: &str, flags: libc::c_ulong, data: &str) {
    try_mount(source, target, kind, flags, data).unwrap_or_else(|errno| {
        eprintln!("floor: mounting {target}: {}", std::io::Error::from_raw_os_error(errno));
        std::process::exit(1)
    });
}

/// `CLOCK_MONOTONIC`: seconds and nanoseconds.
pub fn monotonic(now: &mut [u64; 2]) {
    // SAFETY: a struct timespec is two numbers of 64 bits, and the pointer is to as many.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, now.as_mut_ptr().cast()) };
}
