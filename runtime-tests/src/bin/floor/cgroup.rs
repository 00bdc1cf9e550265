//! The container's cgroup: made, limited, joined and removed.

use super::Options;
use super::sys::{self, call, ptr, rmdir, write_each};

const BASE: &str = "/sys/fs/cgroup";

/// The device rules of config-linux.md, "Default Devices", after a rule that denies all: what may be made, then what may
/// be used.
const DEVICES: [&[u8]; 10] = [
    b"c *:* m",
    b"b *:* m",
    b"c 1:3 rwm",
    b"c 1:5 rwm",
    b"c 1:7 rwm",
    b"c 1:8 rwm",
    b"c 1:9 rwm",
    b"c 5:0 rwm",
    b"c 5:2 rwm",
    b"c 136:* rwm",
];

/// Limits of the Docker-like bundle: hierarchy, file and value on cgroup v1.
const LIMITS_V1: [(&str, &str, &[u8]); 5] = [
    ("memory", "memory.limit_in_bytes", b"268435456"),
    ("pids", "pids.max", b"100"),
    ("cpu", "cpu.shares", b"512"),
    ("cpu", "cpu.cfs_period_us", b"100000"),
    ("cpu", "cpu.cfs_quota_us", b"200000"),
];

/// The same on cgroup2: file and value. A file that is not there belongs to a controller that is not there.
const LIMITS_V2: [(&str, &[u8]); 4] = [
    ("memory.max", b"268435456"),
    ("pids.max", b"100"),
    ("cpu.weight", b"59"),
    ("cpu.max", b"200000 100000"),
];

/// Makes the cgroup and sets its limits. On cgroup2 returns the open directory.
pub fn create(options: &Options) -> Option<usize> {
    if options.hierarchies.is_empty() {
        return Some(create_v2(options));
    }
    for hierarchy in &options.hierarchies {
        let dir = directory(hierarchy, options);
        sys::mkdir(&dir);
        match hierarchy.as_str() {
            // A new cpuset has no cpus and no memory nodes, and takes no process until it has.
            "cpuset" => {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let value = sys::read_file(&format!("{BASE}/cpuset/{file}"));
                    write_each(&format!("{dir}/{file}"), &[&value]);
                }
            }
            "devices" => {
                write_each(&format!("{dir}/devices.deny"), &[b"a"]);
                write_each(&format!("{dir}/devices.allow"), &DEVICES);
            }
            _ => {}
        }
        if options.docker.is_some() {
            // A directory may carry several controllers: "cpu,cpuacct".
            let carried = |name: &str| hierarchy.split(',').any(|controller| controller == name);
            for (_, file, value) in LIMITS_V1.iter().filter(|(name, ..)| carried(name)) {
                write_each(&format!("{dir}/{file}"), &[value]);
            }
        }
    }
    None
}

fn create_v2(options: &Options) -> usize {
    let dir = directory("", options);
    sys::mkdir(&dir);
    if options.docker.is_some() {
        for (file, value) in LIMITS_V2 {
            if let Ok(fd) = sys::try_open(&format!("{dir}/{file}"), libc::O_WRONLY) {
                call(file, libc::SYS_write, &[fd, value.as_ptr() as usize, value.len()]);
                sys::close(fd);
            }
        }
    }
    let fd = sys::open(&dir, libc::O_RDONLY | libc::O_DIRECTORY);
    filter_devices(fd);
    fd
}

/// The container's directory in a hierarchy; of cgroup2 where that has no name.
pub fn directory(hierarchy: &str, options: &Options) -> String {
    format!("{BASE}/{hierarchy}/{}", options.cgroup)
}

/// The cgroup of a container that runs, as `clone` takes it.
pub fn open(options: &Options) -> Option<usize> {
    if !options.hierarchies.is_empty() {
        return None;
    }
    Some(sys::open(&directory("", options), libc::O_RDONLY | libc::O_DIRECTORY))
}

/// Moves a process into the cgroup of every v1 hierarchy; 0 is the caller.
pub fn attach(options: &Options, pid: usize) {
    let pid = pid.to_string();
    for hierarchy in &options.hierarchies {
        let path = format!("{}/cgroup.procs", directory(hierarchy, options));
        write_each(&path, &[pid.as_bytes()]);
    }
}

/// The cgroup is empty; what is left of its last process may keep it busy for a moment.
pub fn remove(options: &Options) {
    let v2 = [String::new()];
    let hierarchies = if options.hierarchies.is_empty() { &v2[..] } else { &options.hierarchies };
    for hierarchy in hierarchies {
        let dir = directory(hierarchy, options);
        while rmdir(&dir) == Err(libc::EBUSY) {
            std::thread::yield_now();
        }
    }
}

/// One instruction of eBPF (linux/bpf.h, struct bpf_insn): operation, registers, offset, immediate.
fn instruction(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> u64 {
    u64::from(code)
        | u64::from(dst | src << 4) << 8
        | u64::from(offset as u16) << 16
        | u64::from(immediate as u32) << 32
}

/// Loads and attaches a BPF_PROG_TYPE_CGROUP_DEVICE program with the rules of `DEVICES`.
fn filter_devices(cgroup: usize) {
    const LOAD_WORD: u8 = 0x61;
    const AND: u8 = 0x57;
    const SHIFT_RIGHT: u8 = 0x77;
    const MOVE: u8 = 0xb7;
    const UNLESS_EQUAL: u8 = 0x55;
    const EXIT: u8 = 0x95;
    const CHARACTER: i32 = 2;
    // struct bpf_cgroup_dev_ctx: access << 16 | type, major, minor.
    let mut program = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(AND, 2, 0, 0, 0xffff),
        instruction(LOAD_WORD, 3, 1, 0, 0),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
        // Any device may be made (access is BPF_DEVCG_ACC_MKNOD alone).
        instruction(UNLESS_EQUAL, 3, 0, 2, 1),
        instruction(MOVE, 0, 0, 0, 1),
        instruction(EXIT, 0, 0, 0, 0),
    ];
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, -1)] {
        let allow = [instruction(MOVE, 0, 0, 0, 1), instruction(EXIT, 0, 0, 0, 0)];
        let minors = i16::from(minor >= 0);
        program.push(instruction(UNLESS_EQUAL, 2, 0, 3 + minors, CHARACTER));
        program.push(instruction(UNLESS_EQUAL, 4, 0, 2 + minors, major));
        if minor >= 0 {
            program.push(instruction(UNLESS_EQUAL, 5, 0, 2, minor));
        }
        program.extend(allow);
    }
    program.extend([instruction(MOVE, 0, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]);

    const PROG_LOAD: usize = 5;
    const PROG_ATTACH: usize = 8;
    const TYPE_CGROUP_DEVICE: u64 = 15;
    const ATTACH_CGROUP_DEVICE: u64 = 6;
    const ALLOW_MULTI: u64 = 2;
    // union bpf_attr: type and count, instructions, licence.
    let mut load = [0u64; 6];
    load[0] = TYPE_CGROUP_DEVICE | (program.len() as u64) << 32;
    load[1] = program.as_ptr() as u64;
    load[2] = c"Apache-2.0".as_ptr() as u64;
    let fd = call("bpf", libc::SYS_bpf, &[PROG_LOAD, ptr(&mut load), 48]);
    // target_fd and attach_bpf_fd, attach_type and attach_flags.
    let mut attach = [cgroup as u64 | (fd as u64) << 32, ATTACH_CGROUP_DEVICE | ALLOW_MULTI << 32];
    call("bpf", libc::SYS_bpf, &[PROG_ATTACH, ptr(&mut attach), 16]);
    sys::close(fd);
}
