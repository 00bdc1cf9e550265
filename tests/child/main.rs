//! Between clone3 and execve nothing allocates. The allocator of this test counts what processes other than its own ask
//! of it: a container's process is a copy of the one that makes it, with the same allocator.

#[path = "../common/skip.rs"]
mod skip;

use orun::config::defaults;
use orun::runtime::create::{self, CreateOptions};
use orun::runtime::exec::{self, ExecOptions};
use orun::runtime::{Runtime, delete, kill, start, wait};
use orun::state::model::CgroupManager;
use orun::state::store::Store;
use serde_json::{Value, json};
use std::alloc::{GlobalAlloc, Layout, System};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering};

/// The system's allocator, which counts the calls of other processes.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The process whose calls do not count; 0 until counting begins.
static OWN: AtomicI32 = AtomicI32::new(0);
/// Where they are counted, in memory that all these processes share.
static COUNT: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());

fn count() {
    let own = OWN.load(Ordering::Relaxed);
    // SAFETY: getpid(2) takes nothing and changes nothing.
    if own != 0 && unsafe { libc::getpid() } != own {
        // SAFETY: it points to the shared page, which is never unmapped, since before OWN was set.
        unsafe { &*COUNT.load(Ordering::Relaxed) }.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.realloc(block, layout, size) }
    }
}

/// Begins to count, once.
fn begin() {
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, access, flags, -1, 0) };
    assert_ne!(page, libc::MAP_FAILED);
    COUNT.store(page.cast(), Ordering::Relaxed);
    OWN.store(std::process::id() as i32, Ordering::Relaxed);
}

/// The calls of other processes since the last time.
fn counted() -> u64 {
    // SAFETY: see count().
    unsafe { &*COUNT.load(Ordering::Relaxed) }.swap(0, Ordering::Relaxed)
}

/// A process that allocates is seen: otherwise the rest proves nothing.
fn check_the_counter() {
    // SAFETY: the child only allocates and exits, and another thread that holds the allocator's lock at this moment makes
    // glibc's fork(3) wait.
    match unsafe { libc::fork() } {
        0 => {
            drop(std::hint::black_box(vec![1u8; 64]));
            // SAFETY: _exit(2) runs nothing of this process.
            unsafe { libc::_exit(0) }
        }
        child => {
            // SAFETY: no status is asked for.
            assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child);
        }
    }
    assert_eq!(counted(), 2, "an allocation and its end");
}

/// A container and its files, removed at the end whatever happens.
struct Bundle {
    dir: tempfile::TempDir,
    rt: Runtime,
    id: String,
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = delete::delete(&self.rt, &self.id, true);
    }
}

impl Bundle {
    fn new(name: &str, change: impl FnOnce(&mut Value)) -> Bundle {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("rootfs");
        for name in ["proc", "sys", "dev", "tmp", "etc", "run", "usr", "here"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        std::fs::write(root.join("etc/passwd"), "app:x:1000:1000::/here:/bin/sh\n").unwrap();
        std::fs::write(root.join("here/file"), "copied up").unwrap();
        let id = format!("child-{name}-{}", std::process::id());
        let mut config = defaults::spec();
        config["process"]["args"] = json!(["sleep", "100"]);
        config["process"]["terminal"] = json!(false);
        config["linux"]["cgroupsPath"] = json!(format!("/{id}"));
        let mounts = config["mounts"].as_array_mut().unwrap();
        for name in ["usr", "bin", "lib", "lib64"] {
            let host = Path::new("/").join(name);
            match std::fs::read_link(&host) {
                Ok(target) => symlink(target, root.join(name)).unwrap(),
                Err(_) if host.exists() => mounts.push(json!({
                    "destination": host, "source": host, "type": "bind", "options": ["rbind", "ro"],
                })),
                Err(_) => {}
            }
        }
        change(&mut config);
        std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        let rt = Runtime {
            store: Store::new(dir.path().join("state")),
            root_given: false,
            cgroup_manager: CgroupManager::Cgroupfs,
            listen_fds: 0,
            notify_socket: None,
            rootless: Some(false),
        };
        Bundle { dir, rt, id }
    }

    fn options(&self) -> CreateOptions {
        CreateOptions { bundle: self.dir.path().to_owned(), detached: true, ..CreateOptions::default() }
    }
}

/// Everything that a configuration can ask of the process of a container without a terminal.
fn all_properties(config: &mut Value) {
    let hook = json!([{"path": "/bin/true", "args": ["true"], "timeout": 60}]);
    config["hooks"] = json!({"createContainer": hook, "startContainer": hook});
    config["domainname"] = json!("example.org");
    let process = config["process"].as_object_mut().unwrap();
    process["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 6], "umask": 0o22});
    process.insert("cwd".into(), json!("/here"));
    process.insert("env".into(), json!(["PATH=/usr/bin:/bin"]));
    process.insert("ioPriority".into(), json!({"class": "IOPRIO_CLASS_BE", "priority": 4}));
    process.insert("scheduler".into(), json!({"policy": "SCHED_BATCH", "nice": 1}));
    let tmpfs = json!({"destination": "/here", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "size=64k"]});
    config["mounts"].as_array_mut().unwrap().push(tmpfs);
    let linux = config["linux"].as_object_mut().unwrap();
    linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
    linux.insert("timeOffsets".into(), json!({"monotonic": {"secs": 5}}));
    linux.insert("sysctl".into(), json!({"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"}));
    linux.insert(
        "devices".into(),
        json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "uid": 7}]),
    );
    linux.insert(
        "maskedPaths".into(),
        json!(["/proc/kcore", "/sys/firmware", "/proc/timer_list", "/proc/missing"]),
    );
    linux.insert("readonlyPaths".into(), json!(["/proc/sys", "/proc/bus", "/proc/missing"]));
    linux.insert("memoryPolicy".into(), json!({"mode": "MPOL_DEFAULT"}));
    linux.insert("personality".into(), json!({"domain": "LINUX"}));
    linux.insert(
        "seccomp".into(),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["swapoff"], "action": "SCMP_ACT_ERRNO"}]}),
    );
}

fn bad_option() -> Value {
    json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["size=none"]})
}

/// A whole life, then one that fails in the child and one whose program is missing.
#[test]
fn nothing_allocates_between_clone3_and_execve() {
    if !skip::is_root() {
        return;
    }
    begin();
    check_the_counter();
    for (name, change) in [("plain", (|_| {}) as fn(&mut Value)), ("all", all_properties)] {
        let bundle = Bundle::new(name, change);
        create::create(&bundle.rt, &bundle.id, &bundle.options()).unwrap();
        assert_eq!(counted(), 0, "{name}: create");
        start::start(&bundle.rt, &bundle.id).unwrap();
        assert_eq!(counted(), 0, "{name}: start");
        let more = ExecOptions { args: vec!["true".into()], ..ExecOptions::default() };
        assert_eq!(exec::exec(&bundle.rt, &bundle.id, &more).unwrap(), 0);
        assert_eq!(counted(), 0, "{name}: exec");
        kill::kill(&bundle.rt, &bundle.id, libc::SIGKILL, false).unwrap();
        wait::wait(&bundle.rt, &bundle.id).unwrap();
    }
    for (name, change, what) in [
        (
            "missing",
            (|c| c["process"]["args"] = json!(["missing"])) as fn(&mut Value),
            "executable file not found",
        ),
        ("option", |c| c["mounts"].as_array_mut().unwrap().push(bad_option()), "size"),
    ] {
        let bundle = Bundle::new(name, change);
        let error = create::create(&bundle.rt, &bundle.id, &bundle.options()).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
        assert_eq!(counted(), 0, "{name}");
    }
}
