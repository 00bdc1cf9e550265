//! The model of what survives: a durable journal, and a runtime journal that a reboot empties. When they are read they are
//! the bytes that files would hold, torn records included; and with each bit of those flipped that chance names, reading
//! must refuse them: a change that was acknowledged is never left out in silence.

use orun::supervisor::core::Config;
use orun::supervisor::core::desired::{Change, Desired};
use orun::supervisor::core::event::Record;
use orun::supervisor::core::model::Observed;
use orun::supervisor::core::observe::on_event;
use orun::supervisor::core::time::Time;
use orun::supervisor::shell::journal::frame::{self, FrameKind, Rest};
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
    pub fn desired(&mut self, config: &Config, flip: u64) -> Desired {
        let mut desired: Desired = parse(&text(&self.desired));
        let mut bytes = Vec::new();
        let mut whole = self.durable.len();
        for (n, line) in self.durable.iter().enumerate() {
            match line {
                Line::Whole(value) => encode(&mut bytes, value),
                Line::Torn(value, length) => {
                    assert_eq!(n + 1, self.durable.len(), "only the last record may be torn");
                    let mut record = Vec::new();
                    encode(&mut record, value);
                    bytes.extend_from_slice(&record[..length % record.len()]);
                    whole = n;
                }
            }
        }
        for (at, change) in read::<(Time, Change)>(&mut bytes, whole, flip) {
            // A refusal does nothing, as it did when it was written.
            let _ = desired.apply(&change, at, config);
        }
        self.durable.truncate(whole);
        desired
    }

    pub fn observed(&self, flip: u64) -> Observed {
        let mut observed: Observed = parse(&text(&self.observed));
        let mut bytes = Vec::new();
        for record in &self.runtime {
            encode(&mut bytes, record);
        }
        let mut unheard = Vec::new();
        for record in read::<Record>(&mut bytes, self.runtime.len(), flip) {
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

/// The records in `bytes`, of which `count` are whole. Before that, whatever bit is flipped, none of them is left out
/// without a complaint.
fn read<T: DeserializeOwned>(bytes: &mut [u8], count: usize, flip: u64) -> Vec<T> {
    if !bytes.is_empty() {
        let bit = (flip % (bytes.len() as u64 * 8)) as usize;
        bytes[bit / 8] ^= 1 << (bit % 8);
        let found = frame::scan(bytes, 0);
        let refused = matches!(found.rest, Rest::Damaged { .. } | Rest::Newer { .. });
        assert!(refused || found.records.len() == count, "bit {bit} of {}: {:?}", bytes.len(), found.rest);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    let found = frame::scan(bytes, 0);
    assert!(matches!(found.rest, Rest::Nothing | Rest::Torn), "{:?}", found.rest);
    assert_eq!(found.records.len(), count);
    found.records.iter().map(|r| parse(std::str::from_utf8(r.payload).expect("JSON is text"))).collect()
}

fn encode<T: Serialize>(bytes: &mut Vec<u8>, value: &T) {
    frame::encode(bytes, FrameKind::Record, text(value).as_bytes());
}

fn text<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("it serializes")
}

fn parse<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).expect("it parses")
}
