//! The model of sandboxes: what the containers of a replica share on the host.

use crate::world::{Occurrence, Sim, Told};
use orun::supervisor::core::action::Action;
use orun::supervisor::core::event::Event;
use orun::supervisor::core::ids::ReplicaKey;

/// A sandbox, or what is left of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sandbox {
    /// A part of it exists.
    Making,
    Whole,
    /// Its namespaces are gone.
    Lost,
}

/// The address of a sandbox.
pub fn address(replica: ReplicaKey) -> Option<String> {
    Some(format!("10.0.0.{}", replica.serial))
}

impl Sim {
    pub fn has_sandbox(&self, replica: &ReplicaKey) -> bool {
        self.sandboxes.get(replica) == Some(&Sandbox::Whole)
    }

    pub fn do_sandbox(&mut self, action: &Action, replica: ReplicaKey) {
        let life = self.life;
        let inside = self.procs.values().find(|p| p.key.of_replica() == replica).map(|p| p.key);
        if let Some(key) = inside {
            self.oracle.blame(format!("P30: {action:?} while {key} exists"));
        }
        match action {
            Action::MakeSandbox { .. } => {
                self.oracle.new_sandbox(replica.serial);
                if let Some(old) = self.sandboxes.insert(replica, Sandbox::Making) {
                    self.oracle.blame(format!("P30: {replica} has a sandbox already: {old:?}"));
                }
                let delay = self.rng.between(1, 5);
                self.after(delay, Occurrence::SandboxMade { life, replica });
            }
            _ => {
                let delay = self.rng.between(0, 5);
                self.after(delay, Occurrence::SandboxGone { life, replica });
            }
        }
    }

    pub fn sandbox_made(&mut self, replica: ReplicaKey, told: &mut Vec<Told>) {
        if !self.tame && self.rng.percent(10) {
            self.sandboxes.remove(&replica);
            let error = "cannot allocate memory".to_owned();
            told.push(Told::Event(Event::SandboxFailed { replica, error }));
        } else {
            self.sandboxes.insert(replica, Sandbox::Whole);
            told.push(Told::Event(Event::SandboxMade { replica, address: address(replica) }));
        }
    }

    pub fn sandbox_gone(&mut self, replica: ReplicaKey, told: &mut Vec<Told>) {
        let fails = !self.tame && self.rng.percent(10);
        if !fails {
            self.sandboxes.remove(&replica);
        }
        let error = fails.then(|| "device or resource busy".to_owned());
        told.push(Told::Event(Event::SandboxGone { replica, error }));
    }

    /// Somebody takes away the namespaces of a sandbox: of which replica.
    pub fn lose_sandbox(&mut self, nth: u64) -> Option<ReplicaKey> {
        let whole = self.sandboxes.iter_mut().filter(|(_, s)| **s == Sandbox::Whole);
        let mut whole: Vec<_> = whole.collect();
        let chosen = (nth % whole.len().max(1) as u64) as usize;
        let (replica, sandbox) = whole.get_mut(chosen)?;
        **sandbox = Sandbox::Lost;
        self.oracle.lost_sandboxes.insert(replica.serial);
        Some(**replica)
    }

    /// Whether a sandbox is whole after a restart of the supervisor; what was left of one that is not is removed.
    pub fn find_sandbox(&mut self, replica: ReplicaKey) -> bool {
        let whole = self.has_sandbox(&replica);
        if !whole {
            self.sandboxes.remove(&replica);
            self.oracle.lost_sandboxes.insert(replica.serial);
        }
        whole
    }
}
