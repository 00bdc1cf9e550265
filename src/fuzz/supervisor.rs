//! Inputs of `orund` besides the files of workloads.

use crate::api::types::{DrainRequest, ExecRequest, KillRequest, RestartRequest, ScalePatch, UndoRequest};
use crate::supervisor::core::desired::Desired;
use crate::supervisor::shell::journal::frame::{self, FrameKind, Rest};
use crate::supervisor::shell::logs::format;

/// A journal: its records are at the places where writing them again puts them, and what is behind them has a name.
pub fn journal(data: &[u8]) {
    let found = frame::scan(data, 0);
    let mut again = Vec::new();
    for r in &found.records {
        assert_eq!(r.at, again.len());
        frame::encode_version(&mut again, r.kind, r.version, r.payload);
        if r.kind == FrameKind::Snapshot {
            let _ = serde_json::from_slice::<Desired>(r.payload);
        }
    }
    assert_eq!(again, data[..found.end]);
    match found.rest {
        Rest::Nothing => assert_eq!(found.end, data.len()),
        Rest::Damaged { next: Some(next) } => {
            assert!(next > found.end && !frame::scan(data, next).records.is_empty());
            let _ = frame::mend(data, found.end, next);
        }
        Rest::Damaged { next: None } | Rest::Torn | Rest::Newer { .. } => assert!(found.end < data.len()),
    }
}

/// The bodies of requests, and the words behind the `?` of their address.
pub fn api(data: &[u8]) {
    let _ = serde_json::from_slice::<ScalePatch>(data);
    let _ = serde_json::from_slice::<UndoRequest>(data);
    let _ = serde_json::from_slice::<RestartRequest>(data);
    let _ = serde_json::from_slice::<DrainRequest>(data);
    let _ = serde_json::from_slice::<KillRequest>(data);
    let _ = serde_json::from_slice::<ExecRequest>(data);
    if let Ok(text) = std::str::from_utf8(data) {
        crate::api::fuzz(text);
    }
}

/// A line of a log file.
pub fn log(data: &[u8]) {
    for line in data.split(|b| *b == b'\n') {
        if let Some(l) = format::decode(line) {
            assert!(line.ends_with(l.text) && line.starts_with(l.time.as_bytes()));
        }
    }
}
