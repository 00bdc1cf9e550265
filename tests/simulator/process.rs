//! The model of a container: a program by script, its cgroup, and what the kernel does to them.

use crate::health::Answers;
use crate::plan;
use crate::rng::Rng;
use orun::supervisor::core::checks::Checks;
use orun::supervisor::core::ids::Key;
use orun::supervisor::core::spec::Probes;

/// What a program will do. Times in milliseconds.
#[derive(Debug, Clone)]
pub struct Script {
    pub prepare: u64,
    pub prepare_error: Option<Failure>,
    pub start: u64,
    pub start_error: Option<Failure>,
    /// When it ends by itself, and how.
    pub life: Option<(u64, End)>,
    /// How long it takes to follow the stop signal; None: it ignores it.
    pub term: Option<u64>,
    /// It has processes outside of its pid namespace that outlive init by this; `u64::MAX`: until killed.
    pub lingers: Option<u64>,
    /// How long a SIGKILL takes: longer for tasks in state D.
    pub kill: u64,
    /// How long the preStop command takes; None: for ever.
    pub hook: Option<u64>,
    pub hook_fails: bool,
    /// What it answers to its startup, readiness and liveness probes, and how fast.
    pub answers: [Answers; 3],
    pub answer: u64,
    /// What its image has in place of the probes of the template.
    pub probes: Option<Probes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    Passing,
    Unrecoverable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Exit(i32),
    Signal(i32),
    Oom,
}

impl End {
    /// As wait(2) has it, and whether the cgroup counts an OOM kill.
    pub fn status(self) -> (i32, bool) {
        match self {
            End::Exit(code) => (code << 8, false),
            End::Signal(n) => (n, false),
            End::Oom => (libc::SIGKILL, true),
        }
    }
}

impl Script {
    /// One that runs for ever and ends when asked.
    pub fn tame() -> Script {
        Script {
            prepare: 5,
            prepare_error: None,
            start: 1,
            start_error: None,
            life: None,
            term: Some(10),
            lingers: None,
            kill: 3,
            hook: Some(20),
            hook_fails: false,
            answers: [Answers::Good; 3],
            answer: 3,
            probes: None,
        }
    }

    /// What an instance of a kind of program does; the same for the same seed and instance.
    pub fn new(kind: &str, rng: &mut Rng) -> Script {
        let mut s = Script::tame();
        s.prepare = rng.between(1, 20);
        s.start = rng.between(0, 3);
        s.term = Some(rng.pick(&[0, 5, 50, 150, 900, 3_000]));
        s.kill = rng.pick(&[1, 3, 10]);
        s.hook = rng.pick(&[Some(1), Some(100), Some(900), Some(4_000), None]);
        s.hook_fails = rng.percent(20);
        s.answers = [Answers::of(rng), Answers::of(rng), Answers::of(rng)];
        s.answer = rng.pick(&[0, 3, 1_000]);
        s.lingers = rng.percent(15).then(|| rng.pick(&[5, 500, u64::MAX]));
        let ends = [End::Exit(0), End::Exit(1), End::Exit(3), End::Signal(11), End::Oom, End::Exit(137)];
        match kind {
            plan::CRASHER => s.life = Some((rng.pick(&[0, 1, 20, 90, 400]), rng.pick(&ends[1..]))),
            plan::FLAKY => {
                let life = rng.pick(&[10, 3_000, 40_000, 299_000, 301_000, 700_000]);
                s.life = Some((life, rng.pick(&ends)));
                s.prepare_error = rng.percent(10).then_some(Failure::Passing);
                s.start_error = rng.percent(10).then_some(Failure::Passing);
            }
            plan::JOB => {
                s.life =
                    Some((rng.pick(&[1, 100, 2_000]), rng.pick(&[End::Exit(0), End::Exit(0), End::Exit(1)])))
            }
            plan::STUBBORN => {
                s.term = None;
                s.kill = rng.pick(&[3, 3, 2_000, 12_000]);
            }
            plan::UNSTARTABLE => {
                let failure = rng.pick(&[Failure::Unrecoverable, Failure::Unrecoverable, Failure::Passing]);
                if rng.percent(50) {
                    s.prepare_error = Some(failure);
                } else {
                    s.start_error = Some(failure);
                }
            }
            plan::SLOW => {
                s.prepare = rng.between(100, 4_000);
                s.start = rng.between(0, 1_000);
            }
            _ => {}
        }
        s.probes = rng.percent(10).then(|| plan::probes(rng));
        s
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A part of it exists.
    Creating,
    Created,
    /// Released; it executes its program some milliseconds later.
    Running,
    /// Init was reaped.
    Ended,
}

/// A container on the host.
#[derive(Debug, Clone)]
pub struct Proc {
    pub key: Key,
    pub script: Script,
    pub state: State,
    /// Processes besides init are in the cgroup.
    pub others: bool,
    pub status: Option<i32>,
    pub oom: bool,
    /// Somebody could see the status.
    pub seen: bool,
    pub released: Option<u64>,
    pub executed: Option<u64>,
    pub removing: bool,
    pub signalled: Option<u64>,
    pub signals: u32,
    /// A `Signalled` for it was recorded since.
    pub signal_confirmed: bool,
    pub hooks: u32,
    pub post_starts: u32,
    /// What it must do besides run; whether it is up by that, and since when it is ready.
    pub checks: Checks,
    pub up: bool,
    pub ready: Option<u64>,
    /// Its stop was recorded.
    pub stopping: bool,
    pub killed: Option<u64>,
}

impl Proc {
    pub fn new(key: Key, script: Script) -> Proc {
        Proc {
            key,
            script,
            state: State::Creating,
            others: false,
            status: None,
            oom: false,
            seen: true,
            released: None,
            executed: None,
            removing: false,
            signalled: None,
            signals: 0,
            signal_confirmed: false,
            hooks: 0,
            post_starts: 0,
            checks: Checks::default(),
            up: false,
            ready: None,
            stopping: false,
            killed: None,
        }
    }

    pub fn init_lives(&self) -> bool {
        matches!(self.state, State::Created | State::Running)
    }

    /// A process is in its cgroup.
    pub fn populated(&self) -> bool {
        self.init_lives() || self.others
    }

    /// Its program, or what it left behind, may do things.
    pub fn serves(&self) -> bool {
        self.state == State::Running || (self.released.is_some() && self.others)
    }
}
