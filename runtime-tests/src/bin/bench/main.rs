//! Compares OCI runtimes with each other and with the floor, in one run, as ratios.
//!
//! Rounds are interleaved: every round carries out each operation once with each peer, and begins with another peer each
//! time, so that whatever else the machine does falls on all of them alike. Wall time is from the start of a command to
//! its end; CPU time is user and system time of the command, of what it waited for, and of the processes that it left and
//! that have exited since. Figures are medians.

mod bundle;
mod count;
mod exact;
mod measure;
mod order;
mod peer;
mod profile;
mod report;
mod supervisor;
mod sys;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use bundle::{Kind, Workshop};
use count::Counter;
use measure::Sample;
use peer::{Peer, Stand, Step};
use report::{Cell, Row, Unit};

/// Compares OCI runtimes with each other and with the bare system calls
#[derive(Parser)]
struct Arguments {
    /// The floor program
    #[arg(long)]
    floor: PathBuf,
    /// Print the functions of the first peer in the order in which they are first executed, and end
    #[arg(long)]
    order: bool,
    /// Print the exact figures of the first peer, to be recorded, and end
    #[arg(long)]
    record: bool,
    /// Compare the exact figures of the first peer with those recorded in this file, and end
    #[arg(long, value_name = "FILE")]
    check: Option<String>,
    /// A runtime; may be given several times, and the first is the one in question
    #[arg(long = "peer", value_name = "NAME=PATH", required = true, value_parser = peer_from)]
    peers: Vec<Peer>,
    /// The peer that start, state, kill and delete are divided by, for which there is no floor
    #[arg(long, default_value = "crun")]
    base: String,
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// A static busybox for the root file system
    #[arg(long, default_value = "/bin/busybox")]
    busybox: PathBuf,
    /// Without performance counters, count up to so many instructions by single steps; 0 counts none
    #[arg(long, default_value_t = 3_000_000)]
    steps: u64,
}

fn peer_from(text: &str) -> Result<Peer, String> {
    let (name, path) = text.split_once('=').ok_or("expected NAME=PATH")?;
    Ok(Peer { name: name.into(), path: path.into() })
}

const ROWS: [(Step, &str); 8] = [
    (Step::Run, "`run`"),
    (Step::Cycle, "`create` + `start` + `delete`"),
    (Step::Create, "`create`"),
    (Step::Start, "`start`"),
    (Step::Delete, "`delete`"),
    (Step::Exec, "`exec`"),
    (Step::State, "`state`"),
    (Step::Kill, "`kill`"),
];

/// What is carried out in a round; create, start and delete are parts of the cycle.
const OPERATIONS: [Step; 5] = [Step::Run, Step::Cycle, Step::Exec, Step::State, Step::Kill];

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|mode| mode == "supervisor") {
        return supervisor::main(std::env::args().skip(1));
    }
    let arguments = Arguments::parse();
    sys::become_subreaper();
    match bench(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &Arguments) -> Result<(), String> {
    let workshop = Workshop::new(&arguments.busybox).map_err(|e| format!("making the bundles: {e}"))?;
    let runtime = &arguments.peers[0];
    if arguments.order {
        return order::print(&workshop, runtime);
    }
    if arguments.record {
        return exact::record(&workshop, runtime, arguments.steps);
    }
    if let Some(file) = &arguments.check {
        return exact::check(&workshop, runtime, arguments.steps, file);
    }
    let floor = arguments.floor.to_str().ok_or("the floor's path is not text")?;
    let mut peers = vec![Peer { name: peer::FLOOR.into(), path: floor.into() }];
    peers.extend(arguments.peers.iter().cloned());
    println!("{}", machine(arguments.rounds));
    for peer in &arguments.peers {
        println!("- {}: {}", peer.name, version(peer));
    }
    let mut failures = Vec::new();
    for kind in Kind::ALL {
        let mut stands = Vec::new();
        for peer in &peers {
            stands.push(Stand::new(&workshop, peer, kind).map_err(|e| format!("making a bundle: {e}"))?);
        }
        let samples = rounds(&mut stands, arguments.rounds, &mut failures);
        let mut rows = times(&samples, &peers, &arguments.base);
        rows.extend(counts(&stands, &peers, arguments, &mut failures));
        stands.iter_mut().filter(|stand| !stand.is_floor()).for_each(Stand::close);
        let columns: Vec<String> = peers.iter().map(|p| p.name.clone()).collect();
        println!("\n### The {} bundle\n\n{}", kind.name(), report::table(&columns, &rows));
    }
    failures.sort();
    failures.dedup();
    for failure in &failures {
        println!("- {failure}");
    }
    Ok(())
}

fn machine(rounds: usize) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let load = read("/proc/loadavg");
    let cgroups = if peer::hierarchies().is_empty() { "cgroup v2" } else { "cgroup v1" };
    format!(
        "Linux {}, {} processors, {cgroups}, load average {} at the start, {rounds} rounds. Medians; in brackets the ratio \
         to the first column, or where that is empty to the column without a ratio.\n",
        read("/proc/sys/kernel/osrelease").trim(),
        std::thread::available_parallelism().map_or(0, |n| n.get()),
        load.split(' ').next().unwrap_or_default(),
    )
}

fn version(peer: &Peer) -> String {
    let output = measure::command(&[&peer.path, "--version"]).output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("no version").to_string()
}

/// The samples of one bundle, by peer.
type Samples = Vec<Vec<(Step, Sample)>>;

fn rounds(stands: &mut [Stand], rounds: usize, failures: &mut Vec<String>) -> Samples {
    let mut samples: Samples = stands.iter().map(|_| Vec::new()).collect();
    let mut broken: Vec<(usize, Step)> = Vec::new();
    for stand in stands.iter_mut().filter(|stand| !stand.is_floor()) {
        if let Err(error) = stand.open() {
            failures.push(format!("{}: {error}", stand.peer.name));
        }
    }
    // The floor can exec in anybody's container.
    let host = stands.iter().find_map(|stand| stand.host.clone());
    stands.iter_mut().filter(|stand| stand.is_floor()).for_each(|stand| stand.host = host.clone());
    // The first round warms caches and does not count.
    for round in 0..=rounds {
        for step in OPERATIONS {
            for turn in 0..stands.len() {
                let index = (turn + round) % stands.len();
                if broken.contains(&(index, step)) {
                    continue;
                }
                match stands[index].measure(step) {
                    Ok(new) if round > 0 => samples[index].extend(new),
                    Ok(_) => {}
                    Err(error) => {
                        failures.push(format!("{}: {error}", stands[index].peer.name));
                        broken.push((index, step));
                        samples[index].retain(|(measured, _)| *measured != step);
                    }
                }
            }
        }
    }
    samples
}

/// Medians of CPU and wall time.
fn times(samples: &Samples, peers: &[Peer], base: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for (step, label) in ROWS {
        let medians = |of: fn(&Sample) -> Duration| {
            samples.iter().zip(peers).map(move |(taken, peer)| {
                let values = taken.iter().filter(|(s, _)| *s == step).map(|(_, sample)| of(sample)).collect();
                match report::median(values) {
                    Some(median) => Cell::Figure(median.as_secs_f64() * 1000.0),
                    None if peer.name == peer::FLOOR => Cell::Nothing(""),
                    None => Cell::Nothing("fails"),
                }
            })
        };
        let cpu = medians(|sample| sample.cpu).collect();
        rows.push(row(format!("{label}, CPU"), Unit::Milliseconds, cpu, peers, base));
        let wall = medians(|sample| sample.wall).collect();
        rows.push(row(format!("{label}, wall"), Unit::Milliseconds, wall, peers, base));
    }
    rows
}

/// The base is the floor where it has a figure, else the peer that is named for it.
fn row(label: String, unit: Unit, cells: Vec<Cell>, peers: &[Peer], base: &str) -> Row {
    let base = match cells.first() {
        Some(Cell::Figure(_)) => Some(0),
        _ => peers.iter().position(|peer| peer.name == base),
    };
    Row { label, unit, cells, base }
}

/// Memory, system calls and instructions, each taken once.
fn counts(stands: &[Stand], peers: &[Peer], arguments: &Arguments, failures: &mut Vec<String>) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |label: String, unit: Unit, step: Step, count: &dyn Fn(&[&str]) -> Result<Cell, String>| {
        let cells = stands.iter().map(|stand| count_cell(stand, step, failures, count)).collect();
        rows.push(row(label, unit, cells, peers, &arguments.base));
    };
    let figure = |value: u64| Cell::Figure(value as f64);
    add("`run`, peak memory".into(), Unit::Kilobytes, Step::Run, &|w| count::peak_memory(w).map(figure));
    let steps = [(Step::Run, "run"), (Step::Exec, "exec"), (Step::State, "state")];
    for (step, verb) in steps {
        let label = format!("`{verb}`, system calls");
        add(label, Unit::Count, step, &|w| count::system_calls(w).map(figure));
    }
    if let Some(counter) = Counter::find(arguments.steps) {
        for (step, verb) in steps {
            add(format!("`{verb}`, instructions in user mode"), Unit::Count, step, &|w| {
                Ok(counter.count(w)?.map_or(Cell::MoreThan(arguments.steps as f64), figure))
            });
        }
    }
    rows
}

fn count_cell(
    stand: &Stand,
    step: Step,
    failures: &mut Vec<String>,
    count: &dyn Fn(&[&str]) -> Result<Cell, String>,
) -> Cell {
    let Some(words) = stand.words(step) else { return Cell::Nothing("") };
    let counted = count(&words.iter().map(String::as_str).collect::<Vec<_>>());
    if !matches!(counted, Ok(Cell::Figure(_))) {
        stand.remove("run");
    }
    measure::reap_orphans();
    counted.unwrap_or_else(|error| {
        failures.push(format!("{}: {error}", stand.peer.name));
        Cell::Nothing("fails")
    })
}
