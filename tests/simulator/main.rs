//! The supervisor's core in a simulated world: thousands of runs, each from one seed, with requests, programs that
//! misbehave, crashes of the supervisor between any two of its calls, reboots, a dead keeper, a full disk and flipped bits.
//!
//! What is checked (`oracle.rs`, `decisions.rs`, `chain.rs`, `run.rs`):
//!
//! * P1 without further faults the world reaches the desired state; P2 rollouts keep to surge and unavailability; P3 one
//!   live instance per slot and container; P4 no action on what is not there, no name twice; P5 SIGKILL never before the
//!   deadline and always soon after it; P6 deadlines only decrease; P7 preStop at most once; P9 delays of restarts; P10
//!   decisions are deterministic and complete; P11 replaying the journals gives the state; P12 nothing exists without a
//!   record; P13 nothing is done for what was removed; P14 replicas of the desired revision are kept; P17 no busy loop; P18
//!   nothing is left over; P23 a rollout that is called complete is so, and Recreate starts nothing before all that is old
//!   is gone; P24 a failed rollout goes back at most once, to a revision that worked; P25 while it is paused no replica
//!   changes its revision; P26 while the host is drained everything is stopped with its grace, nothing is started, and the
//!   desired state stays as it is; P21 init containers run one after another, before the others, once in a sandbox; P22
//!   sidecars start before the main containers and stop after them; P19 nobody is asked to end while
//!   the proxy leads connections there, for a second at most; P20 a map of ports has every port that shall be
//!   open, each with all replicas that are ready and no other; P28 of each file all is applied or nothing; P32 a job runs nothing again
//!   that has succeeded, nothing after its end, and no more at a time than it may; P30 containers are made in a whole sandbox only, which
//!   is removed after the last of them; P31 probes are asked for in their time, a verdict follows from as many results in a
//!   row as the probe demands, and a container is stopped for its health once, when it has failed so often; P33 no replica is
//!   made before what its workload depends on is as far as it must be; P27 a scheduled time of a CronJob has at most one job, which is
//!   made when the time has come, however the wall clock is set.
//!
//! `ORUN_SIM_SEEDS=N` sets how many seeds run, `ORUN_SIM_SEED=N` runs one and prints what happened in it,
//! `ORUN_SIM_KEEP=1,4` only those entries of its plan.

mod chain;
mod crons;
mod decisions;
mod depends;
mod disk;
mod health;
mod jobs;
mod mutants;
mod numbers;
mod oracle;
mod order;
mod plan;
mod process;
mod proxy;
mod rng;
mod run;
mod sandbox;
mod world;

use mutants::Mutant;
use plan::Plan;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Seeds when nothing is said: enough to notice most mistakes. CI runs more.
const SEEDS: u64 = 2_000;
/// Seeds within which a broken rule must be noticed.
const MUTANT_SEEDS: u64 = 3_000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn attempt(plan: &Plan, mutant: Option<Mutant>) -> Result<(), String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| run::run(plan, mutant, false)));
    match outcome {
        Ok(result) => result.map_err(|(what, _)| what),
        Err(_) => Err("panicked".to_owned()),
    }
}

/// The indices of fewer entries with which the plan still fails.
fn shrink(plan: &Plan, mutant: Option<Mutant>) -> Vec<usize> {
    let mut kept: Vec<usize> = (0..plan.entries.len()).collect();
    let mut n = 0;
    while n < kept.len() {
        let mut fewer = kept.clone();
        fewer.remove(n);
        if attempt(&plan.keeping(&fewer), mutant).is_err() {
            kept = fewer;
            n = 0;
        } else {
            n += 1;
        }
    }
    kept
}

/// A seed that breaks a rule, by as many threads as there are processors.
fn first_failure(seeds: u64, mutant: Option<Mutant>, rule: &str) -> Option<(u64, String)> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let found = std::sync::Mutex::new(None);
    std::thread::scope(|scope| {
        for first in 0..threads {
            let found = &found;
            scope.spawn(move || search(first, seeds, threads, mutant, rule, found));
        }
    });
    found.into_inner().ok().flatten()
}

type Found = std::sync::Mutex<Option<(u64, String)>>;

/// Every `step`th seed from `first` on, until somebody found one.
fn search(first: u64, seeds: u64, step: u64, mutant: Option<Mutant>, rule: &str, found: &Found) {
    for seed in (first..seeds).step_by(step as usize) {
        let done = found.lock().is_ok_and(|f| f.is_some());
        if done {
            return;
        }
        let Err(what) = attempt(&Plan::new(seed), mutant) else { continue };
        if let (true, Ok(mut found)) = (what.starts_with(rule), found.lock()) {
            found.get_or_insert((seed, what));
        }
    }
}

#[test]
fn every_seed_keeps_the_rules() {
    if number("ORUN_SIM_SEED").is_some() {
        return;
    }
    let Some((seed, what)) = first_failure(number("ORUN_SIM_SEEDS").unwrap_or(SEEDS), None, "") else {
        return;
    };
    let plan = Plan::new(seed);
    let kept = shrink(&plan, None);
    let list: Vec<String> = kept.iter().map(usize::to_string).collect();
    let entries: String = plan.keeping(&kept).entries.iter().map(|e| format!("  {e}\n")).collect();
    panic!(
        "seed {seed}: {what}\nORUN_SIM_SEED={seed} ORUN_SIM_KEEP={} cargo test -p orun --test simulator one_seed -- --nocapture\n{entries}",
        list.join(",")
    );
}

#[test]
fn one_seed() {
    let Some(seed) = number("ORUN_SIM_SEED") else { return };
    let mut plan = Plan::new(seed);
    if let Ok(list) = std::env::var("ORUN_SIM_KEEP") {
        let kept: Vec<usize> = list.split(',').filter_map(|n| n.parse().ok()).collect();
        plan = plan.keeping(&kept);
    }
    for entry in &plan.entries {
        println!("{entry}");
    }
    if let Err((what, trace)) = run::run(&plan, None, true) {
        println!("{}", trace.join("\n"));
        panic!("{what}");
    }
}

#[test]
fn broken_rules_are_noticed() {
    let seeds = number("ORUN_SIM_SEEDS").unwrap_or(SEEDS).max(MUTANT_SEEDS);
    let unnoticed: Vec<Mutant> =
        mutants::ALL.into_iter().filter(|m| first_failure(seeds, Some(*m), m.rule()).is_none()).collect();
    assert!(unnoticed.is_empty(), "not noticed in {seeds} seeds: {unnoticed:?}");
}
