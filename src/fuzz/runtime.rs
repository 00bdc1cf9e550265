//! Inputs of `orun`.

use std::path::Path;

use crate::config::parse;
use crate::config::resources::Resources;
use crate::config::seccomp::Seccomp;
use crate::config::spec::{Process, Spec};
use crate::plan::checkpoint::rpc::Response;
use crate::plan::compile::{self, Options};
use crate::plan::facts::{HostFacts, SeccompFacts};
use crate::plan::validate::testing::facts;
use crate::plan::{Violation, device_filter, exec, explain, seccomp as filter};
use crate::runtime::plan::Report;
use crate::state::model::Record;

/// One violation is one line, whatever the document put into it, and names the property.
fn checked(violations: &[Violation]) {
    for v in violations {
        assert!(!v.property.is_empty() && !v.message.is_empty(), "{v:?}");
        let line = crate::log::printable(&v.to_string()).into_owned();
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}

/// A host of root's that has everything, and one of an ordinary user that has nothing.
fn hosts() -> [HostFacts; 2] {
    [facts(), HostFacts { euid: 1000, egid: 1000, ..HostFacts::default() }]
}

/// A config.json, to its plan and its words.
pub fn config(data: &[u8]) {
    let Ok(spec) = parse::json::<Spec>(data, "config.json") else { return };
    let options = Options::default();
    let input = compile::Input { id: "fuzz", bundle: Path::new("/bundle"), spec: &spec, options: &options };
    for facts in hosts() {
        match compile::compile(input, &facts) {
            Err(violations) => {
                assert!(!violations.is_empty());
                checked(&violations);
            }
            Ok(plan) => {
                assert_eq!(plan.steps.ops.len(), plan.steps.properties.len());
                assert!(plan.steps.ops.iter().all(|op| !explain::words(op).is_empty()));
                let text = Report::from_plan(&plan).to_string();
                assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
            }
        }
    }
}

/// The process.json of `exec --process`, in a container with the default configuration.
pub fn process(data: &[u8]) {
    let Ok(process) = parse::json::<Process>(data, "process.json") else { return };
    let spec = crate::plan::validate::testing::spec(|_| {});
    let input = exec::Input {
        id: "fuzz",
        bundle: Path::new("/bundle"),
        spec: &spec,
        process: &process,
        init: 2,
        other_user: false,
        no_new_keyring: false,
        preserve_fds: 0,
        extra_env: &[],
        moved: false,
    };
    for facts in hosts() {
        match exec::compile(input, &facts) {
            Err(violations) => checked(&violations),
            Ok(plan) => assert!(plan.steps.ops.iter().all(|op| !explain::words(op).is_empty())),
        }
    }
}

/// The resources of `update`.
pub fn resources(data: &[u8]) {
    let Ok(resources) = parse::json::<Resources>(data, "resources") else { return };
    let again = serde_json::to_vec(&resources).expect("resources are written as JSON");
    let read: Resources = serde_json::from_slice(&again).expect("JSON of ours is read");
    assert_eq!(serde_json::to_value(&read).ok(), serde_json::to_value(&resources).ok());
    if let Ok(rules) = device_filter::rules(&resources.devices, &[]) {
        let _ = device_filter::v1_writes(&rules);
    }
}

/// The state.json of a container.
pub fn record(data: &[u8]) {
    let Ok(record) = serde_json::from_slice::<Record>(data) else { return };
    let again = serde_json::to_vec(&record).expect("a record is written as JSON");
    serde_json::from_slice::<Record>(&again).expect("a record that was written is read");
}

/// A seccomp profile, to a filter that the kernel would take.
pub fn seccomp(data: &[u8]) {
    let Ok(profile) = parse::json::<Seccomp>(data, "profile") else { return };
    match filter::compile(&profile, &SeccompFacts::default()) {
        Err(violations) => checked(&violations),
        Ok(None) => {}
        Ok(Some(program)) => filter::verify(&program.filter),
    }
}

/// Device rules, to the program of version 2 and the lines of version 1: what a device may do is what the rules say.
pub fn device_filter(data: &[u8]) {
    device_filter::fuzz(data);
}

/// An answer of CRIU.
pub fn criu(data: &[u8]) {
    let _ = Response::parse(data);
}
