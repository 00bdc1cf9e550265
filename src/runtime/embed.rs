//! Containers for a supervisor in the same process: a bundle is read and compiled once, and made into any number of
//! containers at the cost of the system calls.

use std::borrow::Cow;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Runtime;
use super::container::{self, Container};
use super::create::{self, CreateOptions, Created, ProcessSetup};
use super::start;
use crate::config::bundle::Bundle;
use crate::config::parse;
use crate::error::{Error, Kind, Result};
use crate::kernel::cgroup::Cgroup;
use crate::kernel::launch::{Launch, Reaper};
use crate::kernel::{probe, surroundings};
use crate::plan::compile::{self, Input, Options, Plan};
use crate::plan::facts::HostFacts;
use crate::plan::namespaces::IdMaps;
use crate::state::id::ContainerId;
use crate::state::lifecycle::{Phase, Status};
use crate::state::model::{ProcessId, Record};
use crate::state::store::ContainerDir;
use serde_json::{Map, Value};

/// Instead of `linux.cgroupsPath` until it is known.
const NO_CGROUP: &str = "/.orund-template";

/// Changes by a supervisor to the configuration of a bundle.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overlay {
    /// Instead of `process.args` when not empty.
    pub args: Vec<String>,
    /// `NAME=VALUE`, behind those of `process.env`.
    pub env: Vec<String>,
    /// Laid over `linux.resources`, member by member.
    pub resources: Option<Value>,
    /// Containers have no cgroups: `linux.resources` is left out.
    pub without_limits: bool,
    /// The limits of open files, soft and hard, where the configuration names none: the supervisor may have raised its
    /// own.
    pub open_files: Option<(u64, u64)>,
    /// Added to `annotations`.
    pub annotations: Vec<(String, String)>,
    /// Entries of `mounts` that every container gets as descriptors: see [`Instance::mounts`].
    pub given: Vec<usize>,
    /// It has a terminal, whose other end [`Waiting::take_terminal`] gives.
    pub terminal: bool,
}

/// A compiled bundle.
#[derive(Debug)]
pub struct PreparedContainer {
    bundle: Bundle,
    facts: HostFacts,
    options: Options,
    plan: Plan,
}

/// Settings of a single container.
#[derive(Debug)]
pub struct ContainerSettings<'a> {
    pub id: &'a str,
    /// `linux.cgroupsPath`.
    pub cgroups_path: &'a str,
    /// Variables of its own.
    pub env: Vec<String>,
    /// Annotations of its own: the directories of its root file system ([`crate::plan::overlay`]) where that is an
    /// overlay.
    pub annotations: Vec<(String, String)>,
    /// Instead of the arguments and variables of the configuration.
    pub program: Option<(Vec<String>, Vec<String>)>,
    /// Namespaces that it joins, by their names in config.json.
    pub namespaces: Vec<(&'static str, PathBuf)>,
    /// Detached mounts, one for each of [`Overlay::given`].
    pub mounts: Vec<OwnedFd>,
    pub stdio: [OwnedFd; 3],
    pub reaper: Reaper,
}

/// A created container, whose process waits to run the program. It has no plan any more: many may wait at a time.
#[derive(Debug)]
pub struct Waiting {
    entry: ContainerDir,
    record: Record,
    launch: Launch,
    own_cgroup: Cgroup,
    template: Arc<PreparedContainer>,
}

impl PreparedContainer {
    /// Reads and compiles the bundle in `dir`, with `config` in the place of its config.json when that is given.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn load(
        rt: &Runtime,
        dir: &Path,
        config: Option<&str>,
        overlay: &Overlay,
    ) -> Result<PreparedContainer> {
        let mut bundle = match config {
            Some(config) => Bundle::with_config(dir, config.as_bytes().to_vec())?,
            None => Bundle::load(dir)?,
        };
        bundle.raw = lay_over(&bundle.raw, overlay)?;
        bundle.spec = parse::json(&bundle.raw, "config.json")
            .map_err(|e| e.context(format!("bundle {:?} with the changes of the workload", bundle.path)))?;
        // Replicas cannot share the bundle's own.
        bundle.spec.linux.cgroups_path = NO_CGROUP.into();
        let facts = probe::facts(&bundle.spec)?;
        let options = Options {
            wait_for_start: true,
            cgroup_manager: create::manager(rt.cgroup_manager),
            rootfs_mountpoint: create::mountpoint(&bundle)?,
            given: overlay.given.clone(),
            ..Options::default()
        };
        let input = Input { id: "template", bundle: &bundle.path, spec: &bundle.spec, options: &options };
        let plan = compile::compile(input, &facts).map_err(create::invalid)?;
        Ok(PreparedContainer { bundle, facts, options, plan })
    }

    /// Warnings of the compiler about the bundle.
    pub fn warnings(&self) -> &[String] {
        &self.plan.warnings
    }

    /// The root file system of the bundle.
    pub fn rootfs(&self) -> &Path {
        &self.plan.rootfs
    }

    /// The arguments and variables of the configuration.
    pub fn program(&self) -> (&[String], &[String]) {
        self.bundle.spec.process.as_ref().map_or((&[], &[]), |p| (&p.args, &p.env))
    }

    /// The user of the host that the program runs as, to whom its standard descriptors should belong.
    pub fn owner(&self) -> u32 {
        let uid = self.bundle.spec.process.as_ref().map_or(0, |p| p.user.uid);
        let maps = &self.bundle.spec.linux.uid_mappings;
        if maps.is_empty() { uid } else { IdMaps::host(maps, uid).unwrap_or(uid) }
    }

    /// Makes a container, up to the state `created`.
    ///
    /// # Errors
    /// The host cannot do it; the error has the reason. Nothing is left behind.
    pub fn create(
        self: &Arc<PreparedContainer>,
        rt: &Runtime,
        instance: ContainerSettings,
    ) -> Result<Waiting> {
        let id = ContainerId::new(instance.id)?;
        let mut spec = self.bundle.spec.clone();
        instance.cgroups_path.clone_into(&mut spec.linux.cgroups_path);
        spec.annotations.extend(instance.annotations);
        let mut raw = Cow::Borrowed(self.bundle.raw.as_slice());
        if let (Some(process), Some((args, env))) = (&mut spec.process, instance.program) {
            raw = with_environment(&self.bundle.raw, &process.env, &env)?.into();
            (process.args, process.env) = (args, env);
        }
        for (kind, path) in instance.namespaces {
            for ns in spec.linux.namespaces.iter_mut().filter(|n| n.kind == kind) {
                ns.path = path.to_string_lossy().into_owned();
            }
        }
        let options = Options { extra_env: instance.env, ..self.options.clone() };
        let input = Input { id: id.as_str(), bundle: &self.bundle.path, spec: &spec, options: &options };
        let plan = self.plan.instance(input, &self.facts).map_err(create::invalid)?;
        create::check_rootfs(&plan.rootfs)?;
        let (entry, record) = create::write_record(rt, &id, (&spec, &raw), &plan)?;
        let wiring =
            ProcessSetup { stdio: Some(instance.stdio), mounts: instance.mounts, reaper: instance.reaper };
        let created =
            create::build(entry, record, plan, None, true, wiring).map_err(surroundings::explain)?;
        let created = created.complete(Phase::Created, &CreateOptions::default())?;
        let Created { mut entry, record, launch, cgroup: own_cgroup, .. } = created;
        entry.unlock();
        Ok(Waiting { entry, record, launch, own_cgroup, template: Arc::clone(self) })
    }
}

impl Waiting {
    /// The container's first process.
    ///
    /// # Errors
    /// It went before it could be looked at.
    pub fn process(&self) -> Result<ProcessId> {
        self.record.init.ok_or_else(|| {
            Error::new(Kind::State, format!("the process of container {} has exited", self.record.id))
        })
    }

    /// A descriptor of it.
    pub fn pidfd(&self) -> &OwnedFd {
        &self.launch.pidfd
    }

    /// The master of its terminal, the first time.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.launch.terminal.take()
    }

    /// Its processes end with the first.
    pub fn own_pid_namespace(&self) -> bool {
        self.record.own_pid_namespace
    }

    /// Its cgroups.
    ///
    /// # Errors
    /// Never, for a container that was just made.
    pub fn cgroup(&self) -> Result<Cgroup> {
        container::cgroup_of(&self.record)
    }

    /// Runs the program.
    ///
    /// # Errors
    /// It cannot be run, or a hook fails. The process has exited then, or is about to.
    pub fn release(self) -> Result<()> {
        let Waiting { mut entry, record, template, .. } = self;
        entry.lock(container::LOCK_WAIT)?;
        let mut c = Container { entry, record, status: Status::Created };
        if let Some(refused) = start::release(&mut c, &create::notes(&template.bundle.spec))? {
            return Err(refused);
        }
        start::poststart(c)
    }

    /// Undoes the container.
    pub fn destroy(self) {
        create::undo(self.entry, &self.record, &self.launch, &self.own_cgroup);
    }
}

/// `linux.resources` of the bundle in `dir`, with what the workload changes of it.
///
/// # Errors
/// There is no such bundle, or it cannot be read.
pub fn resources(dir: &Path, overlay: &Overlay) -> Result<Value> {
    resources_of(&Bundle::load(dir)?.raw, overlay)
}

/// As [`resources`], of the config.json `raw`.
///
/// # Errors
/// It cannot be read.
pub fn resources_of(raw: &[u8], overlay: &Overlay) -> Result<Value> {
    let raw = lay_over(raw, overlay)?;
    let fail = |e: serde_json::Error| Error::new(Kind::Config, format!("reading config.json: {e}"));
    let mut config: Value = serde_json::from_slice(&raw).map_err(fail)?;
    Ok(config["linux"]["resources"].take())
}

/// config.json with what the workload changes of it. Only the workload says whether there is a terminal, not the bundle.
fn lay_over(raw: &[u8], overlay: &Overlay) -> Result<Vec<u8>> {
    let fail = |e: serde_json::Error| Error::new(Kind::Config, format!("reading config.json: {e}"));
    let mut config: Map<String, Value> = serde_json::from_slice(raw).map_err(fail)?;
    if let Some(Value::Object(process)) = config.get_mut("process") {
        process.remove("terminal");
        if overlay.terminal {
            process.insert("terminal".into(), true.into());
        }
        if !overlay.args.is_empty() {
            process.insert("args".into(), overlay.args.clone().into());
        }
        let env = process.entry("env").or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(env) = env {
            env.extend(overlay.env.iter().cloned().map(Value::from));
            let has_kind = env.iter().filter_map(Value::as_str).any(|v| v.starts_with("TERM="));
            if overlay.terminal && !has_kind {
                env.push("TERM=xterm".into());
            }
        }
    }
    if let (Some((soft, hard)), Some(Value::Object(process))) =
        (overlay.open_files, config.get_mut("process"))
    {
        let limits = process.entry("rlimits").or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(limits) = limits
            && !limits.iter().any(|l| l["type"] == "RLIMIT_NOFILE")
        {
            limits.push(serde_json::json!({"type": "RLIMIT_NOFILE", "soft": soft, "hard": hard}));
        }
    }
    if !overlay.annotations.is_empty() {
        let all = config.entry("annotations").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(all) = all {
            all.extend(overlay.annotations.iter().map(|(k, v)| (k.clone(), Value::from(v.clone()))));
        }
    }
    if let Some(resources) = &overlay.resources {
        let linux = config.entry("linux").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(linux) = linux {
            let below = linux.entry("resources").or_insert_with(|| Value::Object(Map::new()));
            merge(below, resources);
        }
    }
    if let (true, Some(Value::Object(linux))) = (overlay.without_limits, config.get_mut("linux")) {
        linux.remove("resources");
    }
    serde_json::to_vec(&config).map_err(fail)
}

/// `raw`, which was serialised by [`lay_over`], with the variables `now` in the place of `before`: further processes of the
/// container have them too. It is text that is replaced, because a container is made many times.
fn with_environment(raw: &[u8], before: &[String], now: &[String]) -> Result<Vec<u8>> {
    let fail = |e: serde_json::Error| Error::new(Kind::Config, format!("writing config.json: {e}"));
    let text = |env: &[String]| -> Result<Vec<u8>> {
        Ok([b"\"env\":".to_vec(), serde_json::to_vec(env).map_err(fail)?].concat())
    };
    let old = text(before)?;
    // Those of hooks come before those of the process.
    let at = raw.windows(old.len()).rposition(|w| w == old);
    let at = at.ok_or_else(|| Error::new(Kind::Config, "config.json: process.env cannot be replaced"))?;
    Ok([&raw[..at], &text(now)?, &raw[at + old.len()..]].concat())
}

/// Objects are merged, anything else is replaced.
fn merge(below: &mut Value, above: &Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                merge(below.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (below, above) => below.clone_from(above),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_processes_get_the_variables_of_their_container() {
        let raw = br#"{"hooks":{"prestart":[{"env":["A=1"],"path":"/x"}]},"process":{"args":["\"env\":"],"env":["A=1"]}}"#;
        let overlay = Overlay::default();
        let raw = lay_over(raw, &overlay).unwrap();
        let raw = with_environment(&raw, &["A=1".into()], &["B=\"2\"".into()]).unwrap();
        let got: Value = serde_json::from_slice(&raw).unwrap();
        assert_eq!(got["process"]["env"], serde_json::json!(["B=\"2\""]));
        assert_eq!(got["hooks"]["prestart"][0]["env"], serde_json::json!(["A=1"]));
    }

    #[test]
    fn a_workload_changes_only_what_it_names() {
        let raw = br#"{"x-unknown":[1],"process":{"terminal":true,"args":["a"],"env":["A=1"]},
            "linux":{"resources":{"memory":{"limit":1,"swap":2},"pids":{"limit":3}}}}"#;
        let overlay = Overlay {
            args: Vec::new(),
            env: vec!["B=2".into()],
            resources: Some(serde_json::json!({"memory":{"limit":9},"cpu":{"shares":5}})),
            open_files: Some((5, 6)),
            annotations: vec![("a".into(), "1".into())],
            ..Overlay::default()
        };
        let got: Value = serde_json::from_slice(&lay_over(raw, &overlay).unwrap()).unwrap();
        let expected = serde_json::json!({"x-unknown":[1],"annotations":{"a":"1"},"process":{"args":["a"],"env":["A=1","B=2"],
            "rlimits":[{"type":"RLIMIT_NOFILE","soft":5,"hard":6}]},
            "linux":{"resources":{"memory":{"limit":9,"swap":2},"pids":{"limit":3},"cpu":{"shares":5}}}});
        assert_eq!(got, expected);
        let overlay = Overlay { args: vec!["b".into()], ..Overlay::default() };
        let got: Value = serde_json::from_slice(&lay_over(b"{\"process\":{}}", &overlay).unwrap()).unwrap();
        assert_eq!(got, serde_json::json!({"process":{"args":["b"],"env":[]}}));
    }
}
