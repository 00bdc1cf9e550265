//! The sandboxes of pods, as the world of Linux has them.

use super::host::{HostEffects, INIT_MARK, watch};
use super::job::JobResult;
use super::pods::{self, Pod};
use super::publish::Resolver;
use crate::supervisor::core::desired::Desired;
use crate::supervisor::core::event::Event;
use crate::supervisor::core::ids::{ReplicaKey, Revision};
use crate::workload::compose::PROJECT;
use std::os::fd::AsRawFd;
use std::sync::Arc;

impl HostEffects {
    /// The init process of a pod has exited, and with it every process of the pod's pid namespace.
    pub(super) fn init_ended(&self, mark: u64, events: &mut Vec<Event>) {
        let of = |(key, pod): (&ReplicaKey, &Arc<Pod>)| Some((*key, pod.init.as_ref()?.try_clone().ok()?));
        let found = self.pods.iter().filter_map(of).find(|(key, _)| key.serial == mark & !INIT_MARK);
        if let Some((replica, init)) = found {
            let _ = self.pidfds.delete(&init);
            events.push(Event::SandboxLost { replica });
        }
    }

    /// Has everything kept that a pod needs to live on.
    pub fn store_pod_descriptors(&mut self, replica: ReplicaKey, pod: Pod) {
        if let Some(keeper) = &self.keeper {
            for (kind, fd) in &pod.held {
                keeper.put(&pods::held_name(replica, *kind), fd.as_raw_fd());
            }
            for (name, _, fd) in pod.resolver.iter().flat_map(|r| r.named(&replica.to_string())) {
                keeper.put(&name, fd.as_raw_fd());
            }
        }
        if let Some((publisher, sockets)) = self.publisher.as_ref().zip(pod.resolver.clone()) {
            let project = pod.sandbox.metadata.labels.get(PROJECT).cloned();
            publisher.resolve(replica, Some(Resolver { sockets, project }));
        }
        if let Some(init) = &pod.init {
            watch(&self.pidfds, INIT_MARK | replica.serial, init);
        }
        self.pods.insert(replica, Arc::new(pod));
    }

    pub(super) fn make_sandbox(&mut self, replica: ReplicaKey, revision: Revision, desired: &Desired) {
        let workload = desired.workloads.get(&replica.workload);
        let template = workload.and_then(|w| w.revisions.get(&revision));
        let spec = workload.zip(template).and_then(|(w, t)| Some((w, t.sandbox.clone()?, t)));
        let Some((workload, spec, template)) = spec else {
            let error = "the workload is gone".to_owned();
            return self.answers.push(Event::SandboxFailed { replica, error });
        };
        let (name, objects) = (workload.name.clone(), desired.objects.inputs_of(template));
        let names = self.publisher.is_some();
        self.job(move |shared| {
            let network = (shared.network.as_deref(), names);
            let place = (replica, shared.cgroup_parent.as_str());
            let result = pods::make(&shared.pods, network, place, (&name, &spec.config), &objects);
            JobResult::SandboxMade { replica, result }
        });
    }

    pub(super) fn remove_sandbox(&mut self, replica: ReplicaKey) {
        let pod = self.pods.remove(&replica);
        if let Some(keeper) = &self.keeper {
            for (kind, _) in pod.iter().flat_map(|p| &p.held) {
                keeper.drop(&pods::held_name(replica, *kind));
            }
            let sockets = pod.as_ref().and_then(|p| p.resolver.as_ref());
            for (name, _, _) in sockets.iter().flat_map(|s| s.named(&replica.to_string())) {
                keeper.drop(&name);
            }
        }
        if let Some(publisher) = &self.publisher {
            publisher.resolve(replica, None);
        }
        self.job(move |shared| {
            let address = pod.as_ref().and_then(|p| p.address);
            // When the last copy is closed, the kernel removes the namespaces.
            drop(pod);
            let network = shared.network.as_deref();
            let removed = pods::remove(&shared.pods, network, replica, address, &shared.cgroup_parent);
            JobResult::SandboxGone { replica, error: removed.err().map(|e| e.to_string()) }
        });
    }
}
