//! The checks of the order within a replica: P21 and P22.

use crate::oracle::Oracle;
use crate::process::{Proc, State};
use orun::supervisor::core::ids::Key;
use orun::supervisor::core::spec::{PodTemplate, RestartPolicy, Role};
use std::collections::{BTreeMap, BTreeSet};

/// The order within a replica.
#[derive(Debug, Default)]
pub struct Order {
    /// Containers that exited successfully.
    pub succeeded: BTreeSet<u32>,
    /// A main container was released.
    mains: bool,
}

impl Oracle {
    /// P21 and P22: what must have happened before a container starts.
    pub fn in_order(&mut self, key: &Key, template: &PodTemplate, procs: &BTreeMap<u64, Proc>) {
        let order = self.order.entry(key.replica).or_default();
        let role = template.containers[key.container as usize].role;
        let up = |index: u32| {
            let its = |p: &Proc| (p.key.replica, p.key.container) == (key.replica, index);
            procs.values().any(|p| its(p) && p.state == State::Running && p.executed.is_some() && p.up)
        };
        let mut problem = None;
        if role == Role::Init && (order.mains || order.succeeded.contains(&key.container)) {
            problem = Some(format!("P21: {key} runs again in the same sandbox"));
        }
        for (before, index) in template.containers.iter().zip(0..key.container).filter(|_| !order.mains) {
            match before.role {
                Role::Init if !order.succeeded.contains(&index) => {
                    problem = Some(format!("P21: {key} starts before {} has succeeded", before.name));
                }
                Role::Sidecar if !up(index) => {
                    problem = Some(format!("P22: {key} starts before {} runs", before.name));
                }
                _ => {}
            }
        }
        order.mains |= role == Role::Main;
        if let Some(problem) = problem {
            self.blame(problem);
        }
    }

    /// P22: a sidecar is asked to end after all main containers and the sidecars after it.
    pub fn out_of_order(&mut self, p: &Proc, procs: &BTreeMap<u64, Proc>) {
        let Some(template) = self.replicas.get(&p.key.replica).and_then(|f| f.template.as_ref()) else {
            return;
        };
        let role = |k: &Key| template.containers[k.container as usize].role;
        let later = |k: &Key| match role(k) {
            Role::Main => true,
            Role::Sidecar => k.container > p.key.container,
            Role::Init => false,
        };
        let alone = self.lost.contains_key(&p.key.instance) || self.unhealthy.contains(&p.key.instance);
        let first = role(&p.key) == Role::Sidecar && !alone;
        let same = procs.values().filter(|o| o.key.replica == p.key.replica && o.state == State::Running);
        let earlier = same.map(|o| o.key).find(later).filter(|_| first);
        if let Some(other) = earlier {
            self.blame(format!("P22: {} is stopped while {other} runs", p.key));
        }
    }

    /// A sandbox is made: all start over.
    pub fn new_sandbox(&mut self, replica: u64) {
        self.order.remove(&replica);
        let template = self.replicas.get(&replica).and_then(|f| f.template.as_ref());
        for (container, index) in template.into_iter().flat_map(|t| &t.containers).zip(0..) {
            if container.role == Role::Init {
                self.chains.remove(&(replica, index));
            }
        }
    }
}

/// After which ends a container is started again.
pub fn policy(template: &PodTemplate, index: usize) -> RestartPolicy {
    let container = &template.containers[index];
    let own = container.restart_policy.unwrap_or(template.restart_policy);
    match (container.role, own) {
        (Role::Sidecar, _) => RestartPolicy::Always,
        (Role::Init, RestartPolicy::Always) => RestartPolicy::OnFailure,
        _ => own,
    }
}
