//! `bench supervisor`: what `orund` costs, beside the system calls that a supervisor cannot do without.
//!
//! The program in all containers, and without one, is `floor stamp`: its first instruction takes the time and sends it to
//! a socket here. So whoever kills it knows when the next one ran, and nobody polls.

mod daemon;
mod restart;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde_json::{Value, json};

use crate::bundle::{Kind, Workshop};
use crate::{machine, peer, report};
use daemon::{Daemon, Memory};
use restart::Network;
use runtime_tests::stamps::{Stamps, now};

/// Measures orund against the bare system calls
#[derive(Parser)]
#[command(name = "bench supervisor")]
struct Arguments {
    /// The floor program
    #[arg(long)]
    floor: PathBuf,
    #[arg(long)]
    orund: PathBuf,
    /// Deaths of each kind
    #[arg(long, default_value_t = 60)]
    rounds: usize,
    /// Replicas whose memory, start and end are measured
    #[arg(long, value_delimiter = ',', default_value = "100,1000")]
    replicas: Vec<usize>,
    /// A static busybox for the root file system
    #[arg(long, default_value = "/bin/busybox")]
    busybox: PathBuf,
}

/// Where bundles and sockets are.
pub struct Place<'a> {
    pub floor: &'a Path,
    pub workshop: &'a Workshop,
}

/// A path that is text.
pub fn text(path: &Path) -> Result<&str, String> {
    path.to_str().ok_or_else(|| format!("the path {path:?} is not text"))
}

impl Place<'_> {
    /// The socket that a program of `orund` sees as `/stamps-NAME`: a replica has a root of its own, so that it is bound there.
    pub fn bound_socket(&self, name: &str) -> PathBuf {
        self.workshop.state(&format!("stamps-{name}"))
    }

    /// The socket that another program sees as `/stamps-NAME`.
    pub fn socket(&self, name: &str) -> PathBuf {
        self.workshop.rootfs().join(format!("stamps-{name}"))
    }

    /// The bundle of a program that reports to the socket of that name; `more` are arguments.
    pub fn bundle(
        &self,
        name: &str,
        network: Network,
        namespace: Option<&Path>,
        more: &[&str],
    ) -> Result<PathBuf, String> {
        let socket = format!("/stamps-{name}");
        let args = [&["/bin/floor", "stamp", &socket], more].concat();
        let v2 = peer::hierarchies().is_empty();
        let fail = |e: std::io::Error| format!("making the bundle {name}: {e}");
        let directory = self.workshop.bundle(name, Kind::Plain, name, &args, v2).map_err(fail)?;
        let file = directory.join("config.json");
        let mut config: Value =
            serde_json::from_slice(&std::fs::read(&file).map_err(fail)?).map_err(|e| e.to_string())?;
        if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut()
            && network != Network::New
        {
            namespaces.retain(|n| n["type"] != "network");
            namespaces.extend(namespace.map(|path| json!({ "type": "network", "path": path })));
        }
        if let Some(mounts) = config["mounts"].as_array_mut() {
            mounts.push(json!({ "destination": socket, "source": self.bound_socket(name), "type": "bind", "options": ["bind"] }));
        }
        std::fs::write(&file, config.to_string()).map_err(fail)?;
        Ok(directory)
    }
}

/// How long `orund` is left alone before its memory and its CPU time are looked at.
const SETTLE: Duration = Duration::from_secs(12);

pub fn main(words: impl Iterator<Item = String>) -> ExitCode {
    let arguments = Arguments::parse_from(words);
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
    std::fs::copy(&arguments.floor, workshop.rootfs().join("bin/floor"))
        .map_err(|e| format!("copying the floor: {e}"))?;
    let place = Place { floor: &arguments.floor, workshop: &workshop };
    let directory = workshop.state("orund");
    println!("{}", machine(arguments.rounds));

    let daemon = Daemon::start(&arguments.orund, &directory)?;
    let rows = restart::rows(&place, &daemon, arguments.rounds)?;
    drop(daemon);
    let columns = ["floor", "bare fork and exec", "orund"].map(String::from);
    println!("{}", report::table(&columns, &rows));

    println!("| replicas | all run after | all gone after | private dirty | each | PSS | each | idle CPU |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut none = None;
    for replicas in [0].iter().chain(&arguments.replicas) {
        many(arguments, &place, &directory, *replicas, &mut none)?;
    }

    let daemon = Daemon::start(&arguments.orund, &directory)?;
    println!("\n{}", storm(&place, &daemon)?);
    Ok(())
}

/// One line of the table of many replicas.
fn many(
    arguments: &Arguments,
    place: &Place,
    directory: &Path,
    replicas: usize,
    none: &mut Option<Memory>,
) -> Result<(), String> {
    const IDLE: Duration = Duration::from_secs(5);
    let daemon = Daemon::start(&arguments.orund, directory)?;
    let name = format!("many{replicas}");
    let stamps = Stamps::bind(&place.bound_socket(&name))?;
    let mut up = Duration::ZERO;
    if replicas > 0 {
        let bundle = place.bundle(&name, Network::New, None, &[])?;
        let begin = now();
        daemon.apply(&name, &bundle, replicas)?;
        up = stamps.wait_for(replicas, Duration::from_secs(120))?.saturating_sub(begin);
    }
    std::thread::sleep(SETTLE);
    let before = daemon.cpu();
    std::thread::sleep(IDLE);
    let idle = daemon.cpu().saturating_sub(before);
    let memory = daemon.memory();
    let begin = now();
    if replicas > 0 {
        daemon.delete(&name)?;
    }
    let down = now().saturating_sub(begin);
    let base = *none.get_or_insert(memory);
    let each = |now: u64, then: u64| match replicas {
        0 => String::new(),
        n => format!("{:.1} kB", (now as f64 - then as f64) / n as f64),
    };
    let time = |t: Duration| if replicas > 0 { format!("{:.2} s", t.as_secs_f64()) } else { String::new() };
    println!(
        "| {replicas} | {} | {} | {} kB | {} | {} kB | {} | {:.3} % |",
        time(up),
        time(down),
        memory.private_dirty,
        each(memory.private_dirty, base.private_dirty),
        memory.pss,
        each(memory.pss, base.pss),
        idle.as_secs_f64() / IDLE.as_secs_f64() * 100.0,
    );
    Ok(())
}

/// Restarts of programs that end at once.
fn storm(place: &Place, daemon: &Daemon) -> Result<String, String> {
    const REPLICAS: usize = 200;
    const LENGTH: Duration = Duration::from_secs(5);
    let stamps = Stamps::bind(&place.bound_socket("storm"))?;
    let bundle = place.bundle("storm", Network::New, None, &["exit"])?;
    daemon.apply("storm", &bundle, REPLICAS)?;
    stamps.wait_for(REPLICAS, Duration::from_secs(60))?;
    stamps.drain();
    let (begin, cpu) = (now(), daemon.cpu());
    let mut count = 0;
    while now() < begin + LENGTH {
        count += u32::from(stamps.next(Duration::from_millis(100)).is_some());
    }
    let (elapsed, cpu) = (now().saturating_sub(begin), daemon.cpu().saturating_sub(cpu));
    daemon.delete("storm")?;
    Ok(format!(
        "{:.0} restarts per second, of {REPLICAS} replicas that end at once, each with a new network namespace; {:.2} ms of CPU \
         time of orund and keeper for each.",
        f64::from(count) / elapsed.as_secs_f64(),
        cpu.as_secs_f64() * 1000.0 / f64::from(count.max(1)),
    ))
}
