//! Examines OCI runtimes: `runtime-tests --runtime PATH [--runtime PATH ...]`.

use clap::Parser;
use runtime_tests::check::{Context, Fail, Result, fail};
use runtime_tests::matrix::Matrix;
use runtime_tests::runner::{self, Settings, Verdict};
use runtime_tests::runtime::Runtime;
use runtime_tests::{command, differential, fields, ledger, mutants, null, sys, table};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Examines OCI runtimes on this machine. Needs root.
#[derive(Debug, Parser)]
struct Args {
    /// A runtime: a path, or a name to be found in PATH. May be given several times.
    #[arg(long, required_unless_present_any = ["list", "write_ledger", "null", "mutants"])]
    runtime: Vec<String>,
    /// Only cases whose name holds this text. May be given several times.
    #[arg(long)]
    filter: Vec<String>,
    /// Not the cases whose name holds this text.
    #[arg(long)]
    exclude: Vec<String>,
    /// Show the names of the cases and where their expectations come from.
    #[arg(long)]
    list: bool,
    /// How many cases run at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Write the result as a Markdown table to this file.
    #[arg(long)]
    table: Option<PathBuf>,
    /// The static probe; the one beside this program otherwise.
    #[arg(long)]
    probe: Option<PathBuf>,
    /// Every container through the runtime's systemd cgroup manager: `--systemd-cgroup` with every call.
    #[arg(long)]
    systemd_cgroup: bool,
    /// A static busybox.
    #[arg(long, default_value = "/bin/busybox")]
    busybox: PathBuf,
    /// A directory that runtimes find commands in before the usual ones: a CRIU that knows this kernel.
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// Everything may take this many times longer: for emulated machines.
    #[arg(long, value_name = "FACTOR", default_value_t = 1)]
    slow: u32,
    /// Write the tables of docs/ from the ledgers of the project in this directory.
    #[arg(long, value_name = "DIR")]
    write_ledger: Option<PathBuf>,
    /// Change config.json, process.json and resources in several hundred ways and compare what the first runtime makes of each
    /// with what runc does; a difference that vendor-specs/differences.jsonl does not explain is a failure.
    #[arg(long, conflicts_with_all = ["filter", "exclude", "table", "systemd_cgroup"])]
    differential: bool,
    /// With --differential: only every Nth change; with --mutants: every Nth row.
    #[arg(long, value_name = "N", default_value_t = 1)]
    every: usize,
    /// With --differential: write docs/differential.md from the result.
    #[arg(long, requires = "differential")]
    write_page: bool,
    /// The top of the project, for --differential and --mutants.
    #[arg(long, value_name = "DIR", default_value = ".")]
    top: PathBuf,
    /// Examine the cases instead: three runtimes that run nothing (one refuses with a word, one exits with 0, one refuses
    /// with a JSON error) must fail every one of them.
    #[arg(long, conflicts_with_all = ["runtime", "differential", "table", "systemd_cgroup", "slow"])]
    null: bool,
    /// Examine the cases instead, with a build of orun that is wrong on purpose (--features mutants): for each row of the
    /// ledgers that names a mutant, one of its cases must fail. Heeds --every.
    #[arg(long, value_name = "ORUN", conflicts_with_all = ["runtime", "differential", "null", "table", "systemd_cgroup", "slow"])]
    mutants: Option<PathBuf>,
    /// Show only failures and the last line.
    #[arg(long)]
    quiet: bool,
}

/// By how much deadlines are shortened for runtimes that do nothing of what is waited for.
const NULL_HASTE: u32 = 40;

fn main() -> ExitCode {
    match examine(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Fail::Failed(why) | Fail::Skipped(why)) => {
            eprintln!("runtime-tests: error: {why}");
            ExitCode::from(2)
        }
    }
}

fn examine(args: &Args) -> Result<bool> {
    if let Some(top) = &args.write_ledger {
        return ledger::update(top).and_then(|()| fields::update(top)).map(|()| true);
    }
    let outcomes_dir = tempfile::tempdir()?;
    let mut cases = match args.differential {
        true => differential::matrix(outcomes_dir.path(), args.every).cases,
        false => Matrix::all().cases,
    };
    let named = |names: &[String], name: &str| names.iter().any(|n| name.contains(n.as_str()));
    cases.retain(|c| {
        (args.filter.is_empty() || named(&args.filter, &c.name)) && !named(&args.exclude, &c.name)
    });
    if args.list {
        let mut out = std::io::stdout().lock();
        // The reader may have closed the pipe.
        let _ = cases.iter().try_for_each(|case| writeln!(out, "{:<50} {}", case.name, case.source));
        return Ok(true);
    }
    if !nix::unistd::geteuid().is_root() {
        return fail("must be run as root");
    }
    let probe = find_probe(args)?;
    let probe = probe.canonicalize().context(&format!("the probe {}", probe.display()))?;
    let settings = Settings { jobs: args.jobs, probe, busybox: args.busybox.clone() };
    must_be_static(&settings.probe)?;
    must_be_static(&settings.busybox)?;
    command::slow_by(args.slow);
    if let Some(dir) = &args.path {
        command::search_first(&dir.canonicalize().context(&format!("--path {}", dir.display()))?);
    }
    let found = |name: &String| {
        let runtime = Runtime::find(name)?;
        Ok(Runtime { systemd_cgroup: args.systemd_cgroup, ..runtime })
    };
    let mutants = match &args.mutants {
        Some(_) => mutants::read(&args.top, &cases, args.every)?,
        None => Vec::new(),
    };
    let runtimes: Vec<Runtime> = match &args.mutants {
        Some(orun) => mutants::runtimes(outcomes_dir.path(), &orun.canonicalize()?, &mutants)?,
        None if args.null => null::runtimes(outcomes_dir.path())?,
        None => args.runtime.iter().map(found).collect::<Result<_>>()?,
    };
    let pairs = match &args.mutants {
        Some(_) => mutants::pairs(&mutants),
        None => runner::all_pairs(&runtimes, &cases),
    };
    if args.mutants.is_some() {
        // What ignores where to write to writes into the current directory.
        std::env::set_current_dir(outcomes_dir.path())?;
    }
    if args.null {
        command::hasten_by(NULL_HASTE);
    }
    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1)?;
    runner::sweep_stale();
    let wanted =
        |pair, outcomes: &[_]| args.mutants.is_none() || mutants::is_open(&mutants, &cases, pair, outcomes);
    let outcomes = runner::run(&runtimes, &cases, pairs, &settings, wanted, |outcome, elapsed| {
        let name = &runtimes[outcome.runtime].name;
        let line = format!("{name:<6} {:<50} {:>6.2} s", outcome.case, elapsed.as_secs_f64());
        match &outcome.verdict {
            _ if args.null || args.mutants.is_some() => {}
            Verdict::Failed(why) => println!("FAIL   {line}  {why}"),
            _ if args.quiet => {}
            Verdict::Passed => println!("pass   {line}"),
            Verdict::Skipped(why) => println!("skip   {line}  {why}"),
        }
    })?;
    if args.differential {
        return differences(args, outcomes_dir.path(), &runtimes, &outcomes);
    }
    if args.mutants.is_some() {
        let (problems, noticed, skipped) = mutants::judge(&mutants, &outcomes);
        problems.iter().for_each(|p| println!("error: {p}"));
        println!(
            "{} mutants, {noticed} noticed, {skipped} not here, {} problems",
            mutants.len(),
            problems.len()
        );
        return Ok(problems.is_empty());
    }
    if args.null {
        let (passed, areas) = null::judge(&outcomes);
        passed.iter().for_each(|p| println!("error: {p}"));
        areas.iter().for_each(|a| println!("{a}"));
        println!("{} cases, {} passed by a runtime that runs nothing", cases.len(), passed.len());
        return Ok(passed.is_empty());
    }
    if let Some(file) = &args.table {
        std::fs::write(file, table::markdown(&runtimes, &cases, &outcomes))?;
    }
    let counts = table::count(&outcomes, |_| true);
    println!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped);
    Ok(counts.failed == 0)
}

/// Says which differences have no explanation.
fn differences(args: &Args, dir: &Path, runtimes: &[Runtime], outcomes: &[runner::Outcome]) -> Result<bool> {
    let compared =
        differential::compare(&differential::collect(dir)?, runtimes, &differential::rows(&args.top)?)?;
    if args.write_page {
        let page = differential::page(&compared, runtimes);
        std::fs::write(args.top.join(differential::PAGE), page)?;
    }
    let problems = compared.problems(args.every == 1);
    problems.iter().for_each(|p| println!("error: {p}"));
    // What a runtime leaves behind is a failure of the first one only: the others are what it is compared with.
    let failed =
        outcomes.iter().filter(|o| o.runtime == 0 && matches!(o.verdict, Verdict::Failed(_))).count();
    println!(
        "{} changes, {} differences from runc, {} without an explanation, {failed} cases failed",
        compared.changes,
        compared.differences.len(),
        problems.len()
    );
    Ok(problems.is_empty() && failed == 0)
}

fn find_probe(args: &Args) -> Result<PathBuf> {
    if let Some(path) = &args.probe {
        return Ok(path.clone());
    }
    let mut path = std::env::current_exe()?;
    path.set_file_name("probe");
    Ok(path)
}

/// A program that needs a dynamic linker cannot run in a container that has none.
fn must_be_static(path: &Path) -> Result<()> {
    let Ok(bytes) = std::fs::read(path) else { return fail(format!("{} cannot be read", path.display())) };
    let linker = b"/lib64/ld-linux";
    if bytes.windows(linker.len()).take(4096).any(|w| w == linker) {
        return fail(format!(
            "{} is not static: build it with RUSTFLAGS='-C target-feature=+crt-static' and --target, \
             or install busybox-static",
            path.display()
        ));
    }
    Ok(())
}
