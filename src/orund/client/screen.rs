//! A screen that is drawn again and again, and the keys that are pressed meanwhile.

use std::io::{Read, Write};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::kernel::terminal::{self, Raw};

/// Keys that end the program: q, Ctrl-C, and Ctrl-D.
const QUIT: [u8; 3] = [b'q', 3, 4];
pub const ENTER: [u8; 2] = [b'\r', b'\n'];
pub const ESCAPE: u8 = 27;
pub const ERASE: [u8; 2] = [127, 8];

/// The caller's terminal while it shows one page; as it was when this is dropped.
pub struct Screen {
    keys: mpsc::Receiver<u8>,
    raw: Option<Raw>,
}

/// Why a pause is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    Over,
    Key(u8),
}

impl Screen {
    /// Standard output must be a terminal.
    pub fn enter() -> Screen {
        let (sender, keys) = mpsc::channel(16);
        let raw = Raw::enter();
        std::thread::spawn(move || {
            for key in std::io::stdin().lock().bytes().map_while(Result::ok) {
                if sender.blocking_send(key).is_err() {
                    return;
                }
            }
        });
        write("\x1b[?1049h\x1b[?25l");
        Screen { keys, raw: Some(raw) }
    }

    /// Shows `text`: as many lines and columns of it as there is room for. `last` is shown in the last line.
    pub fn draw(&self, text: &str, last: &str) {
        // A terminal that has no size says 0.
        let (rows, columns) = terminal::size().filter(|(r, c)| *r > 0 && *c > 0).unwrap_or((24, 80));
        write(&page(text, last, rows.into(), columns.into()));
    }

    /// Waits for a key, but not for longer than `time`.
    pub async fn pause(&mut self, time: Duration) -> Pause {
        let until = Instant::now() + time;
        match timeout_at(until, self.keys.recv()).await {
            Ok(Some(key)) => Pause::Key(key),
            // Standard input is closed.
            Ok(None) => {
                tokio::time::sleep_until(until).await;
                Pause::Over
            }
            Err(_) => Pause::Over,
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        write("\x1b[?25h\x1b[?1049l");
        self.raw.take();
    }
}

/// Whether a key ends the program.
pub fn quits(key: u8) -> bool {
    QUIT.contains(&key)
}

/// A reader that has gone away ends the program by itself.
fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// From the top left, each line cleared to its end: nothing flickers.
fn page(text: &str, last: &str, rows: usize, columns: usize) -> String {
    let cut = |line: &str| line.chars().take(columns).collect::<String>();
    let mut out = String::from("\x1b[H");
    for line in text.lines().take(rows.saturating_sub(1)) {
        out += &cut(line);
        out += "\x1b[K\r\n";
    }
    out + "\x1b[J" + &format!("\x1b[{rows};1H") + &cut(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_fits_the_terminal() {
        let text = page("one\ntwo long\nthree\n", "keys", 3, 5);
        assert_eq!(text, "\x1b[Hone\x1b[K\r\ntwo l\x1b[K\r\n\x1b[J\x1b[3;1Hkeys");
    }
}
