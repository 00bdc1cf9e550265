//! `linux.namespaces` and the id mappings: which namespaces are new, which are entered, and in which order.

use super::step::Steps;
use crate::config::linux::IdMapping;
use crate::config::linux::TimeOffset;
use crate::config::spec::Spec;
use crate::plan::op::{IsolateOp, Op, Point};
use crate::plan::tables::namespaces::NamespaceKind;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A namespace that the configuration names by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    pub kind: NamespaceKind,
    pub path: PathBuf,
    /// The property, for errors.
    pub property: String,
}

/// Creation and entering of namespaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// `CLONE_NEW*` for the clone of the child.
    pub clone: u64,
    /// Kinds that are new, however they are made.
    pub new: Vec<NamespaceKind>,
    pub joins: Vec<Join>,
    /// A first child enters the namespaces and makes the second, which becomes the container: what is new must
    /// belong to the user namespace that is entered.
    pub staged: bool,
}

/// How the process gets into its cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IntoCgroup {
    /// It stays where it is.
    Nothing,
    /// By clone3(2) and by writing itself to files that are open.
    Itself,
    /// Its parent has it moved.
    ByParent,
}

impl Namespaces {
    /// Reads `linux.namespaces`, which must be valid.
    pub fn compile(spec: &Spec) -> Namespaces {
        let mut ns = Namespaces::default();
        for (i, n) in spec.linux.namespaces.iter().enumerate() {
            let Some(kind) = NamespaceKind::from_name(&n.kind) else { continue };
            if n.path.is_empty() {
                ns.new.push(kind);
            } else {
                let property = format!("linux.namespaces[{i}].path");
                ns.joins.push(Join { kind, path: PathBuf::from(&n.path), property });
            }
        }
        // All but the user namespace first: orun's own privileges open every namespace, those inside only theirs.
        ns.joins.sort_by_key(|j| (j.kind == NamespaceKind::User, j.kind));
        let offsets = !spec.linux.time_offsets.is_empty();
        for kind in &ns.new {
            // A cgroup namespace takes the cgroup its maker is in as its root, and offsets must be written before
            // anyone is in the time namespace: both are made by the child itself, later.
            if *kind != NamespaceKind::Cgroup && (*kind != NamespaceKind::Time || !offsets) {
                ns.clone |= kind.clone_flag();
            }
        }
        ns.staged = ns.other_user() && !ns.joins.is_empty();
        ns
    }

    /// Whether a namespace of this kind is made.
    pub fn is_new(&self, kind: NamespaceKind) -> bool {
        self.new.contains(&kind)
    }

    /// Whether a namespace of this kind is entered by path.
    pub fn joins(&self, kind: NamespaceKind) -> bool {
        self.joins.iter().any(|j| j.kind == kind)
    }

    /// Whether the container is in another user namespace than orun.
    pub fn other_user(&self) -> bool {
        self.is_new(NamespaceKind::User) || self.joins(NamespaceKind::User)
    }

    /// Enters namespaces in the child, unless a first child has done it.
    pub(super) fn push_enter_steps(&self, steps: &mut Steps) {
        if self.staged {
            return;
        }
        for (slot, join) in self.joins.iter().enumerate().filter(|(_, join)| join.kind != NamespaceKind::Pid)
        {
            steps.push(
                Op::Isolate(IsolateOp::EnterNamespace { slot, kind: join.kind.clone_flag() as i32 }),
                &join.property,
            );
        }
    }

    /// Enters the pid namespace that is named by path, for children.
    pub(super) fn enter_pid(&self) -> Steps {
        let mut steps = Steps::default();
        if let Some(slot) = self.joins.iter().position(|j| j.kind == NamespaceKind::Pid) {
            let kind = libc::CLONE_NEWPID;
            steps.push(Op::Isolate(IsolateOp::EnterNamespace { slot, kind }), &self.joins[slot].property);
        }
        steps
    }

    /// Steps from the clone to a process that is in all its namespaces and cgroups.
    pub(super) fn push_settle_steps(&self, spec: &Spec, join: IntoCgroup, steps: &mut Steps) {
        if join == IntoCgroup::ByParent {
            // First of all: systemd moves only processes that are the caller's.
            steps.push(Op::Sync(Point::Cgroup), "linux.cgroupsPath");
        }
        let offsets = self.time_offsets(spec).is_some();
        if offsets {
            // Nobody is in it yet: the kernel takes offsets until then (time_namespaces(7)).
            steps.push(Op::Isolate(IsolateOp::Unshare { kinds: libc::CLONE_NEWTIME }), "linux.namespaces");
        }
        if self.is_new(NamespaceKind::User) || offsets || !spec.linux.net_devices.is_empty() {
            let why = if self.is_new(NamespaceKind::User) { "linux.uidMappings" } else { "linux.netDevices" };
            steps.push(Op::Sync(Point::Namespaces), why);
        }
        if self.other_user() {
            steps.push(Op::Isolate(IsolateOp::BecomeRoot), "linux.namespaces");
            steps.push(Op::Isolate(IsolateOp::NotDumpable), "");
        }
        if join == IntoCgroup::Itself {
            steps.push(Op::Isolate(IsolateOp::JoinCgroups), "linux.cgroupsPath");
        }
        if self.is_new(NamespaceKind::Cgroup) {
            steps.push(Op::Isolate(IsolateOp::Unshare { kinds: libc::CLONE_NEWCGROUP }), "linux.namespaces");
        }
        if offsets {
            steps.push(Op::Isolate(IsolateOp::EnterTimeNamespace), "linux.timeOffsets");
        }
    }

    /// The content of /proc/PID/timens_offsets for a new time namespace with offsets. orun writes it: in a user
    /// namespace the file does not belong to the process while that may not be traced.
    pub(super) fn time_offsets(&self, spec: &Spec) -> Option<String> {
        let offsets = &spec.linux.time_offsets;
        (self.is_new(NamespaceKind::Time) && !offsets.is_empty()).then(|| offsets_text(offsets))
    }
}

/// One line a clock (time_namespaces(7)).
fn offsets_text(offsets: &BTreeMap<String, TimeOffset>) -> String {
    let mut text = String::new();
    for (clock, o) in offsets {
        text += &format!("{clock} {} {}\n", o.secs, o.nanosecs);
    }
    text
}

/// The mappings of a new user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMaps {
    pub uids: Vec<IdMapping>,
    pub gids: Vec<IdMapping>,
}

impl IdMaps {
    /// The mappings, when a user namespace is made.
    pub fn compile(spec: &Spec, ns: &Namespaces) -> Option<IdMaps> {
        ns.is_new(NamespaceKind::User)
            .then(|| IdMaps { uids: spec.linux.uid_mappings.clone(), gids: spec.linux.gid_mappings.clone() })
    }

    /// The mappings given together with a user namespace to join.
    pub fn joined(spec: &Spec, ns: &Namespaces) -> Option<IdMaps> {
        let linux = &spec.linux;
        let given = !linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty();
        (ns.joins(NamespaceKind::User) && given)
            .then(|| IdMaps { uids: linux.uid_mappings.clone(), gids: linux.gid_mappings.clone() })
    }

    /// The content of /proc/PID/uid_map or gid_map (user_namespaces(7)).
    pub fn text(maps: &[IdMapping]) -> String {
        maps.iter().map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size)).collect()
    }

    /// The host's id for `id` of the container.
    pub fn host(maps: &[IdMapping], id: u32) -> Option<u32> {
        maps.iter()
            .find(|m| id >= m.container_id && id - m.container_id < m.size)
            .map(|m| m.host_id + (id - m.container_id))
    }
}
