//! A write to a file of a cgroup.

use std::borrow::Cow;

/// One value for one file of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Name of the file.
    pub file: Cow<'static, str>,
    /// The text to write.
    pub value: String,
    /// The property that asked for it: `linux.resources.memory.limit`.
    pub property: Cow<'static, str>,
    /// Ignore a missing file: an older kernel, or a feature that is turned off.
    pub optional: bool,
    /// EINVAL may come from a value that a later write changes: write again after the others.
    pub retry: bool,
    /// Ignore a missing permission.
    pub best_effort: bool,
    /// File and value to use when `file` does not exist.
    pub instead: Option<(Cow<'static, str>, String)>,
}

impl Write {
    /// A write that must succeed.
    pub fn new(
        file: impl Into<Cow<'static, str>>,
        value: impl ToString,
        property: impl Into<Cow<'static, str>>,
    ) -> Write {
        Write {
            file: file.into(),
            value: value.to_string(),
            property: property.into(),
            optional: false,
            retry: false,
            best_effort: false,
            instead: None,
        }
    }

    pub(super) fn optional(mut self) -> Write {
        self.optional = true;
        self
    }

    pub(super) fn retry(mut self) -> Write {
        self.retry = true;
        self
    }

    pub(super) fn best_effort(mut self, yes: bool) -> Write {
        self.best_effort = yes;
        self
    }

    pub(super) fn instead(mut self, file: &'static str, value: impl ToString) -> Write {
        self.instead = Some((file.into(), value.to_string()));
        self
    }
}

/// The controller that has the file, or `None` for a file that every cgroup has.
pub(super) fn controller(file: &str) -> Option<&str> {
    let c = file.split('.').next().unwrap_or_default();
    (c != "cgroup" && !file.ends_with(".pressure")).then_some(c)
}
