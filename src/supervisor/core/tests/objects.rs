//! Kept objects, and files as one change.

use super::*;
use crate::supervisor::core::controller::{Controller, Job};
use crate::supervisor::core::spec::Pinned;
use crate::workload::inputs::Input;
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
    let empty = PodTemplate { containers: Vec::new(), ..template() };
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

/// A template that is made from `key k` of ConfigMap `c`.
fn from_config(optional: bool) -> PodTemplate {
    let keys = if optional { Vec::new() } else { vec!["k".to_owned()] };
    let input = Input { kind: KeptKind::ConfigMap, name: "c".to_owned(), optional, keys };
    PodTemplate { inputs: vec![Pinned { input, digest: None, lack: None }], ..template() }
}

fn shown(b: &Bench) -> status::WorkloadStatus {
    status::workload(&b.desired.workloads[&WEB], b.observed.workloads.get(&WEB), b.now)
}

/// The inputs of the revision of that number.
fn holds(b: &Bench, revision: u32) -> Option<Vec<u8>> {
    let template = &b.desired.workloads[&WEB].revisions[&Revision(revision)];
    b.desired.objects.inputs_of(template).remove(&(false, "c".to_owned()))?.remove("k")
}

#[test]
fn a_missing_config_map_is_waited_for() {
    let mut b = Bench::new();
    b.change(apply(1, from_config(false), one_by_one()));
    b.run_all();
    let trouble = |b: &Bench| shown(b).trouble.map(|t| t.to_string());
    let expected = "CreateContainerConfigError: configmap \"c\" not found";
    assert_eq!(trouble(&b).as_deref(), Some(expected));
    assert_eq!(shown(&b).ready, 0);
    // As soon as it exists, the same replica of the same revision starts.
    b.change(keep(config_map("c", "v", "")));
    b.run_all();
    assert_eq!((trouble(&b), shown(&b).ready), (None, 1));
    assert_eq!(b.desired.workloads[&WEB].revision, Revision(1));
    assert_eq!(holds(&b, 1).as_deref(), Some(&b"v"[..]));
    // One that is optional is not.
    let mut b = Bench::new();
    b.change(apply(1, from_config(true), one_by_one()));
    b.run_all();
    assert_eq!((trouble(&b), shown(&b).ready), (None, 1));
    b.change(keep(config_map("c", "v", "")));
    assert_eq!(b.desired.workloads[&WEB].revision, Revision(2), "now it is made from something");
}

#[test]
fn a_missing_key_is_waited_for() {
    let lacking = |controller: Controller| {
        let Change::Apply { name, replicas, strategy, paused, template, source, stamp, .. } =
            apply(1, from_config(false), one_by_one())
        else {
            unreachable!()
        };
        let mut b = Bench::new();
        let mut empty = config_map("c", "v", "");
        empty.fields.remove("data");
        b.change(keep(empty));
        b.change(Change::Apply { name, replicas, strategy, controller, paused, template, source, stamp });
        b.run_all();
        let trouble = shown(&b).trouble.map(|t| t.to_string());
        let expected = "CreateContainerConfigError: couldn't find key k in ConfigMap default/c";
        assert_eq!((trouble.as_deref(), shown(&b).ready), (Some(expected), 0));
        b
    };
    let job = Some(Box::new(Job { parallelism: 1, ..Job::default() }));
    for controller in [
        Controller::default(),
        Controller { job, ..Controller::default() },
        Controller { stateful: true, partition: 1, ..Controller::default() },
        Controller { stateful: true, on_delete: true, ..Controller::default() },
    ] {
        let mut b = lacking(controller.clone());
        b.change(keep(config_map("c", "v", "")));
        b.run_all();
        assert_eq!((shown(&b).ready, b.desired.workloads[&WEB].revision), (1, Revision(1)), "{controller:?}");
        assert_eq!(holds(&b, 1).as_deref(), Some(&b"v"[..]));
    }
}

#[test]
fn changed_content_is_a_new_revision_and_the_old_one_keeps_its_own() {
    let mut b = Bench::new();
    let file = |value: &str| Change::All {
        // The order of a file does not matter.
        changes: vec![apply(1, from_config(false), one_by_one()), keep(config_map("c", value, ""))],
    };
    b.change(file("v1"));
    b.run_all();
    let revision = |b: &Bench| b.desired.workloads[&WEB].revision.0;
    assert_eq!((revision(&b), shown(&b).ready), (1, 1));
    b.change(file("v1"));
    b.change(keep(config_map("c", "v1", "")));
    b.change(keep(config_map("other", "x", "")));
    assert_eq!(revision(&b), 1, "nothing that it is made from has changed");
    b.change(keep(config_map("c", "v2", "")));
    let w = &b.desired.workloads[&WEB];
    assert_eq!((w.revision.0, w.kept(w.revision).stamp.cause.as_str()), (2, "ConfigMap c changed"));
    assert_eq!((holds(&b, 1).as_deref(), holds(&b, 2).as_deref()), (Some(&b"v1"[..]), Some(&b"v2"[..])));
    b.change(Change::Undo { workload: WEB, to: None, stamp: Stamp::default() });
    assert_eq!((revision(&b), holds(&b, 1).as_deref()), (1, Some(&b"v1"[..])), "back to what it held");
    b.change(Change::Discard { kind: KeptKind::ConfigMap, name: "c".to_owned() });
    assert_eq!(holds(&b, 1).as_deref(), Some(&b"v1"[..]), "running containers may restart");
    // It is remembered as long as a revision is made from it.
    let text = |b: &Bench| serde_json::to_string(&b.desired).unwrap();
    assert!(text(&b).contains("\"v2\""));
    b.change(Change::Pruned { workload: WEB, revision: Revision(2) });
    assert!(!text(&b).contains("\"v2\"") && text(&b).contains("\"v1\""));
}
