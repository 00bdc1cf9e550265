//! The order in which the containers of a replica start and stop.
//!
//! ```text
//! init containers, one after another, each must succeed ┐
//! sidecars among them, each must have started           ┴─ main containers ─ all exited ─ sidecars, in reverse
//! ```
//! Init containers run once in a sandbox. A sidecar that restarts later does not block the others.

use super::exit::StopCause;
use super::model::{Container, Instance, Next, Phase, Replica};
use super::phase::{ContainerState, Reason};
use super::spec::Role;

impl Container {
    /// Whether its program runs and has come up.
    pub fn has_started(&self) -> bool {
        let up = |i: &Instance| i.health.as_ref().is_none_or(|h| h.is_started());
        let runs = |i: &Instance| i.phase == Phase::Running && i.exit.is_none() && i.stop.is_none();
        self.lives().is_some_and(|i| runs(i) && up(i))
    }

    fn all_dead(&self) -> bool {
        self.instances.iter().all(|i| i.is_dead())
    }
}

impl Replica {
    /// Whether container `index` may run its program, as far as the order goes.
    pub fn may_start(&self, index: usize) -> bool {
        let role = self.containers.get(index).map_or(Role::Main, |c| c.role);
        if self.initialized || self.is_over() {
            return role != Role::Init && !self.is_over();
        }
        self.containers.iter().take(index).all(|c| match c.role {
            Role::Init => c.has_succeeded(),
            Role::Sidecar => c.has_started(),
            Role::Main => true,
        })
    }

    /// Whether container `index` is stopped now when the whole replica is.
    pub fn may_stop(&self, index: usize) -> bool {
        let sidecar = self.containers.get(index).is_some_and(|c| c.role == Role::Sidecar);
        let before =
            |(n, c): (usize, &Container)| c.role == Role::Main || (c.role == Role::Sidecar && n > index);
        !sidecar || self.containers.iter().enumerate().filter(|p| before(*p)).all(|(_, c)| c.all_dead())
    }

    /// Whether no main container will run again: all have exited for good, or an init container has failed for good.
    pub fn is_over(&self) -> bool {
        let ended = |c: &Container| c.lives().is_none() && matches!(c.restart.next, Next::Done { .. });
        let failed = |c: &Container| c.role == Role::Init && c.has_failed();
        (!self.initialized && self.containers.iter().any(failed))
            || self.containers.iter().filter(|c| c.role == Role::Main).all(ended)
    }

    /// Whether all of it has exited, sidecars too.
    pub fn has_ended(&self) -> bool {
        self.is_over() && self.containers.iter().all(|c| c.lives().is_none())
    }

    /// Nothing of it is started again. What has not exited by itself has failed.
    pub fn expire(&mut self) {
        self.expired = true;
        for container in &mut self.containers {
            if container.lives().is_none() && container.restart.due().is_some() {
                container.restart.next = Next::Done { failed: true };
            }
        }
    }

    /// Why container `index` of a replica that stays is to be stopped.
    pub fn surplus(&self, index: usize) -> Option<StopCause> {
        if self.expired {
            return self.may_stop(index).then_some(StopCause::DeadlineExceeded);
        }
        let sidecar = self.containers.get(index).is_some_and(|c| c.role == Role::Sidecar);
        (sidecar && self.is_over() && self.may_stop(index)).then_some(StopCause::Finished)
    }
}

/// How far the start of a replica is, as kubectl has it: `Init:1/2`, `Init:Error`, `PodInitializing`. None: it has no init
/// containers, or they have done their work.
pub fn initializing(r: &Replica, states: impl Iterator<Item = ContainerState>) -> Option<String> {
    let first = |c: &Container| c.role != Role::Main;
    let total = r.containers.iter().filter(|c| first(c)).count();
    if total == 0 || r.initialized || r.stop.is_some() {
        return None;
    }
    let satisfied = |c: &Container| match c.role {
        Role::Init => c.has_succeeded(),
        Role::Sidecar => c.has_started(),
        Role::Main => false,
    };
    let done = r.containers.iter().take_while(|c| satisfied(c)).count();
    if done == total {
        return Some("PodInitializing".to_owned());
    }
    Some(match states.into_iter().nth(done) {
        Some(ContainerState::Waiting { reason, .. }) if reason != Reason::ContainerCreating => {
            format!("Init:{reason}")
        }
        Some(ContainerState::Terminated { reason }) => format!("Init:{reason}"),
        _ => format!("Init:{done}/{total}"),
    })
}
