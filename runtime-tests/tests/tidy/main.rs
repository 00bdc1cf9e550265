//! The rules of the architecture, read from the source text: which layer may use which, where `unsafe` is allowed,
//! which parts are pure, and how long a file or a function may be.

mod cycles;
mod matches;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers from the lowest to the highest. A module may use its own layer and those below.
const LAYERS: [&[&str]; 9] = [
    &["error", "log", "mutant", "sys"],
    &["config", "workload"],
    &["plan"],
    &["kernel"],
    &["state"],
    &["runtime", "image", "network"],
    &["supervisor"],
    &["cli", "api", "shim", "orund"],
    &["fuzz"],
];

/// Modules below the layer of their folder, and the highest layer that they may use: they are pure.
const PURE: [(&str, usize); 6] = [
    ("src/plan/", 2),
    ("src/supervisor/core/", 1),
    ("src/workload/", 1),
    ("src/image/bundle", 1),
    ("src/image/configuration", 1),
    ("src/image/reference", 1),
];

/// What a pure module must not touch: the file system, the clock, the environment, chance, threads, processes.
const IMPURE: [&str; 9] = [
    "std::fs",
    "std::time",
    "std::env",
    "std::thread",
    "std::process",
    "std::net",
    "rand::",
    "nix::",
    "crate::sys",
];

/// What looks impure and is data: a constant of the compiler, and the kernel's structures that a plan holds.
const DATA: [&str; 6] = [
    "std::env::consts",
    "crate::sys::bpf::Instruction",
    "crate::sys::exec::StringArray",
    "crate::sys::mount::MountAttr",
    "crate::sys::prctl::SockFilter",
    "crate::sys::sched::SchedAttr",
];

/// State is above kernel without knowing it.
const FORBIDDEN: [(&str, &str); 2] = [("state", "kernel"), ("state", "plan")];

/// Where tokio may appear: in the parts that wait for many things at once. `orun` has none of them. tokio's registration
/// of a descriptor is `unsafe`, so that the adapter lies in `sys`.
const ASYNC: [&str; 5] =
    ["src/api/", "src/orund/", "src/supervisor/shell/", "src/network/proxy/", "src/sys/watched.rs"];

const LONGEST_FILE: usize = 600;
const LONGEST_FUNCTION: usize = 70;

struct Source {
    /// Relative to the top of the workspace.
    path: String,
    lines: Vec<String>,
}

impl Source {
    /// The lines before the unit tests, which may do what they like.
    fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests = self.lines.windows(2).position(|w| w[0] == "#[cfg(test)]" && w[1].starts_with("mod "));
        let end = tests.unwrap_or(self.lines.len());
        self.lines[..end].iter().enumerate().map(|(n, l)| (n + 1, code(l)))
    }

    /// The first folder or file name below src/.
    fn module(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        below.split(['/', '.']).next().unwrap_or("")
    }
}

/// A line without its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or("")
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&top().join(folder), &mut found);
    assert!(!found.is_empty(), "no sources in {folder}");
    found
}

fn collect(dir: &Path, found: &mut Vec<Source>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let path = path.strip_prefix(top()).unwrap_or(&path).to_string_lossy().into_owned();
            found.push(Source { path, lines: text.lines().map(str::to_owned).collect() });
        }
    }
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// The modules of the crate that a piece of code names: `crate::a::b`, `crate::{a, b::c}`.
fn named_modules(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            names.extend(first_words_of_group(list));
        } else {
            names.push(first_word(rest));
        }
    }
    names.retain(|n| !n.is_empty());
    names
}

/// Whether a line has `name` other than as the end of a longer word, as `unix::` has `nix::`.
fn names(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

fn first_word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first word of each entry of `a, b::{c, d}}`, up to the brace that closes the group.
fn first_words_of_group(list: &str) -> Vec<String> {
    let (mut depth, mut entries, mut entry) = (0, Vec::new(), String::new());
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => entries.push(std::mem::take(&mut entry)),
            _ => {}
        }
        entry.push(c);
    }
    entries.push(entry);
    entries.iter().map(|e| first_word(e.trim_start_matches(','))).collect()
}

fn report(problems: &[String]) {
    let mut text = String::new();
    for problem in problems {
        let _ = writeln!(text, "  {problem}");
    }
    assert!(problems.is_empty(), "\n{text}");
}

/// Problems with the imports of one source.
fn import_problems(source: &Source) -> Vec<String> {
    let Some(own) = layer(source.module()) else { return Vec::new() };
    let limit =
        PURE.iter().find(|(folder, _)| source.path.starts_with(folder)).map_or(own, |(_, limit)| *limit);
    let product: Vec<&str> = source.product_lines().map(|(_, line)| line).collect();
    let mut problems = Vec::new();
    for name in named_modules(&product.join("\n")) {
        let same_pure_part = source.path.starts_with("src/supervisor/core/") && name == "supervisor";
        let Some(other) = layer(&name) else { continue };
        let forbidden = FORBIDDEN.contains(&(source.module(), name.as_str()));
        if (other > limit && !same_pure_part) || forbidden {
            problems.push(format!("{}: uses crate::{name}, which is above it", source.path));
        }
    }
    problems
}

#[test]
fn arrows_point_down() {
    report(&sources("src").iter().flat_map(import_problems).collect::<Vec<_>>());
}

#[test]
fn nothing_strange_is_at_the_top() {
    let known = ["src", "runtime-tests", "scripts", "vendor-specs", "docs", "fuzz", "tests", "target"];
    let folders = fs::read_dir(top()).unwrap().flatten().filter(|e| e.path().is_dir());
    let names = folders.map(|e| e.file_name().to_string_lossy().into_owned());
    let strange = names.filter(|n| !n.starts_with('.') && !known.contains(&n.as_str()));
    report(
        &strange
            .map(|n| format!("{n}/: what a test left behind? remove it, or name it here"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn every_module_has_a_layer() {
    let lib = fs::read_to_string(top().join("src/lib.rs")).unwrap_or_default();
    let declared = lib.lines().filter_map(|l| l.trim().trim_start_matches("pub ").strip_prefix("mod "));
    let unknown: Vec<String> = declared
        .map(|l| l.trim_end_matches([';', '{', ' ']).to_owned())
        .filter(|m| layer(m).is_none() && m != "tests")
        .map(|m| format!("src/lib.rs: module {m} is in no layer"))
        .collect();
    report(&unknown);
}

#[test]
fn no_file_uses_itself_through_others() {
    let sources = sources("src").into_iter().map(|source| (source.path, source.lines.join("\n")));
    report(&cycles::Files::read(sources).cycles());
}

#[test]
fn only_the_shell_waits_with_tokio() {
    let mut problems = Vec::new();
    for source in sources("src").iter().filter(|s| !ASYNC.iter().any(|part| s.path.starts_with(part))) {
        for (number, line) in source.product_lines().filter(|(_, line)| names(line, "tokio")) {
            problems.push(format!("{}:{number}: {}", source.path, line.trim()));
        }
    }
    report(&problems);
}

#[test]
fn no_operation_is_left_to_a_catch_all_arm() {
    let mut problems = Vec::new();
    // The seccomp compiler has an `Op` of its own.
    for source in sources("src").iter().filter(|s| !s.path.starts_with("src/plan/seccomp/")) {
        for line in matches::catch_all_arms(&source.lines.join("\n")) {
            problems.push(format!("{}:{line}: list the operations, or use matches! or if let", source.path));
        }
    }
    report(&problems);
}

#[test]
fn unsafe_stands_in_sys_only() {
    let mut problems = Vec::new();
    for source in sources("src").iter().filter(|s| !s.path.starts_with("src/sys/") && s.path != "src/sys.rs")
    {
        for (number, line) in source.product_lines() {
            let words: Vec<&str> = line.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
            let naming_the_lint = line.contains("unsafe_code");
            if words.contains(&"unsafe") && !naming_the_lint {
                problems.push(format!("{}:{number}: unsafe", source.path));
            }
        }
    }
    report(&problems);
}

#[test]
fn pure_modules_touch_nothing() {
    let mut problems = Vec::new();
    for source in sources("src").iter().filter(|s| PURE.iter().any(|(folder, _)| s.path.starts_with(folder)))
    {
        for (number, line) in source.product_lines() {
            let line = DATA.iter().fold(line.to_owned(), |line, data| line.replace(data, ""));
            for name in IMPURE.iter().filter(|name| names(&line, name)) {
                // Numbers and names of system calls are data; libc's functions need `unsafe` and are found above.
                problems.push(format!("{}:{number}: {name} in a pure module", source.path));
            }
        }
    }
    report(&problems);
}

#[test]
fn files_are_short() {
    let mut problems = Vec::new();
    for source in ["src", "runtime-tests/src", "runtime-tests/tests"].iter().flat_map(|f| sources(f)) {
        if source.lines.len() > LONGEST_FILE {
            problems.push(format!("{}: {} lines", source.path, source.lines.len()));
        }
    }
    report(&problems);
}

/// Name, first line and length of every function, by the indentation that rustfmt gives.
fn functions(source: &Source) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for (index, line) in source.lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let Some(at) = line.find("fn ") else { continue };
        let before = line[indent..at].trim();
        let is_item = before.split_whitespace().all(|w| {
            ["pub", "const", "unsafe", "async", "extern", "\"C\""].contains(&w) || w.starts_with("pub(")
        });
        if !is_item || line.trim_end().ends_with([';', '}']) {
            continue;
        }
        let close = format!("{}}}", " ".repeat(indent));
        if let Some(length) = source.lines[index..].iter().position(|l| *l == close) {
            found.push((first_word(&line[at + 3..]), index + 1, length + 1));
        }
    }
    found
}

#[test]
fn functions_are_short() {
    let mut problems = Vec::new();
    for source in sources("src") {
        for (name, line, length) in functions(&source) {
            if length > LONGEST_FUNCTION {
                problems.push(format!("{}:{line}: fn {name} has {length} lines", source.path));
            }
        }
    }
    report(&problems);
}

/// Lines of tests that return early without [`skip`] having reported it: such a test passes and has tested nothing.
fn silent_skips(source: &Source) -> Vec<usize> {
    let reports =
        |line: &String| ["can_run()", "is_root()", "skip(", "_host("].iter().any(|w| line.contains(w));
    let early = |n: usize| {
        source.lines[n].trim() == "return;" && !source.lines[n.saturating_sub(2)..n].iter().any(reports)
    };
    let printed =
        |n: usize| ["\"skipped", "\"SKIP"].iter().any(|w| source.lines[n].contains(&format!("println!({w}")));
    (0..source.lines.len()).filter(|n| early(*n) || printed(*n)).map(|n| n + 1).collect()
}

#[test]
fn a_test_that_does_not_run_reports_it() {
    let mut problems = Vec::new();
    // The tests that need root, or something of the host.
    let detects = sources("runtime-tests/tests").into_iter().filter(|s| s.path.ends_with("/detects.rs"));
    for source in sources("tests/orund").into_iter().chain(sources("tests/cgroup")).chain(detects) {
        problems.extend(silent_skips(&source).iter().map(|n| format!("{}:{n}: use skip()", source.path)));
    }
    report(&problems);
}

/// The rules themselves must be able to fail.
#[test]
fn the_rules_find_what_they_look_for() {
    assert_eq!(named_modules("use crate::plan::Op;"), ["plan"]);
    assert_eq!(named_modules("use crate::{cli::Args, plan::{Op, Plan}, error};"), ["cli", "plan", "error"]);
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let up =
        Source { path: "src/plan/mounts.rs".into(), lines: lines("use crate::{\n    kernel::probe,\n};") };
    assert_eq!(import_problems(&up).len(), 1);
    let down = Source { path: "src/kernel/launch.rs".into(), lines: lines("use crate::plan::Op;") };
    assert_eq!(import_problems(&down).len(), 0);
    let core = Source { path: "src/supervisor/core/mod.rs".into(), lines: lines("use crate::plan::Op;") };
    assert_eq!(import_problems(&core).len(), 1);
    let own =
        Source { path: "src/supervisor/core/a.rs".into(), lines: lines("use crate::supervisor::core::b;") };
    assert_eq!(import_problems(&own).len(), 0);
    let tests =
        Source { path: "src/plan/a.rs".into(), lines: lines("#[cfg(test)]\nmod tests {\nuse crate::cli;") };
    assert_eq!(import_problems(&tests).len(), 0);
    let quiet = "    if !ready {\n        return;\n    }\n    if !can_run() {\n        return;\n    }";
    let quiet = Source { path: "tests/a.rs".into(), lines: lines(quiet) };
    assert_eq!(silent_skips(&quiet), [2]);
    let long = format!("impl A {{\n    pub fn long() {{\n{}    }}\n}}", "        x();\n".repeat(80));
    let long = Source { path: "src/plan/a.rs".into(), lines: lines(&long) };
    assert_eq!(functions(&long), [("long".to_owned(), 2, 82)]);
}
