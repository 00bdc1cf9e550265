//! P33: the order between workloads.

use crate::oracle::Oracle;
use orun::supervisor::core::desired::{Desired, Workload};
use orun::supervisor::core::ids::WorkloadId;
use orun::supervisor::core::model::{Next, Observed, Phase, Replica};
use orun::supervisor::core::spec::Role;
use orun::workload::depends::Condition;

impl Oracle {
    /// P33: a replica of workload `id` is made.
    pub fn in_its_turn(&mut self, id: WorkloadId, desired: &Desired, observed: &Observed) {
        let Some(w) = desired.workloads.get(&id) else { return };
        if let Some(other) = missing(w, desired, observed) {
            self.blame(format!("P33: a replica of {} is made before {other} is so far", w.name));
        }
    }
}

/// What a workload must wait for.
pub fn missing(w: &Workload, desired: &Desired, observed: &Observed) -> Option<String> {
    for d in &w.controller.depends_on {
        let found = desired.workloads.iter().find(|(_, o)| o.name == d.workload && o.deletion.is_none());
        let Some((id, other)) = found else {
            if d.optional {
                continue;
            }
            return Some(d.workload.clone());
        };
        let mut good = other.completed.values().filter(|failed| !**failed).count();
        if d.condition == Condition::Ready {
            good = 0;
        }
        for (n, slot) in observed.workloads.get(id).into_iter().flat_map(|s| &s.slots) {
            let counted = other.completed.get(n) == Some(&false) && d.condition != Condition::Ready;
            let up = |r: &Replica| match d.condition {
                Condition::Started => mains_run(r),
                Condition::Ready => r.is_ready(),
                Condition::Completed => false,
            };
            let new = |r: &Replica| {
                r.revision == other.revision || other.paused || other.in_place(r.revision, other.revision)
            };
            good +=
                usize::from(!counted && slot.replicas.iter().any(|r| r.stop.is_none() && new(r) && up(r)));
        }
        let enough = match (other.controller.job.is_some(), d.condition) {
            (false, _) => other.desired_replicas() as usize,
            (true, Condition::Started | Condition::Ready) => 1,
            (true, Condition::Completed) => usize::MAX,
        };
        let finished = other.job_end().is_some_and(|end| match d.condition {
            Condition::Started => true,
            Condition::Ready => false,
            Condition::Completed => !end.failed,
        });
        let over = other.job_end().is_some();
        if other.stopped || (!finished && (over || good < enough)) {
            return Some(d.workload.clone());
        }
    }
    None
}

fn mains_run(r: &Replica) -> bool {
    r.containers.iter().filter(|c| c.role == Role::Main).all(|c| {
        let runs = c.instances.iter().any(|i| i.phase == Phase::Running && i.exit.is_none() && !i.is_dead());
        runs || c.restart.next == (Next::Done { failed: false })
    })
}
