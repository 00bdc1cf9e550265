//! The sandbox that the containers of a replica share: created before the first of them, removed after the last. If it is
//! lost, its containers are stopped, and restart in a new one.

use super::action::Action;
use super::event::Event;
use super::exit::ExitClass;
use super::model::{Container, Next, Replica, Restart, Sandbox, SandboxState};
use super::pass::{ContainerContext, Pass};
use super::restart;
use super::spec::{Backoff, PodTemplate, Role};
use super::time::Time;

impl Replica {
    /// Where its sandbox is.
    pub fn sandbox_state(&self) -> SandboxState {
        self.sandbox.as_ref().map_or(SandboxState::No, |s| s.state)
    }

    /// Why its sandbox could not be made the last time, until it is.
    pub fn sandbox_error(&self) -> Option<&str> {
        self.sandbox.as_ref().and_then(|s| s.error.as_deref())
    }

    /// Its address in the network of pods.
    pub fn address(&self) -> Option<&str> {
        self.sandbox.as_ref().and_then(|s| s.address.as_deref())
    }

    /// Whether nothing of it is on the host.
    pub fn is_gone(&self) -> bool {
        self.is_empty() && matches!(self.sandbox_state(), SandboxState::No | SandboxState::Failed(_))
    }

    /// Whether no container of it is left.
    fn is_empty(&self) -> bool {
        self.containers.iter().all(|c| c.instances.is_empty())
    }

    /// Whether a container will run in a sandbox that is made now.
    fn has_use_for_sandbox(&self) -> bool {
        // A sidecar runs on beside a main container that has given up, so it does in a new sandbox.
        let due = |c: &Container| c.role != Role::Init && c.restart.due().is_some();
        self.stop.is_none() && !self.is_over() && self.containers.iter().any(due)
    }
}

/// Decides on the sandbox of a replica. Whether its containers can be made.
pub fn sandbox(pass: &mut Pass<'_>, place: &ContainerContext<'_>) -> bool {
    let replica = place.replica;
    let lacks = place.template.is_some_and(|t| t.lack().is_some());
    let wanted = place.template.filter(|t| t.sandbox.is_some() && !lacks);
    let state = replica.sandbox_state();
    match state {
        SandboxState::No => make(pass, place, wanted, Time(0)),
        SandboxState::Failed(at) => {
            let failures = replica.sandbox.as_ref().map_or(1, |s| s.failures);
            let backoff = place.template.map_or_else(Backoff::default, |t| t.backoff.clone());
            make(pass, place, wanted, at + restart::grown(&backoff, failures.saturating_sub(1)));
        }
        SandboxState::Making | SandboxState::Removing(None) => {}
        SandboxState::Ready if replica.stop.is_none() => {}
        SandboxState::Ready | SandboxState::Lost => {
            if replica.is_empty() {
                pass.push(Action::RemoveSandbox { replica: place.replica_key() });
            }
        }
        SandboxState::Removing(Some(failed)) => {
            if pass.reached(failed + pass.config.remove_retry) {
                pass.push(Action::RemoveSandbox { replica: place.replica_key() });
            }
        }
    }
    !lacks && (wanted.is_none() || state == SandboxState::Ready)
}

fn make(pass: &mut Pass<'_>, place: &ContainerContext<'_>, wanted: Option<&PodTemplate>, at: Time) {
    if wanted.is_none() || !place.replica.has_use_for_sandbox() || !pass.reached(at) {
        return;
    }
    let first = place.replica.sandbox.as_ref().is_none_or(|s| s.made == 0);
    let inits = place.replica.containers.iter().zip(0..).filter(|(c, _)| c.role == Role::Init && !first);
    let again = inits.map(|(_, index)| index).collect();
    let (replica, revision) = (place.replica_key(), place.replica.revision);
    pass.push(Action::MakeSandbox { replica, revision, again });
}

/// Next step after the exit of a container that was stopped because its sandbox was lost: this is not a failure of the container.
pub fn after_loss(template: &PodTemplate, container: u32) -> Next {
    match template.restarts(container as usize, ExitClass::Unknown) {
        true => Next::Now,
        false => Next::Done { failed: true },
    }
}

/// A sandbox is about to be made.
pub fn making(replica: &mut Replica, again: &[u32]) {
    replica.sandbox.get_or_insert_default().state = SandboxState::Making;
    replica.initialized = false;
    for index in again {
        if let Some(container) = replica.containers.get_mut(*index as usize) {
            container.restart = Restart::default();
        }
    }
}

/// Takes an event of a sandbox into account.
pub fn observe(replica: &mut Replica, event: &Event, at: Time) {
    let empty = replica.is_empty();
    let Some(sandbox) = &mut replica.sandbox else { return };
    if let Event::SandboxMade { address, .. } | Event::SandboxFound { address, whole: true, .. } = event {
        sandbox.address.clone_from(address);
    }
    sandbox.state = match (event, sandbox.state) {
        (Event::SandboxMade { .. } | Event::SandboxFound { whole: true, .. }, SandboxState::Making) => {
            let made = sandbox.made.saturating_add(1);
            let address = sandbox.address.take();
            **sandbox = Sandbox { made, address, ..Sandbox::default() };
            SandboxState::Ready
        }
        (Event::SandboxFailed { error, .. }, SandboxState::Making) => {
            sandbox.failures = sandbox.failures.saturating_add(1);
            sandbox.error = Some(error.clone());
            SandboxState::Failed(at)
        }
        (Event::SandboxLost { .. }, SandboxState::Ready) => SandboxState::Lost,
        (Event::SandboxGone { error: None, .. }, _) => {
            sandbox.address = None;
            SandboxState::No
        }
        (Event::SandboxGone { error: Some(_), .. }, _) => SandboxState::Removing(Some(at)),
        (Event::SandboxFound { whole: false, .. }, SandboxState::Making) if empty => SandboxState::No,
        (Event::SandboxFound { whole: false, .. }, SandboxState::Making | SandboxState::Ready)
        // An interrupted removal is repeated.
        | (Event::SandboxFound { .. }, SandboxState::Removing(_)) => SandboxState::Lost,
        (_, state) => state,
    };
}
