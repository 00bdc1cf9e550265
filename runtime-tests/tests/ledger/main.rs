//! The ledgers in `vendor-specs/` are complete and true: every property and every flag of the code has a row,
//! and every row names code and tests that exist.

mod fields;
mod outline;

use orun::cli::{args, parse};
use orun::config::spec::Spec;
use runtime_tests::ledger::{self, LEDGERS, Row};
use runtime_tests::matrix::Matrix;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

fn rows(name: &str) -> Vec<Row> {
    ledger::read(&top(), name).unwrap_or_else(|e| panic!("{e:?}"))
}

/// Fails with all complaints at once.
fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// Whether `file.rs::function` is a test: a function below a `#[test]`.
fn is_unit_test(file: &str, function: &str) -> bool {
    let Ok(text) = fs::read_to_string(top().join(file)) else { return false };
    let heads = [format!("fn {function}("), format!("fn {function}<")];
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(at, line)| {
        heads.iter().any(|h| line.starts_with(h.as_str()))
            && lines[..at]
                .iter()
                .rev()
                .take_while(|l| l.starts_with('#') || l.starts_with("//"))
                .any(|l| *l == "#[test]")
    })
}

#[test]
fn every_row_names_code_and_tests_that_exist() {
    let cases: BTreeSet<String> = Matrix::all().cases.into_iter().map(|c| c.name).collect();
    let mut complaints = Vec::new();
    for (name, _) in LEDGERS {
        let mut seen = BTreeSet::new();
        for row in rows(name) {
            let mut complain = |what: String| complaints.push(format!("{name}: {}: {what}", row.id));
            if !seen.insert(row.id.clone()) {
                complain("duplicate row".into());
            }
            if row.code.is_empty() {
                complain("no code".into());
            }
            for file in row.code.iter().filter(|f| !top().join(f).is_file()) {
                complain(format!("no file {file:?}"));
            }
            if row.tests.is_empty() && row.refused.is_none() {
                complain("no test".into());
            }
            for test in row.tests.iter().chain(&row.bad) {
                let there = match test.split_once("::") {
                    Some((file, function)) => is_unit_test(file, function),
                    None => cases.contains(test),
                };
                if !there {
                    complain(format!("no test {test:?}"));
                }
            }
            if let Some((file, words)) = &row.refused
                && !fs::read_to_string(top().join(file)).unwrap_or_default().contains(words.as_str())
            {
                complain(format!(
                    "{file} does not refuse it any more with {words:?}: name the tests that prove it"
                ));
            }
        }
    }
    none(complaints);
}

/// The gate tries them, but would not notice a column that is lost.
#[test]
fn a_third_of_the_rows_of_every_ledger_have_a_mutant() {
    for (name, _) in LEDGERS {
        let rows = rows(name);
        let with = rows.iter().filter(|r| r.mutant.is_some()).count();
        assert!(with * 3 > rows.len(), "{name}: {with} of {}", rows.len());
    }
}

/// Demands that the ledger has just these rows.
fn compare(ledger: &str, there: &BTreeSet<String>) -> Vec<String> {
    let have: BTreeSet<String> = rows(ledger).into_iter().map(|r| r.id).collect();
    let missing = there.difference(&have).map(|id| format!("{ledger}: no row for {id:?}"));
    let stale = have.difference(there).map(|id| format!("{ledger}: the code has no {id:?}"));
    missing.chain(stale).collect()
}

#[test]
fn every_property_of_the_types_has_a_row_with_good_and_bad_input() {
    let there = outline::of::<Spec>().into_iter().map(|p| p.path).collect();
    let mut complaints = compare("properties", &there);
    let without = rows("properties").into_iter().filter(|r| r.bad.is_empty());
    complaints.extend(without.map(|r| format!("properties: {}: no test with bad input", r.id)));
    none(complaints);
}

#[test]
fn every_flag_of_the_command_line_has_a_row() {
    let mut there = BTreeSet::new();
    let mut globals = BTreeSet::new();
    for (i, verb) in args::NAMES.iter().enumerate() {
        let command = parse::command_of("orun", verb).expect("NAMES are those of the verbs");
        let mut flags = BTreeSet::new();
        for arg in command.get_arguments() {
            let aliases = arg.get_all_aliases().unwrap_or_default();
            flags.extend(arg.get_long().into_iter().chain(aliases).map(str::to_owned));
        }
        // Those of every verb are the global ones.
        globals = if i == 0 { flags.clone() } else { &globals & &flags };
        there.insert((*verb).to_owned());
        there.extend(flags.iter().map(|f| format!("{verb} --{f}")));
    }
    there.retain(|id| id.split_once(" --").is_none_or(|(_, f)| !globals.contains(f)));
    there.extend(globals.iter().map(|f| format!("global --{f}")));
    // Words that are looked at before clap sees them.
    there.extend(["global --version", "global --help", "spec --rootless"].map(str::to_owned));
    none(compare("cli", &there));
}

#[test]
fn features_tell_what_the_types_have() {
    let features = orun::runtime::features::features();
    let paths: BTreeSet<String> = outline::of::<Spec>().into_iter().map(|p| p.path).collect();
    let hooks: BTreeSet<_> = paths
        .iter()
        .filter_map(|p| p.strip_prefix("hooks.").and_then(|p| p.strip_suffix("[].path")))
        .collect();
    let named: BTreeSet<_> =
        features["hooks"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert_eq!(named, hooks);
    for (told, path) in [
        ("/linux/netDevices/enabled", "linux.netDevices"),
        ("/linux/intelRdt/enabled", "linux.intelRdt"),
        ("/linux/intelRdt/schemata", "linux.intelRdt.schemata"),
        ("/linux/intelRdt/monitoring", "linux.intelRdt.enableMonitoring"),
        ("/linux/mountExtensions/idmap/enabled", "mounts[].uidMappings"),
        ("/linux/cgroup/rdma", "linux.resources.rdma"),
        ("/linux/seccomp/enabled", "linux.seccomp"),
        ("/linux/apparmor/enabled", "process.apparmorProfile"),
        ("/linux/selinux/enabled", "process.selinuxLabel"),
    ] {
        assert_eq!(features.pointer(told), Some(&json!(paths.contains(path))), "{told}");
    }
    // What is refused is not announced, and what is announced is not refused.
    let refused = |id: &str| rows("cli").iter().any(|r| r.id == id && r.refused.is_some());
    assert_eq!(features["linux"]["cgroup"]["systemd"], json!(!refused("global --systemd-cgroup")));
    let checkpoint = &features["annotations"]["org.opencontainers.runc.checkpoint.enabled"];
    assert_eq!(*checkpoint, json!((!refused("checkpoint")).to_string()));
}

/// The source text of the product, without its unit tests.
fn product(dir: &Path, out: &mut String) {
    for path in fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()) {
        if path.is_dir() {
            product(&path, out);
        } else if !path.ends_with("tests.rs") {
            let text = fs::read_to_string(&path).unwrap_or_default();
            out.push_str(text.split("#[cfg(test)]\nmod ").next().unwrap_or_default());
        }
    }
}

#[test]
fn annotations_that_change_behaviour_are_announced() {
    let features = orun::runtime::features::features();
    let told: Vec<_> = features["potentiallyUnsafeConfigAnnotations"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut text = String::new();
    product(&top().join("src"), &mut text);
    // An annotation that changes something stands in the code by its name.
    let families = [
        "org.systemd.",
        "org.criu.",
        "run.oci.",
        "run.orun.",
        "io.kubernetes.",
        "io.containerd.",
        "io.podman.",
    ];
    // The third is one of an image layout's index, and not of a container.
    let own = ["run.orun.version", "run.orun.commit", "io.containerd.image.name"];
    for family in families {
        for (at, _) in text.match_indices(&format!("\"{family}")) {
            let name = text[at + 1..].split('"').next().unwrap_or_default();
            let known =
                own.contains(&name) || told.iter().any(|t| name.starts_with(t) || t.starts_with(name));
            assert!(known, "the annotation {name:?} is used, and features does not announce it");
        }
    }
    let unused = told.iter().filter(|t| text.matches(&format!("\"{t}")).count() == 0).collect::<Vec<_>>();
    assert!(unused.is_empty(), "announced, and nowhere in the code: {unused:?}");
}

/// A document in which only the property at `path` is set.
fn document(path: &str, value: Value) -> Value {
    let mut doc = value;
    for part in path.split('.').rev() {
        let (name, kind) = match (part.strip_suffix("[]"), part.strip_suffix("{}")) {
            (Some(name), _) => (name, '['),
            (_, Some(name)) => (name, '{'),
            _ => (part, ' '),
        };
        doc = match kind {
            '[' => json!({name: [doc]}),
            '{' => json!({name: {"key": doc}}),
            _ => json!({name: doc}),
        };
    }
    doc
}

#[test]
fn a_value_of_the_wrong_type_is_an_error_for_every_property() {
    for p in outline::of::<Spec>() {
        for value in [if p.composed { json!(true) } else { json!([]) }, json!({"a": "b"}), json!("text")] {
            let is_text = value.is_string() || value.is_object();
            let doc = document(&p.path, value).to_string();
            let read = orun::config::parse::json::<Spec>(doc.as_bytes(), "config.json");
            match read {
                Ok(_) => assert!(is_text, "{doc} is read without an error"),
                Err(e) => {
                    let last = p.path.rsplit(['.', '[', '{']).find(|s| s.len() > 1).unwrap_or_default();
                    assert!(e.to_string().contains(last), "{doc}: the error does not name the property: {e}");
                }
            }
        }
    }
}

#[test]
fn every_property_may_be_null() {
    for p in outline::of::<Spec>() {
        let required = [
            "containerID",
            "hostID",
            "size",
            "height",
            "width",
            "major",
            "minor",
            "rate",
            "name",
            "priority",
            "pageSize",
            "limit",
            "soft",
            "hard",
        ];
        if required.iter().any(|r| p.path.ends_with(&format!(".{r}"))) {
            continue;
        }
        let doc = document(&p.path, Value::Null).to_string();
        if let Err(e) = orun::config::parse::json::<Spec>(doc.as_bytes(), "config.json") {
            panic!("{doc}: {e}");
        }
    }
}

#[test]
fn the_tables_are_those_of_the_ledgers() {
    let top = top();
    let summarized = fs::read_to_string(top.join(ledger::SUMMARY)).unwrap_or_default();
    let page = fs::read_to_string(top.join(ledger::PAGE)).unwrap_or_default();
    let summary = ledger::summary(&top).unwrap_or_else(|e| panic!("{e:?}"));
    let told = "run \"runtime-tests --write-ledger .\"";
    assert!(
        ledger::with_summary(&summarized, &summary).is_ok_and(|new| new == summarized),
        "{} is not current: {told}",
        ledger::SUMMARY
    );
    assert!(ledger::page(&top).is_ok_and(|new| new == page), "{} is not current: {told}", ledger::PAGE);
}

#[test]
fn the_tests_find_what_they_look_for() {
    assert!(is_unit_test("runtime-tests/tests/ledger/main.rs", "the_tests_find_what_they_look_for"));
    assert!(!is_unit_test("runtime-tests/tests/ledger/main.rs", "document"), "no test");
    assert!(!is_unit_test("runtime-tests/tests/ledger/main.rs", "missing"));
    assert!(!is_unit_test("src/missing.rs", "missing"));
    let doc = document("linux.devices[].path", json!(1));
    assert_eq!(doc, json!({"linux": {"devices": [{"path": 1}]}}));
    assert_eq!(document("linux.sysctl", json!(null)), json!({"linux": {"sysctl": null}}));
    let paths: Vec<_> = outline::of::<Spec>().into_iter().map(|p| p.path).collect();
    for path in [
        "ociVersion",
        "mounts[].options",
        "linux.netDevices{}.name",
        "linux.resources.memory.disableOOMKiller",
    ] {
        assert!(paths.iter().any(|p| p == path), "{path} is not among {paths:?}");
    }
}
