//! Runs cases, each in a sandbox of its own, several at a time, none for ever.

use crate::case::T;
use crate::cgroup;
use crate::check::{Done, Fail, Result, fail};
use crate::command::{self, take_status};
use crate::matrix::{CASE_DEADLINE, Case};
use crate::runtime::Runtime;
use crate::{sandbox, sys};
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All as demanded.
    Passed,
    /// Something else; the text says what.
    Failed(String),
    /// The case says nothing about this runtime or host.
    Skipped(String),
}

/// The result of one case on one runtime.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Which of the runtimes, by position.
    pub runtime: usize,
    /// The case's name.
    pub case: String,
    /// What came of it.
    pub verdict: Verdict,
}

/// How to run.
#[derive(Debug)]
pub struct Settings {
    /// How many cases run at a time.
    pub jobs: usize,
    /// The static probe.
    pub probe: PathBuf,
    /// A static busybox.
    pub busybox: PathBuf,
}

struct Job {
    pid: i32,
    pidfd: OwnedFd,
    runtime: usize,
    case: usize,
    marker: String,
    result: File,
    dir: tempfile::TempDir,
    started: Instant,
    killed: bool,
}

/// The signal that asks the runner to end, 0 for none.
static ASKED_TO_END: AtomicI32 = AtomicI32::new(0);

extern "C" fn ask_to_end(signal: i32) {
    ASKED_TO_END.store(signal, Ordering::Relaxed);
}

/// Every case with every runtime.
pub fn all_pairs(runtimes: &[Runtime], cases: &[Case]) -> Vec<(usize, usize)> {
    (0..cases.len()).flat_map(|case| (0..runtimes.len()).map(move |runtime| (runtime, case))).collect()
}

/// Runs `todo`, pairs of runtime and case, and calls `done` for each as it ends. A pair that the filter refuses when its turn
/// comes, after these outcomes, is left out.
pub fn run(
    runtimes: &[Runtime],
    cases: &[Case],
    mut todo: Vec<(usize, usize)>,
    settings: &Settings,
    wanted: impl Fn((usize, usize), &[Outcome]) -> bool,
    mut done: impl FnMut(&Outcome, Duration),
) -> Result<Vec<Outcome>> {
    todo.reverse();
    cgroup::options_at_start();
    let mut running: Vec<Job> = Vec::new();
    let mut outcomes = Vec::new();
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        sys::catch(signal, ask_to_end)?;
    }
    loop {
        let signal = ASKED_TO_END.load(Ordering::Relaxed);
        if signal != 0 {
            end(running, cases);
            return fail(format!("killed by signal {signal} after {} cases", outcomes.len()));
        }
        while running.len() < settings.jobs.max(1)
            && let Some((runtime, case)) = todo.pop()
        {
            if !wanted((runtime, case), &outcomes) {
                continue;
            }
            running.push(start(runtimes, cases, (runtime, case), settings)?);
        }
        if running.is_empty() {
            return Ok(outcomes);
        }
        let mut index = 0;
        while index < running.len() {
            let job = &mut running[index];
            if let Some(status) = take_status(job.pid) {
                let job = running.swap_remove(index);
                let elapsed = job.started.elapsed();
                let outcome = collect(job, status, cases);
                done(&outcome, elapsed);
                outcomes.push(outcome);
                continue;
            }
            if job.started.elapsed() > command::patience(CASE_DEADLINE) && !job.killed {
                job.killed = true;
                let _ = sys::pidfd_kill(&job.pidfd, libc::SIGKILL);
            }
            index += 1;
        }
        std::thread::sleep(Duration::from_millis(4));
    }
}

/// Kills the cases that are running and removes what they leave.
fn end(running: Vec<Job>, cases: &[Case]) {
    for job in running {
        let _ = sys::pidfd_kill(&job.pidfd, libc::SIGKILL);
        if let Ok(status) = command::poll("a killed case", Duration::from_secs(10), || take_status(job.pid)) {
            collect(job, status, cases);
        }
    }
}

fn start(runtimes: &[Runtime], cases: &[Case], which: (usize, usize), settings: &Settings) -> Result<Job> {
    let (runtime, case) = which;
    let dir = tempfile::Builder::new().prefix(&format!("runtime-tests.{}.", std::process::id())).tempdir()?;
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let unique = dir.path().extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    let marker = format!("rt-{}-{unique}", std::process::id());
    let mut result = tempfile::tempfile()?;
    match sys::fork()? {
        Some(pid) => {
            let pidfd = sys::pidfd_open(pid)?;
            let started = Instant::now();
            Ok(Job { pid, pidfd, runtime, case, marker, result, dir, started, killed: false })
        }
        None => {
            let verdict = outer(&runtimes[runtime], &cases[case], settings, dir.path(), &marker, &mut result);
            if let Err(e) = verdict {
                write_result(&result, &Err(e));
            }
            sys::exit_now(0)
        }
    }
}

/// The first child enters the namespaces; the second one is pid 1 of them and runs the case.
fn outer(
    runtime: &Runtime,
    case: &Case,
    settings: &Settings,
    dir: &Path,
    marker: &str,
    result: &mut File,
) -> Done {
    command::forget();
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        sys::default(signal)?;
    }
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64)?;
    sandbox::unshare_all(on_host(runtime, case))?;
    match sys::fork()? {
        Some(pid) => {
            command::poll("the case", CASE_DEADLINE * 2, || take_status(pid)).map(|status| {
                if let Some(signal) = status.signal() {
                    // Without a verdict of its own the case has died.
                    let _ = result.write_all(format!("D{signal}").as_bytes());
                }
            })
        }
        None => {
            sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64)?;
            let panics = result.try_clone()?;
            std::panic::set_hook(Box::new(move |info| {
                write_result(&panics, &Err(Fail::Failed(format!("the case panicked: {info}"))));
            }));
            let verdict = inner(runtime, case, settings, dir, marker);
            write_result(result, &verdict);
            sys::exit_now(0)
        }
    }
}

/// systemd knows processes by the pids of the host, and is reached through the host's /run.
fn on_host(runtime: &Runtime, case: &Case) -> bool {
    case.on_host || runtime.systemd_cgroup
}

fn inner(runtime: &Runtime, case: &Case, settings: &Settings, dir: &Path, marker: &str) -> Done {
    sandbox::build(dir, runtime.is("crun"), on_host(runtime, case))?;
    let programs = [("probe", settings.probe.as_path()), ("busybox", settings.busybox.as_path())];
    let mut t = T::new(runtime, dir, marker, &programs)?;
    let result = case.run(&mut t);
    t.finish(result)
}

fn write_result(mut file: &File, result: &Done) {
    let text = match result {
        Ok(()) => "P".to_owned(),
        Err(Fail::Failed(why)) => format!("F{why}"),
        Err(Fail::Skipped(why)) => format!("S{why}"),
    };
    let _ = file.write_all(text.as_bytes());
}

fn collect(mut job: Job, status: command::Status, cases: &[Case]) -> Outcome {
    let mut text = String::new();
    let _ = job.result.rewind();
    let _ = job.result.read_to_string(&mut text);
    let (kind, why) = text.split_at_checked(1).unwrap_or(("", ""));
    let why = why.replace('\n', " | ");
    let verdict = match kind {
        _ if job.killed => {
            Verdict::Failed(format!("killed after {} s", command::patience(CASE_DEADLINE).as_secs()))
        }
        "P" => Verdict::Passed,
        "F" => Verdict::Failed(why),
        "S" => Verdict::Skipped(why),
        "D" => Verdict::Failed(format!("the case was killed by signal {why}")),
        _ => Verdict::Failed(format!("the case exited with status {} without a verdict", status.code())),
    };
    // Whatever a broken runtime has left in the hierarchies of the host: nothing but us knows the marker.
    sweep(&job.marker);
    let path = job.dir.path().to_owned();
    drop(job.dir);
    debug_assert!(!path.exists());
    Outcome { runtime: job.runtime, case: cases[job.case].name.clone(), verdict }
}

/// Removes what a runner has left that was itself killed: its cases died with it, but not their cgroups and
/// directories. The names hold the runner's pid.
pub fn sweep_stale() {
    let stale = |name: &str, prefix: &str, separator: char| {
        let pid = name.strip_prefix(prefix)?.split(separator).next()?.parse().ok()?;
        (!crate::proc::lives(pid)).then(|| format!("{prefix}{pid}{separator}"))
    };
    for dir in cgroup::dirs_with("rt-") {
        let name = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if let Some(marker) = stale(&name, "rt-", '-') {
            sweep(&marker);
        }
    }
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        if stale(&entry.file_name().to_string_lossy(), "runtime-tests.", '.').is_some() {
            // An empty mount point: the tmpfs on it was in the case's mount namespace only.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Removes the cgroups of a finished case; its processes died with its pid namespace.
fn sweep(marker: &str) {
    for _ in 0..50 {
        let dirs = cgroup::dirs_with(marker);
        if dirs.is_empty() {
            return;
        }
        for dir in &dirs {
            // A frozen v1 cgroup keeps killed processes from dying.
            let _ = fs::write(dir.join("freezer.state"), "THAWED");
            let _ = fs::write(dir.join("cgroup.freeze"), "0");
        }
        cgroup::remove(dirs);
        std::thread::sleep(Duration::from_millis(20));
    }
}
