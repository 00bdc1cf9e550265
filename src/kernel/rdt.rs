//! Classes and monitoring groups of resctrl (Documentation/filesystems/resctrl.rst): directories that are made like
//! those of cgroups.

use crate::error::{Errno, Error, Kind, Result};
use crate::plan::rdt::{RdtPlan, first_mismatch};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Directories that were made for a container, and go with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups {
    pub class: Option<PathBuf>,
    pub monitor: Option<PathBuf>,
}

/// Makes what `plan` asks for. Whatever was made of it stands in `made`, even after an error.
///
/// # Errors
/// A class that should be there is not, or is another one; what resctrl refuses.
pub fn make(plan: &RdtPlan, made: &mut Groups) -> Result<()> {
    let class = &plan.class;
    let new = if class.is_dir() {
        false
    } else if plan.must_exist {
        return Err(Error::new(Kind::Config, format!("the resctrl class {class:?} does not exist"))
            .property("linux.intelRdt.closID")
            .hint("give a schema, and orun makes the class"));
    } else {
        make_dir(class, "linux.intelRdt.closID")?;
        if !plan.named {
            made.class = Some(class.clone());
        }
        true
    };
    let filled = fill(plan, new);
    if filled.is_err() && new && plan.named {
        // Nobody else knows of it yet. What does not go now is for the administrator to see.
        let _ = std::fs::remove_dir(class);
    }
    filled?;
    if let Some(dir) = &plan.monitor {
        make_dir(dir, "linux.intelRdt.enableMonitoring")?;
        made.monitor = Some(dir.clone());
    }
    Ok(())
}

fn fill(plan: &RdtPlan, new: bool) -> Result<()> {
    let file = plan.class.join("schemata");
    if !new && plan.named && !plan.expected.is_empty() {
        let text = std::fs::read_to_string(&file).map_err(|e| Error::sys(format!("reading {file:?}"), e))?;
        if let Some(line) = first_mismatch(&plan.expected, &text) {
            let what =
                format!("the resctrl class {:?} exists, and its schemata are not {line:?}", plan.class);
            return Err(Error::new(Kind::Config, what).property("linux.intelRdt"));
        }
    }
    write_schemata(&plan.class, &plan.schemata)
}

/// Writes `lines` to the schemata of `class`, all at once.
///
/// # Errors
/// What resctrl refuses, with its own words about it.
pub fn write_schemata(class: &Path, lines: &[String]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let file = class.join("schemata");
    std::fs::write(&file, lines.join("\n") + "\n").map_err(|e| {
        let e =
            Error::sys(format!("writing {:?} to {file:?}", lines.join("; ")), e).property("linux.intelRdt");
        match last_status(class) {
            Some(status) => e.hint(format!("resctrl says: {status}")),
            None => e,
        }
    })
}

/// What resctrl has to say about its last failure.
fn last_status(class: &Path) -> Option<String> {
    let text =
        class.ancestors().find_map(|d| std::fs::read_to_string(d.join("info/last_cmd_status")).ok())?;
    Some(text.trim().to_owned()).filter(|t| !t.is_empty() && t != "ok")
}

fn make_dir(dir: &Path, property: &str) -> Result<()> {
    std::fs::create_dir(dir).map_err(|e| {
        let full = e.kind() == ErrorKind::StorageFull;
        let e = Error::sys(format!("making {dir:?}"), e).property(property);
        if full { e.hint("the processor has no class or monitor left") } else { e }
    })
}

/// Moves process `pid` into the class and, where there is one, the monitoring group. Its later children follow.
///
/// # Errors
/// The group is gone.
pub fn join(pid: i32, class: &Path, monitor: Option<&Path>) -> Result<()> {
    for dir in [Some(class), monitor].into_iter().flatten() {
        let file = dir.join("tasks");
        std::fs::write(&file, pid.to_string())
            .map_err(|e| Error::sys(format!("writing {pid} to {file:?}"), e).property("linux.intelRdt"))?;
    }
    Ok(())
}

/// Removes directories that were made. One that is gone is none to remove.
///
/// # Errors
/// One does not go.
pub fn remove<'a>(dirs: impl IntoIterator<Item = &'a PathBuf>) -> Result<()> {
    for dir in dirs {
        match std::fs::remove_dir(dir).map_err(Errno::from) {
            Ok(()) | Err(Errno(libc::ENOENT)) => {}
            Err(e) => return Err(Error::sys(format!("removing {dir:?}"), e)),
        }
    }
    Ok(())
}
