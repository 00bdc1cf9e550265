//! Runs the cases of one engine on one runtime in a new world, and brings the outcomes back.

use crate::engine::{Engine, end_daemon};
use crate::env::{Case, Env, Runtime};
use crate::restarts;
use crate::world::{self, Cgroups};
use runtime_tests::check::{Context, Done, Fail, Result, fail};
use runtime_tests::command::{self, poll, take_status};
use runtime_tests::{cgroup, proc, sys};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

/// How long all cases of one engine on one runtime may take.
const WORLD_DEADLINE: Duration = Duration::from_secs(600);

/// How long one case may take.
const CASE_DEADLINE: Duration = Duration::from_secs(180);

/// What the names of cgroups and directories begin with, before the pid of this program.
const PREFIX: &str = "engine-tests.";

/// The result of one case on one runtime.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Which of the runtimes, by position.
    pub runtime: usize,
    /// `engine/feature`.
    pub case: String,
    /// `Ok` when all was as demanded.
    pub result: Result<(), Fail>,
    /// What a case has measured, to be shown in the table.
    pub note: String,
}

/// The signal that asks the program to end, 0 for none.
static ASKED_TO_END: AtomicI32 = AtomicI32::new(0);

extern "C" fn ask_to_end(signal: i32) {
    ASKED_TO_END.store(signal, Ordering::Relaxed);
}

/// From now on a signal ends the program only after it has cleaned up.
pub fn catch_signals() -> Done {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        sys::catch(signal, ask_to_end)?;
    }
    Ok(())
}

/// Removes the cgroups and directories of a run that was itself killed.
pub fn sweep_stale() {
    let stale = |name: &str| {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('.').next()?.parse().ok());
        pid.is_some_and(|pid: i32| !proc::lives(pid))
    };
    for dir in cgroup::dirs_with(PREFIX) {
        if stale(&dir.file_name().unwrap_or_default().to_string_lossy()) {
            cgroup::remove(vec![dir]);
        }
    }
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        if stale(&entry.file_name().to_string_lossy()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Runs the cases of `engine` whose names hold one of the texts of `filter`.
pub fn world(
    engine: Engine,
    (index, runtime): (usize, &runtime_tests::runtime::Runtime),
    jobs: usize,
    filter: &[String],
) -> Result<Vec<Outcome>> {
    let mut cases = engine.cases().list;
    cases.retain(|c| filter.is_empty() || filter.iter().any(|f| c.name.contains(f.as_str())));
    if cases.is_empty() || !engine.takes(&runtime.name) {
        return Ok(Vec::new());
    }
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    for program in engine.programs() {
        if !path.split(':').any(|dir| Path::new(dir).join(program).exists()) {
            return fail(format!("{}: there is no {program}: run scripts/setup engines", engine.name()));
        }
    }
    let dir = tempfile::Builder::new().prefix(&format!("{PREFIX}{}.", std::process::id())).tempdir()?;
    let name = dir.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let results = dir.path().join("results");
    fs::write(&results, "")?;
    let cgroups = Cgroups::make(&name)?;
    let inside = Runtime {
        name: runtime.name.clone(),
        path: Path::new("/keep").join(runtime.path.file_name().unwrap_or_default()),
    };
    let job = Job { engine, cases, runtime: inside, jobs, results: results.clone() };
    let begin = Instant::now();
    let ended = supervise(&job, &runtime.path, dir.path(), &cgroups);
    let text = fs::read_to_string(&results)?;
    cgroups.remove()?;
    ended.context(&format!("{} on {}", engine.name(), runtime.name))?;
    let outcomes: Vec<Outcome> = job.cases.iter().map(|c| outcome(index, &c.name, &text)).collect();
    let failed = outcomes.iter().filter(|o| o.result.is_err()).count();
    let (name, seconds) = (engine.name(), begin.elapsed().as_secs());
    println!(
        "{name} on {}: {} of {} passed in {seconds} s",
        runtime.name,
        outcomes.len() - failed,
        outcomes.len()
    );
    Ok(outcomes)
}

struct Job {
    engine: Engine,
    cases: Vec<Case>,
    runtime: Runtime,
    jobs: usize,
    results: PathBuf,
}

/// Starts the world's processes and waits for their end, or ends them.
fn supervise(job: &Job, program: &Path, dir: &Path, cgroups: &Cgroups) -> Done {
    let Some(pid) = sys::fork()? else {
        let result = outer(job, program, dir, cgroups);
        if let Err(Fail::Failed(why) | Fail::Skipped(why)) = &result {
            eprintln!("engine-tests: error: {}: {why}", job.engine.name());
        }
        sys::exit_now(i32::from(result.is_err()))
    };
    let pidfd = sys::pidfd_open(pid)?;
    let asked = || ASKED_TO_END.load(Ordering::Relaxed);
    let ended = poll("the end of the world", WORLD_DEADLINE, || {
        if asked() != 0 { Some(None) } else { take_status(pid).map(Some) }
    });
    if let Ok(Some(status)) = ended {
        return if status.success() { Ok(()) } else { fail("the world could not be made or has died") };
    }
    // It may have just exited by itself.
    let _ = sys::pidfd_kill(&pidfd, libc::SIGKILL);
    poll("the death of the world", Duration::from_secs(20), || take_status(pid))?;
    match asked() {
        0 => ended.map(drop),
        signal => fail(format!("killed by signal {signal}")),
    }
}

/// The first child enters the namespaces; the second one is pid 1 of them.
fn outer(job: &Job, program: &Path, dir: &Path, cgroups: &Cgroups) -> Done {
    command::forget();
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        sys::default(signal)?;
    }
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64)?;
    cgroups.enter()?;
    world::enter_namespaces()?;
    // The file is opened before its path means something else.
    let results = fs::File::options().append(true).open(&job.results)?;
    match sys::fork()? {
        Some(pid) => {
            let status = poll("the world", WORLD_DEADLINE, || take_status(pid))?;
            if status.success() { Ok(()) } else { fail("its first process has died") }
        }
        None => {
            sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64)?;
            let result = inner(job, program, dir, &results);
            if let Err(Fail::Failed(why) | Fail::Skipped(why)) = &result {
                eprintln!("engine-tests: error: {}: {why}", job.engine.name());
            }
            sys::exit_now(i32::from(result.is_err()))
        }
    }
}

fn inner(job: &Job, program: &Path, dir: &Path, results: &fs::File) -> Done {
    let mut files = job.engine.files();
    files.push(program.to_owned());
    files.push(restarts::floor()?);
    // scripts/install takes the supervisor from beside the runtime.
    files.extend(program.parent().map(|dir| dir.join("orund")).filter(|orund| orund.exists()));
    world::build(dir, &files)?;
    let env = Env::new(&job.runtime, "engine")?;
    let daemon = job.engine.start(&env)?;
    let done = run_all(job, results);
    if let Some(daemon) = daemon {
        end_daemon(daemon)?;
    }
    done
}

struct Running<'a> {
    pid: i32,
    case: &'a Case,
    begin: Instant,
    file: PathBuf,
}

/// Runs the cases, each in a process of its own: first those that may have company, then the others.
fn run_all(job: &Job, results: &fs::File) -> Done {
    let (alone, mut todo): (Vec<&Case>, Vec<&Case>) = job.cases.iter().partition(|c| c.alone);
    todo.extend(alone);
    todo.reverse();
    let mut running: Vec<Running<'_>> = Vec::new();
    let mut number = 0;
    while !(todo.is_empty() && running.is_empty()) {
        let may_start = |case: &Case, running: &[Running<'_>]| {
            running.is_empty() || (!case.alone && running.len() < job.jobs && !running[0].case.alone)
        };
        while let Some(case) = todo.pop_if(|c| may_start(c, &running)) {
            number += 1;
            running.push(start(job, case, number)?);
        }
        for at in (0..running.len()).rev() {
            let late = running[at].begin.elapsed() > CASE_DEADLINE;
            if late {
                sys::pidfd_kill(&sys::pidfd_open(running[at].pid)?, libc::SIGKILL)?;
            }
            let ended = if late { Some(None) } else { take_status(running[at].pid).map(Some) };
            if ended.is_some() {
                report(job, &running.swap_remove(at), results)?;
            }
        }
        command::reap();
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn start<'a>(job: &Job, case: &'a Case, number: usize) -> Result<Running<'a>> {
    let name = format!("c{number}");
    let env = Env::new(&job.runtime, &name)?;
    let file = env.dir.join("result");
    match sys::fork()? {
        Some(pid) => Ok(Running { pid, case, begin: Instant::now(), file }),
        None => {
            command::forget();
            let result = case.run(&env);
            // What a failed case leaves must not disturb the others.
            let cleaned = job.engine.clean(&env);
            let text = match result.and(cleaned.context("cleaning up")) {
                Ok(()) => "P".to_owned(),
                Err(Fail::Failed(why)) => format!("F{why}"),
                Err(Fail::Skipped(why)) => format!("S{why}"),
            };
            let _ = fs::write(&file, text);
            sys::exit_now(0)
        }
    }
}

fn report(job: &Job, ended: &Running<'_>, mut results: &fs::File) -> Done {
    use std::io::Write;
    let text =
        fs::read_to_string(&ended.file).unwrap_or_else(|_| "Fthe case took too long or died".to_owned());
    let (kind, why) = text.split_at_checked(1).unwrap_or(("F", ""));
    let why = why.replace('\n', " | ");
    let note = fs::read_to_string(ended.file.with_file_name("note")).unwrap_or_default();
    let seconds = ended.begin.elapsed().as_secs_f64();
    let line = format!("{:<5} {:<70} {seconds:>6.2} s  {note}", job.runtime.name, ended.case.name);
    match kind {
        "P" => println!("pass  {line}"),
        "S" => println!("skip  {line} {why}"),
        _ => println!("FAIL  {line} {why}"),
    }
    let entry = json!({ "case": ended.case.name, "kind": kind, "why": why, "note": note.trim() });
    writeln!(results, "{entry}").context("writing a result")
}

fn outcome(runtime: usize, case: &str, results: &str) -> Outcome {
    let entries = results.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
    let entry = entries.into_iter().find(|e| e["case"] == case).unwrap_or_default();
    let text = |key: &str| entry[key].as_str().unwrap_or("").to_owned();
    let result = match text("kind").as_str() {
        "P" => Ok(()),
        "S" => Err(Fail::Skipped(text("why"))),
        _ => Err(Fail::Failed(text("why"))),
    };
    Outcome { runtime, case: case.to_owned(), result, note: text("note") }
}
