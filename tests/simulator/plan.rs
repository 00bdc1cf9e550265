//! What happens in a run: requests and faults, all from one seed. A plan can be run with some of its entries only, which
//! is how a failing run is made small.

use crate::rng::Rng;
use crate::{crons, health, jobs};
use orun::supervisor::core::controller::Controller;
use orun::supervisor::core::ports::{HostPort, PublishedPort};
use orun::supervisor::core::spec::{
    Back, Backoff, ContainerSource, ContainerSpec, FailureAction, Handler, IntOrPercent, PodTemplate, Probes,
    RestartLimit, RestartPolicy, Role, SandboxSpec, Strategy,
};
use orun::supervisor::core::time::Millis;
use orun::workload::depends::{Condition, Dependency};
use std::fmt;

/// A run.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub entries: Vec<Entry>,
    /// When faults and requests end, in milliseconds.
    pub until: u64,
    /// Durable writes answer later.
    pub slow_disk: bool,
}

#[derive(Debug, Clone)]
pub struct Entry {
    pub at: u64,
    pub what: What,
}

#[derive(Debug, Clone)]
pub enum What {
    Apply {
        name: usize,
        replicas: u32,
        strategy: Strategy,
        template: Box<PodTemplate>,
        controller: Box<Controller>,
        /// It is in a file, between two objects that have this mark.
        file: Option<u64>,
        /// What it waits for.
        depends_on: Vec<Dependency>,
    },
    Scale {
        name: usize,
        replicas: u32,
    },
    Restart {
        name: usize,
        slot: Option<u32>,
    },
    Delete {
        name: usize,
        grace: Option<u64>,
    },
    Pause {
        name: usize,
        paused: bool,
    },
    Stop {
        name: usize,
        stopped: bool,
    },
    Undo {
        name: usize,
        to: Option<u32>,
    },
    /// The supervisor dies after that many further calls of the world, and comes back later.
    Crash {
        after_calls: u32,
        down: u64,
    },
    KeeperDies,
    /// The host is drained, or that is taken back.
    Drain {
        on: bool,
    },
    Reboot {
        down: u64,
    },
    DiskFull {
        lasts: u64,
    },
    /// The sandbox of the nth replica that has one is gone.
    SandboxLost {
        nth: u64,
    },
    /// The wall clock is set, milliseconds.
    ClockSet {
        by: i64,
    },
    /// Somebody kills the init of the nth container.
    KillInit {
        nth: u64,
        oom: bool,
    },
}

/// Kinds of programs, by the name of the bundle.
pub const STEADY: &str = "steady";
pub const CRASHER: &str = "crasher";
pub const FLAKY: &str = "flaky";
pub const JOB: &str = "job";
pub const STUBBORN: &str = "stubborn";
pub const UNSTARTABLE: &str = "unstartable";
pub const SLOW: &str = "slow";

pub const NAMES: [&str; 3] = ["web", "db", "batch"];

impl Plan {
    pub fn new(seed: u64) -> Plan {
        let mut rng = Rng::of(seed, 1);
        let until = rng.pick(&[3_000, 20_000, 120_000, 700_000]);
        let names = rng.between(1, NAMES.len() as u64);
        let mut entries = Vec::new();
        for name in 0..names as usize {
            entries.push(Entry { at: rng.below(100), what: apply(&mut rng, name) });
        }
        for _ in 0..rng.below(8) {
            let name = rng.below(names) as usize;
            entries.push(Entry { at: rng.below(until), what: request(&mut rng, name) });
        }
        // Each seed has its own small set of faults: some bugs hide behind others.
        let kinds: Vec<u64> = (0..8).filter(|_| rng.percent(40)).collect();
        if !kinds.is_empty() {
            for _ in 0..rng.below(8) {
                let kind = rng.pick(&kinds);
                entries.push(Entry { at: rng.below(until), what: fault(&mut rng, kind) });
            }
        }
        // By numbers of their own: the rest of a seed stays as it is.
        let mut own = Rng::of(seed, 2);
        for entry in &mut entries {
            if let What::Apply { name, file, replicas, template, controller, .. } = &mut entry.what {
                *file = own.percent(40).then(|| own.below(1_000_000));
                if jobs::is_job(seed, *name) {
                    **controller = jobs::make(&mut own, replicas, template);
                    if crons::is_cron(seed, *name) {
                        crons::make(&mut own, replicas, controller);
                    }
                }
            }
        }
        let mut own = Rng::of(seed, 4);
        if own.percent(30) {
            for _ in 0..own.between(1, 3) {
                let by = own.pick(&[-7_200_000, -70_000, -500, 500, 70_000, 7_200_000, 40_000_000_000]);
                entries.push(Entry { at: own.below(until), what: What::ClockSet { by } });
            }
        }
        let mut own = Rng::of(seed, 3);
        for entry in &mut entries {
            if let What::Apply { name: name @ 1.., depends_on, .. } = &mut entry.what
                && own.percent(30)
            {
                depends_on.push(Dependency {
                    workload: NAMES[own.below(*name as u64) as usize].to_owned(),
                    condition: own.pick(&[Condition::Started, Condition::Ready, Condition::Completed]),
                    optional: own.percent(30),
                });
            }
        }
        entries.sort_by_key(|e| e.at);
        Plan { seed, entries, until, slow_disk: rng.percent(30) }
    }

    /// The same run with some of its entries only.
    pub fn keeping(&self, kept: &[usize]) -> Plan {
        let entries = kept.iter().filter_map(|n| self.entries.get(*n).cloned()).collect();
        Plan { entries, ..self.clone() }
    }
}

fn apply(rng: &mut Rng, name: usize) -> What {
    What::Apply {
        name,
        replicas: rng.pick(&[0, 1, 1, 2, 3, 4]) as u32,
        strategy: strategy(rng),
        template: Box::new(template(rng)),
        controller: Box::default(),
        file: None,
        depends_on: Vec::new(),
    }
}

fn request(rng: &mut Rng, name: usize) -> What {
    match rng.below(16) {
        0..=3 => apply(rng, name),
        4..=6 => What::Scale { name, replicas: rng.below(6) as u32 },
        7 => What::Restart { name, slot: None },
        8 => What::Restart { name, slot: Some(rng.below(4) as u32) },
        9 | 10 => What::Pause { name, paused: rng.percent(60) },
        11 => What::Stop { name, stopped: rng.percent(60) },
        12 | 13 => What::Undo { name, to: rng.pick(&[None, None, Some(1), Some(2), Some(3)]) },
        _ => What::Delete {
            name,
            grace: rng.pick(&[None, None, Some(0), Some(300), Some(5_000), Some(60_000)]),
        },
    }
}

fn fault(rng: &mut Rng, kind: u64) -> What {
    match kind {
        0 | 1 => What::Crash {
            after_calls: rng.pick(&[0, 1, 2, 3, 4, 5, 8, 13, 21, 34]),
            down: rng.pick(&[0, 1, 50, 1_000, 20_000]),
        },
        2 => What::KeeperDies,
        3 => What::Reboot { down: rng.between(100, 10_000) },
        4 => What::DiskFull { lasts: rng.between(1, 10_000) },
        5 => What::Drain { on: rng.percent(60) },
        6 => What::SandboxLost { nth: rng.below(16) },
        _ => What::KillInit { nth: rng.below(16), oom: rng.percent(30) },
    }
}

fn strategy(rng: &mut Rng) -> Strategy {
    let number = |n| IntOrPercent::Int(n);
    Strategy {
        recreate: rng.percent(10),
        max_surge: rng.pick(&[number(0), number(0), number(1), number(2), IntOrPercent::Percent(25)]),
        max_unavailable: rng.pick(&[number(1), number(1), number(0), number(2), IntOrPercent::Percent(50)]),
        min_ready: rng.pick(&[Some(Millis(0)), Some(Millis(0)), None, Some(Millis(1_500))]),
        progress_deadline: rng.pick(&[None, Some(Millis::secs(5)), Some(Millis::secs(600))]),
        on_failure: rng.pick(&[FailureAction::None, FailureAction::Pause, FailureAction::Rollback]),
        max_failures: rng.pick(&[number(0), number(0), number(0), number(1), IntOrPercent::Percent(50)]),
        back: rng.percent(30).then(|| Back {
            max_surge: rng.pick(&[number(0), number(1)]),
            max_unavailable: rng.pick(&[number(0), number(1), IntOrPercent::Percent(50)]),
            min_ready: rng.pick(&[Some(Millis(0)), None]),
            on_failure: rng.pick(&[FailureAction::None, FailureAction::Pause]),
            max_failures: rng.pick(&[number(0), number(1)]),
        }),
        history_limit: rng.pick(&[None, None, Some(0), Some(1)]),
    }
}

/// One of few, so that workloads publish the same.
fn port(rng: &mut Rng) -> PublishedPort {
    let port = rng.pick(&[80, 81, 443]);
    PublishedPort { host: HostPort { port, ..HostPort::default() }, port: 8080 }
}

fn template(rng: &mut Rng) -> PodTemplate {
    let kinds = [STEADY, STEADY, STEADY, CRASHER, FLAKY, JOB, STUBBORN, UNSTARTABLE, SLOW];
    let first = rng.pick(&[0, 0, 1, 2]);
    let first: Vec<Role> = (0..first).map(|_| rng.pick(&[Role::Init, Role::Init, Role::Sidecar])).collect();
    let count = first.len() + rng.pick(&[1, 1, 1, 2]);
    let role = |n: usize| first.get(n).copied().unwrap_or_default();
    let containers = (0..count).map(|n| ContainerSpec {
        name: format!("c{n}"),
        role: role(n),
        launch: ContainerSource {
            bundle: if role(n) == Role::Init { rng.pick(&[JOB, JOB, CRASHER]) } else { rng.pick(&kinds) }
                .to_owned(),
            ..ContainerSource::default()
        },
        stop_signal: rng.pick(&[libc::SIGTERM, libc::SIGINT]),
        post_start: rng.percent(10).then(|| hook(rng)),
        pre_stop: rng.percent(30).then(|| hook(rng)),
        probes: (rng.percent(20) && role(n) != Role::Init).then(|| Box::new(probes(rng))),
        ..ContainerSpec::default()
    });
    let containers = containers.collect();
    let kubelet = Backoff {
        initial: Millis::secs(10),
        max: Millis::secs(300),
        reset: Millis::secs(600),
        jitter_percent: 0,
        clean: None,
        ..Backoff::default()
    };
    PodTemplate {
        containers,
        restart_policy: rng.pick(&[
            RestartPolicy::Always,
            RestartPolicy::Always,
            RestartPolicy::Always,
            RestartPolicy::OnFailure,
            RestartPolicy::Never,
        ]),
        backoff: if rng.percent(15) { kubelet } else { Backoff::default() },
        restart_limit: rng
            .percent(10)
            .then(|| RestartLimit { count: rng.between(1, 4) as u32, window: Some(Millis::secs(20)) }),
        grace: Millis(rng.pick(&[0, 200, 1_000, 5_000, 30_000])),
        active_deadline: None,
        spare: rng.percent(15),
        sandbox: rng.percent(50).then(SandboxSpec::default),
        ports: if rng.percent(40) { vec![port(rng)] } else { Vec::new() },
        ..PodTemplate::default()
    }
}

fn hook(rng: &mut Rng) -> Handler {
    match rng.below(4) {
        0 => Handler::Sleep(Millis(rng.pick(&[0, 500, 4_000]))),
        _ => Handler::Exec(vec!["drain".to_owned()]),
    }
}

pub fn probes(rng: &mut Rng) -> Probes {
    Probes {
        startup: rng.percent(40).then(|| health::random(rng, false)),
        readiness: rng.percent(70).then(|| health::random(rng, true)),
        liveness: rng.percent(50).then(|| health::random(rng, false)),
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>7} ms  ", self.at)?;
        match &self.what {
            What::Apply { name, replicas, strategy, template, controller, file: _, depends_on } => {
                write!(f, "apply {} x{replicas} {:?}", NAMES[*name], template.restart_policy)?;
                write!(f, " grace {} spare {}", template.grace, template.spare)?;
                write!(f, "{}", if template.sandbox.is_some() { " sandbox" } else { "" })?;
                write!(f, " surge {} unavailable {}", strategy.max_surge, strategy.max_unavailable)?;
                if let Some(job) = &controller.job {
                    write!(f, " {job:?}")?;
                }
                if let Some(cron) = &controller.cron {
                    write!(f, " {cron:?}")?;
                }
                let recreate = if strategy.recreate { " recreate" } else { "" };
                write!(f, "{recreate} ready {:?} {:?}", strategy.min_ready, strategy.on_failure)?;
                for d in depends_on {
                    write!(f, " after {} {}", d.workload, d.condition)?;
                }
                for c in &template.containers {
                    write!(
                        f,
                        " [{:?} {}{}{}{}]",
                        c.role,
                        c.launch.bundle,
                        if c.post_start.is_some() { " postStart" } else { "" },
                        if c.pre_stop.is_some() { " preStop" } else { "" },
                        if c.probes.is_some() { " probes" } else { "" }
                    )?;
                }
                Ok(())
            }
            What::Scale { name, replicas } => write!(f, "scale {}={replicas}", NAMES[*name]),
            What::Restart { name, slot } => write!(f, "restart {} {slot:?}", NAMES[*name]),
            What::Delete { name, grace } => write!(f, "delete {} grace {grace:?}", NAMES[*name]),
            other => write!(f, "{other:?}"),
        }
    }
}
