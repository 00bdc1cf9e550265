//! The life of a container: which status it has, and what may be done to it then (runtime.md, "Lifecycle").

use serde::{Deserialize, Serialize};

use super::id::ContainerId;
use crate::error::{Error, Kind, Result};

/// The status of a container (runtime.md, "State"); `Paused` is what runc and its callers add.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being made, or given up half-made.
    Creating,
    /// Made; the program has not been started.
    Created,
    /// The program runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its first process has exited.
    Stopped,
}

impl Status {
    /// The word for it in states and messages.
    pub fn name(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How far the runtime has brought a container, as its record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Creating,
    Created,
    Running,
}

/// Known facts about the processes of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// The first process exists and has not exited; `None` when the record names none.
    pub init_alive: Option<bool>,
    /// The runtime process that makes the container still runs.
    pub creator_alive: bool,
    /// The container's cgroup is frozen.
    pub frozen: bool,
}

/// The status that follows from the record and from what is seen.
pub fn status(phase: Phase, seen: Observed) -> Status {
    match (phase, seen.init_alive, seen.creator_alive, seen.frozen) {
        // A creator that was killed leaves nothing that could continue.
        (Phase::Creating, _, true, _) | (Phase::Creating, Some(true), false, _) => Status::Creating,
        (Phase::Creating, _, false, _) => Status::Stopped,
        (_, None | Some(false), ..) => Status::Stopped,
        (_, Some(true), _, true) => Status::Paused,
        (Phase::Created, Some(true), _, false) => Status::Created,
        (Phase::Running, Some(true), _, false) => Status::Running,
    }
}

/// Something that is done to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Start,
    Exec,
    /// Exec that does not mind a paused container.
    ExecIgnoringPause,
    Kill,
    Delete,
    Pause,
    Resume,
    Update,
    Events,
    Checkpoint,
}

/// Whether `operation` may be done to a container of this status.
///
/// # Errors
/// [`Kind::State`], in words that the callers of runc look for.
pub fn check(operation: Operation, status: Status, id: &ContainerId) -> Result<()> {
    use Operation as O;
    use Status as S;
    let refusal = match (operation, status) {
        (O::Start, S::Created) => return Ok(()),
        (O::Start, S::Running) => "cannot start an already running container".to_owned(),
        (O::Start, S::Stopped) => "cannot start a container that has stopped".to_owned(),
        (O::Start, S::Paused) => "cannot start a paused container".to_owned(),
        (O::Start, S::Creating) => "cannot start a container in the creating state".to_owned(),

        (O::Exec, S::Paused) => {
            "cannot exec in a paused container (use --ignore-paused to override)".to_owned()
        }
        (O::Exec | O::ExecIgnoringPause, S::Stopped) => "cannot exec in a stopped container".to_owned(),
        (O::Exec | O::ExecIgnoringPause, S::Creating) => {
            "cannot exec in a container in the creating state".to_owned()
        }
        (O::Exec | O::ExecIgnoringPause, _) => return Ok(()),

        (O::Delete, S::Created | S::Stopped) => return Ok(()),
        (O::Delete, S::Creating | S::Running | S::Paused) => {
            return Err(Error::new(
                Kind::State,
                format!("cannot delete container {id} that is not stopped: {status}"),
            )
            .hint("\"delete --force\" kills it first"));
        }

        (O::Kill | O::Update | O::Events, S::Created | S::Running | S::Paused) => return Ok(()),
        (O::Pause, S::Created | S::Running) | (O::Resume, S::Paused) => return Ok(()),
        (O::Checkpoint, S::Running | S::Paused) => return Ok(()),
        (O::Resume, _) => "container not paused".to_owned(),
        (O::Kill | O::Update | O::Events | O::Pause | O::Checkpoint, _) => "container not running".to_owned(),
    };
    Err(Error::new(Kind::State, format!("{refusal}: {id} is {status}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Status; 5] =
        [Status::Creating, Status::Created, Status::Running, Status::Paused, Status::Stopped];

    #[test]
    fn what_may_be_done_when() {
        let id = ContainerId::new("c1").unwrap();
        // One letter for each status in the order of ALL: y is allowed.
        for (operation, allowed) in [
            (Operation::Start, "-y---"),
            (Operation::Exec, "-yy--"),
            (Operation::ExecIgnoringPause, "-yyy-"),
            (Operation::Kill, "-yyy-"),
            (Operation::Delete, "-y--y"),
            (Operation::Pause, "-yy--"),
            (Operation::Resume, "---y-"),
            (Operation::Update, "-yyy-"),
            (Operation::Events, "-yyy-"),
            (Operation::Checkpoint, "--yy-"),
        ] {
            let got: String =
                ALL.iter().map(|s| if check(operation, *s, &id).is_ok() { 'y' } else { '-' }).collect();
            assert_eq!(got, allowed, "{operation:?}");
        }
    }

    #[test]
    fn refusals_have_the_words_that_callers_match() {
        let id = ContainerId::new("c1").unwrap();
        for (operation, status, words) in [
            (Operation::Start, Status::Running, "cannot start an already running container"),
            (Operation::Start, Status::Stopped, "cannot start a container that has stopped"),
            (Operation::Start, Status::Paused, "cannot start a paused container"),
            (Operation::Exec, Status::Paused, "cannot exec in a paused container"),
            (Operation::Exec, Status::Stopped, "cannot exec in a stopped container"),
            (Operation::Kill, Status::Stopped, "container not running"),
            (Operation::Kill, Status::Creating, "container not running"),
            (Operation::Pause, Status::Paused, "container not running"),
            (Operation::Resume, Status::Running, "container not paused"),
            (Operation::Delete, Status::Running, "cannot delete container c1 that is not stopped: running"),
            (Operation::Delete, Status::Paused, "cannot delete container c1 that is not stopped: paused"),
        ] {
            let e = check(operation, status, &id).unwrap_err();
            assert!(e.to_string().starts_with(words), "{e}");
            assert_eq!(e.kind(), Kind::State);
        }
    }

    #[test]
    fn the_status_follows_from_record_and_processes() {
        let seen = |init_alive, creator_alive, frozen| Observed { init_alive, creator_alive, frozen };
        for (phase, observed, expected) in [
            (Phase::Creating, seen(None, true, false), Status::Creating),
            (Phase::Creating, seen(Some(true), true, false), Status::Creating),
            (Phase::Creating, seen(Some(true), true, true), Status::Creating),
            (Phase::Creating, seen(Some(false), true, false), Status::Creating),
            (Phase::Creating, seen(None, false, false), Status::Stopped),
            (Phase::Creating, seen(Some(false), false, false), Status::Stopped),
            (Phase::Creating, seen(Some(true), false, false), Status::Creating),
            (Phase::Created, seen(Some(true), false, false), Status::Created),
            (Phase::Created, seen(Some(true), false, true), Status::Paused),
            (Phase::Created, seen(Some(false), false, false), Status::Stopped),
            (Phase::Running, seen(Some(true), false, false), Status::Running),
            (Phase::Running, seen(Some(true), false, true), Status::Paused),
            (Phase::Running, seen(Some(false), false, true), Status::Stopped),
            (Phase::Running, seen(None, false, false), Status::Stopped),
        ] {
            assert_eq!(status(phase, observed), expected, "{phase:?} {observed:?}");
        }
    }
}
