//! The part of fuzzing in the gate: the corpus of each target, and inputs derived from it for a second of processor time.
//! `ORUN_FUZZ_SECONDS` sets another time, `ORUN_FUZZ_TARGET` a single target, `ORUN_FUZZ_SEED` the first number.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::sys::time;

use super::mutate::{Numbers, input};
use super::{TARGETS, Target};

/// No input is longer: what is slow is slow by its shape.
const LONGEST: usize = 4096;
/// Processor time that one input may take. Without optimization the code is some twenty times slower than what people run.
const MOST_TIME: Duration = Duration::from_secs(1);
/// Memory that all inputs of a target may take together, in kB.
const MOST_MEMORY: i64 = 200_000;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let dir = root().join("fuzz/corpus").join(target.name);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{dir:?}: {e}"));
    let mut files: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    files.sort();
    files.iter().map(|f| std::fs::read(f).unwrap()).collect()
}

fn processor_time() -> Duration {
    Duration::from_nanos(time::thread_cpu_ns())
}

/// The most memory that this process has had, in kB.
fn peak() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{name} is not a number: {v}")))
}

/// Passes one input; where it fails, even by a signal, the file that this leaves has it.
fn pass(target: &Target, data: &[u8], note: &File) {
    // Not by a new file or one of no length, which file systems are careful with.
    note.write_all_at(data, 0).unwrap();
    note.set_len(data.len().max(1) as u64).unwrap();
    let begin = processor_time();
    (target.run)(data);
    let took = processor_time() - begin;
    assert!(took < MOST_TIME, "{}: an input took {took:?}", target.name);
}

/// A process of its own for each target: its memory is counted, and one that aborts names its input.
#[test]
#[ignore = "every_target_answers_whatever_comes runs it"]
fn one_target() {
    let name = std::env::var("ORUN_FUZZ_TARGET").expect("ORUN_FUZZ_TARGET names a target");
    let target = TARGETS.iter().find(|t| t.name == name).expect("a target of that name");
    let path = std::env::temp_dir().join(format!("orun-fuzz-{name}-{}", std::process::id()));
    let note = File::create(&path).unwrap();
    let all = corpus(target);
    let base = peak();
    all.iter().for_each(|data| pass(target, data, &note));
    let mut numbers = Numbers::new(number("ORUN_FUZZ_SEED", 1));
    let time = Duration::from_secs(number("ORUN_FUZZ_SECONDS", 1));
    let (begin, mut count) = (processor_time(), all.len());
    while processor_time() - begin < time {
        pass(target, &input(&all, &mut numbers, LONGEST), &note);
        count += 1;
    }
    let grown = peak() - base;
    assert!(grown < MOST_MEMORY, "{name}: {grown} kB");
    println!("{name}: {count} inputs, {grown} kB");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn every_target_answers_whatever_comes() {
    let one = |name: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "fuzz::bounded::one_target", "--ignored", "--nocapture"]);
        command.env("ORUN_FUZZ_TARGET", name).output().unwrap()
    };
    let mut failed = Vec::new();
    for target in TARGETS {
        let output = one(target.name);
        if !output.status.success() {
            let text = [output.stdout, output.stderr].concat();
            failed.push(format!("{}: {}", target.name, String::from_utf8_lossy(&text)));
        }
    }
    assert!(
        failed.is_empty(),
        "the input is in the file orun-fuzz-TARGET-PID of the temporary directory:\n{}",
        failed.join("\n")
    );
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    for target in TARGETS {
        let file = root().join(format!("fuzz/fuzz_targets/{}.rs", target.name));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file:?}: {e}"));
        assert!(text.contains(&format!("orun::fuzz::run(\"{}\", data)", target.name)), "{file:?}");
        assert!(!corpus(target).is_empty());
    }
}
