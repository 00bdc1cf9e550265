//! The exit statuses of processes: the last ones, in memory that the keeper and the supervisor share.

use super::super::private;
use crate::error::{Errno, Error, Result};
use crate::sys::map::SharedWords;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;

/// Records that are kept.
const RECORDS: usize = 4096;
/// Words of one: pid and status, inode, start time, time of death.
const SIZE: usize = 4;
/// Words before the first: the version, and how many were ever written.
const HEADER: usize = 2;
const VERSION: u64 = 0x6f72_756e_6401;

/// The ring. One process writes, others read.
#[derive(Debug)]
pub struct Ring(SharedWords);

/// The exit status of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Death {
    pub pid: i32,
    /// As wait(2) encodes it.
    pub status: i32,
    /// Of its pidfd (Linux 6.9), else that of all pidfds.
    pub inode: u64,
    /// Field 22 of /proc/PID/stat.
    pub start_time: u64,
    /// When it was reaped, in nanoseconds of CLOCK_BOOTTIME.
    pub at: u64,
}

impl Ring {
    /// Opens the ring in `run_dir`, which should be on tmpfs, or makes it.
    ///
    /// # Errors
    /// The file cannot be made or mapped.
    pub fn open(run_dir: &Path) -> Result<Ring> {
        let path = run_dir.join("keeper.ring");
        let fail = |e: Errno| Error::sys(format!("opening {path:?}"), e);
        let words = HEADER + RECORDS * SIZE;
        let file = private::open(&path)?;
        file.set_len((words * 8) as u64).map_err(|e| fail(e.into()))?;
        let ring = Ring(SharedWords::map(file.as_raw_fd(), words).map_err(fail)?);
        let header = &ring.0.words()[..HEADER];
        if header[0].load(SeqCst) != VERSION {
            header[1].store(0, SeqCst);
            header[0].store(VERSION, SeqCst);
        }
        Ok(ring)
    }

    /// Writes a record over the oldest one.
    pub fn push(&mut self, death: Death) {
        let words = self.0.words();
        let count = words[1].load(SeqCst);
        let at = HEADER + (count as usize % RECORDS) * SIZE;
        let first = (death.pid as u64) << 32 | u64::from(death.status as u32);
        for (n, value) in [first, death.inode, death.start_time, death.at].into_iter().enumerate() {
            words[at + n].store(value, SeqCst);
        }
        words[1].store(count + 1, SeqCst);
    }

    /// The exit status of the process with this pid and start time, if it was recorded and not overwritten since.
    pub fn find(&self, pid: i32, start_time: u64) -> Option<Death> {
        let words = self.0.words();
        let count = words[1].load(SeqCst) as usize;
        (count.saturating_sub(RECORDS)..count).rev().find_map(|n| {
            let at = HEADER + (n % RECORDS) * SIZE;
            let word = |n: usize| words[at + n].load(SeqCst);
            let death = Death {
                pid: (word(0) >> 32) as i32,
                status: word(0) as u32 as i32,
                inode: word(1),
                start_time: word(2),
                at: word(3),
            };
            (death.pid == pid && death.start_time == start_time).then_some(death)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_found_by_another_process() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Ring::open(dir.path()).unwrap();
        let reader = Ring::open(dir.path()).unwrap();
        let death =
            |n: u64| Death { pid: (n % 100) as i32 + 1, status: 9, inode: n, start_time: n, at: n * 2 };
        assert_eq!(reader.find(1, 0), None);
        for n in 0..RECORDS as u64 + 10 {
            writer.push(death(n));
        }
        assert_eq!(reader.find(1, 0), None, "overwritten");
        assert_eq!(reader.find(11, 10), Some(death(10)));
        let last = RECORDS as u64 + 9;
        assert_eq!(reader.find((last % 100) as i32 + 1, last), Some(death(last)));
        assert_eq!(reader.find(50, last), None);
    }
}
