//! The flags of `attach`, and the keys that end it. Comments on fields are the help texts.

use clap::Args;

use crate::orund::client::choose::{Name, any_name};

/// `attach`.
#[derive(Debug, Args)]
pub struct Attach {
    /// Container of the replica [default: the first one]
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
    /// Do not pass standard input
    #[arg(long)]
    pub no_stdin: bool,
    /// Keys that detach from a terminal, separated by commas: a character, or ctrl- and a letter
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q", value_parser = keys)]
    pub detach_keys: Keys,
    /// Replica, or a workload to choose one of its replicas
    #[arg(value_parser = any_name)]
    pub name: Name,
}

/// The bytes of a sequence of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys(pub Vec<u8>);

/// Keys as they are written: `ctrl-p,ctrl-q`.
pub fn keys(text: &str) -> std::result::Result<Keys, String> {
    let key = |word: &str| match (word.strip_prefix("ctrl-").map(str::as_bytes), word.as_bytes()) {
        (Some([letter]), _) if letter.is_ascii_alphabetic() => Some(letter.to_ascii_lowercase() - b'a' + 1),
        (None, [byte]) if byte.is_ascii_graphic() => Some(*byte),
        _ => None,
    };
    let found: Option<Vec<u8>> = text.split(',').map(key).collect();
    found.map(Keys).ok_or_else(|| "expected keys such as ctrl-p,ctrl-q".to_owned())
}

/// Looks for the keys that detach in what is typed.
pub struct Detach {
    pub keys: Vec<u8>,
    /// How many of them were typed last.
    pub typed: usize,
}

impl Detach {
    /// The bytes for the container, and whether all keys were typed.
    pub fn feed(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if *byte != self.keys[self.typed] {
                // The first ones were for the container.
                out.extend(&self.keys[..self.typed]);
                self.typed = 0;
            }
            if *byte != self.keys[self.typed] {
                out.push(*byte);
                continue;
            }
            self.typed += 1;
            if self.typed == self.keys.len() {
                return (out, true);
            }
        }
        (out, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_detach_are_kept_back() {
        assert_eq!(keys("ctrl-p,ctrl-Q,x"), Ok(Keys(vec![16, 17, b'x'])));
        for bad in ["", "ctrl-", "ctrl-1", "pq", "a,,b"] {
            assert!(keys(bad).is_err(), "{bad}");
        }
        let mut d = Detach { keys: vec![16, 17], typed: 0 };
        assert_eq!(d.feed(b"ab"), (b"ab".to_vec(), false));
        assert_eq!(d.feed(&[16]), (vec![], false));
        assert_eq!(d.feed(b"c"), (vec![16, b'c'], false));
        assert_eq!(d.feed(&[b'd', 16, 16]), (vec![b'd', 16], false));
        assert_eq!(d.feed(&[17, b'e']), (vec![], true));
    }
}
