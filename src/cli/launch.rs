//! The verbs that start processes: from their flags to the runtime's options.

use std::path::{Path, PathBuf};

use super::args::{Checkpoint, Create, CreateFlags, CriuFlags, Exec, Plan, Restore, Run};
use crate::error::{Error, Kind, Result};
use crate::kernel::cgroup::SubCgroups;
use crate::plan::checkpoint::{CgroupMode, Flags, PageServer};
use crate::runtime::checkpoint::{self, CheckpointOptions};
use crate::runtime::create::{self, CreateOptions};
use crate::runtime::exec::{self, ExecOptions};
use crate::runtime::plan;
use crate::runtime::restore::{self, RestoreOptions};
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
    // IDs have no slash: that is a bundle, even if it does not exist.
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
        super::render::print_json(&report)?;
        return Ok(0);
    }
    super::print(&report.to_string())?;
    Ok(0)
}

/// Where the images are without --image-path.
const IMAGES: &str = "checkpoint";

pub fn checkpoint(rt: &Runtime, args: &Checkpoint) -> Result<u8> {
    let page_server = match &args.page_server {
        Some(text) => Some(PageServer::parse(text).ok_or_else(|| {
            Error::new(Kind::Usage, format!("invalid --page-server argument: {text:?}"))
                .hint("use --page-server ADDRESS:PORT to specify page server")
        })?),
        None => None,
    };
    let options = CheckpointOptions {
        images: args.criu.image_path.clone().unwrap_or_else(|| PathBuf::from(IMAGES)),
        work: args.criu.work_path.clone(),
        parent: args.parent_path.clone(),
        flags: criu_flags(&args.criu)?,
        leave_running: args.leave_running,
        pre_dump: args.pre_dump,
        tcp_skip_in_flight: args.tcp_skip_in_flight,
        page_server,
        // runc's way to say that there is none.
        status_fd: args.status_fd.filter(|fd| *fd != -1),
    };
    checkpoint::checkpoint(rt, &args.id, &options)?;
    Ok(0)
}

pub fn restore(rt: &Runtime, args: &Restore) -> Result<u8> {
    let flags = CreateFlags {
        bundle: args.bundle.clone(),
        console_socket: args.console_socket.clone(),
        pid_file: args.pid_file.clone(),
        pidfd_socket: args.pidfd_socket.clone(),
        config: args.config.clone(),
        ..CreateFlags::default()
    };
    let options = RestoreOptions {
        create: options(&flags),
        images: args.criu.image_path.clone().unwrap_or_else(|| PathBuf::from(IMAGES)),
        work: args.criu.work_path.clone(),
        flags: criu_flags(&args.criu)?,
        detach: args.detach,
        no_subreaper: args.no_subreaper,
        tcp_close: args.tcp_close,
        lsm_profile: args.lsm_profile.clone(),
        lsm_mount_context: args.lsm_mount_context.clone(),
    };
    restore::restore(rt, &args.id, &options)
}

fn criu_flags(args: &CriuFlags) -> Result<Flags> {
    if let Some(ns) = args.empty_ns.iter().find(|ns| *ns != "network") {
        return Err(Error::new(Kind::Usage, format!("--empty-ns: namespace {ns:?} is not supported"))
            .hint("only \"network\" is"));
    }
    let mode = args.manage_cgroups_mode.as_deref().unwrap_or_default();
    let cgroups = CgroupMode::from_name(mode).ok_or_else(|| {
        Error::new(Kind::Usage, format!("invalid manage-cgroups-mode value: {mode:?}"))
            .hint("one of soft, full, strict, ignore")
    })?;
    Ok(Flags {
        tcp_established: args.tcp_established,
        ext_unix_sk: args.ext_unix_sk,
        shell_job: args.shell_job,
        lazy_pages: args.lazy_pages,
        file_locks: args.file_locks,
        link_remap: args.link_remap,
        auto_dedup: args.auto_dedup,
        cgroups,
    })
}
