//! Containers of which there is no record, as after the loss of the runtime journal: those that fit the desired state are
//! taken over as if they had been recorded, so that the loss stops no running container.

use super::action::Action;
use super::checks::Checks;
use super::desired::{Desired, Workload};
use super::event::Event;
use super::ids::{Key, ReplicaKey, Revision};
use super::model::{Observed, Process};
use super::pass::new_replica;
use super::spec::{ContainerSpec, ImageFacts};
use std::collections::BTreeMap;

/// A container that was found and is not on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    pub key: Key,
    /// Which template it was made from, when that is noted.
    pub revision: Option<Revision>,
    pub process: Process,
    /// Facts from its image.
    pub image: Option<Box<ImageFacts>>,
    /// Its program runs, or has run.
    pub started: bool,
}

/// The events that take strays in. What they do not mention fits nowhere.
pub fn adopt(desired: &Desired, observed: &Observed, strays: &[Stray]) -> Vec<Event> {
    let mut replicas: BTreeMap<_, Vec<&Stray>> = BTreeMap::new();
    for s in strays {
        replicas.entry((s.key.workload, s.key.slot, s.key.replica)).or_default().push(s);
    }
    let mut events = Vec::new();
    for ((id, slot, serial), strays) in replicas {
        let Some(workload) = desired.workloads.get(&id) else { continue };
        let known = observed.replica(id, slot, serial).is_some();
        let newer = observed.workloads.get(&id).and_then(|w| w.slots.get(&slot));
        if known || newer.is_some_and(|s| s.replicas.iter().any(|r| r.serial > serial)) {
            continue;
        }
        let Some(revision) = revision(workload, &strays) else { continue };
        let Some(template) = workload.revisions.get(&revision) else { continue };
        let chosen = choose(&strays, template.containers.len());
        if chosen.is_empty() {
            continue;
        }
        let add = new_replica(id, workload, slot, serial, (revision, template));
        events.push(Event::Decided { action: add });
        if template.sandbox.is_some() {
            // Whether it is whole is found out next, as for all that are on record.
            let replica = ReplicaKey { workload: id, slot, serial };
            let action = Action::MakeSandbox { replica, revision, again: Vec::new() };
            events.push(Event::Decided { action });
        }
        for s in chosen {
            let spec = template.containers.get(s.key.container as usize);
            events.extend(taken_in(s, spec, revision, observed.start_credit));
        }
    }
    events
}

/// The one that all name; without a note the only one that there is.
fn revision(workload: &Workload, strays: &[&Stray]) -> Option<Revision> {
    let only = || workload.revisions.keys().next().copied().filter(|_| workload.revisions.len() == 1);
    let first = strays.first()?.revision;
    let agreed = strays.iter().all(|s| s.revision == first);
    first.or_else(only).filter(|_| agreed)
}

/// Of each container the newest that runs, or ran, and the newest that waits to.
fn choose<'a>(strays: &[&'a Stray], containers: usize) -> Vec<&'a Stray> {
    let mut newest: BTreeMap<(u32, bool), &Stray> = BTreeMap::new();
    for s in strays.iter().filter(|s| (s.key.container as usize) < containers) {
        let entry = newest.entry((s.key.container, !s.started)).or_insert(s);
        if entry.key.instance < s.key.instance {
            *entry = s;
        }
    }
    newest.into_values().collect()
}

fn taken_in(s: &Stray, spec: Option<&ContainerSpec>, revision: Revision, credit: u64) -> Vec<Event> {
    let (key, process) = (s.key, s.process);
    let mut events = vec![
        Event::Decided { action: Action::Prepare { key, revision, credit } },
        Event::Prepared { key, process, image: s.image.clone() },
    ];
    if s.started {
        // Its postStart was run when it was started, if it has one.
        let checks = spec.map(|spec| Checks::for_container(spec, s.image.as_deref())).unwrap_or_default();
        let checks = Checks { post_start: false, ..checks };
        events.push(Event::Decided { action: Action::Release { key, checks } });
        events.push(Event::Started { key });
    }
    events
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::desired::Change;
    use super::super::ids::WorkloadId;
    use super::super::model::Phase;
    use super::super::observe::on_event;
    use super::super::reconcile::reconcile;
    use super::super::time::Time;
    use super::*;

    fn web(replicas: u32) -> Change {
        // As a journal has it, with the defaults of all other fields.
        let container = |name: &str| serde_json::json!({"name": name, "launch": {"bundle": "/b"}});
        serde_json::from_value(serde_json::json!({
            "change": "apply", "name": "web", "replicas": replicas,
            "template": {"containers": [container("a"), container("b")]},
        }))
        .unwrap()
    }

    fn stray(text: &str, revision: Option<u32>, started: bool) -> Stray {
        let key: Key = text.parse().unwrap();
        let process = Process { pid: key.instance as i32, pidfd_inode: 0, start_time: 1 };
        Stray { key, revision: revision.map(Revision), process, image: None, started }
    }

    fn taken(desired: &Desired, strays: &[Stray]) -> (Observed, Vec<String>) {
        let mut observed = Observed::default();
        for event in adopt(desired, &observed.clone(), strays) {
            on_event(&mut observed, &event, Time(5), &mut Vec::new());
        }
        let keys = observed.instances().map(|(key, _)| key.to_string()).collect();
        (observed, keys)
    }

    #[test]
    fn what_fits_is_taken_in_and_nothing_is_done_to_it() {
        let mut desired = Desired::default();
        let apply = web(2);
        desired.apply(&apply, Time(1), &Config::default()).unwrap();
        let strays = [
            stray("w1.s0.r3.c0.i7", Some(1), true),
            stray("w1.s0.r3.c1.i8", Some(1), true),
            // Without a note there is only one that it can be.
            stray("w1.s1.r4.c0.i9", None, true),
            // An old one of the same container, which was about to be removed.
            stray("w1.s1.r4.c0.i5", None, true),
            stray("w1.s1.r4.c1.i11", None, false),
            // Of no workload, of no revision.
            stray("w2.s0.r1.c0.i2", Some(1), true),
            stray("w1.s0.r2.c0.i1", Some(9), true),
        ];
        let (observed, keys) = taken(&desired, &strays);
        assert_eq!(keys, ["w1.s0.r3.c0.i7", "w1.s0.r3.c1.i8", "w1.s1.r4.c0.i9", "w1.s1.r4.c1.i11"]);
        assert_eq!((observed.last_instance, observed.last_replica), (11, 4));
        let phases: Vec<Phase> = observed.instances().map(|(_, i)| i.phase).collect();
        assert_eq!(phases, [Phase::Running, Phase::Running, Phase::Running, Phase::Prepared]);
        let step = reconcile(&desired, &observed, Time(6), &Config::default());
        let released = stray("w1.s1.r4.c1.i11", None, false).key;
        let effects: Vec<_> = step.actions.into_iter().filter(Action::is_effect).collect();
        assert_eq!(effects, [Action::Release { key: released, checks: Checks::default() }]);
        assert_eq!(observed.workloads.keys().copied().collect::<Vec<_>>(), [WorkloadId(1)]);
    }

    #[test]
    fn what_is_on_record_is_not_doubled() {
        let mut desired = Desired::default();
        let apply = web(1);
        desired.apply(&apply, Time(1), &Config::default()).unwrap();
        let (observed, _) = taken(&desired, &[stray("w1.s0.r3.c0.i7", None, true)]);
        assert_eq!(adopt(&desired, &observed, &[stray("w1.s0.r3.c0.i8", None, true)]), []);
        assert_eq!(adopt(&desired, &observed, &[stray("w1.s0.r2.c0.i6", None, true)]), []);
    }
}
