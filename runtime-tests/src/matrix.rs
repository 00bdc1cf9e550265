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
    /// It needs the host's process ids and its /run, as services there do: systemd.
    pub on_host: bool,
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
        self.add(name.into(), source, false, Box::new(body));
    }

    /// Adds a case that sees the host's processes and its /run.
    pub fn host_case(
        &mut self,
        name: impl Into<String>,
        source: &'static str,
        body: impl Fn(&mut T<'_>) -> Done + 'static,
    ) {
        self.add(name.into(), source, true, Box::new(body));
    }

    fn add(&mut self, name: String, source: &'static str, on_host: bool, body: Body) {
        assert!(name.contains('/'), "the name of a case is area/what, not {name:?}");
        assert!(self.cases.iter().all(|c| c.name != name), "two cases are named {name:?}");
        self.cases.push(Case { name, source, on_host, body });
    }
}
