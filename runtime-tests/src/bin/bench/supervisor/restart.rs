//! From the death of a program to the first instruction of the one that takes its place.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::daemon::Daemon;
use super::{Place, text};
use crate::peer;
use crate::report::{Cell, Row, Unit, median};
use crate::sys;
use runtime_tests::stamps::{Stamp, Stamps, now};

/// What network namespace a container has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Network {
    Host,
    New,
    Kept,
}

impl Network {
    pub const ALL: [Network; 3] = [Network::Host, Network::New, Network::Kept];

    fn name(self) -> &'static str {
        match self {
            Network::Host => "host",
            Network::New => "new",
            Network::Kept => "kept",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Network::Host => "death to replacement",
            Network::New => "the same, with a new network namespace",
            Network::Kept => "the same, joining a kept network namespace",
        }
    }
}

/// The workload with a spare.
const SPARE: &str = "spare";

/// A network namespace that stays: that of a process which does nothing.
pub struct Namespace(Child);

impl Namespace {
    pub fn new(place: &Place) -> Result<Namespace, String> {
        let mut command = Command::new("unshare");
        command.arg("--net").arg(place.floor).arg("stamp").arg(place.socket("namespace"));
        let stamps = Stamps::bind(&place.socket("namespace"))?;
        let child = command.stdin(Stdio::null()).spawn().map_err(|e| format!("starting unshare: {e}"))?;
        stamps.wait()?;
        Ok(Namespace(child))
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.0.id()).into()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One program that somebody keeps running.
struct Kept {
    stamps: Stamps,
    current: Stamp,
    samples: Vec<Duration>,
    /// The floor, when it is that which keeps it.
    floor: Option<(Child, String)>,
}

impl Kept {
    fn new(stamps: Stamps, floor: Option<(Child, String)>) -> Result<Kept, String> {
        let current = stamps.wait()?;
        Ok(Kept { stamps, current, samples: Vec::new(), floor })
    }

    fn measure(&mut self, counts: bool) -> Result<(), String> {
        let begin = now();
        sys::kill(self.current.pid);
        self.current = self.stamps.wait()?;
        if counts {
            self.samples.push(self.current.at.saturating_sub(begin));
        }
        Ok(())
    }

    fn cell(&self) -> Cell {
        median(self.samples.clone()).map_or(Cell::Nothing(""), |m| Cell::Figure(m.as_secs_f64() * 1000.0))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let Some((child, cgroup)) = &mut self.floor else { return };
        let _ = child.kill();
        let _ = child.wait();
        sys::kill(self.current.pid);
        std::thread::sleep(Duration::from_millis(100));
        // It is killed while its container runs, whose cgroup it leaves.
        for hierarchy in peer::hierarchies().iter().map(String::as_str).chain([""]) {
            let dirs =
                fs::read_dir(Path::new("/sys/fs/cgroup").join(hierarchy)).into_iter().flatten().flatten();
            for dir in dirs.filter(|d| d.file_name().to_string_lossy().starts_with(&format!("{cgroup}-"))) {
                let _ = fs::remove_dir(dir.path());
            }
        }
    }
}

/// The program without a container.
fn bare(place: &Place) -> Result<Kept, String> {
    let stamps = Stamps::bind(&place.socket("bare"))?;
    let mut command = Command::new(place.floor);
    command.args(["respawn", text(place.floor)?, "stamp"]).arg(place.socket("bare"));
    let child = command.stdin(Stdio::null()).spawn().map_err(|e| format!("starting the floor: {e}"))?;
    Kept::new(stamps, Some((child, "none".to_owned())))
}

fn floor(place: &Place, network: Network, kept: &Namespace) -> Result<Kept, String> {
    let name = format!("floor-{}", network.name());
    let stamps = Stamps::bind(&place.socket(&name))?;
    let cgroup = format!("orun-bench-{name}");
    let mut command = Command::new(place.floor);
    command.arg("keep");
    let hierarchies = peer::hierarchies();
    if !hierarchies.is_empty() {
        command.args(["--hierarchies", &hierarchies.join(":")]);
    }
    match network {
        Network::Host => drop(command.args(["--network", "host"])),
        Network::New => {}
        Network::Kept => drop(command.arg("--network").arg(kept.path())),
    }
    command.arg(&cgroup).arg(place.workshop.rootfs()).args([
        "/bin/floor",
        "stamp",
        &format!("/stamps-{name}"),
    ]);
    let child = command.stdin(Stdio::null()).spawn().map_err(|e| format!("starting the floor: {e}"))?;
    Kept::new(stamps, Some((child, cgroup)))
}

fn orund(place: &Place, daemon: &Daemon, network: Network, kept: &Namespace) -> Result<Kept, String> {
    let stamps = Stamps::bind(&place.bound_socket(network.name()))?;
    let path = (network == Network::Kept).then(|| kept.path());
    let bundle = place.bundle(network.name(), network, path.as_deref(), &[])?;
    daemon.apply(network.name(), &bundle, 1)?;
    Kept::new(stamps, None)
}

/// A container with a new network namespace whose replacement waits, created, all the time.
fn spare(place: &Place, daemon: &Daemon) -> Result<Kept, String> {
    let stamps = Stamps::bind(&place.bound_socket(SPARE))?;
    daemon.apply_with_spares(SPARE, &place.bundle(SPARE, Network::New, None, &[])?)?;
    Kept::new(stamps, None)
}

/// The rows of the table; its columns are the floor, a bare supervisor and orund.
pub fn rows(place: &Place, daemon: &Daemon, rounds: usize) -> Result<Vec<Row>, String> {
    let namespace = Namespace::new(place)?;
    let mut all = vec![bare(place)?];
    for network in Network::ALL {
        all.push(floor(place, network, &namespace)?);
        all.push(orund(place, daemon, network, &namespace)?);
    }
    all.push(spare(place, daemon)?);
    // The first rounds warm caches and do not count.
    for round in 0..rounds + 3 {
        for turn in 0..all.len() {
            // Longer than the shortest time that orund lets pass between two starts of a container, over all of them.
            std::thread::sleep(Duration::from_millis(25));
            let at = (turn + round) % all.len();
            all[at].measure(round >= 3)?;
        }
    }
    for name in Network::ALL.map(Network::name).into_iter().chain([SPARE]) {
        daemon.delete(name)?;
    }
    let row = |label: &str, cells: Vec<Cell>| Row {
        label: label.to_owned(),
        unit: Unit::Milliseconds,
        cells,
        base: Some(0),
    };
    let of = |(n, network): (usize, Network)| {
        let bare = if network == Network::Host { all[0].cell() } else { Cell::Nothing("") };
        row(network.label(), vec![all[2 * n + 1].cell(), bare, all[2 * n + 2].cell()])
    };
    let mut rows: Vec<Row> = Network::ALL.into_iter().enumerate().map(of).collect();
    let new = all[2 * Network::New as usize + 1].cell();
    let spare = all[all.len() - 1].cell();
    rows.push(row(
        "the same, from a spare with a new network namespace",
        vec![new, Cell::Nothing(""), spare],
    ));
    Ok(rows)
}
