//! All cases, by name.

use crate::case::T;
use crate::check::Done;
use std::fmt;
use std::time::Duration;

/// How long a case may take before it is killed. Long enough for a hook's timeout on a loaded machine.
pub const CASE_DEADLINE: Duration = Duration::from_secs(150);

type Body = Box<dyn Fn(&mut T<'_>) -> Done>;

/// One case.
pub struct Case {
    /// `area/what`.
    pub name: String,
    /// Where the expectation comes from: a section of the runtime-spec, or the contract of runc's command line.
    pub source: &'static str,
    body: Body,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).field("source", &self.source).finish()
    }
}

impl Case {
    /// The part of the name before the first slash.
    pub fn area(&self) -> &str {
        self.name.split('/').next().unwrap_or("")
    }

    /// Runs the case in this process.
    pub fn run(&self, t: &mut T<'_>) -> Done {
        (self.body)(t)
    }
}

/// The list of all cases.
#[derive(Debug, Default)]
pub struct Matrix {
    /// In the order in which they run.
    pub cases: Vec<Case>,
}

impl Matrix {
    /// All cases there are.
    pub fn all() -> Matrix {
        let mut matrix = Matrix::default();
        crate::cases::register(&mut matrix);
        matrix
    }

    /// Adds a case.
    pub fn case(
        &mut self,
        name: impl Into<String>,
        source: &'static str,
        body: impl Fn(&mut T<'_>) -> Done + 'static,
    ) {
        let name = name.into();
        assert!(name.contains('/'), "the name of a case is area/what, not {name:?}");
        assert!(self.cases.iter().all(|c| c.name != name), "two cases are named {name:?}");
        self.cases.push(Case { name, source, body: Box::new(body) });
    }
}
