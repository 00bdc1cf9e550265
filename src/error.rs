//! The one error type of orun: what was being done, on what, why the kernel refused, and what to do about it.
//!
//! An error is built where the operation is known, given context on its way up, and rendered once, at the top:
//! as one line for a person and as one JSON line for the engines that parse it.

use std::fmt;

/// Class of a failure. It alone decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Wrong arguments on the command line.
    Usage,
    /// The bundle (config.json, process.json, resources JSON) is invalid.
    Config,
    /// The container, or something a verb needs, is not there.
    NotFound,
    /// Something with that name exists already.
    Exists,
    /// The container's status does not allow the operation.
    State,
    /// The host lacks a feature that the bundle asks for.
    Unsupported,
    /// The program of the container could not be found or run.
    Program,
    /// A hook failed.
    Hook,
    /// A wait reached its deadline.
    Timeout,
    /// A system call failed.
    System,
}

/// Texts of strerror(3) where nix has others.
const WORDS: [(i32, &str); 17] = [
    (libc::EAGAIN, "Resource temporarily unavailable"),
    (libc::EBADF, "Bad file descriptor"),
    (libc::EBADMSG, "Bad message"),
    (libc::EDEADLK, "Resource deadlock avoided"),
    (libc::EDOM, "Numerical argument out of domain"),
    (libc::EDQUOT, "Disk quota exceeded"),
    (libc::EILSEQ, "Invalid or incomplete multibyte or wide character"),
    (libc::EIO, "Input/output error"),
    (libc::ELOOP, "Too many levels of symbolic links"),
    (libc::ENETRESET, "Network dropped connection on reset"),
    (libc::ENFILE, "Too many open files in system"),
    (libc::ENOLCK, "No locks available"),
    (libc::ENOMEM, "Cannot allocate memory"),
    (libc::EOPNOTSUPP, "Operation not supported"),
    (libc::ENOTTY, "Inappropriate ioctl for device"),
    (libc::ERANGE, "Numerical result out of range"),
    (libc::EXDEV, "Invalid cross-device link"),
];

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error number as the kernel returned it (`errno(3)`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// The calling thread's `errno`.
    pub fn last() -> Errno {
        Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }

    /// The error's words in lower case, the way runc prints them and engines match them.
    pub fn words(self) -> String {
        let mut words = self.text().to_owned();
        if self.begins_with_a_word() {
            words[..1].make_ascii_lowercase();
        }
        words
    }

    /// As [`Errno::words`], into `out`, without allocation; how many bytes they are.
    pub fn write_words(self, out: &mut [u8]) -> usize {
        let text = self.text().as_bytes();
        let length = text.len().min(out.len());
        out[..length].copy_from_slice(&text[..length]);
        if self.begins_with_a_word() {
            out[..length.min(1)].make_ascii_lowercase();
        }
        length
    }

    fn text(self) -> &'static str {
        let own = WORDS.iter().find(|(n, _)| *n == self.0).map(|(_, text)| *text);
        own.unwrap_or_else(|| nix::errno::Errno::from_raw(self.0).desc())
    }

    /// "Is a directory" becomes "is a directory", but "RFS specific error" keeps its capitals.
    fn begins_with_a_word(self) -> bool {
        self.text().as_bytes().get(1).is_some_and(|b| !b.is_ascii_uppercase())
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", nix::errno::Errno::from_raw(self.0))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words())
    }
}

impl From<nix::errno::Errno> for Errno {
    fn from(e: nix::errno::Errno) -> Errno {
        Errno(e as i32)
    }
}

impl From<std::io::Error> for Errno {
    fn from(e: std::io::Error) -> Errno {
        Errno(e.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// A failure: the operation with its arguments, where in the configuration it comes from, and why it failed.
#[derive(Debug, Clone)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    kind: Kind,
    /// The failed operation with its arguments: `mounting tmpfs on "/dev/shm"`.
    message: String,
    errno: Option<Errno>,
    /// The message has the words of `errno` already.
    relayed: bool,
    /// The property that asked for it: `mounts[4] of config.json`.
    property: Option<String>,
    hint: Option<String>,
    context: Vec<String>,
}

impl Error {
    /// A failure of class `kind`; `message` is lower case, without a full stop.
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            errno: None,
            relayed: false,
            property: None,
            hint: None,
            context: Vec::new(),
        }))
    }

    /// A system call that failed while doing `message`.
    pub fn sys(message: impl Into<String>, errno: impl Into<Errno>) -> Error {
        let mut e = Error::new(Kind::System, message);
        e.0.errno = Some(errno.into());
        e
    }

    /// An error of another process: `message` is all of its text.
    pub fn relayed(kind: Kind, message: impl Into<String>, errno: Errno) -> Error {
        let mut e = Error::new(kind, message);
        e.0.errno = Some(errno);
        e.0.relayed = true;
        e
    }

    /// Sets the class.
    pub fn kind_is(mut self, kind: Kind) -> Error {
        self.0.kind = kind;
        self
    }

    /// Names the property of the configuration that asked for the failed operation.
    pub fn property(mut self, p: impl Into<String>) -> Error {
        self.0.property = Some(p.into());
        self
    }

    /// Adds the way out.
    pub fn hint(mut self, h: impl Into<String>) -> Error {
        self.0.hint = Some(h.into());
        self
    }

    /// Puts what the caller was doing in front.
    pub fn context(mut self, c: impl Into<String>) -> Error {
        self.0.context.push(c.into());
        self
    }

    /// The way out, where it is known.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Takes the way out away, for answers that have a place of its own for it.
    pub fn take_hint(&mut self) -> Option<String> {
        self.0.hint.take()
    }

    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The kernel's error number, when a system call failed.
    pub fn errno(&self) -> Option<Errno> {
        self.0.errno
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = &self.0;
        for c in e.context.iter().rev() {
            write!(f, "{c}: ")?;
        }
        f.write_str(&e.message)?;
        if let Some(p) = &e.property {
            write!(f, " ({p})")?;
        }
        if let Some(n) = e.errno.filter(|_| !e.relayed) {
            write!(f, ": {n}")?;
        }
        if let Some(h) = &e.hint {
            write!(f, "; hint: {h}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Adds context to the error of a `Result`.
pub trait Context<T> {
    /// Puts `what()` in front of the error's message.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| e.context(what()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_words_are_lower_case_as_engines_match_them() {
        assert_eq!(Errno(libc::ENOENT).words(), "no such file or directory");
        assert_eq!(Errno(libc::EACCES).words(), "permission denied");
        assert_eq!(Errno(libc::EISDIR).words(), "is a directory");
        assert_eq!(Errno(libc::ESRCH).words(), "no such process");
        assert_eq!(Errno(libc::EIO).words(), "input/output error");
        assert_eq!(Errno(libc::ELOOP).words(), "too many levels of symbolic links");
    }

    #[test]
    fn errno_words_are_those_of_strerror() {
        for n in (1..=libc::EHWPOISON).filter(|n| ![41, 58].contains(n)) {
            let text = std::io::Error::from_raw_os_error(n).to_string();
            let text = text.strip_suffix(&format!(" (os error {n})")).unwrap();
            assert_eq!(Errno(n).words().to_lowercase(), text.to_lowercase(), "{n}");
            let mut out = [0; 64];
            let length = Errno(n).write_words(&mut out);
            assert_eq!(out[..length], *Errno(n).words().as_bytes(), "{n}");
        }
    }

    #[test]
    fn an_error_reads_from_the_outside_in() {
        let e = Error::sys("mounting tmpfs on \"/dev/shm\"", Errno(libc::EPERM))
            .property("mounts[4] of config.json")
            .context("creating container \"c1\"");
        assert_eq!(
            e.to_string(),
            "creating container \"c1\": mounting tmpfs on \"/dev/shm\" (mounts[4] of config.json): operation not permitted"
        );
    }
}
