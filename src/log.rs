//! Log lines. The binary says once where they go. Code below it logs warnings and debug lines; errors it returns,
//! and only the top writes the one that nobody handled.

use std::fmt::Display;
use std::sync::OnceLock;

/// How important a line is; the order is that of importance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    Warning,
    Error,
}

impl Level {
    /// The level's name in log lines, as runc and its callers spell it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

type Sink = Box<dyn Fn(Level, &str) + Send + Sync>;

static SINK: OnceLock<(Level, Sink)> = OnceLock::new();

/// Sends lines of level `least` and above to `sink`. Only the first call counts; before it, lines are dropped.
pub fn to(least: Level, sink: impl Fn(Level, &str) + Send + Sync + 'static) {
    let _ = SINK.set((least, Box::new(sink)));
}

/// The failure that ends the command. For the top of the binary only.
pub fn error(message: impl Display) {
    write(Level::Error, || message.to_string());
}

/// Something is not as requested, and the command continues without it.
pub fn warn(message: impl Display) {
    write(Level::Warning, || message.to_string());
}

/// Progress, for debugging; `message` is only made when debug lines are written.
pub fn debug(message: impl FnOnce() -> String) {
    write(Level::Debug, message);
}

fn write(level: Level, message: impl FnOnce() -> String) {
    if let Some((least, sink)) = SINK.get()
        && level >= *least
    {
        sink(level, &message());
    }
}
