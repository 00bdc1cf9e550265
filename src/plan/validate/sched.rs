//! `process.scheduler` and `process.ioPriority` (config.md, "Linux Process"; sched_setattr(2), ioprio_set(2)).

use super::{At, Findings};
use crate::config::spec::{IoPriority, Scheduler};
use crate::plan::tables::sched;

pub fn scheduler(s: &Scheduler, at: At, f: &mut Findings) {
    policy(s, at, f);
    flags(s, at, f);
    nice(s, at, f);
    priority(s, at, f);
    deadline(s, at, f);
}

/// The policy is required and of the known set.
fn policy(s: &Scheduler, at: At, f: &mut Findings) {
    let at = || at.path_of("scheduler.policy");
    match sched::policy(&s.policy) {
        None if s.policy.is_empty() => f.violation(at(), "scheduler policy is required"),
        None => f.hinted(
            at(),
            format!("invalid scheduler policy: {:?}", s.policy),
            format!("one of {}", sched::policies().collect::<Vec<_>>().join(", ")),
        ),
        Some(sched::SCHED_ISO) => f.violation(at(), "no Linux kernel implements SCHED_ISO"),
        Some(_) => {}
    }
}

fn flags(s: &Scheduler, at: At, f: &mut Findings) {
    for (i, flag) in s.flags.iter().enumerate() {
        if sched::flag(flag).is_none() {
            f.hinted(
                at.path_of(&format!("scheduler.flags[{i}]")),
                format!("invalid scheduler flag: {flag:?}"),
                format!("one of {}", sched::flags().collect::<Vec<_>>().join(", ")),
            );
        }
    }
}

/// sched(7): -20 to 19, for the policies that share the CPU by it.
fn nice(s: &Scheduler, at: At, f: &mut Findings) {
    let fair = matches!(s.policy.as_str(), "SCHED_OTHER" | "SCHED_BATCH" | "SCHED_IDLE");
    if fair && !(-20..=19).contains(&s.nice) {
        f.violation(
            at.path_of("scheduler.nice"),
            format!("invalid scheduler.nice: {} when scheduler.policy is {}", s.nice, s.policy),
        );
    }
}

/// sched(7): real-time policies have a priority of 1 to 99, the others none.
fn priority(s: &Scheduler, at: At, f: &mut Findings) {
    let real_time = matches!(s.policy.as_str(), "SCHED_FIFO" | "SCHED_RR");
    if real_time && !(1..=99).contains(&s.priority) {
        f.violation(
            at.path_of("scheduler.priority"),
            format!("{} is not in the range 1 to 99 of {}", s.priority, s.policy),
        );
    } else if !real_time && s.priority != 0 {
        f.violation(
            at.path_of("scheduler.priority"),
            "scheduler.priority can only be specified for SchedFIFO or SchedRR policy",
        );
    }
}

/// sched(7), SCHED_DEADLINE: 1024 ns <= runtime <= deadline <= period, where a period of 0 is the deadline.
fn deadline(s: &Scheduler, at: At, f: &mut Findings) {
    if s.policy != "SCHED_DEADLINE" {
        if (s.runtime, s.deadline, s.period) != (0, 0, 0) {
            f.violation(
                at.path_of("scheduler"),
                "scheduler runtime/deadline/period can only be specified for SchedDeadline policy",
            );
        }
        return;
    }
    let period = if s.period == 0 { s.deadline } else { s.period };
    if s.runtime < 1024 || s.runtime > s.deadline || s.deadline > period || period >> 63 != 0 {
        f.violation(
            at.path_of("scheduler"),
            format!(
                "SCHED_DEADLINE requires 1024 <= runtime <= deadline <= period (nanoseconds), got {}, {}, {}",
                s.runtime, s.deadline, s.period
            ),
        );
    }
}

/// `process.ioPriority`: a known class and a priority of 0 to 7.
pub fn io_priority(io: &IoPriority, at: At, f: &mut Findings) {
    if sched::io_class(&io.class).is_none() {
        f.hinted(
            at.path_of("ioPriority.class"),
            format!("invalid ioPriority.Class: {:?}", io.class),
            format!("one of {}", sched::io_classes().collect::<Vec<_>>().join(", ")),
        );
    }
    if !(0..=7).contains(&io.priority) {
        f.violation(
            at.path_of("ioPriority.priority"),
            format!("invalid ioPriority.Priority: {}, not in the range 0 to 7", io.priority),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use serde_json::{Value, json};

    fn with(scheduler: Value) -> impl FnOnce(&mut Value) {
        move |v| v["process"]["scheduler"] = scheduler
    }

    #[test]
    fn policies_and_flags() {
        for p in ["SCHED_OTHER", "SCHED_BATCH", "SCHED_IDLE"] {
            passes(with(json!({"policy": p, "flags": ["SCHED_FLAG_RESET_ON_FORK"]})));
        }
        breaks("process.scheduler.policy: scheduler policy is required", with(json!({})));
        breaks(
            "process.scheduler.policy: invalid scheduler policy: \"FIFO\" (hint: one of SCHED_",
            with(json!({"policy": "FIFO"})),
        );
        breaks("process.scheduler.policy: no Linux kernel implements", with(json!({"policy": "SCHED_ISO"})));
        breaks(
            "process.scheduler.flags[1]: invalid scheduler flag: \"X\"",
            with(json!({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_RECLAIM", "X"]})),
        );
    }

    #[test]
    fn nice_values_and_priorities() {
        passes(with(json!({"policy": "SCHED_BATCH", "nice": -20})));
        passes(with(json!({"policy": "SCHED_FIFO", "priority": 99})));
        breaks(
            "process.scheduler.nice: invalid scheduler.nice: 20 when scheduler.policy is SCHED_OTHER",
            with(json!({"policy": "SCHED_OTHER", "nice": 20})),
        );
        breaks(
            "process.scheduler.priority: scheduler.priority can only be specified for SchedFIFO or SchedRR",
            with(json!({"policy": "SCHED_IDLE", "priority": 1})),
        );
        for priority in [0, 100, -1] {
            breaks("process.scheduler.priority: ", with(json!({"policy": "SCHED_RR", "priority": priority})));
        }
    }

    #[test]
    fn deadlines() {
        let d = |runtime: u64, deadline: u64, period: u64| {
            with(
                json!({"policy": "SCHED_DEADLINE", "runtime": runtime, "deadline": deadline, "period": period}),
            )
        };
        passes(d(1024, 1024, 0));
        passes(d(10_000_000, 20_000_000, 30_000_000));
        for (r, dl, p) in
            [(1023, 2000, 0), (3000, 2000, 0), (1024, 3000, 2000), (0, 0, 0), (1024, 2048, 1 << 63)]
        {
            breaks("process.scheduler: SCHED_DEADLINE requires", d(r, dl, p));
        }
        breaks(
            "process.scheduler: scheduler runtime/deadline/period can only be specified for SchedDeadline",
            with(json!({"policy": "SCHED_OTHER", "period": 1})),
        );
    }

    #[test]
    fn io_priorities() {
        let io = |class: &str, priority: i32| {
            let value = json!({"class": class, "priority": priority});
            move |v: &mut Value| v["process"]["ioPriority"] = value
        };
        for class in ["IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"] {
            passes(io(class, 7));
        }
        breaks("process.ioPriority.class: invalid ioPriority.Class: \"NONE\"", io("NONE", 0));
        breaks("process.ioPriority.priority: invalid ioPriority.Priority: 8", io("IOPRIO_CLASS_BE", 8));
        breaks("process.ioPriority.priority: invalid ioPriority.Priority: -1", io("IOPRIO_CLASS_BE", -1));
    }
}
