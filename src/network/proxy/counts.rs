//! The counters of the proxy for each port, and the times of its reports.

use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// The shortest time between two reports.
const BETWEEN: Duration = Duration::from_secs(1);

/// Of one port, since its proxy was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Connections, or clients that sent datagrams, that a replica took.
    pub accepted: u64,
    /// Of these, how many are open.
    pub open: u64,
    /// Connections that had to wait for a replica, and how many wait now.
    pub held: u64,
    pub waiting: u64,
    /// Connections that were closed because no replica took them.
    pub refused: u64,
    /// Bytes from and to clients.
    pub received: u64,
    pub sent: u64,
}

/// The same, while it changes.
#[derive(Default)]
pub struct Counter {
    counts: Cell<Counts>,
    changed: Cell<bool>,
}

impl Counter {
    /// Counts, and says whether that has to be reported.
    pub fn count(&self, report: &Report, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
        self.changed.set(true);
        report.request();
    }

    /// Changes since the last call.
    pub fn take(&self) -> Option<Counts> {
        self.changed.take().then(|| self.counts.get())
    }
}

/// When to report: not without news, and not more often than once a second.
#[derive(Default)]
pub struct Report {
    due: Cell<bool>,
    last: Cell<Option<Instant>>,
    news: Notify,
}

impl Report {
    fn request(&self) {
        if !self.due.replace(true) {
            self.news.notify_one();
        }
    }

    /// Waits until a report is due.
    pub async fn wait(&self) {
        while !self.due.get() {
            self.news.notified().await;
        }
        if let Some(last) = self.last.get() {
            sleep_until(last + BETWEEN).await;
        }
    }

    /// It is made now.
    pub fn begin(&self) {
        self.due.set(false);
        self.last.set(Some(Instant::now()));
    }
}
