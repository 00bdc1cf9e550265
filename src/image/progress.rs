//! Progress of a pull, on standard error: a bar on a terminal, otherwise one line for each layer.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// How often the bar is drawn.
const TURN: Duration = Duration::from_millis(100);
/// Characters of the bar.
const WIDTH: u64 = 30;

/// Where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    Nothing,
    Lines,
    Bar,
}

impl Show {
    /// For a person, as their terminal allows.
    pub fn person() -> Show {
        if io::stderr().is_terminal() { Show::Bar } else { Show::Lines }
    }
}

/// The layers of an image that are missing.
#[derive(Debug)]
pub struct Progress {
    show: Show,
    layers: usize,
    bytes: u64,
    complete: AtomicUsize,
    complete_bytes: AtomicU64,
}

impl Progress {
    pub fn new(show: Show, layers: usize, bytes: u64) -> Progress {
        let (complete, complete_bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
        Progress { show, layers, bytes, complete, complete_bytes }
    }

    /// A layer of so many compressed bytes is complete.
    pub fn layer(&self, bytes: u64) {
        let complete = self.complete.fetch_add(1, Ordering::Relaxed) + 1;
        self.complete_bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.show == Show::Lines {
            // Standard error may be closed.
            let _ = writeln!(io::stderr(), "layer {complete} of {}: {}", self.layers, megabytes(bytes));
        }
    }

    /// Draws the bar until `is_over`. `parts` are the bytes of the layers that are on their way.
    pub fn follow(&self, is_over: impl Fn() -> bool, parts: impl Fn() -> u64) {
        if self.show != Show::Bar || self.layers == 0 {
            return;
        }
        while !is_over() {
            let have = self.complete_bytes.load(Ordering::Relaxed).saturating_add(parts());
            let complete = self.complete.load(Ordering::Relaxed);
            let _ = write!(io::stderr(), "\r\x1b[K{}", bar(have, self.bytes, complete, self.layers));
            std::thread::sleep(TURN);
        }
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn bar(have: u64, all: u64, complete: usize, layers: usize) -> String {
    let have = have.min(all);
    let filled = have.saturating_mul(WIDTH).checked_div(all).unwrap_or(WIDTH) as usize;
    let (done, left) = ("#".repeat(filled), "-".repeat(WIDTH as usize - filled));
    format!("[{done}{left}] {} of {}, {complete} of {layers} layers", megabytes(have), megabytes(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_never_longer_than_full() {
        let half = bar(5_000_000, 10_000_000, 1, 2);
        assert_eq!(half, "[###############---------------] 5.0 MB of 10.0 MB, 1 of 2 layers");
        for (have, all) in [(20, 10), (0, 0), (u64::MAX, u64::MAX), (0, u64::MAX)] {
            assert_eq!(bar(have, all, 0, 1).split(']').next().unwrap().len(), 31, "{have} of {all}");
        }
    }
}
