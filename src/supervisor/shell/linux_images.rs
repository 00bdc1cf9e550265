//! Images in the world of Linux: their events, and what the store may forget.

use super::compiled;
use super::images::{Access, Used};
use super::jobs::{Done, Name, Shared};
use super::linux::Linux;
use crate::config::signals;
use crate::image::bundle;
use crate::image::registry::LoginSecret;
use crate::log;
use crate::runtime::container::Container;
use crate::supervisor::core::action::{Notice, Reason, Severity};
use crate::supervisor::core::desired::Desired;
use crate::supervisor::core::ids::Key;
use crate::supervisor::core::spec::Launch;
use crate::supervisor::core::time::Time;
use crate::supervisor::driver::World;
use crate::workload::kept::KeptKind;
use std::sync::Arc;
use std::time::Duration;

/// How often unused images are looked for: as often as they may go, within these bounds.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(600);

/// What the image of a container is pulled with: the data of its secrets as they are now.
pub fn access(desired: &Desired, launch: &Launch) -> Access {
    let mut access = Access::default();
    for name in launch.image.iter().flat_map(|i| &i.pull_secrets) {
        let Some(secret) = desired.objects.get(KeptKind::Secret, name) else {
            access.lacks.push(format!("secret {name:?} of imagePullSecrets not found"));
            continue;
        };
        let mut data = secret.object.data();
        let found = [(".dockerconfigjson", false), (".dockercfg", true)];
        match found.into_iter().find_map(|(key, legacy)| Some((data.remove(key)?, legacy))) {
            Some((text, legacy)) => {
                let text = String::from_utf8_lossy(&text).into_owned();
                access.secrets.push(LoginSecret { name: name.clone(), legacy, text });
            }
            None => access.lacks.push(format!(
                "secret {name:?} of imagePullSecrets has neither .dockerconfigjson nor .dockercfg"
            )),
        }
    }
    access
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

impl Linux {
    /// What sends messages to the loop.
    pub(super) fn teller(&self) -> Box<dyn Fn(Done) + Send + Sync> {
        let done = self.done.clone();
        Box::new(move |what| {
            // Without a receiver the supervisor is ending.
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
