//! The model of what survives: a durable journal, and a runtime journal that a reboot empties. Records are text, as a
//! file would hold them; a torn one does not parse and ends the replay.

use orun::supervisor::core::Config;
use orun::supervisor::core::desired::{Change, Desired};
use orun::supervisor::core::event::Record;
use orun::supervisor::core::model::Observed;
use orun::supervisor::core::observe::on_event;
use orun::supervisor::core::time::Time;
use serde::Serialize;
use serde::de::DeserializeOwned;

#[derive(Debug, Default)]
pub struct Disk {
    desired: Desired,
    durable: Vec<Line<(Time, Change)>>,
    observed: Observed,
    runtime: Vec<Record>,
    /// ENOSPC until then.
    pub full_until: u64,
}

/// A line of a journal. Text is made when it is read: most are not, and making it is what a run costs.
#[derive(Debug)]
enum Line<T> {
    Whole(T),
    /// Only the first so many bytes were written.
    Torn(T, usize),
}

impl Disk {
    pub fn write_durable(&mut self, change: &Change, at: Time) {
        self.durable.push(Line::Whole((at, change.clone())));
    }

    /// The power goes, or the writer dies, within a record.
    pub fn write_torn(&mut self, change: &Change, at: Time, length: usize) {
        self.durable.push(Line::Torn((at, change.clone()), length));
    }

    /// Nothing is written after a torn record before the journal is read again.
    pub fn torn(&self) -> bool {
        matches!(self.durable.last(), Some(Line::Torn(..)))
    }

    pub fn write_runtime(&mut self, records: &[Record]) {
        self.runtime.extend_from_slice(records);
    }

    pub fn reboot(&mut self) {
        self.observed = Observed::default();
        self.runtime.clear();
    }

    /// Replays the durable journal and cuts off its torn tail.
    pub fn desired(&mut self, config: &Config) -> Desired {
        let mut desired: Desired = parse(&text(&self.desired)).expect("a snapshot parses");
        for n in 0..self.durable.len() {
            let text = match &self.durable[n] {
                Line::Whole(value) => text(value),
                Line::Torn(value, length) => {
                    let mut text = text(value);
                    text.truncate(length % text.len());
                    text
                }
            };
            let Some((at, change)) = parse::<(Time, Change)>(&text) else {
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
        let mut observed: Observed = parse(&text(&self.observed)).expect("a snapshot parses");
        let mut unheard = Vec::new();
        for record in &self.runtime {
            let record: Record = parse(&text(record)).expect("a record parses");
            on_event(&mut observed, &record.event, record.at, &mut unheard);
        }
        observed
    }

    /// Replaces both journals by snapshots.
    pub fn compact(&mut self, desired: &Desired, observed: &Observed) {
        self.desired = desired.clone();
        self.durable.clear();
        self.observed = observed.clone();
        self.runtime.clear();
    }

    pub fn long(&self) -> bool {
        self.runtime.len() > 60
    }
}

fn text<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("it serializes")
}

fn parse<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}
