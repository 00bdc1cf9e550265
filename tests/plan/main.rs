//! Plans as text, compared with the files in `tests/plans`, and the rules of their order. Neither needs root.
//!
//! `ORUN_UPDATE_PLANS=1 cargo test --test plan` writes the files again; the commit then shows the change.

mod bundles;
mod hosts;
mod order;

use orun::config::parse;
use orun::config::spec::Spec;
use orun::plan::compile::{Input, Options, Plan, compile};
use orun::plan::facts::HostFacts;
use orun::runtime::plan::Report;
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;

/// Compiles the bundle /srv/bundle for `create` of container c1.
fn plan(config: &Value, options: &Options, facts: &HostFacts) -> Result<Plan, String> {
    let spec: Spec = parse::json(config.to_string().as_bytes(), "config.json").map_err(|e| e.to_string())?;
    let input = Input { id: "c1", bundle: Path::new("/srv/bundle"), spec: &spec, options };
    compile(input, facts).map_err(|all| all.iter().map(|v| format!("{v}\n")).collect())
}

#[track_caller]
fn golden(name: &str, config: &Value, facts: &HostFacts) {
    let options = Options { wait_for_start: true, rootfs_mountpoint: "/srv".into(), ..Options::default() };
    let text = Report::from_plan(&plan(config, &options, facts).unwrap()).to_string();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans").join(format!("{name}.txt"));
    if std::env::var_os("ORUN_UPDATE_PLANS").is_some() {
        std::fs::write(&file, text).unwrap();
        return;
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == text, "{} differs (- the file, + the plan):\n{}", file.display(), diff(&kept, &text));
}

/// The lines that differ, by the longest common subsequence of lines. Numbers of operations do not count: one more
/// changes all that follow.
fn diff(old: &str, new: &str) -> String {
    let without_number = |line| str::trim_start_matches(line, |c: char| c == ' ' || c.is_ascii_digit());
    let old: Vec<_> = old.lines().map(without_number).collect();
    let new: Vec<_> = new.lines().map(without_number).collect();
    let mut common = vec![vec![0; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, String::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            let _ = writeln!(out, "-{}", old[i]);
            i += 1;
        } else {
            let _ = writeln!(out, "+{}", new[j]);
            j += 1;
        }
    }
    out
}

#[test]
fn plain_bundle_on_version_2() {
    golden("plain-v2", &bundles::plain(), &hosts::unified());
}

#[test]
fn plain_bundle_on_a_hybrid_host() {
    golden("plain-hybrid", &bundles::plain(), &hosts::hybrid());
}

#[test]
fn engine_bundle_on_version_2() {
    golden("engine-v2", &bundles::engine(), &hosts::unified());
}

#[test]
fn engine_bundle_on_a_hybrid_host() {
    golden("engine-hybrid", &bundles::engine(), &hosts::hybrid());
}

#[test]
fn joined_namespaces() {
    golden("joined-v2", &bundles::joined(), &hosts::unified());
}

#[test]
fn rootless_bundle() {
    golden("rootless-v2", &bundles::rootless(), &hosts::user());
}

#[test]
fn unusual_properties() {
    golden("unusual-v2", &bundles::unusual(), &hosts::unified());
}

#[test]
fn the_diff_shows_what_changed() {
    assert_eq!(diff("a\nb\nc\n", "a\nx\nc\nd\n"), "-b\n+x\n+d\n");
    assert_eq!(diff("   8  a\n   9  b\n", "   8  x\n   9  a\n  10  b\n"), "+x\n");
}
