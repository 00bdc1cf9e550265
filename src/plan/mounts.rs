//! `mounts`: each entry becomes a detached mount with its changes, attached below the root.

use super::namespaces::Namespaces;
use super::op::{Filesystem, Hold, MountOp, MountSource, Op, RootOp};
use super::step::Steps;
use super::tables::mount_options::{self, MountOptions, attr};
use super::tables::namespaces::{self as namespaces_table, NamespaceKind};
use super::text::{absolute, cstring, in_root};
use crate::config::linux::IdMapping;
use crate::config::spec::{Mount, Spec};
use crate::plan::cgroup::{CgroupPlan, HierarchyPlan, Version};
use crate::sys::mount::MountAttr;
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// A mount that orun opens before there is a container: an id-mapped one, because only the file system's owner may
/// map it, or any one for a user namespace, whose root may not reach the source.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    pub source: PathBuf,
    pub recursive: bool,
    pub nofollow: bool,
    /// A new file system instead of the source.
    pub filesystem: Option<Filesystem>,
    /// It is the procfs of the pid namespace of this slot, which the maker of the mounts is not in yet.
    pub pid_namespace: Option<usize>,
    /// It exists already: the descriptor of this number that comes with the plan.
    pub given: Option<usize>,
    pub changes: Vec<(MountAttr, bool)>,
    /// The attributes of the source are protected (mount_namespaces(7), "Restrictions"): the kernel does not see to
    /// that, because the mount is made outside of the user namespace.
    pub locked: bool,
    pub idmap: Option<MountMap>,
    pub property: String,
}

/// The mapping of an id-mapped mount (mount_setattr(2), MOUNT_ATTR_IDMAP).
#[derive(Debug, Clone, PartialEq)]
pub struct MountMap {
    pub recursive: bool,
    pub map: MapFrom,
}

/// Where the mapping comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum MapFrom {
    /// The mount's own ranges.
    Ranges { uids: Vec<IdMapping>, gids: Vec<IdMapping> },
    /// The container's user namespace: these mappings, or the joined namespace.
    Joined(PathBuf),
}

/// Kinds of file system whose superblock is shared or not worth protecting: `ro` is a matter of the mount alone.
const MOUNT_ONLY_READONLY: [&str; 8] =
    ["proc", "sysfs", "mqueue", "devpts", "cgroup", "cgroup2", "tmpfs", "ramfs"];
/// Kinds that take no SELinux context.
const NO_CONTEXT: [&str; 5] = ["proc", "sysfs", "mqueue", "cgroup", "cgroup2"];

/// crun's annotation, which Podman sets: the option that `linux.mountLabel` is given with.
pub const CONTEXT_TYPE: &str = "run.oci.mount_context_type";
/// The options of SELinux that take a label (mount(8)).
pub const CONTEXT_TYPES: [&str; 4] = ["context", "fscontext", "defcontext", "rootcontext"];

/// Inputs of compiling mounts.
pub(super) struct MountContext<'a> {
    pub spec: &'a Spec,
    pub bundle: &'a Path,
    pub rootfs: &'a Path,
    /// See [`super::compile::Options::given`].
    pub given: &'a [usize],
    pub namespaces: &'a Namespaces,
    pub cgroup: &'a CgroupPlan,
    pub prepared: Vec<Prepared>,
    pub late: Vec<Prepared>,
    /// orun may open mounts for a user namespace, and map ids.
    pub privileged: bool,
    /// The attributes of mounts that are bound are protected by a user namespace.
    pub locked: bool,
    /// /dev stays writable until the devices are made.
    pub dev_readonly: bool,
}

impl MountContext<'_> {
    pub(super) fn compile(&mut self, steps: &mut Steps) {
        for (i, m) in self.spec.mounts.iter().enumerate() {
            let given = self.given.iter().position(|g| *g == i);
            self.compile_mount(&format!("mounts[{i}]"), m, given, steps);
        }
    }

    fn compile_mount(&mut self, property: &str, m: &Mount, given: Option<usize>, steps: &mut Steps) {
        let mut o = mount_options::parse_options(&m.options);
        let target = self.target(m);
        let mut hold = None;
        if o.remount {
            steps.push(Op::Remount { target, held: None, changes: changes(&o, attributes(&o)) }, property);
            return;
        }
        if target.as_c_str() == c"dev" && !o.bind && o.attr_set & attr::RDONLY != 0 {
            o.attr_set &= !attr::RDONLY;
            o.flags_set &= !libc::MS_RDONLY;
            self.dev_readonly = true;
            hold = Some(Hold::Devices);
        }
        if !o.bind && self.cgroups(property, m, &o, steps) {
            return;
        }
        let own = if o.bind { bind_attributes(&o, self.locked) } else { attributes(&o) };
        let mut changes = changes(&o, own);
        let source = if o.bind {
            self.bind(property, m, &o, given, &mut changes)
        } else if m.kind == "sysfs"
            && self.namespaces.other_user()
            && !self.namespaces.is_new(NamespaceKind::Network)
        {
            // sysfs belongs to the network namespace, which here is not the user namespace's own.
            changes.push((MountAttr { set: attr::RDONLY, ..MountAttr::default() }, true));
            MountSource::Bind { path: c"/sys".into(), recursive: true, nofollow: false }
        } else {
            // fsmount(2) takes the attributes; what remains are recursive changes and propagation.
            changes.retain(|(a, recursive)| *recursive || a.propagation != 0);
            if o.tmpcopyup && o.attr_set & attr::RDONLY != 0 {
                // Not before it is filled.
                o.attr_set &= !attr::RDONLY;
                changes.push((MountAttr { set: attr::RDONLY, ..MountAttr::default() }, false));
            }
            self.new_filesystem(property, m, &o, &mut changes)
        };
        let procfs_only = o.bind && target.as_c_str() == c"proc";
        let plain_destination = !o.bind && matches!(m.kind.as_str(), "proc" | "sysfs");
        let op = MountOp { source, target, changes, procfs_only, plain_destination, directory: false, hold };
        steps.push(Op::Mount(Box::new(op)), property);
    }

    fn bind(
        &mut self,
        property: &str,
        m: &Mount,
        o: &MountOptions,
        given: Option<usize>,
        changes: &mut Vec<(MountAttr, bool)>,
    ) -> MountSource {
        let source = absolute(self.bundle, &m.source);
        let idmap = self.idmap(m, o);
        let inside = given.is_none() && source.starts_with(self.rootfs);
        if given.is_none() && idmap.is_none() && !(self.privileged && self.namespaces.other_user()) {
            let path = cstring(source.into_os_string().into_encoded_bytes());
            return MountSource::Bind { path, recursive: o.recursive, nofollow: o.src_nofollow };
        }
        let mut prepared = Prepared {
            source,
            recursive: o.recursive,
            nofollow: o.src_nofollow,
            filesystem: None,
            pid_namespace: None,
            given,
            changes: std::mem::take(changes),
            locked: self.locked,
            idmap,
            property: property.to_owned(),
        };
        if inside {
            // There may be a mount of before, which is only there by then.
            self.late.push(prepared);
            return MountSource::Late { slot: self.late.len() - 1 };
        }
        if let Some(p) = copy_propagation(self.spec, self.namespaces.other_user()) {
            prepared.changes.insert(0, (MountAttr { propagation: p, ..MountAttr::default() }, true));
        }
        self.prepared.push(prepared);
        MountSource::Prepared { slot: self.prepared.len() - 1 }
    }

    /// A new file system; one to be id-mapped is made by orun, because the kernel maps none of a user namespace, and so
    /// is the procfs of a pid namespace that the container's process enters when its root is made.
    fn new_filesystem(
        &mut self,
        property: &str,
        m: &Mount,
        o: &MountOptions,
        changes: &mut Vec<(MountAttr, bool)>,
    ) -> MountSource {
        let filesystem = self.filesystem(m, o);
        let idmap = self.idmap(m, o);
        let joined = self.namespaces.joins.iter().position(|j| j.kind == NamespaceKind::Pid);
        let pid_namespace = joined.filter(|_| m.kind == "proc");
        if idmap.is_none() && pid_namespace.is_none() {
            return MountSource::Filesystem(filesystem);
        }
        self.prepared.push(Prepared {
            source: PathBuf::from(if m.source.is_empty() { &m.kind } else { &m.source }),
            recursive: false,
            nofollow: false,
            filesystem: Some(filesystem),
            pid_namespace,
            given: None,
            changes: std::mem::take(changes),
            locked: false,
            idmap,
            property: property.to_owned(),
        });
        MountSource::Prepared { slot: self.prepared.len() - 1 }
    }

    /// The destination below the root. One that is given as a path of the host, root included, means the same.
    fn target(&self, m: &Mount) -> CString {
        match Path::new(&m.destination).strip_prefix(self.rootfs) {
            Ok(below) => in_root(&below.to_string_lossy()),
            Err(_) => in_root(&m.destination),
        }
    }

    fn idmap(&self, m: &Mount, o: &MountOptions) -> Option<MountMap> {
        let own = m
            .uid_mappings
            .as_ref()
            .zip(m.gid_mappings.as_ref())
            .filter(|(u, g)| !u.is_empty() && !g.is_empty());
        let recursive = o.idmap.as_ref().is_some_and(|i| i.recursive);
        if o.idmap.is_none() && own.is_none() {
            return None;
        }
        let extension = o.idmap.as_ref().filter(|i| !i.uids.is_empty() || !i.gids.is_empty());
        let map = match (own, extension) {
            (Some((uids, gids)), _) => MapFrom::Ranges { uids: uids.clone(), gids: gids.clone() },
            (None, Some(i)) => {
                let of_host = |ranges: &[mount_options::IdRange], container: &[IdMapping]| {
                    ranges.iter().filter_map(|r| r.absolute(container)).collect()
                };
                let linux = &self.spec.linux;
                MapFrom::Ranges {
                    uids: of_host(&i.uids, &linux.uid_mappings),
                    gids: of_host(&i.gids, &linux.gid_mappings),
                }
            }
            (None, None) => match self.namespaces.joins.iter().find(|j| j.kind == NamespaceKind::User) {
                Some(join) => MapFrom::Joined(join.path.clone()),
                None => MapFrom::Ranges {
                    uids: self.spec.linux.uid_mappings.clone(),
                    gids: self.spec.linux.gid_mappings.clone(),
                },
            },
        };
        Some(MountMap { recursive, map })
    }

    fn filesystem(&self, m: &Mount, o: &MountOptions) -> Filesystem {
        let mut parameters = Vec::new();
        if !m.source.is_empty() {
            parameters.push((c"source".into(), Some(cstring(m.source.as_str()))));
        }
        let mut has_mode = false;
        let mut data = Vec::new();
        for entry in &o.data {
            let (key, value) = mount_options::key_value(entry);
            if m.kind == "devpts" && key == "gid" && !self.maps_gid(value.as_deref()) {
                continue;
            }
            has_mode |= key == "mode";
            data.push(entry.clone());
            parameters.push((cstring(key), value.map(cstring)));
        }
        let shared = MOUNT_ONLY_READONLY.contains(&m.kind.as_str());
        for flag in o.super_block_flags().filter(|f| *f != "ro" || !shared) {
            parameters.push((cstring(flag), None));
        }
        let label = &self.spec.linux.mount_label;
        if !label.is_empty() && !NO_CONTEXT.contains(&m.kind.as_str()) {
            let name = self.spec.annotations.get(CONTEXT_TYPE).map_or("context", String::as_str);
            parameters.push((cstring(name), Some(cstring(label.as_str()))));
            data.push(format!("{name}={label:?}"));
        }
        Filesystem {
            kind: cstring(m.kind.as_str()),
            source: cstring(m.source.as_str()),
            flags: o.flags_set & !(libc::MS_REC | libc::MS_REMOUNT | libc::MS_BIND),
            data: cstring(data.join(",")),
            parameters,
            attributes: o.attr_set as u32,
            inherit_mode: m.kind == "tmpfs" && !has_mode,
            copy_up: m.kind == "tmpfs" && o.tmpcopyup,
        }
    }

    /// devpts refuses a group that has no mapping; without the option it takes the mounter's.
    fn maps_gid(&self, gid: Option<&str>) -> bool {
        let maps = &self.spec.linux.gid_mappings;
        if !self.namespaces.is_new(NamespaceKind::User) || maps.is_empty() {
            return true;
        }
        let gid = gid.and_then(|g| g.parse().ok());
        gid.is_some_and(|g| super::namespaces::IdMaps::host(maps, g).is_some())
    }

    /// The container's own cgroups, where `m` is of such a type: "cgroup2" is version 2, "cgroup" what the host has.
    /// Version 2 is one directory, and without a cgroup namespace there as a whole, so that the path in /proc/PID/cgroup
    /// leads somewhere. A host that has not mounted version 2 can do so for the container: `false`.
    fn cgroups(&mut self, property: &str, m: &Mount, o: &MountOptions, steps: &mut Steps) -> bool {
        let all = &self.cgroup.hierarchies;
        let unified = all.iter().find(|h| h.version == Version::V2);
        match (m.kind.as_str(), unified) {
            ("cgroup", Some(only)) if all.len() == 1 => self.cgroups_v2(property, m, o, only, steps),
            ("cgroup", _) => self.cgroups_v1(property, m, o, steps),
            ("cgroup2", Some(unified)) => self.cgroups_v2(property, m, o, unified, steps),
            _ => return false,
        }
        true
    }

    fn cgroups_v2(
        &self,
        property: &str,
        m: &Mount,
        o: &MountOptions,
        unified: &HierarchyPlan,
        steps: &mut Steps,
    ) {
        let own =
            self.namespaces.is_new(NamespaceKind::Cgroup) || self.namespaces.joins(NamespaceKind::Cgroup);
        let dir = if own { &unified.dir } else { &unified.mount_point };
        let changes = vec![(MountAttr { set: o.attr_set, ..MountAttr::default() }, true)];
        let source = MountSource::Bind { path: cstring(dir.as_str()), recursive: true, nofollow: false };
        let op = cgroup_view(source, self.target(m), changes);
        steps.push(Op::Mount(Box::new(op)), property);
    }

    /// A tmpfs with one directory a hierarchy.
    fn cgroups_v1(&self, property: &str, m: &Mount, o: &MountOptions, steps: &mut Steps) {
        let target = self.target(m);
        let attr = MountAttr { set: o.attr_set, ..MountAttr::default() };
        let bind = |dir: &str| MountSource::Bind { path: cstring(dir), recursive: true, nofollow: false };
        let base = target.to_string_lossy().into_owned();
        let tmpfs = Filesystem {
            kind: c"tmpfs".into(),
            source: c"cgroup".into(),
            flags: o.flags_set & !(libc::MS_RDONLY | libc::MS_REC),
            data: c"mode=755".into(),
            parameters: vec![
                (c"source".into(), Some(c"cgroup".into())),
                (c"mode".into(), Some(c"755".into())),
            ],
            attributes: (o.attr_set & !attr::RDONLY) as u32,
            ..Filesystem::default()
        };
        let source = MountSource::Filesystem(tmpfs);
        let hold = Some(Hold::Cgroups);
        let op = MountOp { hold, ..cgroup_view(source, target.clone(), Vec::new()) };
        steps.push(Op::Mount(Box::new(op)), property);
        for h in self.cgroup.hierarchies.iter().filter(|h| h.version == Version::V1) {
            let name = h.mount_point.rsplit('/').next().unwrap_or_default();
            let place = cstring(format!("{base}/{name}"));
            let op = cgroup_view(bind(&h.dir), place, Vec::new());
            steps.push(Op::Mount(Box::new(op)), property);
            // Controllers that share a hierarchy are each found under their own name too.
            for controller in h.controllers.iter().filter(|c| h.controllers.len() > 1 && *c != name) {
                let path = cstring(format!("{base}/{controller}"));
                steps.push(
                    Op::Root(RootOp::Symlink { target: cstring(name), path, replace: false }),
                    property,
                );
            }
        }
        // One call for all of them, once everything is in place.
        steps.push(Op::Remount { target, held: hold, changes: vec![(attr, true)] }, property);
    }
}

/// A mount of a directory below `/sys/fs/cgroup`.
fn cgroup_view(source: MountSource, target: CString, changes: Vec<(MountAttr, bool)>) -> MountOp {
    MountOp {
        source,
        target,
        changes,
        procfs_only: false,
        plain_destination: false,
        directory: true,
        hold: None,
    }
}

/// The changes that the options ask for, in order: of this mount (`own`), of all below it, propagation.
/// What a copy of the host's mounts becomes that is made outside of the container's mount namespace, so that it is as
/// one made inside: what is mounted on it there must not reach the host. `None`: it stays as it is.
fn copy_propagation(spec: &Spec, other_user: bool) -> Option<u64> {
    let flags = namespaces_table::propagation(&spec.linux.rootfs_propagation).unwrap_or(libc::MS_SLAVE);
    if flags & (libc::MS_PRIVATE | libc::MS_UNBINDABLE) != 0 {
        Some(libc::MS_PRIVATE)
    } else {
        // A mount namespace of another user namespace never shares with its parent (mount_namespaces(7)).
        (flags & libc::MS_SHARED == 0 || other_user).then_some(libc::MS_SLAVE)
    }
}

fn changes(o: &MountOptions, own: Option<MountAttr>) -> Vec<(MountAttr, bool)> {
    let mut all = Vec::new();
    all.extend(own.map(|attr| (attr, false)));
    if o.changes_attributes_recursively() {
        all.push((MountAttr { set: o.rec_attr_set, clear: o.rec_attr_clear, ..MountAttr::default() }, true));
    }
    for p in &o.propagation {
        let recursive = p & libc::MS_REC != 0;
        all.push((MountAttr { propagation: p & !libc::MS_REC, ..MountAttr::default() }, recursive));
    }
    all
}

/// The attributes of a new file system or of one that is changed: just the requested ones.
fn attributes(o: &MountOptions) -> Option<MountAttr> {
    let attr = MountAttr { set: o.attr_set, clear: o.attr_clear, ..MountAttr::default() };
    o.changes_attributes().then_some(attr)
}

/// The attributes of a bind mount, by the rules of a remount after it (mount(2), MS_REMOUNT | MS_BIND): without any
/// option they are those of the source; with one, what is not asked for is cleared, but the access time mode stays
/// unless one is asked for. `locked`: a user namespace is between the source and its owner, and what it protects
/// (mount_namespaces(7), "Restrictions") stays unless it is cleared by name.
fn bind_attributes(o: &MountOptions, locked: bool) -> Option<MountAttr> {
    const LOCKABLE: u64 = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
    const PLAIN: u64 = LOCKABLE | attr::NOSYMFOLLOW;
    const KIND: u64 = libc::MS_BIND | libc::MS_REC | libc::MS_REMOUNT;
    if (o.flags_set & !KIND) | o.flags_cleared == 0 {
        return None;
    }
    let mut set = o.attr_set & PLAIN;
    let mut clear = if locked { o.attr_clear & LOCKABLE | attr::NOSYMFOLLOW } else { PLAIN } & !set;
    if o.atime_given || o.attr_set & attr::NODIRATIME != 0 {
        set |= o.attr_set & (attr::ATIME | attr::NODIRATIME);
        clear |= attr::ATIME | attr::NODIRATIME & !set;
    }
    Some(MountAttr { set, clear, ..MountAttr::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tables::mount_options::parse_options;

    /// Set and cleared bits of a bind mount with these options; `None` leaves all as it is.
    fn bind(options: &str, locked: bool) -> Option<(u64, u64)> {
        let options: Vec<_> = options.split(' ').map(str::to_owned).collect();
        bind_attributes(&parse_options(&options), locked).map(|a| (a.set, a.clear))
    }

    const OTHERS: u64 = attr::NODEV | attr::NOEXEC | attr::NOSUID | attr::NOSYMFOLLOW;

    #[test]
    fn a_bind_mount_without_options_keeps_those_of_its_source() {
        for options in ["bind", "rbind rprivate", "bind slave"] {
            assert_eq!(bind(options, false), None);
            assert_eq!(bind(options, true), None);
        }
    }

    #[test]
    fn what_is_not_asked_for_is_cleared_unless_it_is_locked() {
        assert_eq!(bind("bind ro", false), Some((attr::RDONLY, OTHERS)));
        assert_eq!(bind("bind dev", false), Some((0, attr::RDONLY | OTHERS)));
        assert_eq!(bind("bind ro", true), Some((attr::RDONLY, attr::NOSYMFOLLOW)));
        assert_eq!(bind("bind dev", true), Some((0, attr::NODEV | attr::NOSYMFOLLOW)));
        assert_eq!(bind("bind nosymfollow rw", true), Some((attr::NOSYMFOLLOW, attr::RDONLY)));
    }

    #[test]
    fn the_access_time_mode_stays_unless_one_is_asked_for() {
        let all = attr::RDONLY | OTHERS;
        let mode = attr::ATIME | attr::NODIRATIME;
        assert_eq!(bind("bind atime", false), Some((0, all)));
        assert_eq!(bind("bind norelatime diratime", false), Some((0, all)));
        assert_eq!(bind("bind noatime atime", false), Some((0, all)));
        assert_eq!(bind("bind relatime", false), Some((attr::RELATIME, all | mode)));
        assert_eq!(bind("bind strictatime", false), Some((attr::STRICTATIME, all | mode)));
        assert_eq!(bind("bind nodiratime", false), Some((attr::NODIRATIME, all | attr::ATIME)));
        let both = attr::NODIRATIME | attr::STRICTATIME;
        assert_eq!(bind("bind nodiratime strictatime", false), Some((both, all | attr::ATIME)));
    }
}
