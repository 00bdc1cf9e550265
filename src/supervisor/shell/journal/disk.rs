//! The thread that waits for the disk, so that the loop does not.

use super::Journal;
use crate::error::{Error, Result};
use crate::log;
use crate::supervisor::core::desired::{Change, Desired};
use crate::supervisor::core::time::Time;
use serde::{Deserialize, Serialize};
use std::sync::mpsc;

/// A record of the durable journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Changed {
    /// When it was accepted.
    pub at: Time,
    /// The changes to write.
    pub change: Change,
}

/// Bytes of journal after which a snapshot is made.
const ENOUGH: u64 = 1 << 20;

enum Job {
    Append(Box<Changed>),
    Compact(Box<Desired>),
}

/// A change that is durable, or could not be made so.
#[derive(Debug)]
pub struct Written {
    /// The change.
    pub changed: Changed,
    /// Whether it is durable.
    pub result: Result<()>,
    /// The journal is long: send a snapshot when nothing else is being written.
    pub long: bool,
}

/// The thread, as the loop sees it. Jobs are done in their order.
pub struct Disk {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Disk {
    /// Starts the thread, which reports every change to `done`.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start(mut journal: Journal, done: impl Fn(Written) + Send + 'static) -> Result<Disk> {
        let (jobs, receiver) = mpsc::channel();
        let work = move || {
            for job in receiver {
                match job {
                    Job::Append(changed) => {
                        let result = journal.append(&[&*changed]);
                        done(Written { changed: *changed, result, long: journal.size() > ENOUGH });
                    }
                    Job::Compact(desired) => {
                        if let Err(e) = journal.compact(&*desired) {
                            log::warn(e);
                        }
                    }
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(work)
            .map_err(|e| Error::sys("starting the thread that writes the journal", e))?;
        Ok(Disk { jobs: Some(jobs), thread: Some(thread) })
    }

    fn send(&self, job: Job) {
        // The thread lives as long as this.
        let _ = self.jobs.as_ref().map(|j| j.send(job));
    }

    /// Makes a change durable.
    pub fn append(&self, changed: Changed) {
        self.send(Job::Append(Box::new(changed)));
    }

    /// Takes a snapshot: all changes that were sent before must be in it.
    pub fn compact(&self, desired: Desired) {
        self.send(Job::Compact(Box::new(desired)));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
