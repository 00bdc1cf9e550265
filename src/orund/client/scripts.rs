//! Completion scripts and manual pages, made from the definition of the command line.

use clap::CommandFactory;
use clap_complete::Shell;
use std::path::Path;

use super::print;
use crate::error::{Error, Result};
use crate::orund::Arguments;

/// `completion`.
pub fn completion(shell: Shell) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "orund", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(0)
}

/// `man`: one page for the program and one for each verb.
pub fn man(dir: &Path) -> Result<u8> {
    let fail = |e| Error::sys(format!("writing the manual pages to {dir:?}"), e);
    std::fs::create_dir_all(dir).map_err(fail)?;
    clap_mangen::generate_to(Arguments::command().disable_help_subcommand(true), dir).map_err(fail)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_page_and_is_completed() {
        let dir = tempfile::tempdir().unwrap();
        man(dir.path()).unwrap();
        let mut script = Vec::new();
        clap_complete::generate(Shell::Bash, &mut Arguments::command(), "orund", &mut script);
        let script = String::from_utf8(script).unwrap();
        for verb in Arguments::command().get_subcommands().filter(|c| !c.is_hide_set()) {
            let name = verb.get_name();
            assert!(dir.path().join(format!("orund-{name}.1")).exists(), "{name}");
            assert!(script.contains(name), "{name}");
        }
        assert!(dir.path().join("orund.1").exists());
    }
}
