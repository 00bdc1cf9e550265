//! Whole files, and the whole texts of their errors.

use core::time::Duration;
use std::path::Path;

use crate::config::document::diagnostic::Diagnostics;
use crate::config::quantity::{Bytes, Factor, MilliCpu, Signal};
use crate::workload::Workload;
use crate::workload::model::{Backoff, Container, EnvVar, Limits, Resources, RestartPolicy};
use crate::workload::probe::{ExecAction, Handler};

fn read(file: &str, text: &str, base: Option<&Path>) -> Result<Vec<Workload>, Box<Diagnostics>> {
    crate::workload::read(file, text, base).workloads()
}

const FULL: &str = "
apiVersion: orun.dev/v1
kind: Workload
metadata:
  name: web
  labels: {app: web, orun.dev/tier: front}
  annotations:
    note: \"1.10: any text at all\"
spec:
  replicas: 3
  restartPolicy: OnFailure
  terminationGracePeriodSeconds: 1.5s
  stopSignal: SIGQUIT
  backoff: {initial: 500ms, factor: 1.5, max: 10, reset: 1m, maxRestarts: 5, window: 60}
  containers:
  - name: app
    bundle: bundles/../app/
    args: [serve, --port, \"80\"]
    env:
    - name: MODE
      value: fast
    - name: EMPTY
    resources:
      limits: {cpu: 250m, memory: 64Mi, pids: 100}
    lifecycle:
      preStop:
        exec:
          command: [/bin/drain, --now]
  - name: log
    bundle: /srv/log
";

fn read_one(text: &str) -> Workload {
    let mut list = read("f.yaml", text, Some(Path::new("/srv"))).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(list.len(), 1);
    list.remove(0)
}

fn errors(text: &str) -> String {
    read("f.yaml", text, Some(Path::new("/srv"))).unwrap_err().to_string()
}

/// The messages with their lines and hints, for tests of many small files.
fn short(spec: &str) -> Vec<String> {
    let text = format!("apiVersion: orun.dev/v1\nkind: Workload\nmetadata: {{name: web}}\nspec:\n{spec}");
    let list = read("f.yaml", &text, Some(Path::new("/srv"))).unwrap_err().list;
    let line = |d: &crate::config::document::diagnostic::Diagnostic| {
        let hint = d.hint.as_ref().map(|h| format!(" [{h}]")).unwrap_or_default();
        format!("{}: {}{hint}", d.property, d.message)
    };
    list.iter().map(line).collect()
}

#[test]
fn a_full_file_is_read_as_it_says() {
    let w = read_one(FULL);
    assert_eq!(w.metadata.name, "web");
    assert_eq!(w.metadata.labels["orun.dev/tier"], "front");
    assert_eq!(w.spec.replicas, 3);
    assert_eq!(w.spec.restart_policy, RestartPolicy::OnFailure);
    assert_eq!(w.spec.termination_grace_period, Duration::from_millis(1500));
    assert_eq!(w.spec.stop_signal, Some(Signal(libc::SIGQUIT)));
    let backoff = Backoff {
        initial: Duration::from_millis(500),
        factor: Factor(150),
        max: Duration::from_secs(10),
        reset: Duration::from_secs(60),
        max_restarts: Some(5),
        window: Some(Duration::from_secs(60)),
    };
    assert_eq!(w.spec.backoff, backoff);
    let app = &w.spec.containers[0];
    assert_eq!(app.bundle, "/srv/bundles/../app");
    assert_eq!(app.args.as_deref().unwrap(), ["serve", "--port", "80"]);
    assert_eq!(app.env[1], EnvVar { name: "EMPTY".into(), ..EnvVar::default() });
    let limits = Limits { cpu: Some(MilliCpu(250)), memory: Some(Bytes(64 << 20)), pids: Some(100) };
    assert_eq!(app.resources, Resources { limits, ..Resources::default() });
    let exec = ExecAction { command: vec!["/bin/drain".into(), "--now".into()] };
    assert_eq!(app.lifecycle.pre_stop, Some(Handler { exec: Some(exec), ..Handler::default() }));
    assert_eq!(w.spec.containers[1].bundle, "/srv/log");
}

#[test]
fn the_short_form_is_one_container_with_the_workloads_name() {
    let w = read_one(
        "apiVersion: orun.dev/v1\nkind: Workload\nmetadata: {name: web}\nspec: {bundle: ./b, args: [x]}\n",
    );
    assert_eq!(w.spec.replicas, 1);
    assert_eq!(w.spec.termination_grace_period, Duration::from_secs(30));
    let container = Container {
        name: "web".into(),
        bundle: "/srv/b".into(),
        args: Some(vec!["x".into()]),
        ..Container::default()
    };
    assert_eq!(w.spec.containers, [container]);
}

#[test]
fn the_canonical_form_reads_back_in_both_ways() {
    let w = read_one(FULL);
    let json = serde_json::to_string_pretty(&w).unwrap();
    assert_eq!(serde_json::from_str::<Workload>(&json).unwrap(), w);
    assert_eq!(read_one(&json), w);
    for expected in ["\"1.5s\"", "\"SIGQUIT\"", "\"64Mi\"", "\"250m\"", "\"factor\": 1.5"] {
        assert!(json.contains(expected), "{expected} in {json}");
    }
}

#[test]
fn documents_are_several_workloads() {
    let one = |name: &str| {
        format!(
            "---\napiVersion: orun.dev/v1\nkind: Workload\nmetadata: {{name: {name}}}\nspec: {{bundle: b}}\n"
        )
    };
    let text = one("a") + &one("b") + "---\n";
    let names: Vec<_> = read("f", &text, Some(Path::new("/"))).unwrap();
    assert_eq!(names.iter().map(|w| w.metadata.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let e = errors(&(one("a") + &one("a")));
    assert!(e.contains("the name \"a\" is used twice; first by a Workload"), "{e}");
    assert!(errors("# nothing\n").contains("the file has no objects"));
}

/// Nothing in it is right.
const WRONG: &str = "apiVersion: orun.dev/v1
kind: Workload
metadata:
  name: My_App
  labels:
    version: 1.10
terminationGracePeriodSeconds: 45
spec:
  replica: 3
  restartPolicy: always
  containers:
  - name: web
    env:
      MODE: fast
    resources:
      limits:
        memory: 400m
";

const REPORTED: &str =
    "error: name must be 1 to 63 lower-case letters, digits and \"-\", neither beginning nor ending with \"-\"
 --> f.yaml:4:9 (metadata.name)
4 |   name: My_App
  |         ^^^^^^
  = hint: for example \"my-app\"

error: version must be a string, not a number
 --> f.yaml:6:14 (metadata.labels.version)
6 |     version: 1.10
  |              ^^^^
  = hint: write it in quotes: \"1.10\"

error: unknown field \"terminationGracePeriodSeconds\"
 --> f.yaml:7:1
7 | terminationGracePeriodSeconds: 45
  | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = hint: it belongs in spec, two columns further right

error: unknown field \"replica\"
 --> f.yaml:9:3 (spec)
9 |   replica: 3
  |   ^^^^^^^
  = hint: did you mean \"replicas\"?

error: restartPolicy must be one of Always, OnFailure, Never
  --> f.yaml:10:18 (spec.restartPolicy)
10 |   restartPolicy: always
   |                  ^^^^^^
   = hint: did you mean \"Always\"?

error: field \"bundle\" is missing
  --> f.yaml:12:5 (spec.containers[0])
12 |   - name: web
   |     ^
   = hint: write `bundle: DIRECTORY`

error: env must be a list, not a mapping
  --> f.yaml:14:7 (spec.containers[0].env)
14 |       MODE: fast
   |       ^
   = hint: write a list: `- name: NAME`, below it `value: VALUE`

error: memory must be a number of bytes such as 67108864, 64Mi or 1.5Gi
  --> f.yaml:17:17 (spec.containers[0].resources.limits.memory)
17 |         memory: 400m
   |                 ^^^^
   = hint: did you mean 400Mi?

f.yaml: 8 errors";

#[test]
fn every_error_is_reported_at_once_with_its_line() {
    assert_eq!(errors(WRONG), REPORTED);
}

#[test]
fn kinds_are_told_apart_by_name_and_version() {
    let e = errors("apiVersion: orun.dev/v1\nkind: workload\n");
    assert!(e.contains("unknown kind \"workload\"") && e.contains("did you mean \"Workload\"?"), "{e}");
    let e = errors("apiVersion: v1\nkind: Workload\n");
    assert!(e.contains("apiVersion of a Workload must be orun.dev/v1"), "{e}");
}

#[test]
fn a_syntax_error_does_not_hide_the_errors_before_it() {
    let e = errors(
        "apiVersion: orun.dev/v1\nkind: Workload\nmetadata: {name: X}\nspec: {bundle: b}\n---\na: [\n",
    );
    assert!(e.contains("f.yaml:3:") && e.contains("not valid YAML") && e.ends_with("2 errors"), "{e}");
    let e = errors("a: 1\n\tb: 2\n");
    assert!(e.contains("f.yaml:2:"), "{e}");
}

/// A field next to `bundle: b`, and the error about it.
const REFUSED: &[(&str, &str)] = &[
    ("replicas: -1", "spec.replicas: replicas must be a whole number from 0 to 10000"),
    ("replicas: 1.5", "spec.replicas: replicas must be a whole number from 0 to 10000"),
    (
        "replicas: \"3\"",
        "spec.replicas: replicas must be a number, not a string [write it without quotes: 3]",
    ),
    (
        "stopSignal: SIGFOO",
        "spec.stopSignal: stopSignal must be the name of a signal such as SIGTERM, SIGQUIT or SIGRTMIN+3",
    ),
    (
        "terminationGracePeriodSeconds: -1",
        "spec.terminationGracePeriodSeconds: terminationGracePeriodSeconds must be seconds, or a duration such as \"500ms\", \"1.5s\" or \"1m30s\"",
    ),
    ("backoff: {initial: 5, max: 1}", "spec.backoff.max: max must not be less than initial"),
    ("backoff: {factor: 0.5}", "spec.backoff.factor: factor must be a number from 1 to 1000"),
    (
        "backoff: {window: 5}",
        "spec.backoff.window: window has no effect without maxRestarts [add `maxRestarts: N`, or leave it out]",
    ),
    ("args: [1]", "spec.args[0]: args[0] must be a string, not a number [write it in quotes: \"1\"]"),
    ("args: run", "spec.args: args must be a list, not a string [write `[\"run\"]`]"),
    ("env: [{name: A=B}]", "spec.env[0].name: the name of a variable must not be empty nor contain \"=\""),
    ("env: [{name: A}, {name: A}]", "spec.env[1]: the variable \"A\" is defined twice"),
    ("env: [{value: A}]", "spec.env[0]: field \"name\" is missing [write `name: NAME`]"),
    ("env: [\"A\\0\"]", "spec.env[0]: env[0] must be a mapping, not a string"),
    (
        "resources: {limits: {cpu: 0}}",
        "spec.resources.limits.cpu: cpu must be a number of CPUs such as 0.5, 500m or 2",
    ),
    (
        "resources: {limits: {memory: 64MB}}",
        "spec.resources.limits.memory: memory must be a number of bytes such as 67108864, 64Mi or 1.5Gi [did you mean 64Mi?]",
    ),
    (
        "resources: {limits: {pids: 0}}",
        "spec.resources.limits.pids: pids must be a whole number from 1 to 4194304",
    ),
    (
        "resources: {limits: {gpu: 1}}",
        "spec.resources.limits.gpu: this host has no resource \"gpu\" [resources are cpu, memory and pids]",
    ),
    (
        "lifecycle: {preStop: {exec: {command: []}}}",
        "spec.lifecycle.preStop.exec.command: command must begin with a program",
    ),
    ("livenessProbe: {}", "spec: unknown field \"livenessProbe\" [it belongs in spec.containers[]]"),
    ("initial: 5", "spec: unknown field \"initial\" [it belongs in spec.backoff]"),
    (
        "containers: []",
        "spec.bundle: bundle cannot be combined with containers [bundle is the short form of a list with one container: leave one of both out]",
    ),
];

#[test]
fn what_each_field_refuses() {
    let either = "bundle or containers is required";
    assert!(short("  replicas: 1\n")[0].contains(either));
    for (field, expected) in REFUSED {
        assert_eq!(short(&format!("  bundle: b\n  {field}\n")), [*expected], "{field}");
    }
    let cases: &[(&str, &str)] = &[
        ("containers: []", "spec.containers: containers must have 1 to 64 entries"),
        ("containers: [{name: a, bundle: \"\"}]", "spec.containers[0].bundle: bundle must not be empty"),
        (
            "containers: [{name: a, bundle: b}, {name: a, bundle: b}]",
            "spec.containers[1].name: another container has the name \"a\"",
        ),
    ];
    for (field, expected) in cases {
        assert_eq!(short(&format!("  {field}\n")), [*expected], "{field}");
    }
}

#[test]
fn without_a_base_bundles_are_absolute() {
    let text = "apiVersion: orun.dev/v1\nkind: Workload\nmetadata: {name: web}\nspec: {bundle: b}\n";
    let e = read("f", text, None).unwrap_err();
    assert_eq!(e.list[0].message, "bundle must be an absolute path");
}
