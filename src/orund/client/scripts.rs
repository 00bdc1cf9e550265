//! Completion scripts and manual pages, made from the definition of the command line.

use clap::CommandFactory;
use clap_complete::Shell;
use std::path::Path;

use super::{names, print};
use crate::error::{Error, Result};
use crate::kernel::output;
use crate::orund::Arguments;

/// `completion`.
pub fn completion(shell: Shell) -> Result<u8> {
    print(&text(shell))?;
    Ok(0)
}

/// The script for `shell`, which also completes names of workloads and replicas.
pub(super) fn text(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "orund", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    match shell {
        Shell::Zsh => names::in_zsh(&script),
        _ => script + &names::script(shell),
    }
}

/// The file format of workloads.
const WORKLOAD: &str = include_str!("orund-workload.5");

/// `man`: one page for the program, one for each verb, and one for the workload file, in `../man5` if `dir` is a man1.
pub fn man(dir: &Path) -> Result<u8> {
    let fail = |e| Error::sys(format!("writing the manual pages to {dir:?}"), e);
    std::fs::create_dir_all(dir).map_err(fail)?;
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    pages(command, dir)?;
    let formats = match dir.file_name() {
        Some(name) if name == "man1" => dir.with_file_name("man5"),
        _ => dir.to_owned(),
    };
    std::fs::create_dir_all(&formats).map_err(fail)?;
    let path = formats.join("orund-workload.5");
    output::replace(&path, WORKLOAD.as_bytes(), 0o644, &format!("writing the manual page {path:?}"))?;
    Ok(0)
}

/// The page of `command`, and those of its subcommands.
fn pages(command: clap::Command, dir: &Path) -> Result<()> {
    for sub in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        pages(sub.clone(), dir)?;
    }
    let page = clap_mangen::Man::new(command);
    let path = dir.join(page.get_filename());
    let doing = format!("writing the manual page {path:?}");
    let mut text = Vec::new();
    page.render(&mut text).map_err(|e| Error::sys(&doing, e))?;
    output::replace(&path, &text, 0o644, &doing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_replaces_a_link_and_does_not_follow_it() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join("orund.1")).unwrap();
        man(dir.path()).unwrap();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
        assert!(!dir.path().join("orund.1").is_symlink());
    }

    #[test]
    fn every_verb_has_a_page_and_is_completed() {
        let dir = tempfile::tempdir().unwrap();
        man(dir.path()).unwrap();
        let script = text(Shell::Bash);
        assert!(dir.path().join("orund-workload.5").exists());
        for verb in Arguments::command().get_subcommands().filter(|c| !c.is_hide_set()) {
            let name = verb.get_name();
            assert!(dir.path().join(format!("orund-{name}.1")).exists(), "{name}");
            assert!(script.contains(name), "{name}");
        }
        assert!(dir.path().join("orund.1").exists());
    }
}
