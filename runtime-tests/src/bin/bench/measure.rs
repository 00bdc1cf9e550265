//! Running a command and taking its measure.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::sys;

/// No command of a runtime takes longer on a working machine.
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Default)]
pub struct Sample {
    pub wall: Duration,
    pub cpu: Duration,
}

impl std::ops::Add for Sample {
    type Output = Sample;
    fn add(self, other: Sample) -> Sample {
        Sample { wall: self.wall + other.wall, cpu: self.cpu + other.cpu }
    }
}

/// One peer's command: the program and its arguments, in an environment that is the same for every caller, because the C
/// library reads all of it at each start.
pub fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// Runs to the end; what the command leaves behind (a container's init) is not in the sample.
/// Errors say what the command said.
pub fn run(mut command: Command) -> Result<Sample, String> {
    let errors = std::env::temp_dir().join(format!("orun-bench-{}.stderr", std::process::id()));
    let file = File::create(&errors).map_err(|e| format!("creating {}: {e}", errors.display()))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    let begin = Instant::now();
    let child = command.spawn().map_err(|e| format!("starting {:?}: {e}", command.get_program()))?;
    let pid = child.id() as i32;
    let in_time = sys::pidfd(pid).is_some_and(|fd| sys::ended_within(&fd, LIMIT));
    if !in_time {
        sys::kill(pid);
    }
    let ended = sys::wait4(pid, 0).ok_or("the child was lost")?;
    let wall = begin.elapsed();
    let said = std::fs::read_to_string(&errors).unwrap_or_default();
    let _ = std::fs::remove_file(&errors);
    if !in_time {
        return Err(format!("still running after {} s", LIMIT.as_secs()));
    }
    if ended.status != 0 {
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("(it said nothing)");
        return Err(format!("exit status {}: {last}", ended.status));
    }
    Ok(Sample { wall, cpu: ended.cpu })
}

/// CPU time of the orphans that have exited since the last call.
pub fn reap_orphans() -> Duration {
    std::iter::from_fn(|| sys::wait4(-1, libc::WNOHANG)).map(|ended| ended.cpu).sum()
}

/// Waits for the end of an adopted process, and takes its CPU time and that of other orphans.
pub fn wait_for_orphan(pid: i32) -> Result<Duration, String> {
    if let Some(fd) = sys::pidfd(pid)
        && !sys::ended_within(&fd, LIMIT)
    {
        return Err(format!("the container's process {pid} does not end"));
    }
    Ok(reap_orphans())
}
