//! Looks into every process that shows in this container's /proc, again and again, as an attacker would.

use crate::die;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What a process of the runtime has in its environment in these cases.
pub const SECRET: &str = "secret-of-the-caller";

/// `peek FILE [capabilities]`: FILE is the path of a file of the host. Says `met` at the first process that is not this
/// one, not pid 1 and no kernel thread, `saw WHAT` when the host, or with `capabilities` one that this process lacks, shows in
/// one, each once. Does not end.
pub fn peek(canary: &str, compare: Option<&str>) {
    let own = std::process::id().to_string();
    let mut said = BTreeSet::new();
    let mut say = |what: String| {
        if said.insert(what.clone()) {
            println!("{what}");
            let _ = std::io::stdout().flush();
        }
    };
    say("ready".to_owned());
    loop {
        let entries = fs::read_dir("/proc").unwrap_or_else(|e| die(&format!("/proc: {e}")));
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == own || name == "1" || !name.starts_with(|c: char| c.is_ascii_digit()) {
                continue;
            }
            say("met".to_owned());
            if compare == Some("capabilities") {
                look_at_capabilities(&entry.path(), &mut say);
            }
            look(&entry.path(), canary, &mut say);
        }
    }
}

/// The capabilities of a process: what it is permitted, and what it may get by execve(2).
fn capabilities(process: &Path) -> Option<u64> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let sets = status.lines().filter_map(|l| l.strip_prefix("CapPrm:").or_else(|| l.strip_prefix("CapBnd:")));
    Some(sets.filter_map(|set| u64::from_str_radix(set.trim(), 16).ok()).fold(0, |all, set| all | set))
}

/// A process that traces another one can use the capabilities of that one.
fn look_at_capabilities(process: &Path, say: &mut impl FnMut(String)) {
    let own = capabilities(Path::new("/proc/self")).unwrap_or_else(|| die("/proc/self/status"));
    // Capabilities in a user namespace below have no effect here. The namespace of a zombie cannot be read.
    let user = |process: &Path| fs::read_link(process.join("ns/user")).ok();
    let theirs = user(process);
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    let elsewhere = theirs.is_some() && theirs != user(Path::new("/proc/self"));
    if elsewhere || theirs.is_none() && status.contains("State:\tZ") {
        return;
    }
    if let Some(more) = capabilities(process).map(|c| c & !own).filter(|more| *more != 0) {
        say(format!("saw capabilities {more:x}"));
    }
}

fn look(process: &Path, canary: &str, say: &mut impl FnMut(String)) {
    let below = |dir: PathBuf| {
        let climbing = format!("../../../../../../../..{canary}");
        [canary.trim_start_matches('/'), &climbing].iter().any(|path| fs::metadata(dir.join(path)).is_ok())
    };
    for link in ["root", "cwd"] {
        if below(process.join(link)) {
            say(format!("saw the host through {link}"));
        }
    }
    for fd in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
        let Ok(target) = fs::read_link(fd.path()) else { continue };
        if below(fd.path()) || target.starts_with("/sys/fs/cgroup") {
            say(format!("saw the host through descriptor {}", target.display()));
        }
    }
    if fs::read(process.join("environ"))
        .is_ok_and(|env| env.windows(SECRET.len()).any(|w| w == SECRET.as_bytes()))
    {
        say("saw the environment of the runtime".to_owned());
    }
}
