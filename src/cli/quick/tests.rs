use super::*;
use crate::cli::parse::{self, Parsed};
use proptest::prelude::*;

fn words(line: &[&str]) -> Vec<OsString> {
    line.iter().map(OsString::from).collect()
}

/// clap reads the same from what is read here.
fn agrees(line: &[&str]) -> bool {
    let Some(quick) = parse(&words(line)) else { return false };
    match parse::parse_with_clap("orun", words(line)) {
        Ok(Parsed::Verb(slow)) => assert_eq!(quick, *slow, "{line:?}"),
        other => panic!("{line:?}: quick {quick:?}, clap {other:?}"),
    }
    true
}

#[test]
fn what_engines_write_is_read_without_clap() {
    for line in [
        "--root /r --log /l --log-format json --systemd-cgroup create --bundle /b --pid-file /p --console-socket /s c1",
        "--root /r create --bundle=/b -f /c --preserve-fds 3 --no-pivot --no-new-keyring c1",
        "--root=/r --debug start c1",
        "run -b /b -d --keep -t --no-subreaper --pidfd-socket /s c1",
        "run /bundle",
        "--log /l --log-format json exec --process /p --detach --pid-file /f c1",
        "exec -t -u 1:2 -e A=B --env C=D=E --cwd / -g 3 --additional-gids 4 --cgroup x --cgroup y c1 sh -c true -- --help",
        "exec c1 /bin/true",
        "--root /r state c1",
        "kill --all c1 9",
        "kill c1",
        "kill -a c1 SIGTERM",
        "delete --force c1",
        "list -q --format json",
        "list",
    ] {
        let line: Vec<&str> = line.split(' ').collect();
        assert!(agrees(&line), "{line:?} is left to clap");
    }
}

#[test]
fn what_is_unusual_is_left_to_clap() {
    for line in [
        "",
        "--help",
        "state",
        "state a b",
        "state --help c1",
        "state c1 --debug",
        "-root /r state c1",
        "--root= state c1",
        "--root -r state c1",
        "--debug=true state c1",
        "spec --rootless",
        "kill c1 NONE",
        "list --format xml",
        "list x",
        "exec c1 -t sh",
        "exec -d",
        "create --preserve-fds +1 c1",
        "create -b=/b c1",
        "run -dt c1",
        "--version",
        "- state c1",
        "delete -- c1",
        "exec --no-such c1 sh",
    ] {
        let line: Vec<&str> = line.split(' ').filter(|w| !w.is_empty()).collect();
        assert_eq!(parse(&words(&line)), None, "{line:?}");
    }
}

const POOL: [&str; 60] = [
    "--root",
    "--root=/r",
    "/r",
    "--log",
    "--log-format",
    "json",
    "--log-level",
    "--debug",
    "--systemd-cgroup",
    "--cgroup-manager",
    "--rootless",
    "true",
    "create",
    "run",
    "exec",
    "start",
    "state",
    "delete",
    "kill",
    "list",
    "c1",
    "c1",
    "c2",
    "--bundle",
    "-b",
    "--console-socket",
    "--pid-file",
    "--pidfd-socket",
    "--no-pivot",
    "--no-new-keyring",
    "--preserve-fds",
    "3",
    "007",
    "4294967296",
    "--config",
    "-f",
    "--detach",
    "-d",
    "--keep",
    "--tty",
    "-t",
    "--process",
    "--process=/p",
    "-p",
    "--cwd",
    "--env",
    "-e",
    "A=B",
    "-u",
    "1:2",
    "-g",
    "--cgroup",
    "--force",
    "-a",
    "KILL",
    "9",
    "-q",
    "--format",
    "--",
    "--help",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

    #[test]
    fn clap_agrees_on_any_words(
        global in prop::collection::vec(0..12usize, 0..4),
        verb in 12..20usize,
        rest in prop::collection::vec(0..POOL.len(), 0..8),
    ) {
        let line: Vec<&str> = global.into_iter().chain([verb]).chain(rest).map(|n| POOL[n]).collect();
        agrees(&line);
    }

    /// Mostly flags with what they take, so that many lines are read here.
    #[test]
    fn clap_agrees_on_likely_words(
        verb in 12..20usize,
        pairs in prop::collection::vec((23..54usize, prop::option::of(20..60usize)), 0..5),
        end in prop::collection::vec(20..60usize, 0..4),
    ) {
        let flags = pairs.into_iter().flat_map(|(flag, value)| [Some(flag), value]).flatten();
        let line: Vec<&str> = [verb].into_iter().chain(flags).chain([20]).chain(end).map(|n| POOL[n]).collect();
        agrees(&line);
    }
}
