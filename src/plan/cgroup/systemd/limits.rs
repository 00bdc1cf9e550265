//! The limits of a cgroup as properties of its unit.

use super::super::{Version, Write};
use super::{Property, Value, set};
use crate::plan::cpu_list;

/// No limit (`infinity`).
const INFINITY: u64 = u64::MAX;
/// The period that the kernel has by default, microseconds.
const PERIOD: u64 = 100_000;
/// systemd counts a quota in hundredths of a CPU: microseconds in a second.
const STEP: u64 = 10_000;
/// systemd that knows `idle` as a weight of CPUs, which is 0 on the bus.
const CPU_IDLE: u32 = 252;
/// systemd that knows `MemoryZSwapMax`.
const ZSWAP: u32 = 253;

/// The properties of systemd `systemd` for the writes of a hierarchy. What it has no property for is left out.
pub(super) fn properties(version: Version, writes: &[Write], systemd: u32) -> Vec<Property> {
    let mut out: Vec<Property> = Vec::new();
    for w in writes {
        match version {
            Version::V2 => v2(w, systemd, &mut out),
            Version::V1 => simple_v1(w, &mut out),
        }
    }
    if version == Version::V1 {
        quota_v1(writes, &mut out);
    }
    out
}

/// `max` and negative numbers mean unlimited.
fn amount(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(INFINITY),
        t if t.starts_with('-') => t.parse::<i64>().ok().map(|_| INFINITY),
        t => t.parse().ok(),
    }
}

fn v2(w: &Write, systemd: u32, out: &mut Vec<Property>) {
    let because = w.property.as_ref();
    // With BFQ, systemd finds its file by itself.
    let (file, text) = match &w.instead {
        Some((file, text)) => (file.as_ref(), text.as_str()),
        None => (w.file.as_ref(), w.value.as_str()),
    };
    let text = text.trim();
    let number = match file {
        "memory.max" => "MemoryMax",
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.min" => "MemoryMin",
        "memory.swap.max" => "MemorySwapMax",
        "memory.zswap.max" if systemd >= ZSWAP => "MemoryZSwapMax",
        "cpu.weight" => "CPUWeight",
        "pids.max" => "TasksMax",
        "cpu.idle" => return idle(text, because, systemd, out),
        "cpu.max" => return quota_v2(text, because, out),
        "cpuset.cpus" => return mask("AllowedCPUs", text, because, out),
        "cpuset.mems" => return mask("AllowedMemoryNodes", text, because, out),
        "io.weight" => return io_weight(text, because, out),
        "io.max" => return io_max(text, because, out),
        _ => return,
    };
    if let Some(n) = amount(text) {
        // systemd does not accept 0; one task exists already, so 1 forbids as much.
        let n = if number == "TasksMax" { n.max(1) } else { n };
        set(out, Property::new(number, Value::U64(n), because));
    }
}

fn idle(text: &str, because: &str, systemd: u32, out: &mut Vec<Property>) {
    let weight = match text {
        "1" if systemd >= CPU_IDLE => 0,
        "0" => 100,
        _ => return,
    };
    set(out, Property::new("CPUWeight", Value::U64(weight), because));
}

fn quota_v2(text: &str, because: &str, out: &mut Vec<Property>) {
    let mut words = text.split_whitespace();
    let Some(quota) = words.next().and_then(amount) else { return };
    let period = words.next().and_then(|p| p.parse().ok());
    quota_properties(quota, period, because, out);
}

fn quota_properties(quota: u64, period: Option<u64>, because: &str, out: &mut Vec<Property>) {
    let per_second = match quota {
        INFINITY => INFINITY,
        q => per_second(q, period.unwrap_or(PERIOD)),
    };
    set(out, Property::new("CPUQuotaPerSecUSec", Value::U64(per_second), because));
    if let Some(p) = period {
        set(out, Property::new("CPUQuotaPeriodUSec", Value::U64(p), because));
    }
}

/// CPU time a second, rounded up to what systemd can hold. Microseconds.
fn per_second(quota: u64, period: u64) -> u64 {
    let exact = (u128::from(quota) * 1_000_000).div_ceil(u128::from(period.max(1)));
    u64::try_from(exact).ok().and_then(|n| n.checked_next_multiple_of(STEP)).unwrap_or(INFINITY)
}

/// The quota as systemd writes it when it holds the rounded value: the file shall say what the unit says.
fn rounded(quota: u64, period: u64) -> u64 {
    let n = u128::from(per_second(quota, period)) * u128::from(period) / 1_000_000;
    u64::try_from(n).unwrap_or(quota)
}

/// Both are one property of systemd's, and the kernel refuses a weight for an idle cgroup.
pub(super) fn drop_weight_of_idle(writes: &mut Vec<Write>) {
    if writes.iter().any(|w| w.file == "cpu.idle" && w.value.trim() == "1") {
        writes.retain(|w| w.file != "cpu.weight");
    }
}

/// Makes the quotas in `writes` those that systemd can hold.
pub(super) fn round_quotas(version: Version, writes: &mut [Write]) {
    let period_v1 = period_v1(writes);
    for w in writes {
        match (version, w.file.as_ref()) {
            (Version::V2, "cpu.max") => {
                let mut words = w.value.split_whitespace();
                let (quota, period) = (words.next().and_then(|q| q.parse().ok()), words.next());
                let n = period.map_or(Some(PERIOD), |p| p.parse().ok());
                if let (Some(q), Some(n)) = (quota, n) {
                    w.value = match period {
                        Some(p) => format!("{} {p}", rounded(q, n)),
                        None => rounded(q, n).to_string(),
                    };
                }
            }
            (Version::V1, "cpu.cfs_quota_us") => {
                if let Ok(q) = w.value.parse::<u64>() {
                    w.value = rounded(q, period_v1.unwrap_or(PERIOD)).to_string();
                }
            }
            _ => {}
        }
    }
}

fn period_v1(writes: &[Write]) -> Option<u64> {
    writes.iter().find(|w| w.file == "cpu.cfs_period_us").and_then(|w| w.value.parse().ok())
}

fn quota_v1(writes: &[Write], out: &mut Vec<Property>) {
    let quota = writes.iter().find(|w| w.file == "cpu.cfs_quota_us");
    let period = period_v1(writes);
    if quota.is_some() || period.is_some() {
        let because = quota.map_or("linux.resources.cpu.period", |w| w.property.as_ref());
        let quota = quota.and_then(|w| amount(&w.value)).unwrap_or(INFINITY);
        quota_properties(quota, period, because, out);
    }
}

fn simple_v1(w: &Write, out: &mut Vec<Property>) {
    let number = match w.file.as_ref() {
        "memory.limit_in_bytes" => "MemoryLimit",
        "cpu.shares" => "CPUShares",
        "blkio.weight" if !w.value.contains(' ') => "BlockIOWeight",
        "pids.max" => "TasksMax",
        _ => return,
    };
    if let Some(n) = amount(&w.value) {
        let n = if number == "TasksMax" { n.max(1) } else { n };
        set(out, Property::new(number, Value::U64(n), w.property.as_ref()));
    }
}

/// A list such as `0-3,7` as bits, the lowest one first.
fn mask(name: &str, text: &str, because: &str, out: &mut Vec<Property>) {
    let Ok(set_of) = cpu_list::parse(text) else { return };
    let mut bytes: Vec<u8> = set_of.words().iter().flat_map(|w| w.to_le_bytes()).collect();
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    let bytes = bytes.into_iter().map(Value::Byte).collect();
    set(out, Property::new(name, Value::Array("y".into(), bytes), because));
}

fn block_device(number: &str) -> Value {
    Value::Str(format!("/dev/block/{number}"))
}

/// `N`, `default N` or `MAJOR:MINOR N`.
fn io_weight(text: &str, because: &str, out: &mut Vec<Property>) {
    match text.rsplit_once(' ') {
        None | Some(("default", _)) => {
            if let Some(n) = text.rsplit(' ').next().and_then(amount) {
                set(out, Property::new("IOWeight", Value::U64(n), because));
            }
        }
        Some((device, n)) => {
            if let Some(n) = amount(n) {
                append("IODeviceWeight", device, n, because, out);
            }
        }
    }
}

/// `MAJOR:MINOR rbps=N wiops=max`.
fn io_max(text: &str, because: &str, out: &mut Vec<Property>) {
    let mut words = text.split_whitespace();
    let Some(device) = words.next() else { return };
    for word in words {
        let Some((key, value)) = word.split_once('=') else { continue };
        let name = match key {
            "rbps" => "IOReadBandwidthMax",
            "wbps" => "IOWriteBandwidthMax",
            "riops" => "IOReadIOPSMax",
            "wiops" => "IOWriteIOPSMax",
            _ => continue,
        };
        if let Some(n) = amount(value) {
            append(name, device, n, because, out);
        }
    }
}

/// Adds an entry for one device to a property that is a list of them.
fn append(name: &str, device: &str, n: u64, because: &str, out: &mut Vec<Property>) {
    let entry = Value::Struct(vec![block_device(device), Value::U64(n)]);
    match out.iter_mut().find(|p| p.name == name).map(|p| &mut p.value) {
        Some(Value::Array(_, list)) => list.push(entry),
        _ => out.push(Property::new(name, Value::Array("(st)".into(), vec![entry]), because)),
    }
}
