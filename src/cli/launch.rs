//! The verbs that start processes: from their flags to the runtime's options.

use std::path::{Path, PathBuf};

use super::args::{Create, CreateFlags, Exec, Plan, Run};
use crate::error::{Error, Kind, Result};
use crate::kernel::cgroup::SubCgroups;
use crate::runtime::create::{self, CreateOptions};
use crate::runtime::exec::{self, ExecOptions};
use crate::runtime::plan;
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
    // No id has a slash in it: that is a bundle, even if nothing is there.
    if args.flags.bundle.is_none() && (args.target.contains('/') || target.join("config.json").exists()) {
        options.bundle = target.to_owned();
        id = container::made_up_id(target);
    }
    if args.tty {
        options.terminal = Some(true);
    }
    run::run(
        rt,
        &id,
        &options,
        RunOptions { detach: args.detach, keep: args.keep, no_subreaper: args.no_subreaper },
    )
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

pub fn exec(rt: &Runtime, args: &Exec) -> Result<u8> {
    let options = ExecOptions {
        process: args.process.clone(),
        detach: args.detach,
        pid_file: args.pid_file.clone(),
        console_socket: args.console_socket.clone(),
        pidfd_socket: args.pidfd_socket.clone(),
        preserve_fds: args.preserve_fds,
        cgroups: sub_cgroups(&args.cgroup)?,
        ignore_paused: args.ignore_paused,
        args: args.command.clone(),
        tty: args.tty,
        cwd: args.cwd.clone(),
        env: args.env.clone(),
        user: args.user.clone(),
        additional_gids: args.additional_gids.clone(),
        capabilities: args.cap.clone(),
        apparmor: args.apparmor.clone(),
        selinux_label: args.process_label.clone(),
        no_new_privileges: args.no_new_privs,
    };
    exec::exec(rt, &args.id, &options)
}

/// `PATH` for all controllers, `CONTROLLER[,CONTROLLER]:PATH` for some.
fn sub_cgroups(list: &[String]) -> Result<SubCgroups> {
    let mut all = SubCgroups::new();
    for entry in list {
        let (controllers, path) = entry.rsplit_once(':').unwrap_or(("", entry));
        if path.is_empty() || (entry.contains(':') && controllers.is_empty()) {
            return Err(Error::new(Kind::Usage, format!("invalid --cgroup argument: {entry}"))
                .hint("give PATH, or CONTROLLER[,CONTROLLER]:PATH"));
        }
        for c in controllers.split(',') {
            if all.insert(c.to_owned(), path.to_owned()).is_some() {
                return Err(Error::new(
                    Kind::Usage,
                    format!("invalid --cgroup argument: {entry}: {c:?} is given twice"),
                ));
            }
        }
    }
    Ok(all)
}

pub fn plan(rt: &Runtime, args: &Plan) -> Result<u8> {
    let options = CreateOptions { bundle: args.bundle.clone(), ..CreateOptions::default() };
    let report = plan::plan(rt, &args.id, &options)?;
    if args.json {
        super::verbs::print_json(&report)?;
        return Ok(0);
    }
    super::print(&report.to_string())?;
    Ok(0)
}
