//! The model of the proxy: maps that arrive late or never, acknowledgements that are lost; and the rules P19 and P20.

use crate::world::{Occurrence, Sim};
use orun::supervisor::core::action::Action;
use orun::supervisor::core::desired::Desired;
use orun::supervisor::core::event::Event;
use orun::supervisor::core::ids::{Key, WorkloadId};
use orun::supervisor::core::model::Observed;
use orun::supervisor::core::ports::HostPort;
use orun::supervisor::core::publication::{Endpoints, Route};
use std::collections::{BTreeMap, BTreeSet};

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

/// Who a port of the host leads to: the workload, and the replicas, each with its address and port.
type Led = BTreeMap<HostPort, (WorkloadId, BTreeSet<(u64, String, u16)>)>;

/// P20: when nothing is left to decide, the last map has the ports of all workloads that shall run, and all replicas that
/// are ready and no other. A port that several want is the oldest one's.
pub fn check_map(desired: &Desired, observed: &Observed) -> Result<(), String> {
    let Endpoints { map, generation, .. } = &observed.endpoints;
    let mut expected = Led::new();
    for (id, w) in desired.workloads.iter().filter(|(_, w)| w.deletion.is_none() && w.desired_replicas() > 0)
    {
        for port in w.template().iter().flat_map(|t| &t.ports) {
            if expected.contains_key(&port.host) {
                continue;
            }
            let mut led = BTreeSet::new();
            for (key, r) in observed.replicas().filter(|(key, r)| key.workload == *id && r.is_ready()) {
                let ports = w.revisions.get(&r.revision).into_iter().flat_map(|t| &t.ports);
                let to = ports.filter(|p| p.host == port.host).map(|p| p.port);
                led.extend(to.filter_map(|to| Some((key.serial, r.address()?.to_owned(), to))));
            }
            expected.insert(port.host.clone(), (*id, led));
        }
    }
    let mut found = Led::new();
    for route in map {
        let led = route.targets.iter().map(|t| (t.replica.serial, t.address.clone(), t.port)).collect();
        if found.insert(route.host.clone(), (route.workload, led)).is_some() {
            return Err(format!("P20: map {generation} has {} twice", route.host));
        }
    }
    match found == expected {
        true => Ok(()),
        false => Err(format!("P20: map {generation} has {found:?}, and should have {expected:?}")),
    }
}

impl Sim {
    /// A map is sent.
    pub fn do_publish(&mut self, action: &Action) {
        let Action::Publish { generation, map, .. } = action else { return };
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
