//! Containers that start before others, and their policies.

use super::*;
use crate::workload::exit_codes::{ExitCodes, Membership};
use crate::workload::model::{RestartAction, RestartPolicy, RestartRule};

const POD: &str = "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  restartPolicy: OnFailure
  activeDeadlineSeconds: 60
  initContainers:
  - {name: first, image: \"bundle:/first\"}
  - {name: proxy, image: \"bundle:/proxy\", restartPolicy: Always, lifecycle: {stopSignal: SIGINT}}
  containers:
  - name: app
    image: bundle:/app
    restartPolicy: Never
    restartPolicyRules: [{action: Restart, exitCodes: {operator: NotIn, values: [1, 2]}}]
";

#[test]
fn init_containers_and_sidecars_are_read_and_written() {
    let w = read("f", POD, None).workloads().unwrap_or_else(|e| panic!("{e}")).remove(0);
    let [first, proxy] = w.spec.init_containers.as_slice() else { panic!("{w:?}") };
    assert_eq!((first.bundle.as_str(), first.is_sidecar()), ("/first", false));
    assert_eq!((proxy.bundle.as_str(), proxy.is_sidecar()), ("/proxy", true));
    assert_eq!(w.spec.active_deadline, Some(core::time::Duration::from_secs(60)));
    let app = &w.spec.containers[0];
    let exit_codes = ExitCodes { operator: Membership::NotIn, values: vec![1, 2] };
    let rule = RestartRule { action: RestartAction::Restart, exit_codes };
    assert_eq!(app.restart_policy, Some(RestartPolicy::Never));
    assert_eq!(app.restart_policy_rules, [rule]);
    let (written, lost) = write::kubernetes(&w);
    assert_eq!(lost, Vec::<String>::new());
    assert_eq!(written["spec"]["initContainers"][1]["image"], "bundle:/proxy");
    let back = read("f", &written.to_string(), None).workloads().unwrap_or_else(|e| panic!("{e}")).remove(0);
    assert_eq!(back, w);
}

#[test]
fn what_init_containers_cannot_have() {
    let text = POD
        .replace("- {name: first,", "- {name: app, lifecycle: {preStop: {exec: {command: [x]}}},")
        .replace("restartPolicy: Always,", "restartPolicy: Always, restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [1]}}],")
        .replace("    restartPolicy: Never\n", "")
        .replace("values: [1, 2]", "values: []");
    let expected = [
        "8:28 an init container cannot have lifecycle: it must exit by itself \
         [write `restartPolicy: Always` to run it next to the main containers]",
        "9:86 a sidecar is always restarted: it cannot have restartPolicyRules",
        "11:11 another container has the name \"app\"",
        "13:25 restartPolicyRules have no effect without restartPolicy [write `restartPolicy: Never` beside them]",
        "13:81 values must name an exit code",
    ];
    assert_eq!(short(&text), expected);
}

#[test]
fn only_pods_and_jobs_end_after_a_time() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {activeDeadlineSeconds: 5, containers: [{name: app, image: \"bundle:/b\"}]}\n";
    let expected = "8:35 activeDeadlineSeconds is for a Pod or a Job: other pods run until they are stopped";
    assert_eq!(short(text), [expected]);
}
