//! Log lines. The binary says once where they go. Code below it logs warnings and debug lines; errors it returns,
//! and only the top writes the one that nobody handled.

use std::borrow::Cow;
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

/// The failure that ends the command, or what it was to start. For the top of the binary, and for `start`.
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
        sink(level, &printable(&message()));
    }
}

/// `text` on one line, without characters that a terminal obeys or that change the order of what is read: words of a
/// configuration, an image or a file name may hold any. They are escaped as in Rust's strings.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_obeyed(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// Control characters (C0, DEL, C1), line and paragraph separators, and the marks of the bidirectional algorithm.
pub fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_escaped() {
        assert_eq!(printable("mounting \"/a b\": größe \\"), "mounting \"/a b\": größe \\");
        assert_eq!(printable("a\u{1b}[2Jb\nc\r\t\u{7f}\u{9b}"), "a\\u{1b}[2Jb\\nc\\r\\t\\u{7f}\\u{9b}");
        assert_eq!(
            printable("\u{202e}cba\u{2066}\u{2029}\u{200f}"),
            "\\u{202e}cba\\u{2066}\\u{2029}\\u{200f}"
        );
        for c in (0..0x2100).filter_map(char::from_u32).filter(|c| c.is_control()) {
            assert!(!printable(&c.to_string()).contains(c), "{c:?}");
        }
    }
}
