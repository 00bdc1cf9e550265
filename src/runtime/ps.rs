//! `ps`: the processes of a container.

use std::process::Command;

use super::Runtime;
use super::container::Container;
use crate::error::{Error, Kind, Result};
use crate::sys::exec;

/// The pids of the container `id`, as its runtime's pid namespace counts, sorted; none when it is stopped.
///
/// # Errors
/// [`Kind::NotFound`] when there is no such container.
pub fn pids(runtime: &Runtime, id: &str) -> Result<Vec<i32>> {
    let container = Container::open(runtime, id)?;
    let cgroup = container.cgroup()?;
    if cgroup.is_some() {
        let mut pids = cgroup.pids_recursive()?;
        pids.sort_unstable();
        pids.dedup();
        return Ok(pids);
    }
    // Without a cgroup of its own only the first process is known to be the container's.
    match container.record.init {
        Some(init) if init.is_alive()? => Ok(vec![init.pid]),
        _ => Ok(Vec::new()),
    }
}

/// The output of ps(1) with `options` (none: `-ef`), reduced to the processes of the container `id`.
///
/// # Errors
/// As [`pids`]; also when ps(1) is missing or fails, or its output has no column PID.
pub fn table(runtime: &Runtime, id: &str, options: &[String]) -> Result<String> {
    let pids = pids(runtime, id)?;
    let default = ["-ef".to_owned()];
    let options = if options.is_empty() { &default } else { options };
    let output = exec::clean(Command::new("ps").args(options))
        .output()
        .map_err(|e| Error::sys("running ps(1)", e).hint("\"ps --format json\" does without it"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or_default();
        let what = format!("ps {} failed ({}): {said}", options.join(" "), output.status);
        return Err(Error::new(Kind::System, what));
    }
    filter(&String::from_utf8_lossy(&output.stdout), &pids)
}

/// The lines of a table of processes that are those of `pids`, with the heading.
fn filter(table: &str, pids: &[i32]) -> Result<String> {
    let mut lines = table.lines();
    let heading = lines.next().unwrap_or_default();
    let column = heading
        .split_whitespace()
        .position(|name| name == "PID")
        .ok_or_else(|| Error::new(Kind::Usage, "the output of ps(1) has no column PID"))?;
    let mut out = format!("{heading}\n");
    let mut kept = false;
    for line in lines {
        kept = match line.split_whitespace().nth(column) {
            // The threads of a process follow it, without its pid.
            Some("-") => kept,
            Some(pid) => pid.parse().is_ok_and(|pid| pids.contains(&pid)),
            None => false,
        };
        if kept {
            out.push_str(line);
            out.push('\n');
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lines_of_the_container_stay() {
        let table = "UID          PID    PPID CMD\nroot           1       0 init 42\nroot          42       1 sh\n\
                     root           -       - thread\nroot         421       1 other\nroot           -       - thread\n";
        assert_eq!(
            filter(table, &[42]).unwrap(),
            "UID          PID    PPID CMD\nroot          42       1 sh\nroot           -       - thread\n"
        );
        assert_eq!(filter(table, &[]).unwrap(), "UID          PID    PPID CMD\n");
        assert!(filter("COMMAND\nsh\n", &[1]).is_err());
        assert!(filter("", &[1]).is_err());
    }
}
