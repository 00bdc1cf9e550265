//! One compiled bundle, many containers: what differs between them is put into a copy of the plan.

use super::Violation;
use super::compile::{self, Input, Plan};
use super::facts::HostFacts;
use super::namespaces::Namespaces;
use super::op::{IsolateOp, MountSource, Op, ProgramOp};
use super::overlay::Overlay;
use super::text::cstring;
use super::{hooks, process};
use crate::config::spec::Process;
use std::ffi::CString;

impl Plan {
    /// The plan of another container of the same bundle: as if `input`, whose id, `linux.cgroupsPath`, arguments and
    /// environment of the program, directories of an overlay and `options.extra_env` may differ from those this plan was compiled from, were compiled itself. It is much
    /// cheaper, because neither is validated again nor is the system call filter made again.
    ///
    /// # Errors
    /// An invalid cgroup path.
    pub fn instance(&self, input: Input, facts: &HostFacts) -> Result<Plan, Vec<Violation>> {
        let mut plan = self.clone();
        input.id.clone_into(&mut plan.id);
        plan.namespaces = Namespaces::compile(input.spec);
        plan.cgroup = compile::compile_cgroup(input, facts, &plan.namespaces)?;
        let before = self.cgroup.hierarchies.iter().map(|h| cstring(h.dir.as_str()));
        let now = plan.cgroup.hierarchies.iter().map(|h| cstring(h.dir.as_str()));
        let moved: Vec<(CString, CString)> = before.zip(now).collect();
        let state = |status| hooks::state_document(&input.spec.annotations, input.id, input.bundle, status);
        plan.hook_state = state("creating");
        let none = Process::default();
        let process = input.spec.process.as_ref().unwrap_or(&none);
        for op in &mut plan.steps.ops {
            if let Op::Program(ProgramOp::FindProgram { .. }) = op {
                *op = process::find(process);
            } else if let Op::Isolate(IsolateOp::SessionKeyring { name, .. }) = op {
                *name = compile::keyring(input.id);
            } else if let Op::Hook(h) = op {
                h.state = state(if h.at_root { "creating" } else { "created" });
            } else if let Op::Mount(m) = op {
                follow(&mut m.source, &moved);
            } else if let Op::OpenOverlay { overlay, .. } = op {
                let of = Overlay::compile(input.spec, input.bundle, &self.rootfs, overlay.user_xattr);
                **overlay = of.unwrap_or_else(|| (**overlay).clone());
            }
        }
        (plan.argv, plan.env) = process::strings(process, &input.options.extra_env);
        Ok(plan)
    }
}

/// The container's cgroup that is mounted into it is the new one.
fn follow(source: &mut MountSource, moved: &[(CString, CString)]) {
    if let MountSource::Bind { path, .. } = source
        && let Some((_, now)) = moved.iter().find(|(before, _)| before == path)
    {
        path.clone_from(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use crate::config::spec::Spec;
    use crate::plan::cgroup::Manager;
    use crate::plan::compile::Options;
    use crate::plan::facts::{CgroupFacts, CgroupMode, V2Hierarchy};
    use std::path::Path;

    const CONFIG: &str = r#"{"ociVersion":"1.2.0","root":{"path":"rootfs"},
        "process":{"args":["/bin/true"],"cwd":"/","env":["A=1"],"user":{"uid":0,"gid":0}},
        "hooks":{"createContainer":[{"path":"/bin/a"}],"startContainer":[{"path":"/bin/b"}],
                 "createRuntime":[{"path":"/bin/c"}]},
        "mounts":[{"destination":"/sys/fs/cgroup","type":"cgroup","source":"cgroup","options":["ro"]}],
        "linux":{"namespaces":[{"type":"mount"},{"type":"pid"}]}}"#;

    #[test]
    fn it_is_the_plan_that_compiling_gives() {
        let mut spec: Spec = parse::json(CONFIG.as_bytes(), "config.json").unwrap();
        let v2 = V2Hierarchy {
            mount_point: "/sys/fs/cgroup".into(),
            mount_root: "/".into(),
            own_path: "/".into(),
            controllers: Vec::new(),
        };
        let cgroup =
            CgroupFacts { mode: CgroupMode::Unified, v1: Vec::new(), v2: Some(v2), ..CgroupFacts::default() };
        let facts = HostFacts { initial_userns: true, cap_last: 40, cgroup, ..HostFacts::default() };
        let mut options =
            Options { wait_for_start: true, cgroup_manager: Manager::Cgroupfs, ..Options::default() };
        let compiled = |id: &str, spec: &Spec, options: &Options| {
            compile::compile(Input { id, bundle: Path::new("/b"), spec, options }, &facts).unwrap()
        };
        let first = compiled("one", &spec, &options);
        spec.linux.cgroups_path = "/orund/two".into();
        let process = spec.process.as_mut().unwrap();
        process.args = vec!["sh".into(), "-c".into(), "exit".into()];
        process.env = vec!["PATH=/opt/bin:/bin".into()];
        options.extra_env = vec!["ORUN_REPLICA_INDEX=2".into()];
        let second = compiled("two", &spec, &options);
        assert_ne!(first, second);
        let input = Input { id: "two", bundle: Path::new("/b"), spec: &spec, options: &options };
        assert_eq!(first.instance(input, &facts).unwrap(), second);
    }
}
