//! Clients that are attached to containers.

use super::host::HostEffects;
use super::names;
use super::streams::Attached;

impl HostEffects {
    /// Attaches a client to the container that the runtime calls `id`. None: it does not run.
    pub fn attach(&self, id: &str) -> Option<Attached> {
        let live = self.live.get(&names::key_of(id)?.instance)?;
        (live.name.id == id && live.pidfd.is_some())
            .then(|| live.clients.attach(&self.shared.pump, live.name.key))
    }

    /// The first client of the container has left: its input ends, if it ends with that.
    pub fn end_input(&mut self, id: &str) {
        let Some(live) = names::key_of(id).and_then(|key| self.live.get_mut(&key.instance)) else { return };
        live.clients.end_input(self.keeper.as_ref(), live.name.key);
    }
}
