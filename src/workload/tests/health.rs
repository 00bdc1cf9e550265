//! Hooks and probes as Kubernetes demands them.

use super::short;
use crate::workload::{read, write};

fn pod(fields: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  containers:\n  - name: app\n    image: bundle:/b\n    ports: [{{name: http, containerPort: 80}}]\n    {fields}\n"
    )
}

#[test]
fn what_is_read_is_written() {
    let text = pod("lifecycle: {postStart: {exec: {command: [/warm]}}, preStop: {sleep: {seconds: 3}}}
    startupProbe: {tcpSocket: {port: http}, failureThreshold: 30, periodSeconds: 1}
    readinessProbe: {httpGet: {path: /ready, port: 80, scheme: HTTP, httpHeaders: [{name: X-A, value: b}]}}
    livenessProbe: {exec: {command: [/ok]}, terminationGracePeriodSeconds: 5}");
    let w = read("f", &text, None).workloads().unwrap_or_else(|e| panic!("{e}")).remove(0);
    let (written, lost) = write::kubernetes(&w);
    assert_eq!(lost, Vec::<String>::new());
    assert_eq!(written["spec"]["containers"][0]["readinessProbe"]["httpGet"]["port"], 80);
    let back = read("f", &written.to_string(), None).workloads().unwrap_or_else(|e| panic!("{e}")).remove(0);
    assert_eq!(back.spec.containers, w.spec.containers);
}

#[test]
fn what_cannot_be_is_told_with_its_place() {
    let cases = [
        ("livenessProbe: {periodSeconds: 5}", "9:20 it must have exec, httpGet, tcpSocket or grpc"),
        (
            "readinessProbe: {tcpSocket: {port: 1}, exec: {command: [x]}}",
            "9:21 it must have only one of exec, httpGet, tcpSocket or grpc",
        ),
        ("livenessProbe: {exec: {command: []}}", "9:37 command must begin with a program"),
        (
            "livenessProbe: {httpGet: {port: htpt}}",
            "9:37 no port of the container has the name \"htpt\" [did you mean \"http\"?]",
        ),
        ("livenessProbe: {tcpSocket: {port: 70000}}", "9:39 port must be from 1 to 65535"),
        (
            "livenessProbe: {tcpSocket: {port: 1, host: db.local}}",
            "9:48 host must be an address: names are not looked up in the container's network",
        ),
        ("readinessProbe: {grpc: {port: http}}", "9:35 port must be a whole number from 1 to 65535"),
        (
            "readinessProbe: {httpGet: {port: 1, path: \"/a b\"}}",
            "9:47 path must be printable ASCII without spaces [write %20 for a space]",
        ),
        (
            "readinessProbe: {httpGet: {port: 1, httpHeaders: [{name: \"a b\", value: c}]}}",
            "9:62 \"a b\" is not a valid name of a header",
        ),
        (
            "readinessProbe: {httpGet: {port: 1, httpHeaders: [{name: a, value: \"c\\r\\nX: y\"}]}}",
            "9:72 the value must not have control characters",
        ),
        (
            "livenessProbe: {tcpSocket: {port: 1}, successThreshold: 2}",
            "9:61 successThreshold of livenessProbe must be 1",
        ),
        (
            "readinessProbe: {tcpSocket: {port: 1}, terminationGracePeriodSeconds: 2}",
            "9:75 a readinessProbe does not stop containers: it has no grace period",
        ),
        (
            "lifecycle: {postStart: {tcpSocket: {port: 1}}}",
            "9:29 tcpSocket is not supported [Kubernetes itself does nothing with it.]",
        ),
        ("lifecycle: {preStop: {}}", "9:26 it must have exec, httpGet or sleep"),
    ];
    for (fields, expected) in cases {
        assert_eq!(short(&pod(fields)).first().map(String::as_str), Some(expected), "{fields}");
    }
}
