//! Kept objects, and files as one change.

use super::*;
use crate::workload::kept::KeptObject;
use crate::workload::{Object, read};

pub fn config_map(name: &str, value: &str, more: &str) -> Box<KeptObject> {
    let text =
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{k: {value}}}\n{more}");
    let Object::Kept(object) = read("f", &text, None).objects.remove(0) else { panic!("{text}") };
    Box::new(object)
}

pub fn keep(object: Box<KeptObject>) -> Change {
    Change::Keep { object, stamp: Stamp::default() }
}

#[test]
fn a_file_is_applied_as_a_whole_or_not_at_all() {
    let mut b = Bench::new();
    b.change(keep(config_map("fixed", "a", "immutable: true\n")));
    let before = b.desired.clone();
    let good = || vec![apply(1, template(), one_by_one()), keep(config_map("c", "v", ""))];
    let empty = Template { containers: Vec::new(), ..template() };
    for bad in [
        keep(config_map("fixed", "b", "immutable: true\n")),
        apply(1, empty, one_by_one()),
        Change::Discard { kind: KeptKind::Secret, name: "none".to_owned() },
        Change::All { changes: Vec::new() },
    ] {
        let mut changes = good();
        changes.push(bad);
        let all = Change::All { changes };
        assert!(b.desired.apply(&all, b.now, &b.config).is_err(), "{all:?}");
        assert_eq!(b.desired, before, "{all:?}");
    }
    // The second one is refused only when the first has been applied.
    let twice = Change::Discard { kind: KeptKind::ConfigMap, name: "fixed".to_owned() };
    let all = Change::All { changes: vec![twice.clone(), twice] };
    assert_eq!(b.desired.apply(&all, b.now, &b.config), Err(Refusal::NotFound));
    assert_eq!(b.desired, before);
    b.change(Change::All { changes: good() });
    assert_eq!((b.desired.workloads.len(), b.desired.objects.iter().count()), (1, 2));
}

#[test]
fn an_immutable_object_keeps_what_it_holds() {
    let mut b = Bench::new();
    b.change(keep(config_map("c", "a", "")));
    b.change(keep(config_map("c", "b", "immutable: true\n")));
    let refused = |b: &Bench, object| b.desired.check(&keep(object), &b.config);
    let expected = Err(Refusal::Immutable { what: "ConfigMap \"c\"".to_owned() });
    assert_eq!(refused(&b, config_map("c", "c", "immutable: true\n")), expected);
    assert_eq!(refused(&b, config_map("c", "b", "")), expected, "nor does it become mutable again");
    let labelled = "immutable: true\n";
    assert_eq!(refused(&b, config_map("c", "b", labelled)), Ok(()));
    let entry = |b: &Bench| b.desired.objects.get(KeptKind::ConfigMap, "c").map(|e| (e.uid, e.generation));
    assert_eq!(entry(&b), Some((1, 2)));
    b.change(Change::Discard { kind: KeptKind::ConfigMap, name: "c".to_owned() });
    b.change(keep(config_map("c", "d", "")));
    assert_eq!(entry(&b), Some((2, 1)), "a new one");
}
