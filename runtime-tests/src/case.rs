//! The environment of one case.

use crate::bundle::Bundle;
use crate::check::{Context, Done, Result, fail, skip};
use crate::command::{self, Cmd, Output};
use crate::container::Container;
use crate::leaks::{self, Snapshot, Traces};
use crate::report::Report;
use crate::runtime::Runtime;
use crate::{cgroup, proc};
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// One case's tools: a directory of its own, bundles, the runtime with a state directory of its own, a leak check.
#[derive(Debug)]
pub struct T<'a> {
    /// The runtime under test.
    pub runtime: &'a Runtime,
    /// An empty directory on a tmpfs, visible to everybody.
    pub dir: PathBuf,
    /// The state directory that is given as `--root`.
    pub root: PathBuf,
    marker: String,
    counter: Cell<usize>,
    ids: RefCell<Vec<String>>,
    own: RefCell<Vec<i32>>,
    before: Snapshot,
    /// Whether a program has been seen to run in a container of this case.
    works: Cell<bool>,
}

impl<'a> T<'a> {
    /// Fills `dir`, which the sandbox has just mounted. `programs` are the probe and busybox.
    pub fn new(runtime: &'a Runtime, dir: &Path, marker: &str, programs: &[(&str, &Path)]) -> Result<T<'a>> {
        fs::create_dir(dir.join("programs"))?;
        fs::create_dir(dir.join("logs"))?;
        for (name, path) in programs {
            fs::copy(path, dir.join("programs").join(name))
                .context(&format!("copying {}", path.display()))?;
        }
        let root = dir.join("state");
        // Runtimes make their default directory, but may refuse one that is named and missing.
        std::fs::DirBuilder::new().mode(0o700).create(&root)?;
        Ok(T {
            runtime,
            dir: dir.to_owned(),
            root,
            marker: marker.to_owned(),
            counter: Cell::new(0),
            ids: RefCell::default(),
            own: RefCell::default(),
            before: Snapshot::take(),
            works: Cell::new(false),
        })
    }

    fn next(&self) -> usize {
        self.counter.set(self.counter.get() + 1);
        self.counter.get()
    }

    /// A new container id.
    pub fn id(&self) -> String {
        let id = format!("{}-{}", self.marker, self.next());
        self.ids.borrow_mut().push(id.clone());
        id
    }

    /// What every id and cgroup of this case has in its name.
    pub fn marker(&self) -> &str {
        &self.marker
    }

    /// A new bundle.
    pub fn bundle(&self) -> Result<Bundle> {
        let number = self.next();
        let dir = self.dir.join(format!("bundle{number}"));
        let marker = &self.marker;
        let cgroup = match self.runtime.systemd_cgroup {
            false => format!("/{marker}-cg{number}"),
            true => format!("system.slice:{marker}:cg{number}"),
        };
        Bundle::make(&dir, &self.dir.join("programs"), &cgroup)
    }

    /// A new empty directory on the host, for volumes.
    pub fn volume(&self) -> Result<PathBuf> {
        let dir = self.dir.join(format!("volume{}", self.next()));
        fs::create_dir(&dir)?;
        Ok(dir)
    }

    /// A path on the host at which nothing is yet.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{}-{name}", self.next()))
    }

    /// The runtime's directory of states (`--root`), which need not exist yet.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A program of the host.
    pub fn host(&self, program: impl Into<PathBuf>) -> Cmd {
        Cmd::new(program, &self.dir.join("logs"))
    }

    /// The probe, run on the host.
    pub fn host_probe(&self) -> PathBuf {
        self.dir.join("programs/probe")
    }

    /// The runtime with no option yet, save for the one that names the cgroup manager.
    pub fn program(&self) -> Cmd {
        self.program_at(&self.runtime.path)
    }

    /// The same of a copy of the runtime.
    pub fn program_at(&self, path: &Path) -> Cmd {
        self.host(path).args(self.globals())
    }

    /// The options that every call of the runtime has, whoever makes it.
    pub fn globals(&self) -> &'static [&'static str] {
        if self.runtime.systemd_cgroup { &["--systemd-cgroup"] } else { &[] }
    }

    /// The runtime with `--root`, and no verb yet.
    pub fn runtime(&self) -> Cmd {
        self.program().arg("--root").arg(&self.root)
    }

    /// A verb of the runtime.
    pub fn verb(&self, verb: &str) -> Cmd {
        self.runtime().arg(verb)
    }

    /// `run --bundle B ID`, not started yet.
    pub fn run_cmd(&self, bundle: &Bundle) -> Result<Cmd> {
        bundle.save()?;
        Ok(self.verb("run").arg("--bundle").arg(&bundle.dir).arg(self.id()))
    }

    /// `run` of a bundle, to its end.
    pub fn run(&self, bundle: &Bundle) -> Result<Output> {
        self.run_cmd(bundle)?.output()
    }

    /// Runs a bundle whose program is the probe, and reads its report.
    pub fn report(&self, bundle: &Bundle) -> Result<Report> {
        let out = self.run(bundle)?.ok()?;
        let report = Report::parse(&out.stdout).context(&out.describe())?;
        self.has_worked();
        bundle.is_read_by_others()?;
        Ok(report)
    }

    /// A program of this case has run in a container and said so.
    pub fn has_worked(&self) {
        self.works.set(true);
    }

    /// Demands that the runtime runs a plain bundle, unless this case has seen it at work: what refuses or ignores
    /// everything has proved nothing by it.
    fn control(&self) -> Done {
        if self.works.get() {
            return Ok(());
        }
        let report = self.report(&self.bundle()?);
        report.map(drop).context("the runtime does not even run a plain bundle")?;
        self.nothing_left()
    }

    /// Runs `probe try WORDS` with this bundle and reads what came of it: `ok` or the name of an errno.
    pub fn attempt(&self, bundle: Bundle, words: &[&str]) -> Result<String> {
        let mut args = vec!["probe", "try"];
        args.extend(words);
        let out = self.run(&bundle.args(&args))?.ok()?;
        Ok(out.stdout.trim().to_owned())
    }

    /// Creates a container.
    pub fn create<'t>(&'t self, bundle: &Bundle) -> Result<Container<'t>> {
        self.create_with(bundle, |cmd| cmd)
    }

    /// Creates a container with more options between the verb and the id.
    pub fn create_with<'t>(
        &'t self,
        bundle: &Bundle,
        options: impl FnOnce(Cmd) -> Cmd,
    ) -> Result<Container<'t>> {
        bundle.save()?;
        let container = Container::new(self, self.id(), bundle);
        let cmd = self.verb("create").arg("--bundle").arg(&bundle.dir);
        let cmd = cmd.streams(&container.stdout, &container.stderr);
        options(cmd).arg(&container.id).ok()?;
        bundle.is_read_by_others()?;
        Ok(container)
    }

    /// Creates and starts a container.
    pub fn start<'t>(&'t self, bundle: &Bundle) -> Result<Container<'t>> {
        let container = self.create(bundle)?;
        container.start()?;
        Ok(container)
    }

    /// Creates and starts a container whose program is `probe sleep`, and waits until that program runs.
    pub fn sleeper<'t>(&'t self, bundle: Bundle) -> Result<Container<'t>> {
        let container = self.start(&bundle.sleeps())?;
        container.await_output("ready")?;
        Ok(container)
    }

    /// Demands that `run` of this bundle fails with one clear error that holds one of the phrases, and that nothing
    /// is left.
    pub fn refuses(&self, bundle: &Bundle, phrases: &[&str]) -> Result<Output> {
        if phrases.is_empty() {
            return fail("the case does not say what the error must name, so that any error would do");
        }
        bundle.save()?;
        let log = self.path("log.json");
        let id = self.id();
        let cmd = self.runtime().arg("--log").arg(&log).args(["--log-format", "json", "run", "--bundle"]);
        let out = cmd.arg(&bundle.dir).arg(&id).output()?.fails_with(phrases)?;
        one_error(&log)?;
        self.nothing_left().context(&out.describe())?;
        Ok(out)
    }

    /// Demands that `create` of this bundle fails, likewise.
    pub fn refuses_create(&self, bundle: &Bundle, phrases: &[&str]) -> Result<Output> {
        bundle.save()?;
        let cmd = self.verb("create").arg("--bundle").arg(&bundle.dir).arg(self.id());
        let out = cmd.output()?.fails_with(phrases)?;
        self.nothing_left().context(&out.describe())?;
        Ok(out)
    }

    /// Demands that nothing of any container of this case is left.
    pub fn nothing_left(&self) -> Done {
        let own = self.own.borrow();
        leaks::check(&self.before, Traces { root: &self.root, marker: &self.marker, own: &own })
    }

    /// Takes the snapshot that the leak check compares with again; for cases that mount things on the host first.
    pub fn settle(&mut self) {
        self.before = Snapshot::take();
    }

    /// A process of the case itself, which the leak check leaves alone.
    pub fn own_process(&self, pid: i32) {
        self.own.borrow_mut().push(pid);
    }

    /// Leaves the case unless the runtime is this one.
    pub fn only(&self, name: &str) -> Done {
        if self.runtime.is(name) { Ok(()) } else { skip(format!("only for {name}")) }
    }

    /// Leaves the case when systemd makes the cgroups, for this reason.
    pub fn without_systemd(&self, why: &str) -> Done {
        if self.runtime.systemd_cgroup { skip(why) } else { Ok(()) }
    }

    /// Leaves the case unless the kernel is at least this new.
    pub fn kernel(&self, major: u32, minor: u32) -> Done {
        let have = proc::kernel_version();
        if have >= (major, minor) { Ok(()) } else { skip(format!("needs Linux {major}.{minor}")) }
    }

    /// Leaves the case unless the host can limit this resource.
    pub fn controller(&self, name: &str) -> Done {
        if cgroup::has_controller(name) { Ok(()) } else { skip(format!("no cgroup controller {name}")) }
    }

    /// Ends the case: deletes what a passed case has left running, looks for leaks, and demands that the runtime does
    /// something at all.
    pub fn finish(&self, result: Done) -> Done {
        let mut cleanup = Ok(());
        for id in self.ids.borrow().iter() {
            if self.root.join(id).exists() {
                let out = self.verb("delete").args(["--force", id]).output().and_then(Output::ok);
                cleanup = cleanup.and(out.map(drop));
            }
        }
        for pid in self.own.borrow().iter() {
            if let Ok(fd) = crate::sys::pidfd_open(*pid) {
                let _ = crate::sys::pidfd_kill(&fd, libc::SIGKILL);
            }
        }
        command::reap();
        self.own.borrow_mut().clear();
        result?;
        cleanup.context("deleting what was left")?;
        self.nothing_left()?;
        self.control()
    }
}

/// Demands that a log file holds only JSON lines, exactly one of which is an error, with a text. Returns the text.
pub fn one_error(log: &Path) -> Result<String> {
    let text = fs::read_to_string(log).context("reading the log")?;
    let mut errors = Vec::new();
    for line in text.lines() {
        let entry: Value = serde_json::from_str(line).context(&format!("log line {line:?}"))?;
        if entry["level"] == "error" {
            errors.push(entry["msg"].as_str().unwrap_or("").to_owned());
        }
    }
    match errors.as_slice() {
        [one] if !one.is_empty() => Ok(one.clone()),
        _ => fail(format!("the log holds {} error entries instead of one: {text:?}", errors.len())),
    }
}
