//! Numbers that hold for all workloads.

use super::time::{Millis, Time};

/// Numbers that hold for all workloads.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Seed of the jitter of delays, together with the instance's identity.
    pub seed: u64,
    /// Starts per second that are allowed in the long run, and at once. See [`Config::for_cpus`].
    pub start_rate: u32,
    /// Starts that may come at once, before the rate applies.
    pub start_burst: u32,
    /// The part of the grace period that is reserved for the program, between its stop signal and SIGKILL, if its preStop runs
    /// long.
    pub stop_floor: Millis,
    /// How long a killed cgroup may take to become empty before it is killed again and reported.
    pub kill_retry: Millis,
    /// How long after a failed removal it is tried again.
    pub remove_retry: Millis,
    /// No container is started sooner after its last start.
    pub min_start_interval: Millis,
    /// How many templates are kept that no replica has.
    pub revision_history: usize,
    /// Replicas of one workload at most.
    pub max_replicas: u32,
    /// Milliseconds from 1970 to this boot, by the wall clock when the supervisor started.
    pub booted: i64,
}

impl Config {
    /// Starts as a host with so many processors can make them: more than it manages in a second, so that the limit slows
    /// nobody who does not start in a loop, and of those that are due at once as many as keep it busy, so that the
    /// first run while the last are still being made.
    #[must_use]
    pub fn for_cpus(self, cpus: u32) -> Config {
        let cpus = cpus.clamp(1, 64);
        Config { start_rate: 500 * cpus, start_burst: 100 * cpus, ..self }
    }
}

impl Config {
    /// The wall clock at `at`, milliseconds since 1970.
    #[must_use]
    pub fn wall(&self, at: Time) -> i64 {
        self.booted.saturating_add_unsigned(at.0)
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            seed: 0,
            start_rate: 200,
            start_burst: 200,
            stop_floor: Millis::secs(2),
            kill_retry: Millis::secs(5),
            remove_retry: Millis::secs(5),
            min_start_interval: Millis(100),
            revision_history: 10,
            max_replicas: 10_000,
            booted: 0,
        }
    }
}
