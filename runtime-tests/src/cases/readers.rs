//! What crates of others read from our bundles, cgroups and processes: oci-spec, cgroups-rs and caps.

use crate::case::T;
use crate::cgroup::{self, Layout};
use crate::check::{Context, Done, Fail, Result, fail, same, skip};
use crate::matrix::Matrix;
use crate::readers::{cgroup_of, reads_with_oci_spec};
use caps::{CapSet, Capability};
use cgroups_rs::cpu::CpuController;
use cgroups_rs::memory::MemController;
use cgroups_rs::pid::PidController;
use cgroups_rs::{Cgroup, CgroupPid, MaxValue};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fs;

const SPEC: &str = "config-linux.md Control groups";
const MEMORY: i64 = 64 << 20;

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    m.case("readers/cgroups-rs-reads-the-limits", SPEC, limits);
    m.case("readers/cgroups-rs-reads-updated-limits", SPEC, updated_limits);
    m.case("readers/cgroups-rs-finds-the-members", SPEC, members);
    m.case("readers/cgroups-rs-reads-the-statistics", SPEC, statistics);
    m.case("readers/caps-reads-the-sets", "config.md Linux Process: capabilities", capability_sets);
    m.case("readers/oci-spec-reads-what-spec-writes", "config.md", written_by_spec);
}

fn resources() -> Value {
    json!({"memory": {"limit": MEMORY}, "cpu": {"shares": 2048, "quota": 50_000, "period": 200_000}, "pids": {"limit": 99}})
}

fn need_controllers() -> Done {
    match ["memory", "cpu", "pids"].iter().find(|c| !cgroup::has_controller(c)) {
        Some(missing) => skip(format!("there is no controller {missing}")),
        None => Ok(()),
    }
}

fn missing(controller: &str) -> Fail {
    Fail::Failed(format!("cgroups-rs finds no controller {controller}"))
}

/// The limits of memory, tasks, CPU time, and its shares or weight.
fn limits_of(cgroup: &Cgroup) -> Result<(i64, Option<i64>, i64, u64, u64)> {
    let memory: &MemController = cgroup.controller_of().ok_or_else(|| missing("memory"))?;
    let cpu: &CpuController = cgroup.controller_of().ok_or_else(|| missing("cpu"))?;
    let pids: &PidController = cgroup.controller_of().ok_or_else(|| missing("pids"))?;
    let tasks = match pids.get_pid_max().context("the limit of tasks")? {
        MaxValue::Max => None,
        MaxValue::Value(n) => Some(n),
    };
    let (quota, period) = (cpu.cfs_quota().context("quota")?, cpu.cfs_period().context("period")?);
    Ok((memory.memory_stat().limit_in_bytes, tasks, quota, period, cpu.shares().context("shares")?))
}

fn limits(t: &mut T<'_>) -> Done {
    need_controllers()?;
    let c = t.create(&t.bundle()?.set("/linux/resources", resources()).sleeps())?;
    // 2,048 shares are a weight of 170 in version 2, as the table of the specification of runc has them.
    let shares = if cgroup::layout() == Layout::V2 { weight(2048) } else { 2048 };
    same("limits", limits_of(&cgroup_of(c.pid()?)?)?, (MEMORY, Some(99), 50_000, 200_000, shares))?;
    c.end()
}

/// The weight of version 2 for shares of version 1: the curve through 2 -> 1, 1,024 -> 100, 262,144 -> 10,000.
fn weight(shares: u64) -> u64 {
    let l = (shares as f64).log2();
    10f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil() as u64
}

fn updated_limits(t: &mut T<'_>) -> Done {
    need_controllers()?;
    let c = t.create(&t.bundle()?.set("/linux/resources", resources()).sleeps())?;
    let options =
        ["--memory", "134217728", "--pids-limit", "55", "--cpu-quota", "30000", "--cpu-share", "1024"];
    c.verb_with("update", &options).ok()?;
    let shares = if cgroup::layout() == Layout::V2 { 100 } else { 1024 };
    same("limits", limits_of(&cgroup_of(c.pid()?)?)?, (128 << 20, Some(55), 30_000, 200_000, shares))?;
    c.end()
}

fn members(t: &mut T<'_>) -> Done {
    need_controllers()?;
    let c = t.create(&t.bundle()?.shell("sleep 1000 & echo up; wait"))?;
    c.start()?;
    c.await_output("up")?;
    let listed: Vec<u64> = serde_json::from_str(&c.verb_with("ps", &["--format", "json"]).ok()?.stdout)?;
    let found: HashSet<u64> = cgroup_of(c.pid()?)?.procs().into_iter().map(|CgroupPid { pid }| pid).collect();
    same("processes", listed.len(), 2)?;
    same("processes", found, listed.into_iter().collect::<HashSet<_>>())?;
    c.end()
}

fn statistics(t: &mut T<'_>) -> Done {
    need_controllers()?;
    let c =
        t.create(&t.bundle()?.set("/linux/resources", resources()).shell("sleep 1000 & echo up; wait"))?;
    c.start()?;
    c.await_output("up")?;
    let told: Value = serde_json::from_str(&c.verb_with("events", &["--stats"]).ok()?.stdout)?;
    let cgroup = cgroup_of(c.pid()?)?;
    let pids: &PidController = cgroup.controller_of().ok_or_else(|| missing("pids"))?;
    let current = pids.get_pid_current().context("the number of tasks")?;
    same("tasks", told["data"]["pids"]["current"].as_u64(), Some(current))?;
    same("limit of tasks", told["data"]["pids"]["limit"].as_u64(), Some(99))?;
    let memory: &MemController = cgroup.controller_of().ok_or_else(|| missing("memory"))?;
    let limit = told["data"]["memory"]["usage"]["limit"].as_i64();
    same("limit of memory", limit, Some(memory.memory_stat().limit_in_bytes))?;
    c.end()
}

fn capability_sets(t: &mut T<'_>) -> Done {
    let of = |names: &[&str]| json!(names);
    let sets = json!({
        "bounding": of(&["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_NET_RAW"]),
        "permitted": of(&["CAP_CHOWN", "CAP_KILL"]),
        "effective": of(&["CAP_CHOWN", "CAP_KILL"]),
        "inheritable": of(&["CAP_CHOWN", "CAP_KILL"]),
        "ambient": of(&["CAP_CHOWN", "CAP_KILL"]),
    });
    let user = json!({"uid": 1000, "gid": 1000});
    let c = t.create(
        &t.bundle()?.set("/process/capabilities", sets.clone()).set("/process/user", user).sleeps(),
    )?;
    c.start()?;
    c.becomes("running")?;
    let pid = c.pid()?;
    crate::command::poll("the program", crate::command::VERB_DEADLINE, || {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| !comm.contains("orun")).then_some(())
    })?;
    // The other two sets of another process are not read by caps.
    let all = [CapSet::Permitted, CapSet::Effective, CapSet::Inheritable];
    for set in all {
        let name = format!("{set:?}").to_lowercase();
        let named = sets[&name].as_array().into_iter().flatten().filter_map(Value::as_str);
        let wanted: HashSet<Capability> = named.filter_map(|n| n.parse().ok()).collect();
        same(&name, caps::read(Some(pid), set).context("reading the sets of a process")?, wanted)?;
    }
    c.end()
}

fn written_by_spec(t: &mut T<'_>) -> Done {
    for options in [&[][..], &["--rootless"]] {
        let dir = t.volume()?;
        t.program().arg("spec").args(options).arg("--bundle").arg(&dir).ok()?;
        let config = fs::read_to_string(dir.join("config.json"))?;
        let Ok(config) = serde_json::from_str(&config) else { return fail("spec writes no JSON") };
        reads_with_oci_spec(&config)?;
    }
    Ok(())
}
