//! What is compared, and the operations: how each of them is said to a runtime and to the floor.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bundle::{Kind, Workshop};
use crate::measure::{self, Sample};

#[derive(Clone)]
pub struct Peer {
    pub name: String,
    pub path: String,
}

/// The name of the peer that is not a runtime.
pub const FLOOR: &str = "floor";

const CGROUPS: &str = "/sys/fs/cgroup";
const FLOOR_CGROUP: &str = "orun-bench-floor";

/// What is measured of one kind of bundle.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Run,
    /// create, start and delete, with the CPU time of the container's own process.
    Cycle,
    Create,
    Start,
    Delete,
    Exec,
    State,
    Kill,
}

/// A peer's bundles of one kind, and a container that stays for `exec`, `state` and `kill`.
pub struct Stand<'a> {
    pub peer: &'a Peer,
    state: String,
    short: String,
    long: String,
    /// Words of the floor after its verb, up to the cgroup.
    floor: Vec<String>,
    rootfs: String,
    kind: Kind,
    /// The cgroup and the pid of a container of some runtime, which the floor can exec in.
    pub host: Option<(String, i32)>,
}

fn text(path: &Path) -> String {
    path.to_str().expect("a temporary directory's name is text").to_string()
}

/// The v1 hierarchies below /sys/fs/cgroup; none when it is cgroup2.
pub fn hierarchies() -> Vec<String> {
    let base = PathBuf::from(CGROUPS);
    if base.join("cgroup.procs").exists() {
        return Vec::new();
    }
    let mut names: Vec<String> = std::fs::read_dir(base)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()))
        .filter(|entry| entry.path().join("cgroup.clone_children").exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

impl<'a> Stand<'a> {
    pub fn new(workshop: &Workshop, peer: &'a Peer, kind: Kind) -> std::io::Result<Stand<'a>> {
        let hierarchies = hierarchies();
        let v2 = hierarchies.is_empty();
        let mut floor = Vec::new();
        if !v2 {
            floor.extend(["--hierarchies".to_string(), hierarchies.join(":")]);
        }
        if kind == Kind::Docker {
            floor.extend(["--docker".to_string(), text(&workshop.extras())]);
        }
        let cgroup = format!("orun-bench-{}", peer.name);
        let short = workshop.bundle(&peer.name, kind, &cgroup, &["/bin/true"], v2)?;
        let long =
            workshop.bundle(&peer.name, kind, &format!("{cgroup}-long"), &["/bin/sleep", "86400"], v2)?;
        Ok(Stand {
            peer,
            state: text(&workshop.state(&peer.name)),
            short: text(&short),
            long: text(&long),
            floor,
            rootfs: text(&workshop.rootfs()),
            kind,
            host: None,
        })
    }

    pub fn is_floor(&self) -> bool {
        self.peer.name == FLOOR
    }

    /// A container's id: one name per peer, since some runtimes derive host-wide names from it.
    fn id(&self, which: &str) -> String {
        format!("orun-bench-{}-{}-{which}", self.peer.name, self.kind.name())
    }

    fn runtime(&self, words: &[&str]) -> Vec<String> {
        [&[self.peer.path.as_str(), "--root", &self.state], words]
            .concat()
            .into_iter()
            .map(String::from)
            .collect()
    }

    fn floor(&self, verb: &str, words: &[&str]) -> Vec<String> {
        let options = self.floor.iter().map(String::as_str);
        let head = [self.peer.path.as_str(), verb].into_iter();
        head.chain(options).chain(words.iter().copied()).map(String::from).collect()
    }

    /// The command line of an operation that is one command; `None` when the floor has none.
    pub fn words(&self, step: Step) -> Option<Vec<String>> {
        let long = self.id("long");
        if self.is_floor() {
            return match step {
                Step::Run | Step::Cycle => {
                    Some(self.floor("run", &[FLOOR_CGROUP, &self.rootfs, "/bin/true"]))
                }
                Step::Exec => {
                    let (cgroup, pid) = self.host.as_ref()?;
                    Some(self.floor("exec", &[cgroup, &pid.to_string(), "/bin/true"]))
                }
                _ => None,
            };
        }
        match step {
            Step::Run => Some(self.runtime(&["run", "--bundle", &self.short, &self.id("run")])),
            Step::Exec => Some(self.runtime(&["exec", &long, "/bin/true"])),
            Step::State => Some(self.runtime(&["state", &long])),
            // The default action of SIGWINCH is to ignore it.
            Step::Kill => Some(self.runtime(&["kill", &long, "WINCH"])),
            _ => None,
        }
    }

    pub fn create_words(&self, which: &str) -> Vec<String> {
        self.runtime(&["create", "--bundle", &self.short, "--pid-file", &self.pid_file(), &self.id(which)])
    }

    pub fn start_words(&self, which: &str) -> Vec<String> {
        self.runtime(&["start", &self.id(which)])
    }

    pub fn delete_words(&self, which: &str) -> Vec<String> {
        self.runtime(&["delete", &self.id(which)])
    }

    pub fn list_words(&self) -> Vec<String> {
        self.runtime(&["list"])
    }

    fn pid_file(&self) -> String {
        format!("{}/pid", self.short)
    }

    /// Creates a container that is done once it is started.
    pub fn create(&self, which: &str) -> Result<(), String> {
        self.call(&["create", "--bundle", &self.short, "--pid-file", &self.pid_file(), &self.id(which)])
            .map(drop)
    }

    /// Starts the container that was created last, and waits for its end.
    pub fn start(&self, which: &str) -> Result<(), String> {
        let text =
            std::fs::read_to_string(self.pid_file()).map_err(|e| format!("reading the pid file: {e}"))?;
        let pid: i32 = text.trim().parse().map_err(|e| format!("the pid file: {e}"))?;
        self.call(&["start", &self.id(which)])?;
        measure::wait_for_orphan(pid).map(drop)
    }

    fn call(&self, words: &[&str]) -> Result<Sample, String> {
        let words = self.runtime(words);
        measure::run(measure::command(&words.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    /// Starts the container that stays.
    pub fn open(&mut self) -> Result<(), String> {
        let (id, pid_file) = (self.id("long"), format!("{}/pid", self.long));
        self.call(&["create", "--bundle", &self.long, "--pid-file", &pid_file, &id])?;
        self.call(&["start", &id])?;
        let pid = std::fs::read_to_string(&pid_file).map_err(|e| format!("reading {pid_file}: {e}"))?;
        let pid = pid.trim().parse().map_err(|e| format!("{pid_file}: {e}"))?;
        self.host = Some((format!("orun-bench-{}-long", self.peer.name), pid));
        Ok(())
    }

    /// Takes away what is left of a container, if anything is.
    pub fn remove(&self, which: &str) {
        if !self.is_floor() {
            let _ = self.call(&["delete", "--force", &self.id(which)]);
            return;
        }
        // The floor keeps no record; what is left of one that was killed is its cgroup.
        for hierarchy in hierarchies().iter().map(String::as_str).chain([""]) {
            let _ = std::fs::remove_dir(Path::new(CGROUPS).join(hierarchy).join(FLOOR_CGROUP));
        }
    }

    /// Removes every container that this peer may have left.
    pub fn close(&mut self) {
        for which in ["long", "run", "cycle"] {
            self.remove(which);
        }
        measure::reap_orphans();
        self.host = None;
    }

    /// Carries out one operation; the samples of its parts come with it.
    pub fn measure(&self, step: Step) -> Result<Vec<(Step, Sample)>, String> {
        if step == Step::Cycle && !self.is_floor() {
            return self.cycle();
        }
        let Some(words) = self.words(step) else { return Ok(Vec::new()) };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut sample = measure::run(measure::command(&words))?;
        sample.cpu += measure::reap_orphans();
        Ok(vec![(step, sample)])
    }

    fn cycle(&self) -> Result<Vec<(Step, Sample)>, String> {
        let (id, pid_file) = (self.id("cycle"), format!("{}/pid", self.short));
        let create = self.call(&["create", "--bundle", &self.short, "--pid-file", &pid_file, &id])?;
        let pid = std::fs::read_to_string(&pid_file).map_err(|e| format!("reading {pid_file}: {e}"))?;
        let pid: i32 = pid.trim().parse().map_err(|e| format!("{pid_file}: {e}"))?;
        let start = self.call(&["start", &id])?;
        let init: Duration = measure::wait_for_orphan(pid)?;
        let delete = self.call(&["delete", &id])?;
        let mut whole = create + start + delete;
        whole.cpu += init + measure::reap_orphans();
        Ok(vec![(Step::Cycle, whole), (Step::Create, create), (Step::Start, start), (Step::Delete, delete)])
    }
}
