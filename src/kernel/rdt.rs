//! Classes and monitoring groups of resctrl (Documentation/filesystems/resctrl.rst): directories that are made like
//! those of cgroups.

pub mod stats;

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
/// A required class is missing or differs; what resctrl refuses.
pub fn make(plan: &RdtPlan, made: &mut Groups) -> Result<()> {
    let class = &plan.class;
    let new = if class.is_dir() {
        false
    } else if plan.must_exist {
        return Err(Error::new(Kind::Config, format!("the resctrl class {class:?} does not exist"))
            .property("linux.intelRdt.closID")
            .hint("give a schema so that orun creates the class"));
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
/// An error of resctrl, with its own message.
pub fn write_schemata(class: &Path, lines: &[String]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let file = class.join("schemata");
    std::fs::write(&file, lines.join("\n") + "\n").map_err(|e| {
        let e =
            Error::sys(format!("writing {:?} to {file:?}", lines.join("; ")), e).property("linux.intelRdt");
        match last_status(class) {
            Some(status) => e.hint(format!("resctrl reports: {status}")),
            None => e,
        }
    })
}

/// The message of resctrl about its last failure.
fn last_status(class: &Path) -> Option<String> {
    let text =
        class.ancestors().find_map(|d| std::fs::read_to_string(d.join("info/last_cmd_status")).ok())?;
    Some(text.trim().to_owned()).filter(|t| !t.is_empty() && t != "ok")
}

fn make_dir(dir: &Path, property: &str) -> Result<()> {
    std::fs::create_dir(dir).map_err(|e| {
        let full = e.kind() == ErrorKind::StorageFull;
        let e = Error::sys(format!("making {dir:?}"), e).property(property);
        if full { e.hint("the processor has no free class or monitor") } else { e }
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

/// Removes directories that were made. A missing one is skipped.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory instead of resctrl, whose files keep their content: enough for paths and decisions, not for
    /// what the kernel makes of a schema.
    fn plan(top: &Path, named: bool, schemata: &[&str]) -> RdtPlan {
        let lines: Vec<_> = schemata.iter().map(ToString::to_string).collect();
        RdtPlan {
            class: top.join("c1"),
            named,
            must_exist: named && lines.is_empty(),
            expected: lines.clone(),
            schemata: lines,
            monitor: None,
        }
    }

    fn read(class: &Path) -> String {
        std::fs::read_to_string(class.join("schemata")).unwrap_or_default()
    }

    #[test]
    fn a_class_is_made_filled_and_removed() {
        let top = tempfile::tempdir().unwrap();
        let p = plan(top.path(), false, &["L3:0=f", "MB:0=20"]);
        let mut made = Groups::default();
        make(&p, &mut made).unwrap();
        assert_eq!(read(&p.class), "L3:0=f\nMB:0=20\n");
        assert_eq!(made, Groups { class: Some(p.class.clone()), monitor: None });
        join(7, &p.class, None).unwrap();
        assert_eq!(std::fs::read_to_string(p.class.join("tasks")).unwrap(), "7");
        // In resctrl the files go with the directory.
        for file in ["schemata", "tasks"] {
            std::fs::remove_file(p.class.join(file)).unwrap();
        }
        remove(&made.class.into_iter().collect::<Vec<_>>()).unwrap();
        assert!(!p.class.exists());
        remove([&p.class]).unwrap();
    }

    #[test]
    fn without_schemata_none_are_written() {
        let top = tempfile::tempdir().unwrap();
        let p = plan(top.path(), false, &[]);
        make(&p, &mut Groups::default()).unwrap();
        assert!(p.class.is_dir() && !p.class.join("schemata").exists());
    }

    #[test]
    fn a_named_class_stays() {
        let top = tempfile::tempdir().unwrap();
        let p = plan(top.path(), true, &["L3:0=f"]);
        let mut made = Groups::default();
        make(&p, &mut made).unwrap();
        assert_eq!(made, Groups::default(), "classes of the administrator are not removed");
        make(&p, &mut made).unwrap();
        assert_eq!(read(&p.class), "L3:0=f\n");
    }

    #[test]
    fn a_named_class_must_be_there_or_match() {
        let top = tempfile::tempdir().unwrap();
        let e = make(&plan(top.path(), true, &[]), &mut Groups::default()).unwrap_err().to_string();
        assert!(e.contains("does not exist") && e.contains("linux.intelRdt.closID"), "{e}");
        make(&plan(top.path(), true, &["L3:0=f"]), &mut Groups::default()).unwrap();
        let other = plan(top.path(), true, &["L3:0=3"]);
        let e = make(&other, &mut Groups::default()).unwrap_err().to_string();
        assert!(e.contains("its schemata are not \"L3:0=3\""), "{e}");
        assert_eq!(read(&other.class), "L3:0=f\n", "a class of somebody's is left as it is");
        make(&plan(top.path(), true, &[]), &mut Groups::default()).unwrap();
    }

    #[test]
    fn a_monitoring_group_goes_with_the_container() {
        let top = tempfile::tempdir().unwrap();
        let group = top.path().join("c1/mon_groups/c1");
        let p = RdtPlan { monitor: Some(group.clone()), ..plan(top.path(), true, &["L3:0=f"]) };
        std::fs::create_dir_all(top.path().join("c1/mon_groups")).unwrap();
        std::fs::write(top.path().join("c1/schemata"), "L3:0=f\n").unwrap();
        let mut made = Groups::default();
        make(&p, &mut made).unwrap();
        assert_eq!(made, Groups { class: None, monitor: Some(group.clone()) });
        join(7, &p.class, Some(&group)).unwrap();
        assert_eq!(std::fs::read_to_string(group.join("tasks")).unwrap(), "7");
    }

    #[test]
    fn a_monitoring_group_that_cannot_be_made_is_an_error() {
        let top = tempfile::tempdir().unwrap();
        let p =
            RdtPlan { monitor: Some(top.path().join("c1/mon_groups/c1")), ..plan(top.path(), false, &[]) };
        let mut made = Groups::default();
        let e = make(&p, &mut made).unwrap_err().to_string();
        assert!(e.contains("linux.intelRdt.enableMonitoring"), "{e}");
        assert_eq!(made.class, Some(p.class), "the created class is known, and can be removed");
    }
}
