//! `doctor`: what this host lets orun do, which engines are installed, and whether they know orun.

mod engines;
mod host;
mod network;
mod user;

use std::path::Path;

/// How much of a thing works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It works.
    Works,
    /// Missing or incomplete; only a problem for hosts that need it.
    Limited,
    /// Containers do not run, or what has been set up cannot work.
    Broken,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The checked object: `kernel`, `cgroups`, `docker`.
    pub subject: &'static str,
    pub verdict: Verdict,
    /// The finding: lower case, no full stop.
    pub text: String,
    /// How to fix it.
    pub advice: Option<String>,
}

impl Finding {
    fn new(subject: &'static str, verdict: Verdict, text: impl Into<String>) -> Finding {
        Finding { subject, verdict, text: text.into(), advice: None }
    }

    fn works(subject: &'static str, text: impl Into<String>) -> Finding {
        Finding::new(subject, Verdict::Works, text)
    }

    fn limited(subject: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { advice: Some(advice.into()), ..Finding::new(subject, Verdict::Limited, text) }
    }

    fn broken(subject: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { advice: Some(advice.into()), ..Finding::new(subject, Verdict::Broken, text) }
    }
}

/// Looks at the host first, then at what a user needs, then at the engines.
pub fn doctor() -> Vec<Finding> {
    let root = Path::new("/");
    let mut found = host::findings(root);
    found.extend(network::findings(root));
    found.extend(user::findings(root));
    found.extend(engines::findings(root));
    found
}
