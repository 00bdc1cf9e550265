//! What `orund` reads besides the files of workloads.

use crate::api::frame::Frame;
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

/// The frames of an exec connection: what was read is written as it came.
pub fn exec_frame(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    runtime.block_on(async {
        let mut from = data;
        let mut rest = data;
        while let Ok(Some(frame)) = Frame::read(&mut from).await {
            let (came, behind) = rest.split_at(rest.len() - from.len());
            rest = behind;
            let mut again = Vec::new();
            frame.write(&mut again).await.expect("a vector takes everything");
            // Text that is not UTF-8 is replaced.
            assert!(again == came || matches!(frame, Frame::Error(_)));
        }
    });
}

/// A line of a log file.
pub fn log(data: &[u8]) {
    for line in data.split(|b| *b == b'\n') {
        if let Some(l) = format::decode(line) {
            assert!(line.ends_with(l.text) && line.starts_with(l.time.as_bytes()));
        }
    }
}
