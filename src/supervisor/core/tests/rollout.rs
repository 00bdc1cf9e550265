//! Replicas that may fail, and the way back.

use super::*;
use crate::supervisor::core::spec::{Back, FailureAction};

/// Three failures in a row of the container that runs in `slot`.
fn fails(b: &mut Bench, slot: u32) {
    for _ in 0..status::FAILING {
        b.pass(60_000);
        b.run_all();
        let live =
            b.observed.instances().find(|(k, i)| k.slot == slot && i.exit.is_none() && i.stop.is_none());
        let key = live.map(|(k, _)| k).unwrap();
        b.dies(key, 3 << 8);
    }
}

#[test]
fn a_rollout_goes_on_without_as_many_as_may_fail() {
    let strategy = Strategy {
        max_failures: IntOrPercent::Percent(25),
        on_failure: FailureAction::Pause,
        min_ready: Some(Millis::secs(5)),
        ..one_by_one()
    };
    let mut b = Bench::running(4, template(), strategy);
    b.pass(5_000);
    b.change(apply(4, changed(), strategy));
    let end = |b: &mut Bench, slot: u32| {
        let old =
            b.observed.instances().find(|(k, i)| k.slot == slot && i.stop.is_some() && i.exit.is_none());
        let key = old.map(|(k, _)| k).unwrap_or_else(|| panic!("slot {slot} is not stopped"));
        b.dies(key, 0);
    };
    end(&mut b, 0);
    fails(&mut b, 0);
    // The next one all the same, which works.
    end(&mut b, 1);
    b.run_all();
    b.pass(5_000);
    assert!(!b.desired.workloads[&WEB].paused);
    // The second failure is one too many.
    end(&mut b, 2);
    fails(&mut b, 2);
    let w = &b.desired.workloads[&WEB];
    assert!(w.paused && w.kept(w.revision).failed.is_some(), "{w:#?}");
    assert!(b.observed.instances().all(|(k, i)| k.slot != 3 || i.stop.is_none()));
}

#[test]
fn the_way_back_has_numbers_of_its_own() {
    let back = Back {
        max_surge: IntOrPercent::Int(0),
        max_unavailable: IntOrPercent::Percent(100),
        min_ready: Some(Millis(0)),
        on_failure: FailureAction::Pause,
        max_failures: IntOrPercent::Int(0),
    };
    let strategy = Strategy { back: Some(back), ..one_by_one() };
    let stopping =
        |b: &Bench| b.observed.instances().filter(|(_, i)| i.stop.is_some() && i.exit.is_none()).count();
    let mut b = Bench::running(3, template(), strategy);
    b.change(restart(None));
    assert_eq!(stopping(&b), 1, "forward one by one");
    for slot in 0..3 {
        let old = b.observed.instances().find(|(k, i)| k.slot == slot && i.stop.is_some()).map(|(k, _)| k);
        b.dies(old.unwrap(), 0);
        b.run_all();
    }
    b.change(Change::Undo { workload: WEB, to: None, stamp: Stamp::default() });
    assert_eq!(stopping(&b), 3, "back all together");
    assert!(b.desired.workloads[&WEB].strategy() == strategy.backwards());
    b.change(restart(None));
    assert!(b.desired.workloads[&WEB].strategy() == strategy, "forward again");
}
