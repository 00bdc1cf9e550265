//! The rules of the order, for changed configurations of all kinds.

use crate::{bundles, hosts, plan};
use orun::plan::compile::{Options, Plan};
use orun::plan::facts::HostFacts;
use orun::plan::op::{IsolateOp, MountSource, Op, Point, ProgramOp, RootOp};
use orun::plan::tables::namespaces::NamespaceKind;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Positions of the operations that `which` chooses.
fn at(plan: &Plan, which: impl Fn(&Op) -> bool) -> Vec<usize> {
    let all = plan.steps.ops.iter().enumerate();
    all.filter(|(_, op)| which(op)).map(|(i, _)| i).collect()
}

/// Every operation of the first kind comes before every one of the second.
fn before(plan: &Plan, rule: &str, first: impl Fn(&Op) -> bool, second: impl Fn(&Op) -> bool) {
    if let (Some(last), Some(next)) = (at(plan, first).last(), at(plan, second).first()) {
        let (a, b) = (&plan.steps.ops[*last], &plan.steps.ops[*next]);
        assert!(last < next, "{rule}: {last} {a:?} comes after {next} {b:?}");
    }
}

fn entering(op: &Op) -> bool {
    matches!(
        op,
        Op::Root(RootOp::PivotRoot { .. }) | Op::Root(RootOp::MoveRoot) | Op::Root(RootOp::Chroot { .. })
    )
}

fn opening(op: &Op) -> bool {
    matches!(op, Op::Root(RootOp::OpenRoot { .. }) | Op::OpenOverlay { .. })
}

fn mounting(op: &Op) -> bool {
    matches!(
        op,
        Op::Mount(_) | Op::Root(RootOp::Device(_)) | Op::Console { .. } | Op::Root(RootOp::Directory { .. })
    )
}

fn sealing(op: &Op) -> bool {
    matches!(
        op,
        Op::Root(RootOp::Mask { .. }) | Op::Root(RootOp::Readonly { .. }) | Op::Root(RootOp::ReadonlyRoot)
    )
}

fn hook(kind: &'static str) -> impl Fn(&Op) -> bool {
    move |op| matches!(op, Op::Hook(h) if h.kind == kind)
}

fn seccomp(op: &Op) -> bool {
    matches!(op, Op::Program(ProgramOp::Seccomp { .. }))
}

fn ids(op: &Op) -> bool {
    matches!(op, Op::Program(ProgramOp::Credentials { .. }))
}

/// What every plan keeps, whatever it holds.
fn check(plan: &Plan, config: &Value, options: &Options) {
    let ops = &plan.steps.ops;
    assert_eq!(ops.len(), plan.steps.properties.len());
    root(plan);
    copies(plan, options);
    inside(plan);
    privileges(plan, config["process"]["noNewPrivileges"].as_bool().unwrap_or(false));
    synchronization(plan, options);
    before(
        plan,
        "descriptors of the host",
        |op| matches!(op, Op::Program(ProgramOp::CloseDescriptors { .. })),
        |op| {
            matches!(
                op,
                Op::Program(ProgramOp::WorkingDirectory { .. })
                    | Op::Program(ProgramOp::FindProgram { .. })
                    | Op::Program(ProgramOp::Execute)
            )
        },
    );
    assert_eq!(
        at(plan, |op| *op == Op::Program(ProgramOp::Execute)),
        [ops.len() - 1],
        "the program runs last"
    );
    assert_eq!(at(plan, |op| matches!(op, Op::Program(ProgramOp::CloseDescriptors { .. }))).len(), 1);
    assert_eq!(at(plan, |op| matches!(op, Op::Program(ProgramOp::FindProgram { .. }))).len(), 1);
}

/// Nothing that the container does to the host's mounts reaches the host.
fn copies(plan: &Plan, options: &Options) {
    if plan.namespaces.other_user() {
        for p in plan.prepared.iter().filter(|p| p.filesystem.is_none()) {
            let apart = (libc::MS_SLAVE | libc::MS_PRIVATE) & p.changes[0].0.propagation != 0;
            assert!(apart && p.changes[0].1, "{p:?} shares with the host");
        }
    }
    let moved = plan.steps.ops.contains(&Op::Root(RootOp::MoveRoot));
    let covered = at(plan, |op| matches!(op, Op::Root(RootOp::CoverMount { .. })));
    assert_eq!(covered.len(), if moved { options.kernel_mountpoints.len() } else { 0 });
}

/// The processes of a pid namespace that is joined see a process that holds nothing of the host.
fn inside(plan: &Plan) {
    let inside = |op: &Op| *op == Op::ContinueInside;
    let joins = plan.namespaces.joins(NamespaceKind::Pid);
    assert_eq!(at(plan, inside).len(), usize::from(joins));
    let host = |op: &Op| mounting(op) || sealing(op) || entering(op) || hook("createContainer")(op);
    before(plan, "the host is left behind", host, inside);
    before(
        plan,
        "descriptors are closed",
        |op| matches!(op, Op::Program(ProgramOp::CloseDescriptors { .. })),
        inside,
    );
    before(plan, "its own session", inside, |op| *op == Op::Isolate(IsolateOp::NewSession));
    let mounts = |op: &Op| matches!(op, Op::Mount(m) if matches!(&m.source, MountSource::Filesystem(f) if f.kind.as_c_str() == c"proc"));
    assert!(!joins || at(plan, mounts).is_empty(), "procfs shows the pid namespace of its maker");
}

fn root(plan: &Plan) {
    assert_eq!(at(plan, entering).len(), 1, "the root is entered once");
    before(plan, "the root before what is in it", opening, |op| mounting(op) || sealing(op) || entering(op));
    before(
        plan,
        "propagation before mounts",
        |op| matches!(op, Op::Root(RootOp::Propagation { .. })),
        |op| opening(op) || mounting(op),
    );
    before(plan, "mounts before hooks", mounting, |op| *op == Op::Sync(Point::RuntimeHooks));
    before(plan, "mounts before hooks", mounting, hook("createContainer"));
    before(plan, "a mask hides no mount to come", mounting, sealing);
    before(plan, "hooks may still write", hook("createContainer"), sealing);
    before(plan, "sysctls while /proc/sys is writable", |op| matches!(op, Op::Sysctl { .. }), sealing);
    before(
        plan,
        "everything is mounted by descriptors of the old root",
        |op| mounting(op) || sealing(op),
        entering,
    );
    before(plan, "hooks of the host's view", hook("createContainer"), entering);
    before(plan, "the container's view", entering, |op| {
        matches!(
            op,
            Op::Program(ProgramOp::CloseDescriptors { .. })
                | Op::Program(ProgramOp::WorkingDirectory { .. })
                | Op::Program(ProgramOp::Credentials { .. })
        )
    });
}

fn privileges(plan: &Plan, no_new_privileges: bool) {
    let drop = |op: &Op| matches!(op, Op::Program(ProgramOp::DropBounding { .. }));
    let caps = |op: &Op| matches!(op, Op::Program(ProgramOp::Capabilities { .. }));
    before(plan, "dropping needs CAP_SETPCAP", drop, ids);
    before(plan, "a change of user clears the sets", ids, caps);
    let successor = plan.steps.ops.contains(&Op::ContinueInside);
    let number_of_processes =
        |op: &Op| matches!(op, Op::Program(ProgramOp::Limit(l)) if l.resource == libc::RLIMIT_NPROC);
    let limits =
        |op: &Op| matches!(op, Op::Program(ProgramOp::Limit(_))) && !(successor && number_of_processes(op));
    before(plan, "limits need root", limits, ids);
    assert_eq!(at(plan, ids).len(), 1);
    if successor {
        return seen(plan, no_new_privileges);
    }
    let Some(filter) = at(plan, seccomp).first().copied() else { return };
    assert_eq!(at(plan, seccomp).len(), 1, "one filter");
    if no_new_privileges {
        before(
            plan,
            "it is allowed by no_new_privs",
            |op| *op == Op::Program(ProgramOp::NoNewPrivileges),
            seccomp,
        );
        before(plan, "as few calls under the filter as can be", |op| ids(op) || caps(op), seccomp);
        assert!(matches!(
            plan.steps.ops[filter + 1],
            Op::Program(ProgramOp::Execute) | Op::Sync(Point::Ready)
        ));
    } else {
        before(plan, "only a privileged process may load it", seccomp, |op| drop(op) || ids(op) || caps(op));
        assert!(at(plan, |op| *op == Op::Program(ProgramOp::NoNewPrivileges)).is_empty());
    }
}

/// What others see from its first instant has the capabilities of the program by then, and for a filter one more.
fn seen(plan: &Plan, no_new_privileges: bool) {
    let inside = |op: &Op| *op == Op::ContinueInside;
    before(
        plan,
        "inherited",
        |op| {
            matches!(
                op,
                Op::Program(ProgramOp::DropBounding { .. }) | Op::Program(ProgramOp::NoNewPrivileges)
            ) || ids(op)
        },
        inside,
    );
    let all: Vec<_> = at(plan, |op| matches!(op, Op::Program(ProgramOp::Capabilities { .. })));
    let continued = at(plan, inside)[0];
    assert!(all[0] < continued, "capabilities are set before the successor is made");
    let permitted = |at: &usize| match plan.steps.ops[*at] {
        Op::Program(ProgramOp::Capabilities { permitted, .. }) => permitted,
        _ => 0,
    };
    let Some(filter) = at(plan, seccomp).first().copied() else {
        assert_eq!(all.len(), 1);
        return;
    };
    assert!(continued < filter, "the filter may forbid to make a process");
    if no_new_privileges {
        assert_eq!(all.len(), 1);
        return before(
            plan,
            "it is allowed by no_new_privs",
            |op| *op == Op::Program(ProgramOp::NoNewPrivileges),
            seccomp,
        );
    }
    const SYS_ADMIN: u64 = 1 << 21;
    assert_ne!(permitted(&all[0]) & SYS_ADMIN, 0, "only a privileged process may load it");
    match all[..] {
        [_] => {}
        [first, last] => {
            assert!(filter < last);
            assert_eq!(permitted(&first), permitted(&last) | SYS_ADMIN);
        }
        _ => panic!("{all:?}"),
    }
}

fn synchronization(plan: &Plan, options: &Options) {
    for (point, wanted) in [
        (
            Point::Namespaces,
            plan.id_maps.is_some() || plan.time_offsets.is_some() || !plan.net_devices.is_empty(),
        ),
        (Point::RuntimeHooks, !plan.runtime_hooks.is_empty()),
        (Point::Ready, true),
    ] {
        assert_eq!(at(plan, |op| *op == Op::Sync(point)).len(), usize::from(wanted), "{point:?}");
    }
    let waits = |op: &Op| *op == Op::WaitForStart;
    assert_eq!(at(plan, waits).len(), usize::from(options.wait_for_start));
    before(plan, "ready before start", |op| *op == Op::Sync(Point::Ready), waits);
    before(
        plan,
        "start hooks at start",
        |op| waits(op) || *op == Op::Sync(Point::Ready),
        hook("startContainer"),
    );
    before(
        plan,
        "mappings before ids of the namespace",
        |op| *op == Op::Sync(Point::Namespaces),
        |op| *op == Op::Isolate(IsolateOp::BecomeRoot),
    );
    // Whoever joins late has the cgroup of its maker as the root of its cgroup namespace.
    before(
        plan,
        "cgroups before their namespace",
        |op| *op == Op::Isolate(IsolateOp::JoinCgroups),
        |op| matches!(op, Op::Isolate(IsolateOp::Unshare { kinds }) if kinds & libc::CLONE_NEWCGROUP != 0),
    );
}

/// A change of a configuration that mostly leaves it valid.
fn change() -> impl Strategy<Value = Value> {
    let flag = any::<bool>();
    let path = proptest::sample::select(vec![
        "/",
        "/data",
        "/dev",
        "/proc/x",
        "/sys/fs/cgroup",
        "/etc/../var",
        "/dev/null",
    ]);
    let kind =
        proptest::sample::select(vec!["tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup", "overlay"]);
    let option = proptest::sample::select(vec![
        "ro",
        "rw",
        "rro",
        "nosuid",
        "rslave",
        "private",
        "size=1m",
        "tmpcopyup",
    ]);
    let name = proptest::sample::select(vec!["user", "pid", "network", "ipc", "uts", "cgroup", "time"]);
    let cap = proptest::sample::select(vec!["CAP_KILL", "CAP_SYS_ADMIN", "CAP_SETPCAP"]);
    let list = ["prestart", "createRuntime", "createContainer", "startContainer", "poststop"];
    prop_oneof![
        flag.prop_map(|f| json!({"process": {"noNewPrivileges": f}})),
        any::<bool>().prop_map(|f| json!({"process": {"terminal": f}})),
        any::<bool>().prop_map(|f| json!({"root": {"readonly": f}})),
        (any::<u16>(), any::<u16>()).prop_map(|(u, g)| json!({"process": {"user": {"uid": u, "gid": g}}})),
        (path.clone(), kind, option.clone())
            .prop_map(|(d, t, o)| json!({"+mounts": {"destination": d, "type": t, "source": t, "options": [o]}})),
        (path.clone(), option).prop_map(
            |(d, o)| json!({"+mounts": {"destination": d, "type": "bind", "source": "/srv", "options": ["rbind", o]}})
        ),
        path.clone().prop_map(|p| json!({"linux": {"maskedPaths": [p]}})),
        path.clone().prop_map(|p| json!({"linux": {"readonlyPaths": [p]}})),
        path.prop_map(|p| json!({"process": {"cwd": p}})),
        (name.clone(), any::<bool>()).prop_map(|(n, join)| {
            let path = if join { format!("/proc/9/ns/{n}") } else { String::new() };
            json!({"+linux/namespaces": {"type": n, "path": path}})
        }),
        name.prop_map(|n| json!({"-linux/namespaces": n})),
        Just(json!({"-linux/namespaces": "mount"})),
        proptest::collection::vec(cap, 0..3)
            .prop_map(|c| json!({"process": {"capabilities": {"bounding": c, "effective": c, "permitted": c}}})),
        proptest::sample::select(list.to_vec()).prop_map(|k| json!({"hooks": {k: [{"path": "/h"}, {"path": "/i"}]}})),
        proptest::sample::select(vec!["SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_ERRNO"]).prop_map(|a| json!({
            "linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent",
                                  "syscalls": [{"names": ["mkdir"], "action": a}]}}
        })),
        Just(json!({"linux": {"sysctl": {"net.ipv4.ip_forward": "1", "kernel.msgmax": "8192"}}})),
        proptest::sample::select(vec!["shared", "slave", "private", "unbindable"])
            .prop_map(|p| json!({"linux": {"rootfsPropagation": p}})),
    ]
}

/// `+a/b` appends to a list, `-a/b` takes the entries of that type out of it, all else is merged.
fn apply(config: &mut Value, change: &Value) {
    for (key, value) in change.as_object().into_iter().flatten() {
        if let Some(list) = key.strip_prefix('+').and_then(|p| config.pointer_mut(&format!("/{p}"))) {
            if let Some(list) = list.as_array_mut() {
                list.retain(|e| e["type"] != value["type"] || value["destination"].is_string());
            }
            bundles::push(list, [value.clone()]);
        } else if let Some(list) = key.strip_prefix('-').and_then(|p| config.pointer_mut(&format!("/{p}"))) {
            if let Some(list) = list.as_array_mut() {
                list.retain(|e| e["type"] != *value);
            }
        } else if !key.starts_with(['+', '-']) {
            bundles::merge(config, &json!({key: value}));
        }
    }
}

fn base() -> impl Strategy<Value = Value> {
    let all =
        [bundles::plain(), bundles::engine(), bundles::joined(), bundles::rootless(), bundles::unusual()];
    proptest::sample::select(all.to_vec())
}

fn host() -> impl Strategy<Value = HostFacts> {
    proptest::sample::select(vec![hosts::unified(), hosts::hybrid(), hosts::user()])
}

fn options() -> impl Strategy<Value = Options> {
    (any::<bool>(), any::<bool>(), 0..3u32).prop_map(|(wait_for_start, no_pivot, preserve_fds)| Options {
        wait_for_start,
        no_pivot,
        preserve_fds,
        rootfs_mountpoint: "/srv".into(),
        kernel_mountpoints: vec!["/proc".into(), "/sys".into()],
        ..Options::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_order_holds_for_every_configuration(
        config in base(),
        changes in proptest::collection::vec(change(), 0..5),
        facts in host(),
        options in options(),
    ) {
        let mut config = config;
        changes.iter().for_each(|c| apply(&mut config, c));
        if let Ok(plan) = plan(&config, &options, &facts) {
            check(&plan, &config, &options);
        }
    }
}

/// The changes above are of no use if few of them leave the configuration valid.
#[test]
fn the_bundles_are_valid() {
    let options = Options { rootfs_mountpoint: "/srv".into(), ..Options::default() };
    for config in [bundles::plain(), bundles::engine(), bundles::joined(), bundles::unusual()] {
        for facts in [hosts::unified(), hosts::hybrid()] {
            check(&plan(&config, &options, &facts).unwrap(), &config, &options);
        }
    }
}
