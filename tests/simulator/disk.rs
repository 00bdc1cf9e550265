//! The model of what survives: a durable journal, and a runtime journal that a reboot empties. Records are text, as a
//! file would hold them; a torn one does not parse and ends the replay.

use orun::supervisor::core::Config;
use orun::supervisor::core::desired::{Change, Desired};
use orun::supervisor::core::event::Record;
use orun::supervisor::core::model::Observed;
use orun::supervisor::core::observe::on_event;
use orun::supervisor::core::time::Time;

#[derive(Debug, Default)]
pub struct Disk {
    desired: Option<String>,
    durable: Vec<String>,
    observed: Option<String>,
    runtime: Vec<String>,
    /// ENOSPC until then.
    pub full_until: u64,
}

impl Disk {
    pub fn write_durable(&mut self, change: &Change, at: Time) {
        self.durable.push(serde_json::to_string(&(at, change)).expect("a change serializes"));
    }

    /// The power goes, or the writer dies, within a record.
    pub fn write_torn(&mut self, change: &Change, at: Time, length: usize) {
        let mut text = serde_json::to_string(&(at, change)).expect("a change serializes");
        text.truncate(length % text.len());
        self.durable.push(text);
    }

    pub fn write_runtime(&mut self, records: &[Record]) {
        let text = records.iter().map(|r| serde_json::to_string(r).expect("a record serializes"));
        self.runtime.extend(text);
    }

    pub fn reboot(&mut self) {
        self.observed = None;
        self.runtime.clear();
    }

    /// Replays the durable journal and cuts off its torn tail.
    pub fn desired(&mut self, config: &Config) -> Desired {
        let snapshot = self.desired.as_ref().map(|t| serde_json::from_str(t).expect("a snapshot parses"));
        let mut desired: Desired = snapshot.unwrap_or_default();
        for n in 0..self.durable.len() {
            let Ok((at, change)) = serde_json::from_str::<(Time, Change)>(&self.durable[n]) else {
                assert_eq!(n + 1, self.durable.len(), "only the last record may be torn");
                self.durable.truncate(n);
                break;
            };
            // A refusal does nothing, as it did when it was written.
            let _ = desired.apply(&change, at, config);
        }
        desired
    }

    pub fn observed(&self) -> Observed {
        let snapshot = self.observed.as_ref().map(|t| serde_json::from_str(t).expect("a snapshot parses"));
        let mut observed: Observed = snapshot.unwrap_or_default();
        let mut unheard = Vec::new();
        for text in &self.runtime {
            let record: Record = serde_json::from_str(text).expect("a record parses");
            on_event(&mut observed, &record.event, record.at, &mut unheard);
        }
        observed
    }

    /// Replaces both journals by snapshots.
    pub fn compact(&mut self, desired: &Desired, observed: &Observed) {
        self.desired = Some(serde_json::to_string(desired).expect("it serializes"));
        self.durable.clear();
        self.observed = Some(serde_json::to_string(observed).expect("it serializes"));
        self.runtime.clear();
    }

    pub fn long(&self) -> bool {
        self.runtime.len() > 200
    }
}
