//! After a restart of the supervisor: what remains of the containers of the last one. Nothing is started before
//! every one of them has been looked at.

use super::cgroups;
use super::clock;
use super::host::{HostEffects, Live, how_it_ended, watch};
use super::job::Name;
use super::jobs::pidfd_inode;
use super::logs::file::LogFile;
use super::logs::pump::Sink;
use super::names::process_name;
use super::settings::Settings;
use super::streams::{ForClients, Input, Ours, pipe_of};
use super::{names, pods};
use crate::error::Result;
use crate::kernel::cgroup::Cgroup;
use crate::log;
use crate::network::Network;
use crate::runtime::container::Container;
use crate::runtime::{delete, start};
use crate::state::lifecycle;
use crate::supervisor::core::action::{Notice, Reason, Severity};
use crate::supervisor::core::adopt::{self, Stray};
use crate::supervisor::core::desired::Desired;
use crate::supervisor::core::event::{Event, InspectedState, Record};
use crate::supervisor::core::ids::{Key, ReplicaKey, Revision};
use crate::supervisor::core::model::{Instance, Observed, Phase, Process, SandboxState};
use crate::supervisor::core::observe::on_event;
use crate::supervisor::driver::World;
use crate::sys::{process, wait};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Where the path of the log file of an instance is noted, as a symlink.
pub fn log_note(run_dir: &Path, key: Key) -> PathBuf {
    run_dir.join("logs").join(key.to_string())
}

/// Inspects everything on record and everything that exists. `kept` are the descriptors that the keeper has; with
/// `own` no other supervisor has its containers below the same cgroup.
///
/// # Errors
/// The directory of the containers cannot be read.
pub fn recover(
    linux: &mut HostEffects,
    desired: &Desired,
    observed: &mut Observed,
    settings: &Settings,
    (mut kept, own): (BTreeMap<String, OwnedFd>, bool),
) -> Result<Vec<Event>> {
    let mut there: HashMap<Key, String> = HashMap::new();
    let mut unknown: Vec<(Key, String)> = Vec::new();
    for id in linux.shared.rt.store.ids()? {
        match names::key_of(id.as_str()) {
            Some(key) if observed.instance(&key).is_some() => drop(there.insert(key, id.as_str().to_owned())),
            Some(key) => unknown.push((key, id.as_str().to_owned())),
            None => clear(linux, id.as_str()),
        }
    }
    adopt_strays(linux, desired, observed, &unknown);
    for (key, id) in unknown {
        if observed.instance(&key).is_some() {
            there.insert(key, id);
        } else {
            // Of an earlier boot, or of no workload, or one whose removal was the last thing that was done.
            end_stray(linux, desired, key, &id);
        }
    }
    // Without cgroups there is nothing to look for.
    if own || settings.cgroup_parent.is_empty() {
        end_cgroups(linux, (desired, observed), &settings.cgroup_parent, &there);
    } else {
        let text = "another supervisor has containers below the same cgroup: what nobody knows there is left alone; \
                    give this one a --cgroup-parent of its own";
        log::warn(text);
    }
    let mut events = Vec::new();
    for (key, instance) in observed.instances() {
        let streams = Ours::kept(&mut kept, key);
        let pidfd = kept.remove(&process_name(key));
        let name = name_of(key, desired, observed, there.get(&key));
        let found = inspect_instance(linux, &name, instance, there.contains_key(&key), pidfd.as_ref());
        if matches!(found, InspectedState::Ended { .. }) && instance.last_words.is_none() {
            events.extend(linux.last_words(key, &name.id));
        }
        adopt(linux, name, instance, &found, streams, &settings.run);
        events.push(Event::Found { key, found });
    }
    sandboxes(linux, desired, observed, &mut kept, &mut events);
    if let Some(keeper) = &linux.keeper {
        for name in
            kept.keys().filter(|n| ["output:", "process:", "ns:", "names:"].iter().any(|p| n.starts_with(p)))
        {
            keeper.drop(name);
        }
    }
    Ok(events)
}

/// State of the recorded sandboxes; the remains of others are removed in the background.
fn sandboxes(
    linux: &mut HostEffects,
    desired: &Desired,
    observed: &Observed,
    kept: &mut BTreeMap<String, OwnedFd>,
    events: &mut Vec<Event>,
) {
    let mut known = HashSet::new();
    for (replica, r) in observed.replicas().filter(|(_, r)| r.sandbox_state() != SandboxState::No) {
        known.insert(replica);
        let pids: Vec<i32> = observed
            .instances()
            .filter(|(key, i)| key.of_replica() == replica && i.phase == Phase::Running)
            .filter_map(|(_, i)| alive(i.process?).and(i.process).map(|p| p.pid))
            .collect();
        let found = desired.workloads.get(&replica.workload).and_then(|w| {
            let spec = w.revisions.get(&r.revision)?.sandbox.as_ref()?;
            let record = pods::OnRecord {
                workload: &w.name,
                spec: &spec.config,
                made: r.sandbox_state() != SandboxState::Making,
                address: r.address().and_then(|a| a.parse().ok()),
            };
            let (dirs, network) = (&linux.shared.pods, linux.shared.network.as_deref());
            pods::find(dirs, network, replica, record, kept, (&pids, &linux.shared.cgroup_parent))
        });
        let address = found.as_ref().and_then(|pod| pod.replica.pod_ip.clone());
        events.push(Event::SandboxFound { replica, whole: found.is_some(), address });
        if let Some(pod) = found {
            linux.store_pod_descriptors(replica, pod);
        }
    }
    if let Some(Err(e)) = linux.shared.network.as_deref().map(Network::recovered) {
        log::warn(e);
    }
    linux.warn_of_network();
    let containers: HashSet<String> = linux.live.values().map(|l| l.name.id.clone()).collect();
    let dirs = linux.shared.pods.clone();
    pods::sweep_later(dirs, known, containers);
}

/// Takes over running containers without a record that fit the desired state.
fn adopt_strays(
    linux: &mut HostEffects,
    desired: &Desired,
    observed: &mut Observed,
    unknown: &[(Key, String)],
) {
    let strays: Vec<Stray> = unknown.iter().filter_map(|(key, id)| stray(linux, *key, id)).collect();
    let at = clock::now();
    let records: Vec<Record> =
        adopt::adopt(desired, observed, &strays).into_iter().map(|event| Record { at, event }).collect();
    linux.record(&records);
    for record in &records {
        // Their events happened before; only this one is new.
        on_event(observed, &record.event, at, &mut Vec::new());
    }
    for s in strays.iter().filter(|s| observed.instance(&s.key).is_some()) {
        let message = "adopted: it was running without a record".to_owned();
        tell(linux, desired, s.key, (Severity::Normal, Reason::Adopted), message);
    }
}

/// A container that is not on record, if it lives.
fn stray(linux: &HostEffects, key: Key, id: &str) -> Option<Stray> {
    let record = Container::open(&linux.shared.rt, id).ok()?.record;
    let init = record.init?;
    let mut process = Process { pid: init.pid, pidfd_inode: 0, start_time: init.start_time };
    process.pidfd_inode = pidfd_inode(alive(process)?.as_raw_fd());
    let revision = record.annotations.get(names::REVISION).and_then(|r| r.parse().ok()).map(Revision);
    let image = record.annotations.get(names::IMAGE).and_then(|text| serde_json::from_str(text).ok());
    Some(Stray { key, revision, process, image, started: record.phase == lifecycle::Phase::Running })
}

/// Removes a container that belongs to no workload and kills its processes.
fn end_stray(linux: &mut HostEffects, desired: &Desired, key: Key, id: &str) {
    let ran = stray(linux, key, id).is_some();
    clear(linux, id);
    if ran {
        let message = format!("container {id} ran without a record and was killed");
        tell(linux, desired, key, (Severity::Warning, Reason::StrayKilled), message);
    }
}

/// Ends what runs in cgroups of containers of which there is not even a directory, as when that was removed.
fn end_cgroups(
    linux: &mut HostEffects,
    (desired, observed): (&Desired, &Observed),
    parent: &str,
    there: &HashMap<Key, String>,
) {
    for path in cgroups::containers(parent) {
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let Some(key) = names::key_of(&name).filter(|k| !there.contains_key(k)) else { continue };
        match cgroups::end(parent, &path) {
            Ok(0) => {}
            Ok(_) => {
                let message = format!("container {name} ran without a record and was killed");
                tell(linux, desired, key, (Severity::Warning, Reason::StrayKilled), message);
            }
            Err(e) => log::warn(e),
        }
    }
    for pod in cgroups::children(parent).iter().filter(|name| names::key_of(name).is_none()) {
        let known = |key: ReplicaKey| {
            observed.replica_of(&key).is_some_and(|r| r.sandbox_state() != SandboxState::No)
        };
        if !cgroups::replica_of(pod).is_some_and(known)
            && let Err(e) = pods::end_init(parent, pod)
        {
            log::warn(e);
        }
        // One with containers in it stays; an empty one is made again when it is needed.
        let _ = cgroups::remove(parent, pod);
    }
}

fn tell(
    linux: &mut HostEffects,
    desired: &Desired,
    key: Key,
    (severity, reason): (Severity, Reason),
    message: String,
) {
    let at = clock::now();
    log::warn(message.clone());
    let workload_name = desired.workloads.get(&key.workload).map(|w| w.name.clone()).unwrap_or_default();
    linux.emit(Notice {
        workload: key.workload,
        workload_name,
        slot: Some(key.slot),
        instance: Some(key.instance),
        severity,
        ..Notice::of_the_daemon(at, reason, message)
    });
}

fn name_of(key: Key, desired: &Desired, observed: &Observed, id: Option<&String>) -> Name {
    let workload = desired.workloads.get(&key.workload).map_or("", |w| w.name.as_str());
    let container = observed.container(&key).map_or("", |c| c.name.as_str());
    let mut name = Name::new(key, workload, container);
    if let Some(id) = id {
        name.id.clone_from(id);
    }
    name
}

fn clear(linux: &HostEffects, id: &str) {
    if let Err(e) = delete::delete(&linux.shared.rt, id, true) {
        log::warn(e.context(format!("removing the remains of container {id}")));
    }
}

/// State of one instance. `pidfd` is the keeper's descriptor of its process.
fn inspect_instance(
    linux: &HostEffects,
    name: &Name,
    instance: &Instance,
    has_record: bool,
    pidfd: Option<&OwnedFd>,
) -> InspectedState {
    let Some(process) = instance.process.filter(|_| has_record) else {
        // It was being created, or is removed already. A remaining process of it exited with its creator.
        if has_record {
            clear(linux, &name.id);
        }
        return match (&instance.exit, instance.phase) {
            (Some(exit), _) => InspectedState::Ended { status: exit.status, oom: exit.oom, empty: true },
            (None, Phase::Preparing) => InspectedState::Nothing,
            (None, _) => InspectedState::Ended { status: None, oom: false, empty: true },
        };
    };
    match alive(process) {
        Some(_) if instance.phase < Phase::Running && !has_started(linux, name) => {
            InspectedState::Created { process }
        }
        Some(_) => InspectedState::Running { process },
        None => {
            let cgroup = Container::open(&linux.shared.rt, &name.id).and_then(|c| c.cgroup()).ok();
            let known = instance.exit.as_ref().and_then(|e| e.status);
            InspectedState::Ended {
                status: known.or_else(|| how_it_ended(pidfd, process, linux.ring.as_ref())),
                oom: cgroup.as_ref().is_some_and(|c| c.oom_count().is_ok_and(|n| n > 0)),
                empty: cgroup.is_none_or(|c| c.pids_recursive().is_ok_and(|p| p.is_empty())),
            }
        }
    }
}

/// Whether the program of a started container runs: the last supervisor may not have lived to learn it, or to note it.
fn has_started(linux: &HostEffects, name: &Name) -> bool {
    let runs = |c: Container| c.record.phase == lifecycle::Phase::Running || start::is_unrecorded(&c);
    Container::open(&linux.shared.rt, &name.id).is_ok_and(runs)
}

/// The process, if it still is the same one and has not exited.
fn alive(process: Process) -> Option<OwnedFd> {
    let pidfd = wait::pidfd_open(process.pid).ok()?;
    let stat = process::stat(process.pid).ok().flatten()?;
    let same = stat.start_time == process.start_time
        && (process.pidfd_inode == 0 || process.pidfd_inode == pidfd_inode(pidfd.as_raw_fd()));
    (same && !stat.has_ended()).then_some(pidfd)
}

/// Takes up the life of an instance where it was left.
fn adopt(
    linux: &mut HostEffects,
    name: Name,
    instance: &Instance,
    found: &InspectedState,
    streams: Ours,
    run_dir: &Path,
) {
    if matches!(found, InspectedState::Nothing) {
        return;
    }
    let key = name.key;
    let mut live = Live::new(name);
    live.process = instance.process;
    if let Ok(container) = Container::open(&linux.shared.rt, &live.name.id) {
        live.own_pid_namespace = container.record.own_pid_namespace;
        live.cgroup = container.cgroup().ok().map(Cgroup::essential);
    }
    if let InspectedState::Created { process } | InspectedState::Running { process } = found {
        // It may have exited since; then this reports it at once.
        live.pidfd = wait::pidfd_open(process.pid).ok();
        if let Some(pidfd) = &live.pidfd {
            watch(&linux.pidfds, key.instance, pidfd);
        }
    }
    let pid = live.pidfd.as_ref().and(instance.process).map(|p| p.pid);
    let is_kept = streams.output.iter().any(Option::is_some);
    let [out, err] = streams.output;
    let output =
        [out.or_else(|| pipe_of(pid?, 1, libc::O_RDONLY)), err.or_else(|| pipe_of(pid?, 2, libc::O_RDONLY))];
    let input = streams.input.or_else(|| Input::open_persistent(pid.filter(|_| !is_kept)?));
    let streams = Ours { output, input };
    if let Some(keeper) = linux.keeper.as_ref().filter(|_| !is_kept) {
        // Another keeper made it. This one is not its parent, and reads its exit status only from a pidfd that it had before.
        streams.keep(keeper, key);
        live.pidfd.iter().for_each(|fd| keeper.put(&process_name(key), fd.as_raw_fd()));
    }
    match std::fs::read_link(log_note(run_dir, key)).ok().map(LogFile::open) {
        Some(Ok(file)) => {
            live.clients = ForClients::start(&linux.shared.pump, key, streams, Sink::File(file));
        }
        Some(Err(e)) => log::warn(e),
        None => {}
    }
    linux.live.insert(key.instance, live);
    if matches!(found, InspectedState::Running { .. }) {
        linux.forget_memory(key.instance);
        linux.watch_memory(key.instance);
    }
}
