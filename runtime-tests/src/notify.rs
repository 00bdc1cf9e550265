//! The host's side of a seccomp listener: answers the notifications that a profile sends to it.

use crate::check::{Context, Result};
use crate::command::poll;
use crate::sys::{self, Notification};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Waits for one notification and answers it.
pub fn answer_one(
    listener: &OwnedFd,
    answer: impl Fn(&Notification) -> std::result::Result<i64, i32>,
) -> Result<Notification> {
    let seen = poll("a seccomp notification", Duration::from_secs(30), || {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        let ready = nix::poll::poll(&mut fds, PollTimeout::ZERO).unwrap_or(0);
        let readable = fds[0].revents().is_some_and(|r| r.contains(PollFlags::POLLIN));
        if ready == 1 && readable { sys::notification_receive(listener.as_fd()).ok() } else { None }
    })?;
    sys::notification_answer(listener.as_fd(), seen.id, answer(&seen)).context("answering a notification")?;
    Ok(seen)
}
