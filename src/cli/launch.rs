//! The verbs that start processes: from their flags to the runtime's options.

use std::path::{Path, PathBuf};

use super::args::{Create, CreateFlags, Run};
use crate::error::Result;
use crate::runtime::create::{self, CreateOptions};
use crate::runtime::run::{self, RunOptions};
use crate::runtime::{Runtime, container};

pub fn create(rt: &Runtime, args: &Create) -> Result<u8> {
    create::create(rt, &args.id, &options(&args.flags))?;
    Ok(0)
}

pub fn run(rt: &Runtime, args: &Run) -> Result<u8> {
    let mut options = options(&args.flags);
    let target = Path::new(&args.target);
    let mut id = args.target.clone();
    if args.flags.bundle.is_none() && target.join("config.json").exists() {
        options.bundle = target.to_owned();
        id = container::made_up_id(target);
    }
    if args.tty {
        options.terminal = Some(true);
    }
    run::run(rt, &id, &options, RunOptions { detach: args.detach, keep: args.keep, no_subreaper: false })
}

fn options(flags: &CreateFlags) -> CreateOptions {
    CreateOptions {
        bundle: flags.bundle.clone().unwrap_or_else(|| PathBuf::from(".")),
        config: flags.config.clone(),
        console_socket: flags.console_socket.clone(),
        pid_file: flags.pid_file.clone(),
        pidfd_socket: flags.pidfd_socket.clone(),
        no_pivot: flags.no_pivot,
        no_new_keyring: flags.no_new_keyring,
        preserve_fds: flags.preserve_fds,
        terminal: None,
        detached: false,
    }
}
