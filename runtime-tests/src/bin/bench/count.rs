//! Counting system calls and instructions.

use std::collections::HashSet;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::measure;
use crate::sys;

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

/// System calls of a command and all its descendants, by strace.
pub fn system_calls(words: &[&str]) -> Result<u64, String> {
    let table = std::env::temp_dir().join(format!("orun-bench-{}.strace", std::process::id()));
    let path = table.to_str().ok_or("the temporary directory's name is not text")?;
    let all = [&["strace", "-f", "-c", "-U", "calls,name", "-o", path], words].concat();
    let status = quiet(&mut measure::command(&all)).status().map_err(|e| format!("starting strace: {e}"))?;
    let text = std::fs::read_to_string(&table).unwrap_or_default();
    let _ = std::fs::remove_file(&table);
    if !status.success() {
        return Err(format!("{} failed under strace", words.join(" ")));
    }
    let total = text.lines().rev().find(|line| line.ends_with("total"));
    total
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| "strace counted nothing".to_string())
}

/// How instructions can be counted on this machine.
#[derive(Clone, Copy)]
pub enum Counter {
    /// The processor's own counter, by perf.
    Perf,
    /// One ptrace(2) stop for each; slow, and only where no instruction fails for having been stopped at.
    Steps { limit: u64 },
}

impl Counter {
    pub fn find(limit: u64) -> Option<Counter> {
        if perf(&["true"]).is_ok() {
            return Some(Counter::Perf);
        }
        // Load-exclusive and store-exclusive pairs of other architectures never succeed when stepped through.
        (cfg!(target_arch = "x86_64") && limit > 0).then_some(Counter::Steps { limit })
    }

    /// Instructions in user mode of a command and all its descendants; `None` when there are more than the limit.
    pub fn count(self, words: &[&str]) -> Result<Option<u64>, String> {
        match self {
            Counter::Perf => perf(words).map(Some),
            Counter::Steps { limit } => steps(words, limit),
        }
    }
}

fn perf(words: &[&str]) -> Result<u64, String> {
    let all = [&["perf", "stat", "-x", ",", "-e", "instructions:u", "--"], words].concat();
    let output = measure::command(&all)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .map_err(|e| format!("starting perf: {e}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.contains("instructions:u")).ok_or("perf counted nothing")?;
    line.split(',').next().and_then(|n| n.parse().ok()).ok_or_else(|| format!("perf: {line}"))
}

fn steps(words: &[&str], limit: u64) -> Result<Option<u64>, String> {
    let mut count = 0;
    let whole = trace(words, libc::PTRACE_SINGLESTEP, 0, |_, signal, event| {
        count += u64::from(signal == libc::SIGTRAP && event == 0);
        count <= limit
    })?;
    Ok(whole.then_some(count))
}

/// The largest resident set, in kilobytes, that the command or a descendant had. Read from each process as it exits: the
/// figure of wait4(2) begins with the size of the process that started the program.
pub fn peak_memory(words: &[&str]) -> Result<u64, String> {
    let mut peak = 0;
    trace(words, libc::PTRACE_CONT, libc::PTRACE_O_TRACEEXIT, |pid, _, event| {
        if event == libc::PTRACE_EVENT_EXIT {
            peak = peak.max(high_water(pid).unwrap_or(0));
        }
        true
    })?;
    Ok(peak)
}

/// Page faults of the command and of the descendants that it waits for.
pub fn page_faults(words: &[&str]) -> Result<u64, String> {
    let child =
        quiet(&mut measure::command(words)).spawn().map_err(|e| format!("starting {}: {e}", words[0]))?;
    let ended = sys::wait4(child.id() as i32, 0).ok_or("the child was lost")?;
    match ended.status {
        0 => Ok(ended.faults),
        status => Err(format!("{}: exit status {status}", words.join(" "))),
    }
}

/// VmHWM of proc_pid_status(5).
fn high_water(pid: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}

/// Runs a command with all its descendants as tracees. `see` is called for every stop (process, signal, event of ptrace) and
/// returns whether to continue; when it does not, all of them are killed and the result is false.
pub fn trace(
    words: &[&str],
    resume: libc::c_uint,
    options: i32,
    mut see: impl FnMut(i32, i32, i32) -> bool,
) -> Result<bool, String> {
    let mut command = measure::command(words);
    // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
    unsafe { quiet(&mut command).pre_exec(sys::trace_me) };
    let first = command.spawn().map_err(|e| format!("starting {}: {e}", words[0]))?.id() as i32;
    let options = options
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_EXITKILL;
    let mut tracees = HashSet::new();
    let (mut go_on, mut outcome) = (true, 0);
    while let Some((pid, status)) = sys::wait_any() {
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            tracees.remove(&pid);
            if pid == first {
                outcome = status;
                // What it leaves running, as the process of a created container, would wait for ever.
                tracees.iter().for_each(|tracee| sys::kill(*tracee));
            }
            if tracees.is_empty() {
                break;
            }
            continue;
        }
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        if tracees.insert(pid) && pid == first {
            sys::ptrace(libc::PTRACE_SETOPTIONS, pid, options);
        }
        if go_on && !see(pid, signal, event) {
            go_on = false;
            // All of them: one that waits for another would never stop by itself.
            tracees.iter().for_each(|tracee| sys::kill(*tracee));
        }
        // A new tracee's first stop and ptrace's own events are not signals of the program.
        let own = event != 0 || matches!(signal, libc::SIGTRAP | libc::SIGSTOP);
        sys::ptrace(if go_on { resume } else { libc::PTRACE_CONT }, pid, if own { 0 } else { signal });
    }
    match outcome {
        0 => Ok(go_on),
        _ if !go_on => Ok(false),
        status => Err(format!("{} exited with wait status {status:#x} when traced", words.join(" "))),
    }
}
