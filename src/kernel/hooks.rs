//! Hooks that run on the host.

use crate::config::spec::Hook;
use crate::error::{Errno, Error, Result};
use crate::plan::compile::Plan;
use crate::plan::{explain, hooks};
use crate::sys::fd::{self, PollFd};
use crate::sys::wait::{self, Exit};
use crate::sys::{exec, time};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Bytes of a hook's output that are kept for its error; the rest is read and dropped, so that it never blocks.
const KEEP: usize = 1024;

/// Runs the hooks of a container that is being made, in order, with the state document on their standard input. `init`
/// is the container's process: when that is killed, the hook that runs is killed, too, because nothing can come of it.
///
/// # Errors
/// The first that fails; the following ones do not run.
pub fn run_all(plan: &Plan, pid: i32, init: &OwnedFd) -> Result<()> {
    let document = document(&plan.hook_state, pid);
    plan.runtime_hooks.iter().try_for_each(|(kind, index, hook)| {
        run_beside(kind, *index, hook, &plan.bundle, &document, Some(init))
    })
}

/// The state document with the pid put in.
pub fn document(state: &(Vec<u8>, Vec<u8>), pid: i32) -> Vec<u8> {
    [&state.0[..], pid.to_string().as_bytes(), &state.1[..]].concat()
}

/// Runs one hook of a container of `bundle`, where it starts.
///
/// # Errors
/// It cannot be run, ends with another status than 0, or takes too long (it is then killed).
pub fn run(kind: &str, index: usize, hook: &Hook, bundle: &Path, document: &[u8]) -> Result<()> {
    run_beside(kind, index, hook, bundle, document, None)
}

fn run_beside(
    kind: &str,
    index: usize,
    hook: &Hook,
    bundle: &Path,
    document: &[u8],
    init: Option<&OwnedFd>,
) -> Result<()> {
    let fail = |e: Errno| explain::hook(kind, index, e, 0, &format!("running {:?}", hook.path));
    let mut command = Command::new(&hook.path);
    if let Some((arg0, rest)) = hook.args.split_first() {
        command.arg0(arg0).args(rest);
    }
    // A hook without `env` has orun's environment, one with an empty list has none.
    if let Some(env) = &hook.env {
        command.env_clear().envs(env.iter().map(|var| var.split_once('=').unwrap_or((var, ""))));
    }
    // The caller of `delete` may have removed the bundle before.
    command.current_dir(if bundle.is_dir() { bundle } else { Path::new("/") });
    let (out, out_end) = fd::pipe().map_err(fail)?;
    let err_end = out_end.try_clone().map_err(|e| fail(e.into()))?;
    command.stdin(Stdio::piped()).stdout(out_end).stderr(err_end);
    let mut child = exec::clean(&mut command).spawn().map_err(|e| fail(e.into()))?;
    // The command holds the writing ends of the pipe.
    drop(command);
    let (exit, output) = follow(&mut child, &out, document, hooks::timeout_ms(hook), init).map_err(fail)?;
    let output = String::from_utf8_lossy(&output);
    match exit {
        Some(Exit::Code(0)) => Ok(()),
        Some(e) => Err(explain::hook(kind, index, Errno(0), e.code(), output.trim_end())),
        None => {
            let e: Error = explain::hook(kind, index, Errno(libc::ETIME), 0, output.trim_end());
            Err(e.hint(format!(
                "it was given {} s (hooks.{kind}[{index}].timeout)",
                hooks::timeout_ms(hook) / 1000
            )))
        }
    }
}

/// Feeds and reads the hook until it ends; no exit when its time was up. When `init` ends, it is killed.
fn follow(
    child: &mut Child,
    out: &OwnedFd,
    document: &[u8],
    timeout: u32,
    init: Option<&OwnedFd>,
) -> Result<(Option<Exit>, Vec<u8>), Errno> {
    let pidfd = wait::pidfd_open(child.id() as i32)?;
    let mut input = child.stdin.take();
    if let Some(i) = &input {
        fd::set_nonblocking(i.as_raw_fd())?;
    }
    let mut rest = document;
    let mut kept = Vec::new();
    let mut open = true;
    let end = time::monotonic_ms() + u64::from(timeout);
    loop {
        let left = end.saturating_sub(time::monotonic_ms());
        if left == 0 {
            wait::pidfd_send_signal(pidfd.as_raw_fd(), libc::SIGKILL)?;
            wait::wait_pidfd(pidfd.as_raw_fd(), true)?;
            return Ok((None, kept));
        }
        let mut fds = [
            PollFd::new(if open { out.as_raw_fd() } else { -1 }, libc::POLLIN),
            PollFd::new(pidfd.as_raw_fd(), libc::POLLIN),
            PollFd::new(input.as_ref().map_or(-1, AsRawFd::as_raw_fd), libc::POLLOUT),
            PollFd::new(init.map_or(-1, AsRawFd::as_raw_fd), libc::POLLIN),
        ];
        fd::poll(&mut fds, left.min(i32::MAX as u64) as i32)?;
        if fds[3].revents() != 0 {
            wait::pidfd_send_signal(pidfd.as_raw_fd(), libc::SIGKILL)?;
            return Ok((wait::wait_pidfd(pidfd.as_raw_fd(), true)?, kept));
        }
        if fds[2].revents() != 0 {
            feed(&mut input, &mut rest);
        }
        if fds[0].revents() != 0 {
            let mut buf = [0u8; 4096];
            let n = fd::read(out.as_raw_fd(), &mut buf)?;
            open = n > 0;
            kept.extend_from_slice(&buf[..n.min(KEEP - kept.len())]);
        } else if fds[1].revents() != 0 {
            return Ok((wait::wait_pidfd(pidfd.as_raw_fd(), true)?, kept));
        }
    }
}

/// Writes what fits. A hook need not read its input.
fn feed(input: &mut Option<std::process::ChildStdin>, rest: &mut &[u8]) {
    let done = match input {
        Some(pipe) if !rest.is_empty() => match pipe.write(rest) {
            Ok(n) => {
                *rest = &rest[n..];
                rest.is_empty()
            }
            Err(e) => {
                e.kind() != std::io::ErrorKind::WouldBlock && e.kind() != std::io::ErrorKind::Interrupted
            }
        },
        _ => true,
    };
    if done {
        *input = None;
    }
}
