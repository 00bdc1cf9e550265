//! `checkpoint`: the container is saved to files, by criu(8).

use super::Runtime;
use super::container::Container;
use super::create::{self, CreateOptions, invalid};
use super::{delete, pause};
use crate::config::bundle::Bundle;
use crate::config::parse;
use crate::config::spec::Spec;
use crate::error::{Errno, Error, Kind, Result};
use crate::kernel::cgroup::Cgroup;
use crate::kernel::checkpoint::images::Images;
use crate::kernel::checkpoint::{self as criu, Criu, CriuSettings, inside};
use crate::log;
use crate::plan::checkpoint::rpc::{self, Feature, Notification, Response};
use crate::plan::checkpoint::{self, Dump, Flags, PageServer, Places};
use crate::plan::compile::Plan;
use crate::plan::op::{Op, RootOp};
use crate::plan::overlay;
use crate::plan::tables::namespaces::NamespaceKind;
use crate::state::lifecycle::Operation;
use crate::state::model::Record;
use crate::sys::{cred, fd};
use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// CRIU's configuration, unless an annotation names another: the first of these that exists.
const CONFIG_FILES: [&str; 2] = ["/etc/criu/orun.conf", "/etc/criu/runc.conf"];

/// How a container is saved.
#[derive(Debug, Clone, Default)]
pub struct CheckpointOptions {
    pub images: PathBuf,
    pub work: Option<PathBuf>,
    /// Relative to `images`.
    pub parent: Option<PathBuf>,
    pub flags: Flags,
    pub leave_running: bool,
    pub pre_dump: bool,
    pub tcp_skip_in_flight: bool,
    pub page_server: Option<PageServer>,
    /// Gets a NUL byte once pages can be fetched.
    pub status_fd: Option<i32>,
}

/// Saves the container `id`. Unless it is left running, it is deleted then.
///
/// # Errors
/// It does not run; CRIU is not installed or cannot save it: then it keeps running.
pub fn checkpoint(rt: &Runtime, id: &str, options: &CheckpointOptions) -> Result<()> {
    let c = Container::open_locked(rt, id)?;
    c.check(Operation::Checkpoint)?;
    let mut status =
        match options.status_fd {
            Some(n) => Some(fd::take_over(n).map_err(|e| {
                Error::sys(format!("invalid --status-fd argument {n}"), e).kind_is(Kind::Usage)
            })?),
            None => None,
        };
    criu::check_version()?;
    if options.pre_dump {
        criu::check_feature(Feature::MemoryTracking, "--pre-dump")?;
    }
    if options.flags.lazy_pages {
        criu::check_feature(Feature::LazyPages, "--lazy-pages")?;
    }
    let images = Images::make(&options.images, options.work.as_deref())?;
    if let Some(parent) = &options.parent {
        images.check_parent(parent)?;
    }
    let dump = prepare(rt, &c, &images, options)?;
    let criu = Criu::start(&CriuSettings::default())?;
    let done = converse(&criu, dump.kind(), &dump.request(), &images, |n, _| {
        if n.script == "status-ready"
            && let Some(to) = status.take()
        {
            // A waiting process sees the end of the file in any case.
            let _ = fd::write_all(to.as_raw_fd(), b"\0");
        }
        Ok(())
    });
    let ended_well = criu.finish()?;
    done?;
    // After a pre-dump CRIU waits for the next one, and exits when the connection closes.
    if !ended_well && !dump.pre {
        return Err(failure(rpc::RequestKind::Dump, &Response::default(), &images));
    }
    if !dump.pre
        && !dump.leave_running
        && let Err(e) = delete::destroy(c)
    {
        log::warn(e);
    }
    Ok(())
}

/// CRIU would find the root as a mount that no restore makes again.
pub(super) fn refuse_overlay(spec: &Spec) -> Result<()> {
    match spec.annotations.keys().find(|key| key.starts_with(overlay::PREFIX)) {
        None => Ok(()),
        Some(key) => {
            let what = "a container whose root file system is an overlay cannot be checkpointed or restored";
            Err(Error::new(Kind::Unsupported, what)
                .property(format!("annotations[{key:?}]"))
                .hint("give it a root file system of its own at root.path"))
        }
    }
}

fn prepare(rt: &Runtime, c: &Container, images: &Images, options: &CheckpointOptions) -> Result<Dump> {
    let raw = c.entry.config()?;
    let spec: Spec = parse::json(&raw, "config.json")?;
    refuse_overlay(&spec)?;
    let pid = c.init()?.pid;
    let bundle = Bundle { path: c.record.bundle.clone(), raw, spec };
    let mut external = Vec::new();
    for n in bundle.spec.linux.namespaces.iter().filter(|n| !n.path.is_empty()) {
        if let Some(kind) = NamespaceKind::from_name(&n.kind) {
            external.extend(inside::namespace(pid, kind)?);
        }
    }
    if !options.pre_dump {
        external.extend(foreign_mounts(rt, &c.record, &bundle, pid)?);
        let (names, files) = standing_still(&c.cgroup()?, || inside::descriptors(pid))?;
        images.write_descriptors(&names)?;
        external.extend(files);
    }
    let (fd, work) = images.fds();
    Ok(Dump {
        flags: options.flags.clone(),
        places: Places { images: fd, work, config_file: config_file(&bundle.spec), external },
        pid,
        leave_running: options.leave_running,
        pre: options.pre_dump,
        parent: options.parent.as_ref().map(|p| p.to_string_lossy().into_owned()),
        page_server: options.page_server.clone(),
        tcp_skip_in_flight: options.tcp_skip_in_flight,
        freezer: freezer(&c.cgroup()?),
    })
}

/// Does `work` while the processes are frozen, where that is possible.
fn standing_still<T>(cgroup: &Cgroup, work: impl FnOnce() -> Result<T>) -> Result<T> {
    if cgroup.freezer_path().is_none() || cgroup.is_frozen()? {
        return work();
    }
    cgroup.freeze(pause::TIMEOUT)?;
    let done = work();
    cgroup.thaw()?;
    done
}

fn freezer(cgroup: &Cgroup) -> Option<String> {
    cgroup.freezer_path().map(str::to_owned)
}

fn foreign_mounts(rt: &Runtime, record: &Record, bundle: &Bundle, pid: i32) -> Result<Vec<String>> {
    let rt = Runtime { cgroup_manager: record.cgroup.manager, ..rt.clone() };
    let plan = create::compile_bundle(&rt, &record.id, bundle, &CreateOptions::default(), false, |_| ())?;
    let list = checkpoint::external_mounts(&plan).map_err(invalid)?;
    if plan.namespaces.other_user() {
        inside::check_other_user(&list)?;
    }
    if plan.namespaces.is_new(NamespaceKind::Mount) || plan.namespaces.joins(NamespaceKind::Mount) {
        inside::mounts(pid, &list, &own_places(&plan))
    } else {
        Ok(Vec::new())
    }
}

/// The paths that the configuration mounts something on.
fn own_places(plan: &Plan) -> BTreeSet<String> {
    let place = |op: &Op| {
        let path = if let Op::Root(RootOp::Readonly { path } | RootOp::Mask { path }) = op {
            path
        } else if let Op::Mount(m) = op {
            &m.target
        } else {
            return None;
        };
        Some(format!("/{}", path.to_string_lossy()))
    };
    plan.steps.ops.iter().filter_map(place).collect()
}

/// The file with CRIU's options that the annotation names, or else the host's for runtimes.
pub(super) fn config_file(spec: &Spec) -> Option<String> {
    match checkpoint::config_file(&spec.annotations) {
        Some("") => None,
        Some(file) => Some(file.to_owned()),
        None => CONFIG_FILES.iter().find(|f| Path::new(f).exists()).map(|f| (*f).to_owned()),
    }
}

/// Talks with CRIU until its work is done; `notified` answers at every point.
///
/// # Errors
/// CRIU's failure, with what its log says; that of `notified`.
pub(super) fn converse(
    criu: &Criu,
    kind: rpc::RequestKind,
    request: &[u8],
    images: &Images,
    mut notified: impl FnMut(&Notification, Option<OwnedFd>) -> Result<()>,
) -> Result<Response> {
    log::debug(|| format!("Using CRIU in {} mode, process {}", kind.name(), criu.pid));
    criu.send(request)?;
    loop {
        let (response, fd) = criu.next()?;
        match &response.notify {
            Some(n) if response.success => {
                log::debug(|| format!("notify: {}", n.script));
                notified(n, fd)?;
                criu.send(&rpc::acknowledgement())?;
            }
            _ if response.success && response.kind == kind as u64 => return Ok(response),
            _ => {
                return Err(with_output(failure(kind, &response, images), criu));
            }
        }
    }
}

/// The first words are those that callers of runc look for.
pub(super) fn failure(kind: rpc::RequestKind, response: &Response, images: &Images) -> Error {
    let mut what = format!("criu failed: type {} errno {}", kind.name(), response.errno);
    let mut why = images.log_errors();
    if why.is_empty() && !response.message.is_empty() {
        why.push(response.message.clone());
    }
    if response.errno != 0 {
        what += &format!(" ({})", Errno(response.errno));
    }
    if !why.is_empty() {
        what += &format!(": {}", why.join("; "));
    }
    let e = Error::new(Kind::System, what);
    if cred::geteuid() == 0 {
        e.hint(format!("the whole log is {:?}", images.log_path()))
    } else {
        e.hint("CRIU needs root")
    }
}

/// Before CRIU has a log it writes to standard error.
fn with_output(e: Error, criu: &Criu) -> Error {
    match criu.stderr_text().lines().find(|l| l.contains("Error")) {
        Some(line) => e.context(line.trim().to_owned()),
        None => e,
    }
}
