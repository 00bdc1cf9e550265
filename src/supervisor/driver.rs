//! The loop around the core that the daemon and the simulator share: what is recorded before what is done.

use super::core::Config;
use super::core::action::{Action, Notice};
use super::core::desired::{Change, Desired};
use super::core::event::{Event, Record};
use super::core::ids::WorkloadId;
use super::core::model::Observed;
use super::core::observe::on_event;
use super::core::reconcile::{Step, reconcile};
use super::core::refusal::Refusal;
use super::core::time::{Millis, Time};

/// The effects of the core's decisions: Linux, or the simulator.
pub trait World {
    /// Appends to the runtime journal. A crash of the supervisor after the return loses nothing. What cannot be
    /// recorded must still be remembered by the caller, so there is no error: the world reports it by itself.
    fn record(&mut self, records: &[Record]);

    /// Makes a change durable.
    fn persist(&mut self, change: &Change, at: Time) -> Persisted;

    /// Starts to do an effect. The answer is an event, given to [`Supervisor::events`] later. `desired` says what
    /// the keys in it mean.
    fn act(&mut self, action: &Action, desired: &Desired, observed: &Observed);

    /// Reports to people.
    fn emit(&mut self, notice: Notice);

    /// Decides. The simulator breaks rules here on purpose, to see that its checks notice.
    fn decide(&self, desired: &Desired, observed: &Observed, now: Time, config: &Config) -> Step {
        reconcile(desired, observed, now, config)
    }
}

/// Whether a change is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persisted {
    /// It is.
    Yes,
    /// [`Supervisor::persisted`] will be called.
    Later,
    /// It could not be written.
    No,
}

/// The outcome of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is durable and applied.
    Accepted,
    /// It is being written; the answer comes from [`Supervisor::persisted`].
    Pending,
    /// It is not valid; nothing changed.
    Refused(Refusal),
    /// It could not be made durable, so nothing changed.
    NotDurable,
}

/// After a change that the core asked for could not be written, it is tried again after this.
const PERSIST_RETRY: Millis = Millis(1000);

/// More rounds than any decision needs.
const MAX_ROUNDS: u32 = 64;

/// The core's state and the world it acts on.
pub struct Supervisor<W> {
    /// The desired state.
    pub desired: Desired,
    /// The observed state.
    pub observed: Observed,
    /// The settings of the core.
    pub config: Config,
    /// The effects that carry out the decisions.
    pub world: W,
    /// Changes that are being written.
    writing: Vec<Change>,
    retry: Option<Time>,
}

impl<W: World> Supervisor<W> {
    /// Begins with replayed state.
    pub fn new(desired: Desired, observed: Observed, config: Config, world: W) -> Supervisor<W> {
        Supervisor { desired, observed, config, world, writing: Vec::new(), retry: None }
    }

    /// A request: checked, made durable, applied. Call [`Supervisor::turn`] afterwards.
    pub fn request(&mut self, change: Change, now: Time) -> Answer {
        if let Err(refusal) = self.desired.check(&change, &self.config) {
            return Answer::Refused(refusal);
        }
        match self.world.persist(&change, now) {
            Persisted::No => Answer::NotDurable,
            Persisted::Later => {
                self.writing.push(change);
                Answer::Pending
            }
            Persisted::Yes => self.apply(&change, now),
        }
    }

    /// A change whose writing took longer is durable now, or will never be. `at`: as given to [`World::persist`].
    pub fn persisted(&mut self, change: &Change, at: Time, durable: bool) -> Answer {
        if let Some(n) = self.writing.iter().position(|c| c == change) {
            self.writing.remove(n);
        }
        if durable { self.apply(change, at) } else { Answer::NotDurable }
    }

    /// Whether a change is still being written.
    pub fn is_writing(&self) -> bool {
        !self.writing.is_empty()
    }

    fn apply(&mut self, change: &Change, at: Time) -> Answer {
        match self.desired.apply(change, at, &self.config) {
            Ok(()) => Answer::Accepted,
            Err(refusal) => Answer::Refused(refusal),
        }
    }

    /// Things that happened at `now`: recorded, then taken into account. Deliver all that is known before [`Supervisor::turn`].
    pub fn events(&mut self, events: impl IntoIterator<Item = Event>, now: Time) {
        let records: Vec<Record> = events.into_iter().map(|event| Record { at: now, event }).collect();
        self.world.record(&records);
        for record in &records {
            self.observe(&record.event, now);
        }
    }

    /// Decides and acts until nothing is left to do now. Returns when to call again if nothing happens before.
    pub fn turn(&mut self, now: Time) -> Option<Time> {
        let mut wake = None;
        for _ in 0..MAX_ROUNDS {
            let Step { actions, wake: at } =
                self.world.decide(&self.desired, &self.observed, now, &self.config);
            wake = at;
            let (changes, decided): (Vec<Action>, Vec<Action>) =
                actions.into_iter().partition(|a| matches!(a, Action::Persist { .. }));
            let changed = self.persist_all(changes, now);
            if decided.is_empty() && !changed {
                break;
            }
            self.decide(decided, now);
        }
        [wake, self.retry].into_iter().flatten().min()
    }

    /// Records all decisions with one write, then does them in their order.
    fn decide(&mut self, actions: Vec<Action>, now: Time) {
        let records: Vec<Record> =
            actions.into_iter().map(|action| Record { at: now, event: Event::Decided { action } }).collect();
        self.world.record(&records);
        for record in &records {
            self.observe(&record.event, now);
        }
        for record in &records {
            let Event::Decided { action } = &record.event else { continue };
            if action.is_effect() {
                self.world.act(action, &self.desired, &self.observed);
            }
        }
    }

    /// Whether one of the changes was applied.
    fn persist_all(&mut self, actions: Vec<Action>, now: Time) -> bool {
        if self.retry.is_some_and(|at| now < at) {
            return false;
        }
        self.retry = None;
        let mut changed = false;
        for action in actions {
            let Action::Persist { change } = action else { continue };
            if self.writing.iter().any(|c| serves_as(c, &change)) {
                continue;
            }
            match self.world.persist(&change, now) {
                Persisted::Yes => changed |= self.apply(&change, now) == Answer::Accepted,
                Persisted::Later => self.writing.push(change),
                Persisted::No => self.retry = Some(now + PERSIST_RETRY),
            }
        }
        changed
    }

    fn observe(&mut self, event: &Event, now: Time) {
        let mut notices = Vec::new();
        on_event(&mut self.observed, event, now, &mut notices);
        for mut notice in notices {
            if let Some(workload) = self.desired.workloads.get(&notice.workload) {
                notice.workload_name.clone_from(&workload.name);
            }
            self.world.emit(notice);
        }
    }
}

/// Whether `change` need not be written while `other` is. The reason of a failure may have changed meanwhile.
fn serves_as(other: &Change, change: &Change) -> bool {
    match (other, change) {
        (
            Change::Failed { workload: a, revision: of, .. },
            Change::Failed { workload: b, revision: to, .. },
        ) => (a, of) == (b, to),
        _ => other == change || (run(other).is_some() && run(other) == run(change)),
    }
}

/// The scheduled time of a CronJob that a change makes a job for.
fn run(change: &Change) -> Option<(WorkloadId, i64)> {
    match change {
        Change::Spawn { workload, scheduled, .. } => Some((*workload, (*scheduled)?)),
        Change::All { changes } => changes.iter().find_map(run),
        _ => None,
    }
}
