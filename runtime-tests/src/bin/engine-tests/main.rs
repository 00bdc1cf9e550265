//! Engines on a runtime: `engine-tests --runtime PATH [--runtime PATH ...] [--engine NAME ...]`.
//!
//! Every pair of an engine and a runtime gets a world of its own (see [`world`]), in which the engine is started and
//! its cases run, several at a time. The host sees none of it.

mod broken;
mod checkpoints;
mod containerd;
mod cri;
mod docker;
mod engine;
mod env;
mod grpc;
mod many;
mod pages;
mod podman;
mod restarts;
mod run;
mod swarm;
mod table;
mod world;

use clap::Parser;
use engine::Engine;
use runtime_tests::check::{Context, Fail, Result, fail};
use runtime_tests::{cgroup, command, sys};
use std::path::PathBuf;
use std::process::ExitCode;

/// Engines on a runtime: Docker, Swarm, containerd, Podman. Needs root.
#[derive(Debug, Parser)]
struct Args {
    /// A runtime: a path, or a name to be found in PATH. May be given several times.
    #[arg(long, required_unless_present = "list")]
    runtime: Vec<String>,
    /// Only this engine. May be given several times.
    #[arg(long)]
    engine: Vec<String>,
    /// Only cases whose name holds this text. May be given several times.
    #[arg(long)]
    filter: Vec<String>,
    /// The runtime that shows what works here: a failure with it does not count against the others.
    #[arg(long)]
    reference: Option<String>,
    /// Show the names of the cases.
    #[arg(long)]
    list: bool,
    /// How many cases run at a time.
    #[arg(long, default_value_t = 4)]
    jobs: usize,
    /// A directory whose programs are found before others of their name: that of a CRIU.
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// Write the result as a Markdown table to this file.
    #[arg(long)]
    table: Option<PathBuf>,
}

fn main() -> ExitCode {
    match examine(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Fail::Failed(why) | Fail::Skipped(why)) => {
            eprintln!("engine-tests: error: {why}");
            ExitCode::from(2)
        }
    }
}

fn examine(args: &Args) -> Result<bool> {
    if let Some(wrong) = args.engine.iter().find(|n| Engine::ALL.iter().all(|e| e.name() != n.as_str())) {
        return fail(format!("there is no engine {wrong:?}"));
    }
    let engines = Engine::ALL
        .into_iter()
        .filter(|e| args.engine.is_empty() || args.engine.iter().any(|n| n == e.name()));
    let engines: Vec<Engine> = engines.collect();
    if args.list {
        for case in engines.iter().flat_map(|e| e.cases().list) {
            println!("{}", case.name);
        }
        return Ok(true);
    }
    if !nix::unistd::geteuid().is_root() {
        return fail("must be run as root");
    }
    if let Some(dir) = &args.path {
        command::search_first(&dir.canonicalize().context(&format!("--path {}", dir.display()))?);
    }
    let mut runtimes = Vec::new();
    for name in &args.runtime {
        runtimes.push(runtime_tests::runtime::Runtime::find(name)?);
    }
    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1)?;
    run::catch_signals()?;
    run::sweep_stale();
    let mut outcomes = Vec::new();
    for engine in engines {
        for (index, runtime) in runtimes.iter().enumerate() {
            outcomes.extend(run::world(engine, (index, runtime), args.jobs, &args.filter)?);
        }
    }
    let names: Vec<&str> = runtimes.iter().map(|r| r.name.as_str()).collect();
    if let Some(file) = &args.table {
        let layout = cgroup::layout();
        let versions: Vec<&str> = runtimes.iter().map(|r| r.version.as_str()).collect();
        std::fs::write(file, table::markdown(&names, &versions, layout, &outcomes))?;
    }
    Ok(table::verdict(&names, args.reference.as_deref(), &outcomes))
}
