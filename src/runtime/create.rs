//! Creating a container: everything up to the program, which then waits for `start` or runs at once.

use super::{Runtime, delete};
use crate::config::bundle::Bundle;
use crate::config::spec::Spec;
use crate::error::{Error, Kind, Result};
use crate::kernel::cgroup::{Cgroup, systemd};
use crate::kernel::launch::{Launch, LaunchInputs, Reaper};
use crate::kernel::path::cpath;
use crate::kernel::{console, output, probe, rdt, sd_notify, terminal};
use crate::log;
use crate::plan::compile::{self, Input, Options, Plan};
use crate::plan::facts::HostFacts;
use crate::plan::hooks::timeout_ms;
use crate::plan::tables::namespaces::{self, NamespaceKind};
use crate::plan::{Violation, cgroup};
use crate::state::id::ContainerId;
use crate::state::lifecycle::Phase;
use crate::state::model::{self, CgroupManager, ProcessId, Record, StartNotes, VERSION};
use crate::state::store::ContainerDir;
use crate::sys::{cred, fd, file, socket, timestamp};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The socket in the state directory on which a created container waits for `start`.
pub(super) const START_SOCKET: &str = "start";
/// How long the kernel may take to let a cgroup of killed processes go.
const CGROUP_TIMEOUT: Duration = Duration::from_secs(10);

/// How a container is created.
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// The directory of the bundle.
    pub bundle: PathBuf,
    /// Instead of the bundle's config.json.
    pub config: Option<PathBuf>,
    /// The unix socket that gets the terminal's master.
    pub console_socket: Option<PathBuf>,
    /// Where the PID of the first process is written.
    pub pid_file: Option<PathBuf>,
    /// The unix socket that gets a pidfd of the first process.
    pub pidfd_socket: Option<PathBuf>,
    /// MS_MOVE and chroot(2) instead of pivot_root(2).
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// Descriptors from 3 on that the program gets.
    pub preserve_fds: u32,
    /// Overrides `process.terminal`.
    pub terminal: Option<bool>,
    /// The caller does not stay to serve the terminal.
    pub detached: bool,
}

/// Resources that the creator passes to the process of a container.
#[derive(Debug, Default)]
pub(super) struct ProcessSetup {
    /// The standard streams; None: the caller's.
    pub stdio: Option<[OwnedFd; 3]>,
    /// Detached mounts, for those that the plan has as given.
    pub mounts: Vec<OwnedFd>,
    /// The process that reaps it.
    pub reaper: Reaper,
}

/// A container whose process is ready to run the program.
#[derive(Debug)]
pub(super) struct Created {
    /// Its directory, locked.
    pub entry: ContainerDir,
    /// Its record, not yet written in its last form.
    pub record: Record,
    /// The plan that its process executes.
    pub plan: Plan,
    /// Its process, which waits.
    pub launch: Launch,
    /// Its cgroups.
    pub cgroup: Cgroup,
}

/// `create`.
///
/// # Errors
/// Everything that is wrong with the bundle, at once; what the host cannot do. Nothing is left behind.
pub fn create(rt: &Runtime, id: &str, options: &CreateOptions) -> Result<()> {
    let options = CreateOptions { detached: true, ..options.clone() };
    let made = make(rt, id, &options, true)?;
    made.complete(Phase::Created, &options)?;
    Ok(())
}

impl Created {
    /// Records that the container is created, reports its pid to the caller, and lets the process continue.
    pub(super) fn complete(mut self, phase: Phase, options: &CreateOptions) -> Result<Created> {
        self.record.phase = phase;
        if phase == Phase::Running {
            self.record.start = None;
        }
        let told = self
            .entry
            .write_record(&self.record)
            .and_then(|()| tell_pid(self.launch.pid, &self.launch.pidfd, options))
            .and_then(|()| self.launch.resume_child());
        match told {
            Ok(()) => Ok(self),
            Err(e) => {
                self.destroy();
                Err(e)
            }
        }
    }

    /// Removes a container whose process has exited, as the last thing that a command does: the descriptors of the
    /// launch are left to exit(2), which closes all of them at once, and so is memory.
    pub(super) fn finish(self) {
        clean_up(self.entry, &self.record, Some(&self.cgroup));
        std::mem::forget((self.launch, self.cgroup, self.record, self.plan));
    }

    /// Undoes the container.
    pub(super) fn destroy(self) {
        undo(self.entry, &self.record, &self.launch, &self.cgroup);
    }
}

/// Undoes a container of which these are the parts.
pub(super) fn undo(entry: ContainerDir, record: &Record, launch: &Launch, cgroup: &Cgroup) {
    launch.kill();
    clean_up(entry, record, Some(cgroup));
}

/// Compiles the bundle `id` is to be made from.
///
/// # Errors
/// All violations in one error.
pub fn compile(
    rt: &Runtime,
    id: &str,
    options: &CreateOptions,
    wait_for_start: bool,
) -> Result<(Bundle, Plan)> {
    compile_for(rt, id, options, wait_for_start, |_| ())
}

/// As [`compile`], with the facts about the host as `adjust` makes them.
pub(super) fn compile_for(
    rt: &Runtime,
    id: &str,
    options: &CreateOptions,
    wait_for_start: bool,
    adjust: impl FnOnce(&mut HostFacts),
) -> Result<(Bundle, Plan)> {
    let mut bundle = load(options)?;
    if rt.notify_socket.is_some() {
        let state = rt.store.root().join(id);
        sd_notify::prepare(&mut bundle.spec, &state.join(sd_notify::DIRECTORY));
    }
    let plan = compile_bundle(rt, id, &bundle, options, wait_for_start, adjust)?;
    Ok((bundle, plan))
}

/// Reads the bundle, with what the command line says instead of it.
pub(super) fn load(options: &CreateOptions) -> Result<Bundle> {
    let mut bundle = match &options.config {
        Some(file) => Bundle::load_from(&options.bundle, file)?,
        None => Bundle::load(&options.bundle)?,
    };
    if let (Some(terminal), Some(p)) = (options.terminal, bundle.spec.process.as_mut()) {
        p.terminal = terminal;
    }
    Ok(bundle)
}

/// Compiles a bundle that has been read.
pub(super) fn compile_bundle(
    rt: &Runtime,
    id: &str,
    bundle: &Bundle,
    options: &CreateOptions,
    wait_for_start: bool,
    adjust: impl FnOnce(&mut HostFacts),
) -> Result<Plan> {
    let mut facts = probe::facts(&bundle.spec)?;
    if rt.cgroup_manager == CgroupManager::Systemd {
        facts.cgroup.systemd = Some(systemd::probe()?);
    }
    adjust(&mut facts);
    let compile_options = Options {
        no_pivot: options.no_pivot,
        no_new_keyring: options.no_new_keyring,
        preserve_fds: options.preserve_fds + rt.listen_fds,
        extra_env: listen_env(rt),
        wait_for_start,
        cgroup_manager: manager(rt.cgroup_manager),
        rootfs_mountpoint: mountpoint(bundle)?,
        given: Vec::new(),
        kernel_mountpoints: if options.no_pivot { probe::kernel_mount_points()? } else { Vec::new() },
    };
    let input = Input { id, bundle: &bundle.path, spec: &bundle.spec, options: &compile_options };
    compile::compile(input, &facts).map_err(invalid)
}

/// One error for all violations of a configuration.
pub(super) fn invalid(violations: Vec<Violation>) -> Error {
    let all: Vec<_> = violations.iter().map(ToString::to_string).collect();
    Error::new(Kind::Config, format!("invalid config.json: {}", all.join("; ")))
}

pub(super) fn manager(m: CgroupManager) -> cgroup::Manager {
    match m {
        CgroupManager::Disabled => cgroup::Manager::Disabled,
        CgroupManager::Cgroupfs => cgroup::Manager::Cgroupfs,
        CgroupManager::Systemd => cgroup::Manager::Systemd,
    }
}

/// Socket activation (sd_listen_fds(3)): the descriptors are passed to the program, which is pid 1.
pub(super) fn listen_env(rt: &Runtime) -> Vec<String> {
    if rt.listen_fds == 0 {
        return Vec::new();
    }
    let mut env = vec![format!("LISTEN_FDS={}", rt.listen_fds), "LISTEN_PID=1".to_owned()];
    if let Ok(names) = std::env::var("LISTEN_FDNAMES") {
        env.push(format!("LISTEN_FDNAMES={names}"));
    }
    env
}

pub(super) fn mountpoint(bundle: &Bundle) -> Result<PathBuf> {
    let shared = namespaces::propagation(&bundle.spec.linux.rootfs_propagation)
        .is_some_and(|f| f & libc::MS_SHARED != 0);
    match &bundle.spec.root {
        Some(root) if shared => probe::mount_point_of(&bundle.path.join(&root.path)),
        _ => Ok(PathBuf::new()),
    }
}

/// Makes the container `id`. Its process waits for its parent's word.
pub(super) fn make(rt: &Runtime, id: &str, options: &CreateOptions, wait_for_start: bool) -> Result<Created> {
    let id = ContainerId::new(id)?;
    let (bundle, plan) = compile(rt, id.as_str(), options, wait_for_start)?;
    for w in &plan.warnings {
        log::warn(w);
    }
    check_preserved(options.preserve_fds)?;
    check_terminal(&plan, options)?;
    check_rootfs(&plan.rootfs)?;
    let console = match &options.console_socket {
        Some(path) => Some(console::connect(path, "the console socket")?),
        None => None,
    };
    let (entry, record) = write_record(rt, &id, (&bundle.spec, &bundle.raw), &plan)?;
    // The command makes this one container and exits: the memory is given back then, and not string by string.
    std::mem::forget(bundle);
    build(entry, record, plan, console, wait_for_start, ProcessSetup::default())
}

/// Makes the record of a new container, from which everything that it will hold can be removed.
pub(super) fn write_record(
    rt: &Runtime,
    id: &ContainerId,
    (spec, raw): (&Spec, &[u8]),
    plan: &Plan,
) -> Result<(ContainerDir, Record)> {
    let entry = rt.store.create(id)?;
    let record = new_record(rt, spec, plan)?;
    let written = entry.write_config(raw).and_then(|()| entry.write_record(&record)).and_then(|()| {
        if rt.notify_socket.is_some() { sd_notify::make_directory(entry.fd()) } else { Ok(()) }
    });
    match written {
        Ok(()) => Ok((entry, record)),
        Err(e) => {
            // Nothing else exists yet; the first error is the one to report.
            let _ = entry.remove();
            Err(e)
        }
    }
}

/// The way out for a container whose first process the kernel has killed.
const OUT_OF_MEMORY: &str = "the kernel killed it because the memory limit was reached: raise the limit";

/// The same where the manager has removed the cgroup, and with it the count of such ends.
const PERHAPS_OUT_OF_MEMORY: &str = "the usual reason is a memory limit that is too low (systemd has removed the cgroup with its count): raise the limit";

/// Makes what the record stands for. Nothing is left behind after an error.
pub(super) fn build(
    entry: ContainerDir,
    mut record: Record,
    mut plan: Plan,
    console: Option<OwnedFd>,
    wait_for_start: bool,
    wiring: ProcessSetup,
) -> Result<Created> {
    let (entry, cgroup) = create_cgroups(entry, &mut record, &mut plan)?;
    let mut launched = None;
    let ours = wiring.stdio.is_none();
    let done =
        launch(&entry, &mut record, &plan, &cgroup, wait_for_start, wiring, &mut launched).and_then(|()| {
            match (&console, launched.as_ref().and_then(|l| l.terminal.as_ref())) {
                (Some(to), Some(master)) => console::send(to.as_raw_fd(), master.as_raw_fd()),
                (None, Some(master)) if ours => terminal::prepare_master(master),
                _ => Ok(()),
            }
        });
    match (done, launched) {
        (Ok(()), Some(launch)) => Ok(Created { entry, record, plan, launch, cgroup }),
        (done, launched) => {
            let killed = launched.is_some_and(|l| {
                l.kill();
                l.killed.get()
            });
            let counted = cgroup.oom_count().is_ok_and(|n| n > 0);
            clean_up(entry, &record, Some(&cgroup));
            let e = done
                .err()
                .unwrap_or_else(|| Error::new(Kind::System, "the container process was not created"));
            let hint = match (counted, killed && plan.cgroup.limits_memory()) {
                (true, _) => OUT_OF_MEMORY,
                (false, true) => PERHAPS_OUT_OF_MEMORY,
                (false, false) => return Err(e),
            };
            Err(e.property("linux.resources.memory.limit").hint(hint))
        }
    }
}

/// Makes the control groups of the container, of every kind. Nothing is left behind after an error.
pub(super) fn create_cgroups(
    entry: ContainerDir,
    record: &mut Record,
    plan: &mut Plan,
) -> Result<(ContainerDir, Cgroup)> {
    let cgroup = match Cgroup::create(&plan.cgroup) {
        Ok(c) => c,
        Err(e) => {
            clean_up(entry, record, None);
            return Err(e);
        }
    };
    let left_out =
        |h: &model::Hierarchy| cgroup.left_out.iter().any(|dir| h.dir == std::path::Path::new(dir));
    record.cgroup.hierarchies.retain(|h| !left_out(h));
    if !cgroup.left_out.is_empty() && record.cgroup.hierarchies.is_empty() && !record.own_pid_namespace {
        log::warn(
            "the container has no cgroup and no pid namespace of its own, so processes that \
             outlive the first one cannot all be found. Such configuration is strongly discouraged",
        );
    }
    plan.stay_in_own(&cgroup.left_out);
    if let Some(rdt) = &plan.rdt {
        let mut made = rdt::Groups::default();
        let done = rdt::make(rdt, &mut made);
        record.intel_rdt = Some(model::IntelRdt {
            class: rdt.class.clone(),
            monitor: rdt.monitor.clone(),
            remove: made.monitor.into_iter().chain(made.class).collect(),
        });
        if let Err(e) = done.and_then(|()| entry.write_record(record)) {
            clean_up(entry, record, Some(&cgroup));
            return Err(e);
        }
    }
    Ok((entry, cgroup))
}

fn launch(
    entry: &ContainerDir,
    record: &mut Record,
    plan: &Plan,
    cgroup: &Cgroup,
    wait_for_start: bool,
    wiring: ProcessSetup,
    launched: &mut Option<Launch>,
) -> Result<()> {
    let by_systemd = plan.cgroup.unit.is_some();
    if !by_systemd {
        cgroup.apply(&plan.cgroup)?;
    }
    let start = if wait_for_start { Some(listen(entry)?) } else { None };
    let fault = std::env::var("ORUN_TEST_FAULT").ok().and_then(|v| v.parse().ok());
    let ProcessSetup { stdio, mounts, reaper } = wiring;
    let means =
        LaunchInputs { cgroup: Some(cgroup), start, fault, stdio, mounts, reaper, ..LaunchInputs::default() };
    let l = launched.insert(Launch::begin(plan, means)?);
    record.init = ProcessId::read_process(l.pid)?;
    if by_systemd {
        // The unit is made around the process, which waits.
        l.until_cgroup(plan)?;
        cgroup.start_unit(&plan.cgroup, l.pid)?;
        cgroup.apply(&plan.cgroup)?;
        l.resume_child()?;
    }
    if let Some(rdt) = &plan.rdt {
        rdt::join(l.pid, &rdt.class, rdt.monitor.as_deref())?;
    }
    if plan.has_early_hooks() {
        // They may ask for the state. Without them it is not needed yet: as long as the process is not ready it ends
        // with orun.
        entry.write_record(record)?;
    }
    let pid = l.pid;
    l.until_ready(plan)?;
    if l.pid != pid {
        // In a pid namespace that others are in already it is another process that continues.
        record.init = ProcessId::read_process(l.pid)?;
    }
    Ok(())
}

/// The socket on which the container's process waits. Only this directory's owner reaches it.
fn listen(entry: &ContainerDir) -> Result<OwnedFd> {
    let path = CString::new(format!("/proc/self/fd/{}/{START_SOCKET}", entry.fd())).unwrap_or_default();
    let fail = |e| Error::sys(format!("making the start socket in {:?}", entry.path()), e);
    let s = socket::unix_socket(socket::SocketKind::Seqpacket, false).map_err(fail)?;
    socket::bind(s.as_raw_fd(), &path).map_err(fail)?;
    socket::listen(s.as_raw_fd(), 1).map_err(fail)?;
    Ok(s)
}

/// A descriptor that is to be passed must be open: its number would else be that of a file of orun's own.
pub(super) fn check_preserved(count: u32) -> Result<()> {
    for n in 3..3 + count {
        if fd::flags(n as i32).is_err() {
            let what = format!("--preserve-fds {count}: file descriptor {n} is not open");
            return Err(Error::new(Kind::Usage, what));
        }
    }
    Ok(())
}

pub(super) fn check_terminal(plan: &Plan, options: &CreateOptions) -> Result<()> {
    let e = match (plan.terminal, &options.console_socket) {
        (true, None) if options.detached => {
            Error::new(Kind::Usage, "cannot allocate tty if orun will detach without setting console socket")
                .property("process.terminal")
                .hint("give --console-socket, or set process.terminal to false")
        }
        (false, Some(_)) => {
            Error::new(Kind::Usage, "cannot use console socket if orun will not detach or allocate tty")
                .property("process.terminal")
                .hint("leave out --console-socket, or set process.terminal to true")
        }
        _ => return Ok(()),
    };
    Err(e)
}

pub(super) fn check_rootfs(rootfs: &Path) -> Result<()> {
    let invalid = |e: Error| e.kind_is(Kind::Config).property("root.path");
    let st = file::fstatat(crate::sys::CWD, &cpath(rootfs)?, libc::AT_SYMLINK_NOFOLLOW)
        .map_err(|e| invalid(Error::sys(format!("invalid rootfs: stat {}", rootfs.display()), e)))?;
    match st.kind() {
        libc::S_IFDIR => Ok(()),
        libc::S_IFLNK => {
            Err(invalid(Error::new(Kind::Config, format!("invalid rootfs: {rootfs:?} is a symlink")))
                .hint("give the directory that it leads to"))
        }
        _ => Err(invalid(Error::new(Kind::Config, format!("invalid rootfs: {rootfs:?} is not a directory")))),
    }
}

fn new_record(rt: &Runtime, spec: &Spec, plan: &Plan) -> Result<Record> {
    let pid = std::process::id() as i32;
    let creator = ProcessId::read_process(pid)?.ok_or_else(|| {
        Error::new(
            Kind::System,
            "cannot find the own process in /proc (is /proc of another PID namespace mounted?)",
        )
    })?;
    let hierarchies = plan
        .cgroup
        .hierarchies
        .iter()
        .map(|h| model::Hierarchy { controllers: h.controllers.clone(), dir: PathBuf::from(&h.dir) });
    Ok(Record {
        version: VERSION,
        id: plan.id.clone(),
        phase: Phase::Creating,
        bundle: plan.bundle.clone(),
        rootfs: plan.rootfs.clone(),
        created: timestamp::Timestamp::now().rfc3339_nanos(),
        owner: cred::getuid(),
        creator,
        init: None,
        own_pid_namespace: plan.namespaces.is_new(NamespaceKind::Pid),
        cgroup: model::Cgroup {
            manager: rt.cgroup_manager,
            hierarchies: hierarchies.collect(),
            unit: plan.cgroup.unit.as_ref().map(|u| u.name.clone()),
        },
        resources: None,
        intel_rdt: None,
        terminal: plan.terminal,
        rootless: cred::geteuid() != 0,
        restored: false,
        annotations: spec.annotations.clone(),
        start: Some(notes(spec)),
        poststart: spec.hooks.poststart.clone(),
        poststop: spec.hooks.poststop.clone(),
    })
}

/// Writes the pid file, whole from the moment it has its name, and sends a pidfd.
pub(super) fn tell_pid(pid: i32, pidfd: &OwnedFd, options: &CreateOptions) -> Result<()> {
    if let Some(path) = &options.pid_file {
        write_pid_file(path, pid)?;
    }
    if let Some(path) = &options.pidfd_socket {
        let to = console::connect(path, "the pidfd socket")?;
        socket::send(to.as_raw_fd(), pid.to_string().as_bytes(), Some(pidfd.as_raw_fd()))
            .map_err(|e| Error::sys("sending the pidfd", e))?;
    }
    Ok(())
}

/// Readers poll for the file and read a bare number: no newline, and never half a file.
pub(super) fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    output::replace(path, pid.to_string().as_bytes(), 0o644, &format!("writing the pid file {path:?}"))
}

/// Removes what a container holds besides its processes, and runs its poststop hooks. What cannot be removed is reported
/// in the log, because there is another error to report already, or an exit status; `delete` can then try again.
pub(super) fn clean_up(entry: ContainerDir, record: &Record, cgroup: Option<&Cgroup>) {
    let gone = match cgroup.filter(|c| !c.delete_empty()) {
        Some(c) => c.kill_all(libc::SIGKILL).and_then(|()| c.delete(CGROUP_TIMEOUT)),
        None => Ok(()),
    };
    if let Err(e) = gone.and_then(|()| delete::forget(entry, record)) {
        log::warn(e);
    }
}

/// The parts of the configuration that `start` needs.
pub(super) fn notes(spec: &Spec) -> StartNotes {
    let args = spec.process.as_ref().map(|p| p.args.as_slice()).unwrap_or_default();
    StartNotes {
        program: args.first().cloned().unwrap_or_default(),
        hooks_ms: spec.hooks.start_container.iter().map(|h| u64::from(timeout_ms(h))).sum(),
    }
}
