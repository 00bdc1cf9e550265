//! `restore`: a container comes back from the files of a checkpoint, by criu(8).

use super::Runtime;
use super::checkpoint::{config_file, converse};
use super::container;
use super::create::{self, CreateOptions, invalid};
use crate::config::spec::Spec;
use crate::error::{Errno, Error, Kind, Result};
use crate::kernel::cgroup::{Cgroup, SubCgroups};
use crate::kernel::checkpoint::images::Images;
use crate::kernel::checkpoint::root::{self, Root};
use crate::kernel::checkpoint::{self as criu, Criu, CriuSettings, FIRST_INHERITED, inside, streams};
use crate::kernel::foreground::{self, Signals};
use crate::kernel::path::cpath;
use crate::kernel::{console, hooks, netdev, rdt, terminal};
use crate::log;
use crate::plan::checkpoint::rpc::{self, Feature, Notification};
use crate::plan::checkpoint::{self, External, Flags, Places, Restore};
use crate::plan::compile::Plan;
use crate::plan::op::{Op, RootOp};
use crate::plan::tables::namespaces::NamespaceKind;
use crate::state::id::ContainerId;
use crate::state::lifecycle::Phase;
use crate::state::model::{ProcessId, Record};
use crate::state::store::ContainerDir;
use crate::sys::{self, path, prctl, wait};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// How a container is restored.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    pub create: CreateOptions,
    pub images: PathBuf,
    pub work: Option<PathBuf>,
    pub flags: Flags,
    pub detach: bool,
    /// Leave orphans of the container to the current subreaper.
    pub no_subreaper: bool,
    pub tcp_close: bool,
    pub lsm_profile: Option<String>,
    pub lsm_mount_context: Option<String>,
}

/// Inputs of a restore.
struct Work<'a> {
    entry: &'a ContainerDir,
    record: &'a mut Record,
    plan: &'a Plan,
    /// Where its terminal is sent to.
    console: Option<OwnedFd>,
    /// The container's first process.
    init: Option<(i32, OwnedFd)>,
    /// The master of its terminal, if it is not passed on.
    terminal: Option<OwnedFd>,
}

/// Restores the container `id`; the exit status of its first process, or 0 when detached.
///
/// # Errors
/// The bundle or the images are invalid; CRIU is not installed or fails. Nothing is left behind.
pub fn restore(rt: &Runtime, id: &str, options: &RestoreOptions) -> Result<u8> {
    let id = ContainerId::new(id)?;
    let create_options = CreateOptions { detached: options.detach, ..options.create.clone() };
    let (bundle, mut plan) = create::compile(rt, id.as_str(), &create_options, false)?;
    super::checkpoint::refuse_overlay(&bundle.spec)?;
    for w in &plan.warnings {
        log::warn(w);
    }
    create::check_terminal(&plan, &create_options)?;
    create::check_rootfs(&plan.rootfs)?;
    let external = checkpoint::external_mounts(&plan).map_err(invalid)?;
    if plan.namespaces.other_user() {
        inside::check_other_user(&external)?;
        if options.flags.auto_dedup {
            let what = "--auto-dedup: CRIU opens the images as the root of the container's user namespace, which cannot write to them";
            return Err(Error::new(Kind::Unsupported, what).hint("restore this container without the flag"));
        }
    }
    criu::check_version()?;
    if options.flags.lazy_pages {
        criu::check_feature(Feature::LazyPages, "--lazy-pages")?;
    }
    let images = Images::find(&options.images, options.work.as_deref(), plan.namespaces.other_user())?;
    let descriptors = images.descriptors()?;
    let console = match &create_options.console_socket {
        Some(path) => Some(console::connect(path, "the console socket")?),
        None => None,
    };
    let signals = if options.detach { None } else { Some(Signals::take()?) };
    if !options.detach && !options.no_subreaper && !plan.namespaces.is_new(NamespaceKind::Pid) {
        let _ = prctl::set_child_subreaper(true);
    }
    let (entry, mut record) = create::write_record(rt, &id, (&bundle.spec, &bundle.raw), &plan)?;
    record.restored = true;
    let (mut entry, cgroup) = create::create_cgroups(entry, &mut record, &mut plan)?;
    let mut work =
        Work { entry: &entry, record: &mut record, plan: &plan, console, init: None, terminal: None };
    let done = work
        .run(&bundle.spec, options, &cgroup, &images, &external, &descriptors)
        .and_then(|()| work.finish(&create_options));
    let (init, terminal) = (work.init, work.terminal);
    let pidfd = match (done, init) {
        (Ok(()), Some((_, pidfd))) => pidfd,
        (done, init) => {
            if let Some((_, pidfd)) = init {
                // It may have exited by itself, and then be reaped.
                let _ = wait::pidfd_send_signal(pidfd.as_raw_fd(), libc::SIGKILL);
                let _ = wait::wait_pidfd(pidfd.as_raw_fd(), true);
            }
            create::clean_up(entry, &record, Some(&cgroup));
            return Err(done.err().unwrap_or_else(|| Error::new(Kind::System, "criu restored no process")));
        }
    };
    let Some(signals) = signals else { return Ok(0) };
    // Other commands may act on the container as long as it runs.
    entry.unlock();
    let exit = foreground::wait_for_exit(&pidfd, &signals, terminal, None);
    create::clean_up(entry, &record, Some(&cgroup));
    exit.map(|e| e.code() as u8)
}

/// Descriptors for CRIU's process, in their order there.
#[derive(Default)]
struct Passed {
    fds: Vec<RawFd>,
    /// Those that are open for this only.
    opened: Vec<OwnedFd>,
}

impl Passed {
    /// Its number in CRIU's process.
    fn add(&mut self, fd: RawFd) -> i32 {
        self.fds.push(fd);
        FIRST_INHERITED + self.fds.len() as i32 - 1
    }

    fn add_opened(&mut self, fd: OwnedFd) -> i32 {
        let number = self.add(fd.as_raw_fd());
        self.opened.push(fd);
        number
    }
}

impl Work<'_> {
    /// Has CRIU restore the processes.
    fn run(
        &mut self,
        spec: &Spec,
        options: &RestoreOptions,
        cgroup: &Cgroup,
        images: &Images,
        external: &[External],
        descriptors: &[String],
    ) -> Result<()> {
        let plan = self.plan;
        cgroup.apply(&plan.cgroup)?;
        let path = cpath(&plan.rootfs)?;
        let root = Root { path: &path, private: opens_privately(plan) };
        root::make_mount_points(&root, &checkpoint::mount_points(plan))?;
        let (mut inherit, mut passed, mut join) = (Vec::new(), Passed::default(), Vec::new());
        // Not as 0, 1 and 2: CRIU closes what it has taken over, and with --shell-job it looks at its own ones.
        for (name, n) in descriptors.iter().zip(0..).filter(|(name, _)| checkpoint::is_inheritable(name)) {
            let mapped = match &plan.id_maps {
                Some(maps) => streams::of_container_root(n, maps)?,
                None => None,
            };
            let number = match mapped {
                Some(file) => passed.add_opened(file),
                None => passed.add(n),
            };
            inherit.push((name.clone(), number));
        }
        for n in &plan.namespaces.joins {
            let name = n.path.to_string_lossy().into_owned();
            if let Some((_, key)) = checkpoint::external_namespace(n.kind) {
                inherit.push((key.to_owned(), passed.add_opened(open_namespace(&n.path, &n.property)?)));
            } else if let Some(kind) = checkpoint::joinable_namespace(n.kind) {
                join.push((kind.to_owned(), name));
            }
        }
        let directories = images.directories(plan.namespaces.other_user())?;
        let fds = &passed.fds;
        let place =
            CriuSettings { root: Some(root), directories: &directories, inherit: fds, own_stdio: true };
        let criu = Criu::start(&place)?;
        let done = (|| {
            cgroup.attach(criu.pid, &SubCgroups::new())?;
            let mut directories = criu.directories.iter().rev().map(AsRawFd::as_raw_fd);
            let request = Restore {
                flags: options.flags.clone(),
                places: Places {
                    images: directories.next().unwrap_or(-1),
                    work: directories.next(),
                    config_file: config_file(spec),
                    external: inside::sources(external)?,
                },
                root: path.to_bytes().to_vec(),
                cgroup_roots: cgroup_roots(criu.pid)?,
                inherit,
                join,
                tcp_close: options.tcp_close,
                lsm_profile: options.lsm_profile.clone(),
                lsm_mount_context: options.lsm_mount_context.clone(),
            };
            converse(&criu, rpc::RequestKind::Restore, &request.request(), images, |n, fd| {
                self.notified(n, fd, external)
            })
        })();
        let ended_well = criu.finish()?;
        let response = done?;
        if response.restored.is_none() || !ended_well {
            return Err(super::checkpoint::failure(rpc::RequestKind::Restore, &response, images));
        }
        Ok(())
    }

    /// Actions at the points of CRIU's work.
    fn notified(&mut self, n: &Notification, fd: Option<OwnedFd>, external: &[External]) -> Result<()> {
        match n.script.as_str() {
            "setup-namespaces" => self.namespaces(n.pid),
            "post-restore" => self.processes(n.pid, external),
            "orphan-pts-master" => self.terminal(fd),
            _ => Ok(()),
        }
    }

    /// The namespaces exist, and nothing is in them yet.
    fn namespaces(&mut self, pid: i32) -> Result<()> {
        let plan = self.plan;
        self.record.init = ProcessId::read_process(pid)?;
        if plan.namespaces.is_new(NamespaceKind::Network) {
            root::set_up_network(pid, &net_sysctls(plan))?;
            netdev::move_all(&plan.net_devices, pid)?;
        }
        if plan.runtime_hooks.is_empty() {
            return Ok(());
        }
        // They may ask for the state.
        self.entry.write_record(self.record)?;
        hooks::run_all(plan, pid, &open(pid)?)
    }

    /// The processes exist and are frozen.
    fn processes(&mut self, pid: i32, external: &[External]) -> Result<()> {
        let pidfd = open(pid)?;
        self.record.init = ProcessId::read_process(pid)?;
        self.record.phase = Phase::Running;
        if let Some(rdt) = &self.plan.rdt {
            rdt::join(pid, &rdt.class, rdt.monitor.as_deref())?;
        }
        self.init = Some((pid, pidfd));
        if self.plan.namespaces.is_new(NamespaceKind::Mount) {
            let masks: Vec<_> = external.iter().filter(|e| e.mask).map(|e| e.target.as_c_str()).collect();
            if !masks.is_empty() {
                root::seal_masks(pid, &masks)?;
            }
        }
        self.entry.write_record(self.record)
    }

    fn terminal(&mut self, master: Option<OwnedFd>) -> Result<()> {
        let Some(master) = master else {
            return Err(Error::sys("receiving the container's terminal from criu", Errno(libc::EBADF)));
        };
        match &self.console {
            Some(to) => console::send(to.as_raw_fd(), master.as_raw_fd()),
            None => {
                terminal::prepare_master(&master)?;
                self.terminal = Some(master);
                Ok(())
            }
        }
    }

    /// Reports the container to the caller, and runs the hooks that follow its start.
    fn finish(&self, options: &CreateOptions) -> Result<()> {
        let Some((pid, pidfd)) = &self.init else {
            return Err(Error::new(Kind::System, "criu failed: it restored no process"));
        };
        create::tell_pid(*pid, pidfd, options)?;
        if self.record.poststart.is_empty() {
            return Ok(());
        }
        let document = container::hook_document(self.record, "running", *pid);
        let mut all = self.record.poststart.iter().enumerate();
        all.try_for_each(|(i, h)| hooks::run("poststart", i, h, &self.record.bundle, &document))
    }
}

fn open(pid: i32) -> Result<OwnedFd> {
    wait::pidfd_open(pid).map_err(|e| Error::sys(format!("opening the restored process {pid}"), e))
}

fn open_namespace(file: &Path, property: &str) -> Result<OwnedFd> {
    path::openat(sys::CWD, &cpath(file)?, libc::O_RDONLY | libc::O_NONBLOCK, 0)
        .map_err(|e| Error::sys(format!("opening the namespace {file:?}"), e).property(property))
}

fn opens_privately(plan: &Plan) -> bool {
    plan.steps.ops.iter().any(|op| matches!(op, Op::Root(RootOp::OpenRoot { private: true, .. })))
}

/// The parameters of a new network namespace, which CRIU leaves empty.
fn net_sysctls(plan: &Plan) -> Vec<(CString, Vec<u8>)> {
    let net = |op: &Op| {
        let Op::Sysctl { path, value } = op else { return None };
        let file = [b"/proc/", path.to_bytes()].concat();
        path.to_bytes().starts_with(b"sys/net/").then_some((CString::new(file).ok()?, value.clone()))
    };
    plan.steps.ops.iter().filter_map(net).collect()
}

/// The cgroups of CRIU, which are the container's: those of the images become these.
fn cgroup_roots(pid: i32) -> Result<Vec<(String, String)>> {
    let file = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&file).map_err(|e| Error::sys(format!("reading {file}"), e))?;
    Ok(checkpoint::cgroup_roots(&text))
}
