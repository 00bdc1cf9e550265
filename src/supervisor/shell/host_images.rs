//! Images in the world of Linux: their events, and what the store may forget.

use super::compiled;
use super::host::HostEffects;
use super::images::Used;
use super::job::JobResult;
use crate::log;
use crate::supervisor::core::action::{Notice, Reason, Severity};
use crate::supervisor::core::desired::Desired;
use crate::supervisor::core::ids::Key;
use crate::supervisor::core::time::Time;
use crate::supervisor::driver::World;
use std::sync::Arc;
use std::time::Duration;

/// How often unused images are looked for: as often as they may go, within these bounds.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(600);

impl HostEffects {
    /// The sender of messages to the loop.
    pub(super) fn teller(&self) -> Box<dyn Fn(JobResult) + Send + Sync> {
        let done = self.done.clone();
        Box::new(move |what| {
            // Without a receiver the supervisor is shutting down.
            let _ = done.send(what);
        })
    }

    /// After each turn of the loop: a workload that is gone uses no image.
    pub fn count_workloads(&mut self, desired: &Desired) {
        let now = desired.workloads.len();
        if now < self.workloads {
            self.forget_images(desired);
        }
        self.workloads = now;
    }

    /// Lets the store know which revisions there still are.
    pub fn forget_images(&self, desired: &Desired) {
        let mut used = Used { last_workload: desired.last_id, ..Used::default() };
        for (id, workload) in &desired.workloads {
            used.last_revisions.insert(id.0, workload.last_revision.0);
            for (revision, template) in &workload.revisions {
                let containers = (0..).zip(&template.containers).filter(|(_, c)| c.launch.image.is_some());
                used.pins.extend(containers.map(|(n, _)| compiled::pin(*id, *revision, n)));
            }
        }
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || {
            if let Err(e) = shared.images.retain(&used) {
                log::warn(e);
            }
        });
    }

    /// Begins to remove images that have been unused for as long as `age`, now and then, as long as the loop runs.
    pub fn collect_images(&self, age: Duration) {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(age.clamp(SHORTEST, LONGEST)).await;
                let shared = Arc::clone(&shared);
                // It has reported its errors.
                let _ = tokio::task::spawn_blocking(move || shared.images.collect(age)).await;
            }
        });
    }

    /// An image is being pulled for a container, or was.
    pub fn image_told(&mut self, key: Key, reason: Reason, message: String, at: Time) {
        let Some(live) = self.live.get(&key.instance) else { return };
        let notice = Notice {
            workload: key.workload,
            workload_name: live.name.workload.clone(),
            slot: Some(key.slot),
            container: Some(live.name.container.clone()),
            instance: Some(key.instance),
            severity: Severity::Normal,
            ..Notice::of_the_daemon(at, reason, message)
        };
        self.emit(notice);
    }
}
