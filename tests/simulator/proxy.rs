//! The model of the proxy: maps that arrive late or never, acknowledgements that are lost; and the rules P19 and P20.

use crate::world::{Occurrence, Sim};
use orun::supervisor::core::action::Action;
use orun::supervisor::core::desired::Desired;
use orun::supervisor::core::endpoints::{Endpoints, Route};
use orun::supervisor::core::event::Event;
use orun::supervisor::core::model::{Key, Observed};
use std::collections::BTreeSet;

/// How long a stop waits for the proxy, in its own words.
const PATIENCE: u64 = 1_000;

/// The map that is used.
#[derive(Debug, Default)]
pub struct Proxy {
    pub generation: u64,
    pub map: Vec<Route>,
}

impl Proxy {
    fn leads_to(&self, serial: u64) -> bool {
        self.map.iter().flat_map(|r| &r.targets).any(|t| t.replica.serial == serial)
    }
}

/// P20: when nothing is left to decide, the last map has all replicas that are ready and no other.
pub fn check_map(desired: &Desired, observed: &Observed) -> Result<(), String> {
    let Endpoints { map, generation, .. } = &observed.endpoints;
    for route in map {
        let listed: BTreeSet<u64> = route.targets.iter().map(|t| t.replica.serial).collect();
        let of_workload = observed.replicas().filter(|(key, _)| key.workload == route.workload);
        let publishes = |revision| {
            let template = desired.workloads.get(&route.workload).and_then(|w| w.revisions.get(&revision));
            template.is_some_and(|t| t.ports.iter().any(|p| p.host == route.host))
        };
        let ready =
            of_workload.filter(|(_, r)| r.is_ready() && r.address().is_some() && publishes(r.revision));
        let ready: BTreeSet<u64> = ready.map(|(key, _)| key.serial).collect();
        if listed != ready {
            return Err(format!("P20: map {generation} has {listed:?}, ready are {ready:?}"));
        }
    }
    Ok(())
}

impl Sim {
    /// A map is sent.
    pub fn do_publish(&mut self, action: &Action) {
        let Action::Publish { generation, map } = action else { return };
        let lost = !self.tame && self.rng.percent(5);
        let slow = !self.tame && self.rng.percent(5);
        let delay = if slow { self.rng.between(500, 3_000) } else { self.rng.between(0, 5) };
        if !lost {
            let (generation, map) = (*generation, map.clone());
            self.after(delay, Occurrence::MapArrives { generation, map });
        }
    }

    pub fn map_arrives(&mut self, generation: u64, map: Vec<Route>) {
        if generation > self.proxy.generation {
            self.proxy = Proxy { generation, map };
        }
        if self.tame || !self.rng.percent(5) {
            let event = Event::Published { generation: self.proxy.generation, taken: Vec::new() };
            let (life, delay) = (self.life, self.rng.between(0, 5));
            self.after(delay, Occurrence::Answer { life, event });
        }
    }

    /// P19: nobody is asked to end while connections are led there.
    pub fn asks_to_end(&mut self, key: &Key, observed: &Observed) {
        let stop = observed.instance(key).and_then(|i| i.stop);
        let patient = stop.is_some_and(|s| self.now < s.at.0 + PATIENCE);
        if patient && self.proxy.leads_to(key.replica) {
            self.oracle.blame(format!("P19: {key} is asked to end while connections are led to it"));
        }
    }
}
