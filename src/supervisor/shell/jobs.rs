//! Slow operations, executed by a few threads outside of the loop. Jobs change no state: their results go to the loop as
//! messages.

use super::cgroups;
use super::compiled::with_entrypoint;
use super::job::{Compiled, CreatedContainer, JobResult, Name, Shared, Source, start_error};
use super::names;
use super::pods::{self, roots};
use super::streams::{self, Streams};
use crate::config::resources::Resources;
use crate::config::signals;
use crate::error::{Errno, Error, Kind, Result};
use crate::image::bundle;
use crate::kernel::launch::Reaper;
use crate::log;
use crate::runtime::container::Container;
use crate::runtime::embed::{self, ContainerSettings, Overlay, Waiting};
use crate::runtime::{delete, start, update};
use crate::state::lifecycle::Status;
use crate::supervisor::core::model::Process;
use crate::supervisor::core::spec::ContainerSource;
use crate::sys::{fd, file, wait};
use crate::workload::environment;
use serde_json::Value;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

/// How long a killed cgroup is waited for; the core asks again after a little more.
const KILL_TIMEOUT: Duration = Duration::from_millis(4500);
/// How long the last output of a container may take to get to its log file.
const LAST_OUTPUT_TIMEOUT: Duration = Duration::from_secs(10);

/// Creates a container.
pub fn prepare(shared: &Shared, source: &Source, name: &Name, reaper: Reaper) -> JobResult {
    let made = source.cached.get(shared, source, name).and_then(|compiled| {
        make(shared, source, name, reaper, &compiled).map_err(|e| {
            if let Err(e) = roots::remove(&shared.pods, &name.id) {
                log::warn(e);
            }
            start_error(&e)
        })
    });
    let result = made.map(Box::new);
    JobResult::Prepared { key: name.key, result }
}

fn make(
    shared: &Shared,
    source: &Source,
    name: &Name,
    reaper: Reaper,
    compiled: &Compiled,
) -> Result<CreatedContainer> {
    let template = &compiled.template;
    let mut cgroups_path = cgroups::below(&shared.cgroup_parent, &name.id);
    let (mut program, mut namespaces, mut mounts) = (None, Vec::new(), Vec::new());
    let image = compiled.image.as_ref();
    if let (Some(pod), Some(container)) = (&source.pod, &source.launch.container) {
        let container = &with_entrypoint(container, image);
        let bad = |message| Error::new(Kind::NotFound, message);
        let given = (&pod.sandbox, &pod.replica, &source.objects);
        let known = environment::variables(container, given.0, given.1, given.2).map_err(bad)?;
        let made = environment::program(template.program(), container, given.0, given.1, given.2);
        program = Some(made.map_err(bad)?);
        namespaces = pod.namespaces();
        let root =
            pods::Root { container: &container.name, layers: image.map_or(&[], |i| &i.layers), id: &name.id };
        mounts = pods::mounts(pod, &compiled.given, &known, &root)?;
        let replica = pods::cgroup(&name.workload, pod.key);
        cgroups_path = cgroups::below(&cgroups::below(&shared.cgroup_parent, &replica), &name.id);
    }
    let container = source.launch.container.as_deref();
    let Streams { stdio, ours } = Streams::make(template.owner(), container)?;
    let instance = ContainerSettings {
        id: &name.id,
        cgroups_path: &cgroups_path,
        env: names::environment(&name.workload, name.key.slot).into(),
        annotations: match source.launch.shared_root {
            true => Vec::new(),
            false => roots::make(&shared.pods, &name.id, image.map_or(template.rootfs(), |i| &i.like))?,
        },
        program,
        namespaces,
        mounts,
        stdio,
        reaper,
    };
    let mut waiting = template.create(&shared.rt, instance)?;
    let terminal = waiting.take_terminal();
    let parts = || -> Result<_> {
        let process = process_of(&waiting)?;
        let pidfd = fd::dup_above(waiting.pidfd().as_raw_fd(), 3)
            .map_err(|e| Error::sys("copying a process descriptor", e))?;
        let streams = streams::ends(ours, terminal, container)?;
        Ok((process, pidfd, waiting.cgroup()?.essential(), streams, (shared.sink)(name)?))
    };
    match parts() {
        Ok((process, pidfd, cgroup, streams, sink)) => {
            let image = image.map(|i| i.facts.clone()).filter(|f| !f.is_empty()).map(Box::new);
            Ok(CreatedContainer { waiting, process, image, pidfd, cgroup, streams, sink })
        }
        Err(e) => {
            waiting.destroy();
            Err(e)
        }
    }
}

fn process_of(waiting: &Waiting) -> Result<Process> {
    let id = waiting.process()?;
    Ok(Process {
        pid: id.pid,
        pidfd_inode: pidfd_inode(waiting.pidfd().as_raw_fd()),
        start_time: id.start_time,
    })
}

/// The inode of a pidfd, which is that of its process alone where there is a pidfs (Linux 6.9); else 0.
pub fn pidfd_inode(pidfd: RawFd) -> u64 {
    const PID_FS_MAGIC: i64 = 0x5049_4446;
    match file::filesystem_type(pidfd) {
        Ok(PID_FS_MAGIC) => file::fstat(pidfd).map_or(0, |s| s.ino),
        _ => 0,
    }
}

/// Lets a created container run its program; without `waiting`, it was created by an earlier supervisor.
pub fn release(shared: &Shared, name: &Name, waiting: Option<Waiting>) -> JobResult {
    let released = match waiting {
        Some(waiting) => waiting.release(),
        None => match start::start(&shared.rt, &name.id) {
            // Started by an earlier supervisor, which did not live to see it. It may even have exited since.
            Err(e) if was_told(shared, name, &e) => Ok(()),
            r => r,
        },
    };
    let result = released.map_err(|e| {
        let error = start_error(&e);
        if !kill_and_wait(shared, name) {
            log::warn(format!("container {} did not start and does not exit", name.id));
        }
        error
    });
    JobResult::Released { key: name.key, result }
}

/// Whether `e`, why a container cannot be started, means that it was started before.
fn was_told(shared: &Shared, name: &Name, e: &Error) -> bool {
    if e.errno() == Some(Errno(libc::ECONNREFUSED)) {
        // Nobody listens any more, as after execve(2).
        return true;
    }
    let past = |c: Container| matches!(c.status, Status::Running | Status::Stopped);
    e.kind() == Kind::State && Container::open(&shared.rt, &name.id).is_ok_and(past)
}

/// Kills all processes of a container.
pub fn kill(shared: &Shared, name: &Name) -> JobResult {
    JobResult::Killed { key: name.key, empty: kill_and_wait(shared, name) }
}

/// Whether no process is left.
fn kill_and_wait(shared: &Shared, name: &Name) -> bool {
    let killed = || -> Result<bool> {
        let container = match Container::open(&shared.rt, &name.id) {
            Err(e) if e.kind() == Kind::NotFound => return Ok(true),
            r => r?,
        };
        if let Some(init) = container.record.init
            && init.is_alive()?
            && let Ok(pidfd) = wait::pidfd_open(init.pid)
            && init.is_alive()?
        {
            // With a pid namespace of its own all others go with it.
            let _ = wait::pidfd_send_signal(pidfd.as_raw_fd(), libc::SIGKILL);
        }
        let cgroup = container.cgroup()?;
        cgroup.kill_all(libc::SIGKILL)?;
        cgroup.wait_empty(KILL_TIMEOUT)
    };
    killed().unwrap_or_else(|e| {
        log::warn(e.context(format!("killing container {}", name.id)));
        false
    })
}

/// Gives a container that exists the limits that `launch` says; where it says none, those of the bundle, or none.
pub fn update(shared: &Shared, name: &Name, launch: &ContainerSource) -> JobResult {
    if shared.cgroup_parent.is_empty() {
        return JobResult::Updated { key: name.key, error: None };
    }
    let updated = limits(launch).and_then(|limits| update::update(&shared.rt, &name.id, &limits));
    let error = match updated {
        // It exited meanwhile: the next one is made with them.
        Err(e) if matches!(e.kind(), Kind::NotFound | Kind::State) => None,
        r => r.err().map(|e| e.to_string()),
    };
    JobResult::Updated { key: name.key, error }
}

/// The limits that workloads can have, in full: what is left out would stay as it is.
fn limits(launch: &ContainerSource) -> Result<Resources> {
    let overlay = Overlay { resources: launch.resources.clone(), ..Overlay::default() };
    let mut all = match launch.image {
        Some(_) => embed::resources_of(b"{}", &overlay)?,
        None => embed::resources(Path::new(&launch.bundle), &overlay)?,
    };
    let missing = |all: &Value, part: &str, name: &str| all[part].get(name).is_none_or(Value::is_null);
    let unlimited = [("memory", "limit"), ("cpu", "quota"), ("pids", "limit")];
    let mut limits = serde_json::Map::new();
    for (part, name) in unlimited {
        let mut values = match all[part].take() {
            Value::Object(values) => values,
            _ => serde_json::Map::new(),
        };
        if missing(&serde_json::json!({ part: values.clone() }), part, name) {
            values.insert(name.to_owned(), (-1).into());
        }
        // Other members of it that the bundle sets have not changed.
        values.retain(|key, _| {
            ["limit", "quota", "period", "swap", "shares", "reservation"].contains(&key.as_str())
        });
        limits.insert(part.to_owned(), Value::Object(values));
    }
    serde_json::from_value(Value::Object(limits))
        .map_err(|e| Error::new(Kind::Config, format!("the limits of the workload: {e}")))
}

/// Removes what is left of a container that has exited, after its last output has been saved. `from_log`: its end is read
/// as the last words.
pub fn remove(shared: &Shared, name: &Name, from_log: bool) -> JobResult {
    let (tell, told) = mpsc::channel();
    shared.pump.finish(name.key.instance, move || {
        // The waiting client gives up after a while.
        let _ = tell.send(());
    });
    let error = match told.recv_timeout(LAST_OUTPUT_TIMEOUT) {
        Ok(()) => {
            let removed = delete::delete(&shared.rt, &name.id, true);
            removed.and_then(|()| roots::remove(&shared.pods, &name.id)).err().map(|e| e.to_string())
        }
        Err(_) => Some("its last output cannot be written".to_owned()),
    };
    let log = (shared.log_file)(name).filter(|_| from_log);
    let words = log.and_then(|log| pods::words::of_log(&log));
    if error.is_none() {
        pods::words::remove(&shared.pods, name.key.of_replica(), &name.id);
        (shared.forget)(name);
    }
    JobResult::Removed { key: name.key, words, error }
}

/// The signal that the image of a container names, by the container's own record, which outlives this supervisor.
pub fn stop_signal(shared: &Shared, name: &Name) -> i32 {
    let named = |c: Container| signals::number(c.record.annotations.get(bundle::STOP_SIGNAL)?);
    match Container::open(&shared.rt, &name.id) {
        Ok(container) => named(container).filter(|s| *s != 0).unwrap_or(libc::SIGTERM),
        Err(e) => {
            log::warn(e.context("looking for the stop signal of an image"));
            libc::SIGTERM
        }
    }
}
