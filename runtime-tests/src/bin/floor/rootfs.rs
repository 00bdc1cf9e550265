//! The container's file systems, host name and loopback device. Runs in the child, in its new namespaces.

use libc::{MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_PRIVATE, MS_RDONLY, MS_REC, MS_REMOUNT};
use libc::{MS_SLAVE, MS_STRICTATIME};

use super::sys::{call, mkdir, mknod, mount, open, ptr, symlink, try_mount};
use super::{Options, cgroup};

const HARD: libc::c_ulong = MS_NOSUID | MS_NOEXEC | MS_NODEV;

/// What `runc spec` and Docker mask in /proc and /sys; those that the kernel lacks cost a failed call.
const MASKED: [&str; 10] = [
    "proc/acpi",
    "proc/asound",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/timer_list",
    "proc/timer_stats",
    "proc/sched_debug",
    "proc/scsi",
    "sys/firmware",
];
const READONLY: [&str; 5] = ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];

/// Makes `rootfs` the root file system.
pub fn build(options: &Options, rootfs: &str) {
    if options.network.is_none() {
        loopback_up();
    }
    let name = c"floor".to_bytes();
    call("sethostname", libc::SYS_sethostname, &[name.as_ptr() as usize, name.len()]);
    mount("", "/", "", MS_SLAVE | MS_REC, "");
    mount(rootfs, rootfs, "", MS_BIND | MS_REC, "");
    call("chdir", libc::SYS_chdir, &[super::sys::c(rootfs).as_ptr() as usize]);
    mount("proc", "proc", "proc", HARD, "");
    mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
    for dir in ["dev/pts", "dev/shm", "dev/mqueue"] {
        mkdir(dir);
    }
    mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5");
    mount("shm", "dev/shm", "tmpfs", HARD, "mode=1777,size=65536k");
    mount("mqueue", "dev/mqueue", "mqueue", HARD, "");
    mount("sysfs", "sys", "sysfs", HARD | MS_RDONLY, "");
    cgroups(options);
    devices();
    if let Some(dir) = &options.docker {
        for file in ["resolv.conf", "hostname", "hosts"] {
            let target = format!("etc/{file}");
            mount(&format!("{dir}/{file}"), &target, "", MS_BIND | MS_REC, "");
            mount("", &target, "", MS_PRIVATE | MS_REC, "");
        }
    }
    pivot();
    if options.docker.is_none() {
        mount("", "/", "", MS_REMOUNT | MS_BIND | MS_RDONLY, "");
    }
    protect();
}

/// Brings `lo` up (netdevice(7)).
fn loopback_up() {
    let socket = call("socket", libc::SYS_socket, &[libc::AF_INET as usize, libc::SOCK_DGRAM as usize, 0]);
    // struct ifreq: 16 bytes of name, then the flags.
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    call("SIOCGIFFLAGS", libc::SYS_ioctl, &[socket, libc::SIOCGIFFLAGS as usize, ptr(&mut request)]);
    request[16] |= libc::IFF_UP as u8;
    call("SIOCSIFFLAGS", libc::SYS_ioctl, &[socket, libc::SIOCSIFFLAGS as usize, ptr(&mut request)]);
    super::sys::close(socket);
}

fn devices() {
    call("umask", libc::SYS_umask, &[0]);
    for (path, major, minor) in [
        ("dev/null", 1, 3),
        ("dev/zero", 1, 5),
        ("dev/full", 1, 7),
        ("dev/random", 1, 8),
        ("dev/urandom", 1, 9),
        ("dev/tty", 5, 0),
    ] {
        mknod(path, libc::S_IFCHR | 0o666, major, minor);
    }
    call("umask", libc::SYS_umask, &[0o022]);
    for (target, path) in [
        ("/proc/self/fd", "dev/fd"),
        ("/proc/self/fd/0", "dev/stdin"),
        ("/proc/self/fd/1", "dev/stdout"),
        ("/proc/self/fd/2", "dev/stderr"),
        ("pts/ptmx", "dev/ptmx"),
    ] {
        symlink(target, path);
    }
}

/// pivot_root(".", "."): the old root lies on top of the new one and is taken away (pivot_root(2), NOTES).
fn pivot() {
    let old = open("/", libc::O_RDONLY | libc::O_DIRECTORY);
    let here = c".".as_ptr() as usize;
    call("pivot_root", libc::SYS_pivot_root, &[here, here]);
    call("fchdir", libc::SYS_fchdir, &[old]);
    mount("", ".", "", MS_SLAVE | MS_REC, "");
    call("umount2", libc::SYS_umount2, &[here, libc::MNT_DETACH as usize]);
    call("chdir", libc::SYS_chdir, &[c"/".as_ptr() as usize]);
    super::sys::close(old);
}

/// Binds the container's own cgroups at /sys/fs/cgroup, read-only: the directory on cgroup2, a tmpfs with a directory for
/// each hierarchy on v1. A file system of type cgroup shows the same and costs a superblock each.
fn cgroups(options: &Options) {
    let target = "sys/fs/cgroup";
    if options.hierarchies.is_empty() {
        mount(&cgroup::directory("", options), target, "", MS_BIND, "");
    } else {
        mount("tmpfs", target, "tmpfs", HARD, "mode=755");
        for hierarchy in &options.hierarchies {
            let view = format!("{target}/{hierarchy}");
            mkdir(&view);
            mount(&cgroup::directory(hierarchy, options), &view, "", MS_BIND, "");
        }
    }
    read_only_tree(target);
}

/// mount_setattr(2) of a mount and all below it.
fn read_only_tree(path: &str) {
    let set =
        libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    let mut attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let (path, size) = (super::sys::c(path), std::mem::size_of_val(&attributes));
    let arguments = [
        libc::AT_FDCWD as usize,
        path.as_ptr() as usize,
        libc::AT_RECURSIVE as usize,
        ptr(&mut attributes),
        size,
    ];
    call("mount_setattr", libc::SYS_mount_setattr, &arguments);
}

/// Masked and read-only paths: last, since they lie in /proc and /sys.
fn protect() {
    for path in MASKED {
        // A directory cannot take a file's mount: ENOTDIR says that it is one.
        if try_mount("/dev/null", path, "", MS_BIND, "") == Err(libc::ENOTDIR) {
            mount("tmpfs", path, "tmpfs", MS_RDONLY, "");
        }
    }
    for path in READONLY {
        if try_mount(path, path, "", MS_BIND | MS_REC, "").is_ok() {
            mount("", path, "", MS_REMOUNT | MS_BIND | HARD | MS_RDONLY, "");
        }
    }
}
