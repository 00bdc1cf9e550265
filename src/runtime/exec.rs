//! `exec`: one more process in a container.

use super::Runtime;
use super::container::{self, Container};
use super::create::{check_preserved, listen_env, write_pid_file};
use crate::config::bundle::read_document;
use crate::config::spec::{Capabilities, Process, Spec};
use crate::config::{self, parse};
use crate::error::{Errno, Error, Kind, Result};
use crate::kernel::cgroup::{Cgroup, JoinFds, OWN_SCOPE, SubCgroups, systemd};
use crate::kernel::foreground::{self, Signals};
use crate::kernel::launch::{Join, Launch, LaunchInputs};
use crate::kernel::path::cpath;
use crate::kernel::{console, inroot, probe, rdt, terminal};
use crate::log;
use crate::plan::compile::Plan;
use crate::plan::exec::{self, Input};
use crate::plan::tables::namespaces::NamespaceKind;
use crate::plan::user;
use crate::state::lifecycle::Operation;
use crate::sys::{self, cred, file, path, socket, wait};
use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

/// A process to run, as the command line describes it.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// A file with the whole description; the fields of the second half are then not used.
    pub process: Option<PathBuf>,
    /// Do not wait for the process.
    pub detach: bool,
    /// Where the PID of the process is written.
    pub pid_file: Option<PathBuf>,
    /// The unix socket that gets the terminal's master.
    pub console_socket: Option<PathBuf>,
    /// The unix socket that gets a pidfd of the process.
    pub pidfd_socket: Option<PathBuf>,
    /// Descriptors from 3 on that the program gets.
    pub preserve_fds: u32,
    /// Controller (empty: all) to path below the container's cgroup.
    pub cgroups: SubCgroups,
    /// Start it also in a paused container, where it waits.
    pub ignore_paused: bool,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// Give it a terminal.
    pub tty: bool,
    /// Its working directory; None: that of the configuration.
    pub cwd: Option<String>,
    /// Variables as `NAME=VALUE`, added to those of the configuration.
    pub env: Vec<String>,
    /// `UID[:GID]`; None: the user of the configuration.
    pub user: Option<String>,
    /// Further groups.
    pub additional_gids: Vec<u32>,
    /// Capabilities (`CAP_...`) on top of those of the configuration.
    pub capabilities: Vec<String>,
    /// AppArmor profile; None: that of the configuration.
    pub apparmor: Option<String>,
    /// SELinux label; None: that of the configuration.
    pub selinux_label: Option<String>,
    /// Set no_new_privs.
    pub no_new_privileges: bool,
}

/// Runs a process in the container `id`; its exit status, or 0 when detached.
///
/// # Errors
/// The container does not run; the process cannot be run.
pub fn exec(rt: &Runtime, id: &str, options: &ExecOptions) -> Result<u8> {
    let (c, pidfd) = Container::open_with_init(rt, id)?;
    c.check(if options.ignore_paused { Operation::ExecIgnoringPause } else { Operation::Exec })?;
    let mut spec: Spec = parse::json(&c.entry.config()?, "config.json")?;
    let pidfd = pidfd.map_or_else(|| open_init(&c), Ok)?;
    if c.record.restored && other_namespace(c.init()?.pid, NamespaceKind::Time)? {
        spec.linux.namespaces.retain(|n| n.kind != NamespaceKind::Time.name());
        let kind = NamespaceKind::Time.name().to_owned();
        spec.linux.namespaces.push(config::linux::Namespace { kind, ..Default::default() });
    }
    let process = describe(&c, &spec, options)?;
    check_preserved(options.preserve_fds)?;
    check_terminal(&process, options)?;
    let plan = compile(rt, &c, &spec, &process, options)?;
    for w in &plan.warnings {
        log::warn(w);
    }
    let console = match &options.console_socket {
        Some(path) => Some(console::connect(path, "the console socket")?),
        None => None,
    };
    let signals = if options.detach { None } else { Some(Signals::take()?) };
    let mut launch = begin(&c, &plan, options, pidfd, console)?;
    let Some(signals) = signals else { return Ok(0) };
    let terminal = launch.terminal.take().filter(|_| options.console_socket.is_none());
    let exit = foreground::wait_for_exit(&launch.pidfd, &signals, terminal, None).map(|e| e.code() as u8);
    // The command ends now: exit(2) gives everything back at once.
    std::mem::forget((spec, process, plan, launch, signals));
    exit
}

/// A descriptor of the container's first process. It is only good if the process is still the recorded one.
fn open_init(c: &Container) -> Result<OwnedFd> {
    let stopped = || Error::new(Kind::State, "cannot exec in a stopped container");
    let init = c.init()?;
    let pidfd = match wait::pidfd_open(init.pid) {
        Err(Errno(libc::ESRCH)) => return Err(stopped()),
        r => r.map_err(|e| Error::sys(format!("opening a descriptor of process {}", init.pid), e))?,
    };
    if init.is_alive()? { Ok(pidfd) } else { Err(stopped()) }
}

fn compile(
    rt: &Runtime,
    c: &Container,
    spec: &Spec,
    process: &Process,
    options: &ExecOptions,
) -> Result<Plan> {
    let init = c.init()?.pid;
    let facts = probe::facts_of_process(spec, Some(process))?;
    let lists_user = spec.linux.namespaces.iter().any(|n| n.kind == NamespaceKind::User.name());
    let input = Input {
        id: c.entry.id().as_str(),
        bundle: &c.record.bundle,
        spec,
        process,
        init,
        other_user: lists_user && other_namespace(init, NamespaceKind::User)?,
        no_new_keyring: false,
        preserve_fds: options.preserve_fds + rt.listen_fds,
        extra_env: &listen_env(rt),
        moved: moved(c),
    };
    exec::compile(input, &facts).map_err(|violations| {
        let all: Vec<_> = violations.iter().map(ToString::to_string).collect();
        Error::new(Kind::Config, format!("invalid process: {}", all.join("; ")))
    })
}

/// Whether process `pid` is in another namespace of this kind than orun.
fn other_namespace(pid: i32, kind: NamespaceKind) -> Result<bool> {
    let name = kind.name();
    let inode = |path: &str| {
        let c = CString::new(path).unwrap_or_default();
        file::fstatat(sys::CWD, &c, 0).map(|s| s.ino).map_err(|e| Error::sys(format!("looking at {path}"), e))
    };
    Ok(inode(&format!("/proc/{pid}/ns/{name}"))? != inode(&format!("/proc/self/ns/{name}"))?)
}

fn begin(
    c: &Container,
    plan: &Plan,
    options: &ExecOptions,
    pidfd: OwnedFd,
    console: Option<OwnedFd>,
) -> Result<Launch> {
    let cgroup = container::cgroup_of(&c.record)?;
    let init = c.init()?.pid;
    let mut launch = join(c, plan, options, &cgroup, &pidfd)?;
    let in_cgroup = if moved(c) { move_in(&mut launch, plan, &cgroup, options, init) } else { Ok(()) };
    let done = in_cgroup
        .and_then(|()| join_rdt(c, &launch))
        .and_then(|()| launch.until_ready(plan))
        .and_then(|()| tell(&launch, options, console.as_ref()))
        .and_then(|()| {
            launch.resume_child()?;
            launch.until_running(plan)
        });
    match done {
        Ok(()) => Ok(launch),
        Err(e) => {
            launch.kill();
            Err(e)
        }
    }
}

/// Whether orun moves the process: a user may not take his own out of the cgroup that they are in, but systemd may.
fn moved(c: &Container) -> bool {
    c.record.cgroup.unit.is_some() && systemd::is_user()
}

fn move_in(
    launch: &mut Launch,
    plan: &Plan,
    cgroup: &Cgroup,
    options: &ExecOptions,
    init: i32,
) -> Result<()> {
    launch.until_cgroup(plan)?;
    cgroup.attach_by_any(launch.pid, &options.cgroups, init)?;
    launch.resume_child()
}

/// Makes the process in the container's namespaces and cgroups. On version 2 it may have to be another cgroup than the
/// container's own.
fn join(
    c: &Container,
    plan: &Plan,
    options: &ExecOptions,
    cgroup: &Cgroup,
    pidfd: &OwnedFd,
) -> Result<Launch> {
    let init = c.init()?.pid;
    let means = |cgroups: JoinFds| -> Result<LaunchInputs> {
        let container = pidfd
            .try_clone()
            .map_err(|e| Error::sys("copying a descriptor of the container's process", e))?;
        Ok(LaunchInputs { join: Some(Join { container, cgroups }), ..LaunchInputs::default() })
    };
    if moved(c) {
        return Launch::begin(plan, means(JoinFds::default())?);
    }
    let mut cgroups = cgroup.join(&options.cgroups, Some(init))?;
    let version2 = cgroups.into.is_some();
    let failed = match Launch::begin(plan, means(cgroups)?) {
        Err(e) if version2 => e,
        r => return r,
    };
    cgroups = cgroup.join(&options.cgroups, Some(init))?;
    cgroups.into = match failed.errno() {
        // The container has put its processes into cgroups below its own, as systemd does.
        Some(Errno(libc::EBUSY)) if options.cgroups.is_empty() => match cgroup.of_process(init) {
            Ok(dir) => Some(dir),
            Err(_) => return Err(failed),
        },
        // Without privileges a process only moves between cgroups that were both given to its user.
        Some(Errno(libc::EACCES)) if cred::geteuid() != 0 && options.cgroups.is_empty() => {
            log::warn(format!(
                "the process stays in orun's own cgroup, without the container's limits: user {} may not move it \
                 (hint: start orun in the cgroups of that user, for example with {OWN_SCOPE})",
                cred::geteuid()
            ));
            None
        }
        _ => return Err(failed),
    };
    Launch::begin(plan, means(cgroups)?)
}

fn join_rdt(c: &Container, launch: &Launch) -> Result<()> {
    let Some(group) = &c.record.intel_rdt else { return Ok(()) };
    rdt::join(launch.pid, &group.class, group.monitor.as_deref())
}

fn tell(launch: &Launch, options: &ExecOptions, console: Option<&OwnedFd>) -> Result<()> {
    match (console, &launch.terminal) {
        (Some(to), Some(master)) => console::send(to.as_raw_fd(), master.as_raw_fd())?,
        (None, Some(master)) => terminal::prepare_master(master)?,
        _ => {}
    }
    if let Some(path) = &options.pid_file {
        write_pid_file(path, launch.pid)?;
    }
    if let Some(path) = &options.pidfd_socket {
        let to = console::connect(path, "the pidfd socket")?;
        socket::send(to.as_raw_fd(), launch.pid.to_string().as_bytes(), Some(launch.pidfd.as_raw_fd()))
            .map_err(|e| Error::sys("sending the pidfd", e))?;
    }
    Ok(())
}

fn check_terminal(p: &Process, options: &ExecOptions) -> Result<()> {
    let what = match (p.terminal, &options.console_socket) {
        (true, None) if options.detach => {
            "cannot allocate tty if orun will detach without setting console socket"
        }
        (false, Some(_)) => "cannot use console socket if orun will not detach or allocate tty",
        _ => return Ok(()),
    };
    Err(Error::new(Kind::Usage, what))
}

/// The process: a document of its own, or the container's with what the command line says.
fn describe(c: &Container, spec: &Spec, o: &ExecOptions) -> Result<Process> {
    if let Some(file) = &o.process {
        let text = read_document(file, "the process file")?;
        let mut p: Process = parse::json(&text, &file.display().to_string())?;
        if p.capabilities.is_none() {
            p.capabilities = spec.process.as_ref().and_then(|own| own.capabilities.clone());
        }
        return Ok(p);
    }
    if o.args.is_empty() {
        return Err(
            Error::new(Kind::Usage, "process args cannot be empty").hint("give a command, or --process FILE")
        );
    }
    let mut p = spec.process.clone().unwrap_or_default();
    p.args = o.args.clone();
    p.terminal = o.tty;
    p.console_size = None;
    if let Some(cwd) = &o.cwd {
        p.cwd = cwd.clone();
    }
    p.env.extend(o.env.iter().cloned());
    if let Some(text) = &o.user {
        set_user(c, &mut p, text)?;
    }
    p.user.additional_gids.extend(&o.additional_gids);
    if !o.capabilities.is_empty() {
        add_capabilities(p.capabilities.get_or_insert_default(), &o.capabilities);
    }
    if let Some(profile) = &o.apparmor {
        p.apparmor_profile = profile.clone();
    }
    if let Some(label) = &o.selinux_label {
        p.selinux_label = label.clone();
    }
    p.no_new_privileges |= o.no_new_privileges;
    Ok(p)
}

/// Not inheritable, which files could turn into permitted ones (CVE-2022-29162); ambient only where the container's
/// configuration has it inheritable, without which the kernel raises none.
fn add_capabilities(sets: &mut Capabilities, names: &[String]) {
    for name in names {
        let upper = name.to_ascii_uppercase();
        let name = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        let ambient = sets.inheritable.contains(&name).then_some(&mut sets.ambient);
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted].into_iter().chain(ambient) {
            if !set.contains(&name) {
                set.push(name.clone());
            }
        }
    }
}

fn set_user(c: &Container, p: &mut Process, text: &str) -> Result<()> {
    let spec = user::parse(text)?;
    let named = matches!(spec.user, user::Id::Name(_)) || matches!(spec.group, Some(user::Id::Name(_)));
    let (passwd, group) = if named {
        (read_inside(c, c"etc/passwd")?, read_inside(c, c"etc/group")?)
    } else {
        Default::default()
    };
    let found = user::resolve(&spec, &passwd, &group)?;
    p.user.uid = found.uid;
    p.user.gid = found.gid.unwrap_or(p.user.gid);
    if matches!(spec.user, user::Id::Name(_)) {
        p.user.additional_gids = found.additional_gids;
    }
    Ok(())
}

/// A file of the container, which may be anything: it is found inside the container's root, must be a regular file,
/// and is read up to 1 MiB.
fn read_inside(c: &Container, name: &std::ffi::CStr) -> Result<Vec<u8>> {
    let root = PathBuf::from(format!("/proc/{}/root", c.init()?.pid));
    let fail = |e: Errno| Error::sys(format!("reading /{} of the container", name.to_string_lossy()), e);
    let root = path::openat(sys::CWD, &cpath(&root)?, libc::O_PATH | libc::O_DIRECTORY, 0).map_err(fail)?;
    let found = match inroot::open(root.as_raw_fd(), name) {
        Err(Errno(libc::ENOENT)) => return Ok(Vec::new()),
        r => r.map_err(fail)?,
    };
    if file::fstat(found.as_raw_fd()).map_err(fail)?.kind() != libc::S_IFREG {
        return Err(fail(Errno(libc::EINVAL)));
    }
    let again = CString::new(format!("/proc/self/fd/{}", found.as_raw_fd())).unwrap_or_default();
    let f = path::openat(sys::CWD, &again, libc::O_RDONLY, 0).map_err(fail)?;
    let mut text = Vec::new();
    std::fs::File::from(f).take(1 << 20).read_to_end(&mut text).map_err(|e| fail(e.into()))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_added_capability_is_ambient_only_where_it_is_inheritable() {
        let mut sets = Capabilities { inheritable: vec!["CAP_SYSLOG".into()], ..Capabilities::default() };
        add_capabilities(&mut sets, &["syslog".into(), "CAP_KILL".into(), "CAP_SYSLOG".into()]);
        assert_eq!(sets.bounding, ["CAP_SYSLOG", "CAP_KILL"]);
        assert_eq!((&sets.effective, &sets.permitted), (&sets.bounding, &sets.bounding));
        assert_eq!(sets.ambient, ["CAP_SYSLOG"]);
        assert_eq!(sets.inheritable, ["CAP_SYSLOG"]);
    }
}
