//! Resource usage of a container, in the format of the `data` of runc's `events --stats`.

use super::dir::{Dir, number, pairs};
use super::{Cgroup, v1};
use crate::error::{Errno, Result};
use crate::kernel::rdt;
use crate::plan::cgroup::Version;
use serde::Serialize;
use std::collections::BTreeMap;

fn zero(n: &u64) -> bool {
    *n == 0
}

/// The figures of one moment. Times are nanoseconds, sizes bytes; `u64::MAX` is "no limit".
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Stats {
    /// CPU time.
    pub cpu: Cpu,
    /// CPUs and memory nodes that may be used.
    pub cpuset: Cpuset,
    /// Memory and swap.
    pub memory: Memory,
    /// Tasks.
    pub pids: Pids,
    /// Block devices.
    pub blkio: Blkio,
    /// Page size to figures.
    pub hugetlb: BTreeMap<String, Hugetlb>,
    /// The figures of resctrl, for a container that has a class.
    pub intel_rdt: rdt::stats::Stats,
    /// Empty, or absent with version 2: runc's place for interfaces.
    pub network_interfaces: Option<Vec<Empty>>,
}

/// An object without members.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Empty {}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cpu {
    pub usage: CpuUsage,
    pub throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CpuUsage {
    #[serde(skip_serializing_if = "zero")]
    pub total: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    pub kernel: u64,
    pub user: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    #[serde(skip_serializing_if = "zero")]
    pub periods: u64,
    #[serde(skip_serializing_if = "zero")]
    pub throttled_periods: u64,
    #[serde(skip_serializing_if = "zero")]
    pub throttled_time: u64,
}

/// Pressure stall information (Documentation/accounting/psi.rst).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Psi {
    pub some: PsiLine,
    pub full: PsiLine,
}

/// Percent of the last 10, 60 and 300 seconds, and microseconds in all.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PsiLine {
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    pub total: u64,
}

/// The settings of a version 1 cpuset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Cpuset {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Memory {
    #[serde(skip_serializing_if = "zero")]
    pub cache: u64,
    pub usage: MemoryEntry,
    /// Memory plus swap.
    pub swap: MemoryEntry,
    pub kernel: MemoryEntry,
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    /// memory.stat
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MemoryEntry {
    pub limit: u64,
    #[serde(skip_serializing_if = "zero")]
    pub usage: u64,
    #[serde(skip_serializing_if = "zero")]
    pub max: u64,
    pub failcnt: u64,
}

/// Tasks; a limit of 0 means unlimited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pids {
    #[serde(skip_serializing_if = "zero")]
    pub current: u64,
    #[serde(skip_serializing_if = "zero")]
    pub limit: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Blkio {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BlkioEntry {
    #[serde(skip_serializing_if = "zero")]
    pub major: u64,
    #[serde(skip_serializing_if = "zero")]
    pub minor: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    #[serde(skip_serializing_if = "zero")]
    pub value: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Hugetlb {
    #[serde(skip_serializing_if = "zero")]
    pub usage: u64,
    #[serde(skip_serializing_if = "zero")]
    pub max: u64,
    pub failcnt: u64,
}

impl Cgroup {
    /// Reads the figures. A controller that is not there, or whose files go away meanwhile, has none.
    ///
    /// # Errors
    /// An existing file cannot be read.
    pub fn stats(&self) -> Result<Stats> {
        let mut s = Stats::default();
        for d in &self.dirs {
            let r = match d.version {
                Version::V1 => v1_stats(d, &mut s),
                Version::V2 if self.is_pure_v2() => v2_stats(d, &mut s),
                // On a hybrid host these files belong to hugetlb.
                Version::V2 => hugetlb(d, &mut s, "current", "events"),
            };
            r.map_err(|e| crate::error::Error::sys(format!("reading the statistics of {:?}", d.path), e))?;
        }
        Ok(s)
    }
}

/// The figures to read for many containers at once, often: a handful of files instead of the dozens of [`Stats`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time, nanoseconds.
    pub cpu: u64,
    /// Bytes, without the page cache that could be dropped at once.
    pub memory: u64,
    /// Bytes; `None`: unlimited.
    pub memory_limit: Option<u64>,
    /// With the page cache; of it, anonymous memory, and the page cache.
    pub memory_all: u64,
    /// Anonymous memory, bytes.
    pub rss: u64,
    /// Page cache, bytes.
    pub cache: u64,
    /// Processes killed because of the limit.
    pub oom_kills: u64,
    /// Time without CPU because of the quota, nanoseconds.
    pub throttled: u64,
    /// Number of tasks.
    pub pids: u64,
    /// The most tasks; `None`: unlimited.
    pub pids_limit: Option<u64>,
}

impl Cgroup {
    /// Reads the figures of [`Usage`]; those of a controller that is not there, or whose files go away meanwhile, are 0.
    ///
    /// # Errors
    /// An existing file cannot be read.
    pub fn usage(&self) -> Result<Usage> {
        let mut u = Usage::default();
        for d in &self.dirs {
            let r = match d.version {
                Version::V1 => usage_v1(d, &mut u),
                Version::V2 if self.is_pure_v2() => usage_v2(d, &mut u),
                Version::V2 => Ok(()),
            };
            r.map_err(|e| crate::error::Error::sys(format!("reading the statistics of {:?}", d.path), e))?;
        }
        Ok(u)
    }
}

fn usage_v1(d: &Dir, u: &mut Usage) -> Result<(), Errno> {
    if d.has("cpuacct") {
        u.cpu = get(d, "cpuacct.usage")?;
    }
    if d.has("cpu") {
        u.throttled = there(d.keyed("cpu.stat", "throttled_time"))?.flatten().unwrap_or(0);
    }
    if d.has("memory") {
        let files = ["memory.usage_in_bytes", "memory.limit_in_bytes", "memory.oom_control"];
        memory_usage(d, u, files, ["total_inactive_file", "total_rss", "total_cache"])?;
    }
    if d.has("pids") { pids_usage(d, u) } else { Ok(()) }
}

fn usage_v2(d: &Dir, u: &mut Usage) -> Result<(), Errno> {
    for (key, n) in pairs(&there(d.read("cpu.stat"))?.unwrap_or_default()) {
        match key {
            "usage_usec" => u.cpu = n * 1000,
            "throttled_usec" => u.throttled = n * 1000,
            _ => {}
        }
    }
    let files = ["memory.current", "memory.max", "memory.events"];
    memory_usage(d, u, files, ["inactive_file", "anon", "file"])?;
    pids_usage(d, u)
}

fn memory_usage(
    d: &Dir,
    u: &mut Usage,
    [current, limit, events]: [&str; 3],
    [inactive, anonymous, cache]: [&str; 3],
) -> Result<(), Errno> {
    let Some(all) = there(d.number(current))? else { return Ok(()) };
    let mut droppable = 0;
    for (key, n) in pairs(&there(d.read("memory.stat"))?.unwrap_or_default()) {
        match key {
            _ if key == inactive => droppable = n,
            _ if key == anonymous => u.rss = n,
            _ if key == cache => u.cache = n,
            _ => {}
        }
    }
    u.memory_all = all;
    u.memory = all.saturating_sub(droppable);
    u.oom_kills = there(d.keyed(events, "oom_kill"))?.flatten().unwrap_or(0);
    // The kernel's value for no limit: the largest number of pages, or of 64 bits.
    u.memory_limit = Some(get(d, limit)?).filter(|n| *n != 0 && *n < i64::MAX as u64 / 4096 * 4096);
    Ok(())
}

fn pids_usage(d: &Dir, u: &mut Usage) -> Result<(), Errno> {
    let mut p = Pids::default();
    pids(d, &mut p)?;
    u.pids = p.current;
    u.pids_limit = Some(p.limit).filter(|n| *n != 0);
    Ok(())
}

/// `None` for a file that is not there, or not any more, or that this kernel has switched off.
fn there<T>(r: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match r {
        Err(Errno(libc::ENOENT | libc::ENODEV | libc::EOPNOTSUPP)) => Ok(None),
        r => r.map(Some),
    }
}

fn get(d: &Dir, file: &str) -> Result<u64, Errno> {
    there(d.number(file)).map(Option::unwrap_or_default)
}

fn v1_stats(d: &Dir, s: &mut Stats) -> Result<(), Errno> {
    for c in &d.controllers {
        match c.as_str() {
            "cpu" => {
                for (key, n) in pairs(&there(d.read("cpu.stat"))?.unwrap_or_default()) {
                    match key {
                        "nr_periods" => s.cpu.throttling.periods = n,
                        "nr_throttled" => s.cpu.throttling.throttled_periods = n,
                        "throttled_time" => s.cpu.throttling.throttled_time = n,
                        _ => {}
                    }
                }
            }
            "cpuacct" => cpuacct(d, &mut s.cpu.usage)?,
            "cpuset" => cpuset(d, &mut s.cpuset)?,
            "memory" => memory_v1(d, &mut s.memory)?,
            "pids" => pids(d, &mut s.pids)?,
            "blkio" => blkio_v1(d, &mut s.blkio)?,
            "hugetlb" => hugetlb(d, s, "usage_in_bytes", "failcnt")?,
            _ => {}
        }
    }
    Ok(())
}

fn cpuacct(d: &Dir, u: &mut CpuUsage) -> Result<(), Errno> {
    u.total = get(d, "cpuacct.usage")?;
    // Ticks of USER_HZ, which is 100 on every architecture that matters to user space (time(7)).
    const TICK: u64 = 10_000_000;
    for (key, n) in pairs(&there(d.read("cpuacct.stat"))?.unwrap_or_default()) {
        match key {
            "user" => u.user = n * TICK,
            "system" => u.kernel = n * TICK,
            _ => {}
        }
    }
    let percpu = there(d.read("cpuacct.usage_percpu"))?.unwrap_or_default();
    u.percpu = percpu.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    // Lines `CPU USER SYSTEM` after a head line.
    let all = there(d.read("cpuacct.usage_all"))?.unwrap_or_default();
    for line in all.lines().skip(1) {
        let n: Vec<u64> = line.split(' ').filter_map(|n| n.parse().ok()).collect();
        if let [_, user, kernel, ..] = n[..] {
            u.percpu_user.push(user);
            u.percpu_kernel.push(kernel);
        }
    }
    Ok(())
}

fn cpuset(d: &Dir, c: &mut Cpuset) -> Result<(), Errno> {
    let list =
        |file| -> Result<_, Errno> { Ok(there(d.read(file))?.map_or_else(Vec::new, |t| v1::list(&t))) };
    c.cpus = list("cpuset.cpus")?;
    c.mems = list("cpuset.mems")?;
    let flags: [(&str, &mut u64); 8] = [
        ("cpu_exclusive", &mut c.cpu_exclusive),
        ("mem_hardwall", &mut c.mem_hardwall),
        ("mem_exclusive", &mut c.mem_exclusive),
        ("memory_migrate", &mut c.memory_migrate),
        ("memory_spread_page", &mut c.memory_spread_page),
        ("memory_spread_slab", &mut c.memory_spread_slab),
        ("memory_pressure", &mut c.memory_pressure),
        ("sched_load_balance", &mut c.sched_load_balance),
    ];
    for (name, to) in flags {
        *to = get(d, &format!("cpuset.{name}"))?;
    }
    let level = there(d.value("cpuset.sched_relax_domain_level"))?;
    c.sched_relax_domain_level = level.and_then(|t| t.parse().ok()).unwrap_or(0);
    Ok(())
}

fn memory_v1(d: &Dir, m: &mut Memory) -> Result<(), Errno> {
    let raw = there(d.read("memory.stat"))?.unwrap_or_default();
    m.raw = pairs(&raw).map(|(k, v)| (k.to_owned(), v)).collect();
    m.cache = m.raw.get("cache").copied().unwrap_or(0);
    let parts = [
        ("", &mut m.usage),
        ("memsw.", &mut m.swap),
        ("kmem.", &mut m.kernel),
        ("kmem.tcp.", &mut m.kernel_tcp),
    ];
    for (name, to) in parts {
        // Swap and kernel memory are options of the kernel.
        let Some(usage) = there(d.number(&format!("memory.{name}usage_in_bytes")))? else { continue };
        to.usage = usage;
        to.max = get(d, &format!("memory.{name}max_usage_in_bytes"))?;
        to.failcnt = get(d, &format!("memory.{name}failcnt"))?;
        to.limit = get(d, &format!("memory.{name}limit_in_bytes"))?;
    }
    Ok(())
}

fn pids(d: &Dir, p: &mut Pids) -> Result<(), Errno> {
    if let Some(n) = there(d.number("pids.current"))? {
        p.current = n;
        p.limit = there(d.number("pids.max"))?.filter(|n| *n != u64::MAX).unwrap_or(0);
    } else if d.version == Version::V2 {
        p.current = there(d.pids())?.map_or(0, |list| list.len() as u64);
    }
    Ok(())
}

fn blkio_v1(d: &Dir, b: &mut Blkio) -> Result<(), Errno> {
    // Every scheduler has its own names; throttling, which is always there, has the last ones.
    for prefix in ["blkio.bfq", "blkio", "blkio.throttle"] {
        let read = |what: &str| -> Result<_, Errno> {
            let text = there(d.read(&format!("{prefix}.{what}_recursive")))?.unwrap_or_default();
            Ok(blkio_entries(&text))
        };
        b.io_serviced_recursive = read("io_serviced")?;
        b.io_service_bytes_recursive = read("io_service_bytes")?;
        if !b.io_serviced_recursive.is_empty() {
            break;
        }
    }
    Ok(())
}

/// Lines `MAJOR:MINOR OP VALUE`; the last one is a sum over all devices.
fn blkio_entries(text: &str) -> Vec<BlkioEntry> {
    let entry = |line: &str| {
        let f: Vec<&str> = line.split([' ', ':']).collect();
        let &[major, minor, op, value] = f.as_slice() else { return None };
        let (major, minor, value) = (major.parse().ok()?, minor.parse().ok()?, value.parse().ok()?);
        Some(BlkioEntry { major, minor, op: op.to_owned(), value })
    };
    text.lines().filter_map(entry).collect()
}

/// hugetlb of both versions: the files of each page size that the kernel has, of reservations if it counts them.
fn hugetlb(d: &Dir, s: &mut Stats, usage: &str, failures: &str) -> Result<(), Errno> {
    let Ok(sizes) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return Ok(()) };
    for entry in sizes {
        let name = entry?.file_name().into_string().unwrap_or_default();
        let kb =
            name.strip_prefix("hugepages-").and_then(|n| n.strip_suffix("kB")).and_then(|n| n.parse().ok());
        let Some(size) = kb.map(v1::page_size) else { continue };
        for part in [format!("hugetlb.{size}.rsvd"), format!("hugetlb.{size}")] {
            let Some(n) = there(d.number(&format!("{part}.{usage}")))? else { continue };
            let mut h = Hugetlb { usage: n, ..Hugetlb::default() };
            if d.version == Version::V1 {
                h.max = get(d, &format!("{part}.max_usage_in_bytes"))?;
                h.failcnt = get(d, &format!("{part}.{failures}"))?;
            } else {
                let events = there(d.keyed(&format!("hugetlb.{size}.{failures}"), "max"))?;
                h.failcnt = events.flatten().unwrap_or(0);
            }
            s.hugetlb.insert(size, h);
            break;
        }
    }
    Ok(())
}

fn v2_stats(d: &Dir, s: &mut Stats) -> Result<(), Errno> {
    pids(d, &mut s.pids)?;
    memory_v2(d, &mut s.memory)?;
    s.memory.psi = psi(d, "memory.pressure")?;
    io(d, &mut s.blkio)?;
    s.blkio.psi = psi(d, "io.pressure")?;
    for (key, n) in pairs(&there(d.read("cpu.stat"))?.unwrap_or_default()) {
        let (usage, throttling) = (&mut s.cpu.usage, &mut s.cpu.throttling);
        match key {
            "usage_usec" => usage.total = n * 1000,
            "user_usec" => usage.user = n * 1000,
            "system_usec" => usage.kernel = n * 1000,
            "nr_periods" => throttling.periods = n,
            "nr_throttled" => throttling.throttled_periods = n,
            "throttled_usec" => throttling.throttled_time = n * 1000,
            _ => {}
        }
    }
    s.cpu.psi = psi(d, "cpu.pressure")?;
    hugetlb(d, s, "current", "events")
}

fn memory_v2(d: &Dir, m: &mut Memory) -> Result<(), Errno> {
    let raw = there(d.read("memory.stat"))?.unwrap_or_default();
    m.raw = pairs(&raw).map(|(k, v)| (k.to_owned(), v)).collect();
    m.cache = m.raw.get("file").copied().unwrap_or(0);
    let Some(usage) = there(d.number("memory.current"))? else { return Ok(()) };
    m.usage = MemoryEntry { usage, limit: get(d, "memory.max")?, max: get(d, "memory.peak")?, failcnt: 0 };
    if let Some(swap) = there(d.number("memory.swap.current"))? {
        // Readers expect version 1's sum of memory and swap.
        let limit = get(d, "memory.swap.max")?.saturating_add(m.usage.limit);
        m.swap = MemoryEntry { usage: swap + usage, limit, max: 0, failcnt: 0 };
    }
    Ok(())
}

/// Lines `MAJOR:MINOR KEY=VALUE...` of io.stat.
fn io(d: &Dir, b: &mut Blkio) -> Result<(), Errno> {
    for line in there(d.read("io.stat"))?.unwrap_or_default().lines() {
        let mut fields = line.split(' ');
        let device = fields.next().and_then(|f| f.split_once(':'));
        let Some((Ok(major), Ok(minor))) = device.map(|(a, i)| (a.parse(), i.parse())) else { continue };
        for (key, value) in fields.filter_map(|f| f.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut b.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut b.io_service_bytes_recursive, "Write"),
                "rios" => (&mut b.io_serviced_recursive, "Read"),
                "wios" => (&mut b.io_serviced_recursive, "Write"),
                _ => continue,
            };
            let value = number(value).unwrap_or(0);
            list.push(BlkioEntry { major, minor, op: op.to_owned(), value });
        }
    }
    Ok(())
}

fn psi(d: &Dir, file: &str) -> Result<Option<Psi>, Errno> {
    let Some(text) = there(d.read(file))? else { return Ok(None) };
    let mut psi = Psi::default();
    for line in text.lines() {
        let mut fields = line.split(' ');
        let to = match fields.next() {
            Some("some") => &mut psi.some,
            Some("full") => &mut psi.full,
            _ => continue,
        };
        for (key, value) in fields.filter_map(|f| f.split_once('=')) {
            match key {
                "avg10" => to.avg10 = value.parse().unwrap_or(0.0),
                "avg60" => to.avg60 = value.parse().unwrap_or(0.0),
                "avg300" => to.avg300 = value.parse().unwrap_or(0.0),
                "total" => to.total = value.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
    Ok(Some(psi))
}
