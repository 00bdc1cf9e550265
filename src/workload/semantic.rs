//! Checks beyond the tables: names that must differ or exist, paths, and values that exclude each other.

use std::collections::BTreeSet;

use super::check::Checker;
use super::model::{Container, Spec};
use super::pod::{DownwardVolume, KeyToPath, SeccompProfile, Volume};
use crate::config::document::diagnostic::{Diagnostic, Position};
use crate::config::document::reader::similar;
use crate::config::document::{Data, Node};
use crate::config::procfs;

/// How many containers a pod may have.
const MOST_CONTAINERS: usize = 64;

/// The node at a path such as `spec.containers[0].name`. `None` for a field without a value, too.
pub fn node<'n>(root: &'n Node, path: &str) -> Option<&'n Node> {
    let mut node = root;
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let (name, indexes) = part.split_at(part.find('[').unwrap_or(part.len()));
        if !name.is_empty() {
            let Data::Map(entries) = &node.data else { return None };
            node = &entries.iter().find(|(k, _)| k.data.text() == Some(name))?.1;
        }
        for index in indexes.split(['[', ']']).filter(|i| !i.is_empty()) {
            let Data::List(list) = &node.data else { return None };
            node = list.get(index.parse::<usize>().ok()?)?;
        }
    }
    Some(node).filter(|node| node.data != Data::Null)
}

/// The place of the deepest node on a path that exists.
pub fn place(root: &Node, path: &str) -> Position {
    let mut path = path;
    loop {
        match (node(root, path), path.rfind('.')) {
            (Some(node), _) => return node.place,
            (None, Some(at)) => path = &path[..at],
            (None, None) => return root.place,
        }
    }
}

/// The text of the scalar at a path.
pub fn text(root: &Node, path: &str) -> Option<String> {
    node(root, path)?.data.text().map(str::to_owned)
}

/// Checks the pod of a workload.
pub struct Pod<'c, 't, 'n> {
    pub checker: &'c mut Checker<'t>,
    pub root: &'n Node,
    /// The path of what has `containers`.
    pub path: String,
    /// The format is orund's own: its rules are stricter.
    pub native: bool,
}

impl Pod<'_, '_, '_> {
    /// The whole path; the short form has the fields of its one container in the spec itself.
    fn whole(&self, path: &str) -> String {
        let short = self.native && node(self.root, "spec.containers").is_none();
        let path = if short { path.strip_prefix("containers[0].").unwrap_or(path) } else { path };
        format!("{}.{path}", self.path)
    }

    /// Whether the file has the field.
    pub fn has(&self, path: &str) -> bool {
        node(self.root, &self.whole(path)).is_some()
    }

    pub fn error(&mut self, path: &str, message: impl Into<String>, hint: Option<String>) {
        let path = self.whole(path);
        let place = place(self.root, &path);
        self.checker.error(place, &path, message, hint);
    }

    fn warning(&mut self, path: &str, message: String) {
        let path = self.whole(path);
        let problem = Diagnostic::new(place(self.root, &path), path, message);
        self.checker.problems.push(problem.warning());
    }

    /// Everything about `spec`.
    pub fn check(&mut self, spec: &Spec) {
        for (list, count, least) in
            [("containers", spec.containers.len(), 1), ("initContainers", spec.init_containers.len(), 0)]
        {
            if !(least..=MOST_CONTAINERS).contains(&count) {
                let message = format!("{list} must have {least} to {MOST_CONTAINERS} entries");
                self.error(list, message, None);
            }
        }
        if spec.share_process_namespace && spec.host_pid {
            let hint = Some("leave out one of them".to_owned());
            self.error("shareProcessNamespace", "shareProcessNamespace excludes hostPID", hint);
        }
        self.containers(spec);
        let names: Vec<&str> = spec.volumes.iter().map(|v| v.name.as_str()).collect();
        self.unique("volumes", "volume", &names);
        for (n, volume) in spec.volumes.iter().enumerate() {
            if volume.sources() > 1 {
                self.error(&format!("volumes[{n}]"), "a volume must have one source, not several", None);
            }
            self.files(&format!("volumes[{n}]"), volume);
            if let Some(claim) = &volume.persistent_volume_claim
                && !super::files::is_key(&claim.claim_name)
            {
                let message = "claimName must be letters, digits, \"-\" and \".\"";
                self.error(&format!("volumes[{n}].persistentVolumeClaim.claimName"), message, None);
            }
            if let Some(host) = &volume.host_path {
                self.absolute(&format!("volumes[{n}].hostPath.path"), &host.path);
            }
        }
        self.seccomp("securityContext", spec.security_context.seccomp_profile.as_ref());
    }

    /// Paths of files in a volume, which stay in it.
    fn files(&mut self, at: &str, volume: &Volume) {
        let keys = |path: &str, items: &'_ [KeyToPath]| -> Vec<(String, String)> {
            let each = items.iter().enumerate();
            each.map(|(n, item)| (format!("{path}.items[{n}].path"), item.path.clone())).collect()
        };
        let fields = |path: &str, v: &DownwardVolume| -> Vec<(String, String)> {
            let each = v.items.iter().enumerate();
            each.map(|(n, item)| (format!("{path}.items[{n}].path"), item.path.clone())).collect()
        };
        let mut found = Vec::new();
        found.extend(volume.config_map.iter().flat_map(|v| keys(&format!("{at}.configMap"), &v.items)));
        found.extend(volume.secret.iter().flat_map(|v| keys(&format!("{at}.secret"), &v.items)));
        found.extend(volume.downward_api.iter().flat_map(|v| fields(&format!("{at}.downwardAPI"), v)));
        for (n, source) in volume.projected.iter().flat_map(|v| v.sources.iter().enumerate()) {
            let at = format!("{at}.projected.sources[{n}]");
            found.extend(source.config_map.iter().flat_map(|v| keys(&format!("{at}.configMap"), &v.items)));
            found.extend(source.secret.iter().flat_map(|v| keys(&format!("{at}.secret"), &v.items)));
            found.extend(source.downward_api.iter().flat_map(|v| fields(&format!("{at}.downwardAPI"), v)));
        }
        for (path, value) in found {
            if !super::files::is_inside(&value) {
                self.error(&path, "path must be relative, without \"..\"", None);
            }
        }
    }

    fn unique(&mut self, list: &str, what: &str, names: &[&str]) {
        let paths = names.iter().enumerate().map(|(n, name)| (format!("{list}[{n}].name"), *name));
        self.different(what, paths);
    }

    /// Names of `what`, each with its path, must differ.
    fn different<'s>(&mut self, what: &str, names: impl Iterator<Item = (String, &'s str)>) {
        let mut seen = BTreeSet::new();
        for (path, name) in names {
            if !name.is_empty() && !seen.insert(name) {
                self.error(&path, format!("another {what} has the name {name:?}"), None);
            }
        }
    }

    fn absolute(&mut self, path: &str, value: &str) {
        if !value.starts_with('/') {
            let windows = value.as_bytes().get(1) == Some(&b':') || value.starts_with('\\');
            let hint = windows.then(|| "Windows containers do not run here".to_owned());
            self.error(path, format!("{} must be an absolute path", super::schema::last(path)), hint);
        } else if value.split('/').any(|part| part == "..") {
            self.error(path, format!("{} must not contain \"..\"", super::schema::last(path)), None);
        }
    }

    /// The runtime refuses mounts that hide the kernel's /proc (CVE-2019-16884); /proc itself may be the `host`'s.
    fn outside_proc(&mut self, path: &str, value: &str, host: bool) {
        let target = procfs::lexical(value);
        if (target == "/proc" && !host) || procfs::is_reserved(&target) {
            let message = format!("no volume can be mounted at {target:?}");
            let hint = format!(
                "the container sees the kernel's own /proc; only {} may be replaced",
                procfs::FILES.join(", ")
            );
            self.error(path, message, Some(hint));
        }
    }

    fn containers(&mut self, spec: &Spec) {
        let path = |list: &str, n: usize| format!("{list}[{n}]");
        let inits = spec.init_containers.iter().enumerate().map(|(n, c)| (path("initContainers", n), c));
        let mains = spec.containers.iter().enumerate().map(|(n, c)| (path("containers", n), c));
        let all: Vec<(String, &Container)> = inits.chain(mains).collect();
        self.different("container", all.iter().map(|(at, c)| (format!("{at}.name"), c.name.as_str())));
        for (n, (at, c)) in all.into_iter().enumerate() {
            self.container(&at, c, spec);
            self.restarts(&at, c, n < spec.init_containers.len());
        }
    }

    /// Kubernetes' rules for the policy of a container, and of one that must exit.
    fn restarts(&mut self, at: &str, c: &Container, init: bool) {
        let rules = format!("{at}.restartPolicyRules");
        if !c.restart_policy_rules.is_empty() {
            if c.restart_policy.is_none() {
                let hint = Some("write `restartPolicy: Never` beside them".to_owned());
                self.error(&rules, "restartPolicyRules have no effect without restartPolicy", hint);
            } else if init && c.is_sidecar() {
                self.error(&rules, "a sidecar is always restarted: it cannot have restartPolicyRules", None);
            }
        }
        for (n, rule) in c.restart_policy_rules.iter().enumerate() {
            if rule.exit_codes.values.is_empty() {
                self.error(&format!("{rules}[{n}].exitCodes.values"), "values must name an exit code", None);
            }
        }
        if !init || c.is_sidecar() {
            return;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            let path = format!("{at}.{field}");
            if self.has(&path) {
                let message = format!("an init container cannot have {field}: it must exit by itself");
                let hint =
                    Some("write `restartPolicy: Always` to run it next to the main containers".to_owned());
                self.error(&path, message, hint);
            }
        }
    }

    fn container(&mut self, at: &str, c: &Container, spec: &Spec) {
        if c.bundle.is_empty() && c.image.as_ref().is_none_or(|i| i.trim().is_empty()) && !self.native {
            self.error(
                &format!("{at}.image"),
                "image is required",
                Some("write `image: NAME`, or `image: bundle:DIRECTORY`".to_owned()),
            );
        }
        if let Some(dir) = &c.working_dir {
            self.absolute(&format!("{at}.workingDir"), dir);
        }
        if let Some(path) = &c.termination_message_path {
            self.absolute(&format!("{at}.terminationMessagePath"), path);
        }
        self.within_pod(at, c, spec);
        self.variables(at, c);
        self.mounts(at, c, spec);
        self.health(at, c);
        self.seccomp(&format!("{at}.securityContext"), c.security_context.seccomp_profile.as_ref());
    }

    /// The limits of a container are not above those of its pod.
    fn within_pod(&mut self, at: &str, c: &Container, spec: &Spec) {
        let (own, whole) = (&c.resources.limits, &spec.resources.limits);
        let above =
            |own: Option<u64>, whole: Option<u64>| own.zip(whole).is_some_and(|(own, whole)| own > whole);
        for (name, too_much) in [
            ("cpu", above(own.cpu.map(|c| c.0), whole.cpu.map(|c| c.0))),
            ("memory", above(own.memory.map(|m| m.0), whole.memory.map(|m| m.0))),
            ("pids", above(own.pids, whole.pids)),
        ] {
            if too_much {
                let message = format!("{name} must not exceed the limit of the pod");
                self.error(&format!("{at}.resources.limits.{name}"), message, None);
            }
        }
    }

    /// A profile of the host is a file, and only that has one.
    fn seccomp(&mut self, at: &str, profile: Option<&SeccompProfile>) {
        let Some(profile) = profile else { return };
        let path = format!("{at}.seccompProfile.localhostProfile");
        match (profile.kind.as_str(), &profile.localhost_profile) {
            ("Localhost", None) => {
                let hint = "write `localhostProfile: FILE`, relative to the directory of profiles";
                self.error(&path, "Localhost requires localhostProfile", Some(hint.to_owned()));
            }
            ("Localhost", Some(file)) if !super::files::is_inside(file) => {
                let hint = "orund searches /etc/orun/seccomp, or the directory of `serve --seccomp-dir`";
                let message = "localhostProfile must be a relative path without \"..\"";
                self.error(&path, message, Some(hint.to_owned()));
            }
            ("Localhost", Some(_)) | (_, None) => {}
            (_, Some(_)) => self.error(&path, "localhostProfile is only for type Localhost", None),
        }
    }

    fn variables(&mut self, at: &str, c: &Container) {
        let mut seen = BTreeSet::new();
        for (n, var) in c.env.iter().enumerate() {
            let path = format!("{at}.env[{n}]");
            if var.name.is_empty() || var.name.contains('=') {
                let message = "the name of a variable must not be empty nor contain \"=\"";
                self.error(&format!("{path}.name"), message, None);
            } else if !seen.insert(var.name.as_str()) {
                let message = format!("the variable {:?} is defined twice", var.name);
                if self.native {
                    self.error(&path, message, None);
                } else {
                    self.warning(&path, format!("{message}; the last one is used"));
                }
            }
            if var.value_from.is_some() && !var.value.is_empty() {
                self.error(&format!("{path}.valueFrom"), "valueFrom cannot be combined with value", None);
            }
        }
        for (n, from) in c.env_from.iter().enumerate() {
            if from.config_map_ref.is_some() == from.secret_ref.is_some() {
                self.error(
                    &format!("{at}.envFrom[{n}]"),
                    "envFrom must have either configMapRef or secretRef",
                    None,
                );
            }
        }
    }

    fn mounts(&mut self, at: &str, c: &Container, spec: &Spec) {
        let mut volumes: Vec<&str> = spec.volumes.iter().map(|v| v.name.as_str()).collect();
        let declared = node(self.root, &format!("{}.volumes", self.path)).map_or(0, |v| match &v.data {
            Data::List(list) => list.len(),
            _ => usize::MAX,
        });
        let whole = declared == volumes.len();
        let claims = match node(self.root, "spec.volumeClaimTemplates").map(|v| &v.data) {
            Some(Data::List(list)) => list.iter().filter_map(|claim| text(claim, "metadata.name")).collect(),
            _ => Vec::new(),
        };
        volumes.extend(claims.iter().map(String::as_str));
        let mut seen = BTreeSet::new();
        for (n, mount) in c.volume_mounts.iter().enumerate() {
            let path = format!("{at}.volumeMounts[{n}]");
            // Where a volume could not be read, its error is enough.
            if !volumes.contains(&mount.name.as_str()) && whole {
                let hint = match similar(&mount.name, &volumes) {
                    Some(meant) => format!("did you mean {meant:?}?"),
                    None => format!("add an entry to {}.volumes: `- name: {}`", self.path, mount.name),
                };
                self.error(
                    &format!("{path}.name"),
                    format!("no volume has the name {:?}", mount.name),
                    Some(hint),
                );
            }
            self.absolute(&format!("{path}.mountPath"), &mount.mount_path);
            let host = spec.volumes.iter().any(|v| v.name == mount.name && v.host_path.is_some());
            self.outside_proc(&format!("{path}.mountPath"), &mount.mount_path, host);
            if mount.sub_path.is_some() && mount.sub_path_expr.is_some() {
                self.error(
                    &format!("{path}.subPathExpr"),
                    "subPathExpr cannot be combined with subPath",
                    None,
                );
            }
            for (field, value) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
                if value.as_ref().is_some_and(|v| !v.is_empty() && !super::files::is_inside(v)) {
                    let message = format!("{field} must be relative, without \"..\"");
                    self.error(&format!("{path}.{field}"), message, None);
                }
            }
            if !seen.insert(mount.mount_path.trim_end_matches('/')) {
                let message = format!("another volume is mounted at {:?}", mount.mount_path);
                self.error(&format!("{path}.mountPath"), message, None);
            }
        }
    }
}
