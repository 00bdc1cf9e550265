//! The compiled bundle or image of one container of one revision, compiled on first use. An image may have to be pulled
//! for it.

use super::images::{self, Prepared, Trouble};
use super::job::{Cached, Compiled, Failed, JobResult, Name, Shared, Source, start_error};
use super::names;
use super::pods::{self, roots};
use crate::config::bundle::Bundle;
use crate::error::{Error, Kind, Result};
use crate::log;
use crate::runtime::embed::{Overlay, PreparedContainer};
use crate::supervisor::core::action::Reason;
use crate::supervisor::core::exit::{ImageError, StartError};
use crate::supervisor::core::ids::{Revision, WorkloadId};
use crate::workload::bundle as workload;
use crate::workload::model::Container;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// How long a failure is that of all replicas.
const FAILED: Duration = Duration::from_secs(2);
/// How often a container that waits for an image is asked whether it still does.
const TURN: Duration = Duration::from_millis(50);

impl Cached {
    fn compiled(&self) -> Option<Arc<Compiled>> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it is available without waiting.
    pub fn is_ready(&self) -> bool {
        self.compiled().is_some()
    }

    /// A bundle that is compiled, or being compiled.
    ///
    /// # Errors
    /// It cannot be compiled, or there is no image.
    pub fn get(&self, shared: &Shared, source: &Source, name: &Name) -> Result<Arc<Compiled>, StartError> {
        let mut making = loop {
            if let Some(compiled) = self.compiled() {
                return Ok(compiled);
            }
            // Compiling is over at once, and an image takes as long as it takes.
            if source.launch.image.is_none() {
                break self.making.lock().unwrap_or_else(PoisonError::into_inner);
            }
            match self.making.try_lock() {
                Ok(making) => break making,
                Err(TryLockError::Poisoned(e)) => break e.into_inner(),
                Err(TryLockError::WouldBlock) if source.cancelled.load(Ordering::Relaxed) => {
                    let message = "stopped while it waited for its image".to_owned();
                    return Err(StartError { message, unrecoverable: false, image: None });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(TURN),
            }
        };
        if let Some(compiled) = self.compiled() {
            return Ok(compiled);
        }
        if let Some(failed) = making.as_ref().filter(|f| f.at.elapsed() < FAILED) {
            return Err(failed.error.clone());
        }
        match compile(shared, source, name) {
            Ok(compiled) => {
                let compiled = Arc::new(compiled);
                *self.compiled.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&compiled));
                Ok(compiled)
            }
            Err(error) => {
                let of_all = error.image.is_some() && !source.cancelled.load(Ordering::Relaxed);
                *making = of_all.then(|| Failed { at: Instant::now(), error: error.clone() });
                Err(error)
            }
        }
    }
}

/// The image of a container, with what its user says.
fn image_of(shared: &Shared, source: &Source, name: &Name) -> Result<Option<Prepared>, StartError> {
    let Some(image) = &source.launch.image else { return Ok(None) };
    let pin = match image.digest {
        Some(_) => None,
        None => Some(pin(name.key.workload, source.revision, name.key.container)),
    };
    let tell = |pulls: bool, message: String| {
        let reason = if pulls { Reason::Pulling } else { Reason::Pulled };
        (source.tell)(JobResult::Image { key: name.key, reason, message });
    };
    let ready = shared.images.ready(image, pin.as_deref(), &source.access, &source.cancelled, &tell);
    let ready = ready.map_err(|Trouble { reason, error }| StartError {
        message: error.to_string(),
        unrecoverable: reason == ImageError::InvalidImageName,
        image: Some(reason),
    })?;
    let own = source.launch.container.as_ref().map(|c| &c.security_context);
    let pod = source.pod.as_ref().map(|p| &p.sandbox.security);
    let user = own.and_then(|s| s.run_as_user).or(pod.and_then(|s| s.run_as_user));
    let engine = source.launch.container.as_ref().map(|c| &c.engine);
    let named = engine.and_then(|e| e.user.clone());
    let check = engine.and_then(|e| e.image_health_check.as_ref());
    let user = user.map(|uid| uid.to_string()).or(named);
    let prepared = images::prepare(&ready, shared.images.bundle(), image, user.as_deref(), check);
    prepared.map(Some).map_err(|e| start_error(&e))
}

/// By what name the store keeps what the image of a container of a revision is.
pub fn pin(workload: WorkloadId, revision: Revision, container: u32) -> String {
    format!("{}.{}.{container}", workload.0, revision.0)
}

/// Arguments alone are for the image's entrypoint.
pub fn with_entrypoint(container: &Container, image: Option<&Prepared>) -> Container {
    let mut container = container.clone();
    if let (Some(image), true, Some(_)) = (image, container.command.is_empty(), &container.args) {
        container.command.clone_from(&image.entrypoint);
    }
    container
}

fn compile(shared: &Shared, source: &Source, name: &Name) -> Result<Compiled, StartError> {
    let image = image_of(shared, source, name)?;
    compile_with(shared, source, image).map_err(|e| start_error(&e))
}

fn compile_with(shared: &Shared, source: &Source, image: Option<Prepared>) -> Result<Compiled> {
    let launch = &source.launch;
    let mut overlay = Overlay {
        args: launch.args.clone().unwrap_or_default(),
        env: launch.env.clone(),
        resources: launch.resources.clone(),
        without_limits: shared.cgroup_parent.is_empty(),
        open_files: shared.open_files,
        terminal: launch.container.as_ref().is_some_and(|c| c.tty),
        annotations: vec![(names::REVISION.to_owned(), source.revision.0.to_string())],
        ..Overlay::default()
    };
    if !launch.shared_root {
        overlay.annotations.extend(roots::unknown());
    }
    let (mut bundle, mut config) = (Path::new(&launch.bundle), launch.config.clone());
    if let Some(image) = &image {
        bundle = &image.dir;
        config = Some(image.config.clone());
        overlay.annotations.push(image.annotation.clone());
        if let Some(facts) = serde_json::to_string(&image.facts).ok().filter(|_| !image.facts.is_empty()) {
            overlay.annotations.push((names::IMAGE.to_owned(), facts));
        }
    }
    let mut given = Vec::new();
    if let (Some(pod), Some(container)) = (&source.pod, &launch.container) {
        let raw = match config {
            Some(config) => config.into_bytes(),
            None => Bundle::load(bundle)?.raw,
        };
        let mut host = pods::host(container);
        if let Some(name) = workload::localhost_profile(&pod.sandbox, container) {
            host.seccomp = Some(pods::seccomp::load(&shared.seccomp, name)?);
        }
        host.image_volumes = image.as_ref().map(|i| i.volumes.clone()).unwrap_or_default();
        let made = workload::config(&raw, &pod.sandbox, container, &host)
            .map_err(|message| Error::new(Kind::Config, message))?;
        given = made.given;
        overlay.given = given.iter().map(|(n, _)| *n).collect();
        config = Some(made.config.to_string());
    }
    let template = Arc::new(PreparedContainer::load(&shared.rt, bundle, config.as_deref(), &overlay)?);
    for warning in template.warnings() {
        log::warn(format!("bundle {bundle:?}: {warning}"));
    }
    Ok(Compiled { template, given, image })
}
