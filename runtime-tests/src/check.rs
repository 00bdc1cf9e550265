//! What a case returns, and the comparisons it is written with.

use std::fmt::Debug;

/// Why a case did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fail {
    /// The runtime did not do what it must.
    Failed(String),
    /// The case says nothing about this runtime or this host.
    Skipped(String),
}

/// The result of a step of a case.
pub type Result<T, E = Fail> = std::result::Result<T, E>;

/// The result of a case.
pub type Done = Result<()>;

impl<E: std::error::Error> From<E> for Fail {
    fn from(e: E) -> Fail {
        Fail::Failed(e.to_string())
    }
}

impl Fail {
    /// The same failure with what was being done in front.
    pub fn context(self, what: &str) -> Fail {
        match self {
            Fail::Failed(why) => Fail::Failed(format!("{what}: {why}")),
            skipped => skipped,
        }
    }
}

/// Adds what was being done to an error.
pub trait Context<T> {
    /// Puts `what` in front of the error's text.
    fn context(self, what: &str) -> Result<T>;
}

impl<T, E: Into<Fail>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: &str) -> Result<T> {
        self.map_err(|e| e.into().context(what))
    }
}

/// A failure with this text.
pub fn fail<T>(why: impl Into<String>) -> Result<T> {
    Err(Fail::Failed(why.into()))
}

/// Leaves the case: it cannot say anything here, because of `why`.
pub fn skip<T>(why: impl Into<String>) -> Result<T> {
    Err(Fail::Skipped(why.into()))
}

/// Demands that `got` equals `want`.
pub fn same<A: PartialEq<B> + Debug, B: Debug>(what: &str, got: A, want: B) -> Done {
    if got == want { Ok(()) } else { fail(format!("{what}: {got:?} instead of {want:?}")) }
}

/// Demands that the list `got` holds exactly the entries of `want`, in any order.
pub fn same_set<A, B>(what: &str, got: &[A], want: &[B]) -> Done
where
    A: AsRef<str>,
    B: AsRef<str>,
{
    let sorted = |mut v: Vec<String>| {
        v.sort();
        v
    };
    let got = sorted(got.iter().map(|s| s.as_ref().to_owned()).collect());
    let want = sorted(want.iter().map(|s| s.as_ref().to_owned()).collect());
    same(what, got, want)
}

/// Demands that `text` holds `part`.
pub fn has(what: &str, text: &str, part: &str) -> Done {
    if text.contains(part) { Ok(()) } else { fail(format!("{what}: no {part:?} in {text:?}")) }
}

/// Demands that `text` does not hold `part`.
pub fn has_not(what: &str, text: &str, part: &str) -> Done {
    if text.contains(part) { fail(format!("{what}: {part:?} in {text:?}")) } else { Ok(()) }
}

/// Demands a condition: `ensure!(a < b, "a is {a}")`.
#[macro_export]
macro_rules! ensure {
    ($cond:expr, $($why:tt)+) => {
        if !$cond {
            return $crate::check::fail(format!($($why)+));
        }
    };
}
