use super::super::args::Verb;
use super::*;
use std::path::PathBuf;
use std::time::Duration;

fn words(line: &str) -> Vec<OsString> {
    line.split(' ').map(OsString::from).collect()
}

fn verb(line: &str) -> (Global, Verb) {
    match parse("orun", words(line)) {
        Ok(Parsed::Verb(i)) => (i.global, i.verb),
        other => panic!("{line}: {other:?}"),
    }
}

fn fails(line: &str) -> String {
    let e = parse("orun", words(line)).expect_err(line);
    assert_eq!(e.kind(), Kind::Usage);
    e.to_string()
}

macro_rules! get {
    ($verb:ident, $line:expr) => {
        match verb($line) {
            (g, Verb::$verb(v)) => (g, v),
            other => panic!("{other:?}"),
        }
    };
}

fn path(p: &str) -> Option<PathBuf> {
    Some(PathBuf::from(p))
}

const SHIM: &str = "--root /run/R/k8s.io --log /b/log.json --log-format json";

#[test]
fn the_containerd_shim() {
    let (g, c) = get!(
        Create,
        &format!(
            "{SHIM} --systemd-cgroup create --bundle /b --pid-file /b/init.pid --console-socket /s --no-pivot --no-new-keyring c1"
        )
    );
    assert_eq!(g.root, path("/run/R/k8s.io"));
    assert_eq!(g.log.as_deref(), Some("/b/log.json"));
    assert_eq!(g.log_format, "json");
    assert!(g.systemd_cgroup);
    assert_eq!(c.id, "c1");
    assert_eq!(c.flags.bundle, path("/b"));
    assert_eq!(c.flags.pid_file, path("/b/init.pid"));
    assert_eq!(c.flags.console_socket, path("/s"));
    assert!(c.flags.no_pivot && c.flags.no_new_keyring);

    assert_eq!(get!(Start, &format!("{SHIM} start c1")).1.id, "c1");
    assert!(!get!(Delete, &format!("{SHIM} delete c1")).1.force);
    assert!(get!(Delete, &format!("{SHIM} delete --force c1")).1.force);
    let k = get!(Kill, &format!("{SHIM} kill --all c1 9")).1;
    assert_eq!((k.all, k.id.as_str(), k.signal), (true, "c1", 9));
    assert_eq!(get!(Kill, &format!("{SHIM} kill c1 15")).1.signal, 15);
    let e = get!(
        Exec,
        &format!(
            "{SHIM} exec --process /tmp/runc-process1 --console-socket /s --detach --pid-file /b/x.pid c1"
        )
    )
    .1;
    assert_eq!((e.process, e.console_socket), (path("/tmp/runc-process1"), path("/s")));
    assert!(e.detach && e.command.is_empty());
    let p = get!(Ps, &format!("{SHIM} ps --format json c1")).1;
    assert_eq!((p.format.as_str(), p.options.len()), ("json", 0));
    assert_eq!(get!(Update, &format!("{SHIM} update --resources=- c1")).1.resources, path("-"));
    assert_eq!(get!(Update, &format!("{SHIM} update --resources - c1")).1.resources, path("-"));
    assert_eq!(get!(Pause, &format!("{SHIM} pause c1")).1.id, "c1");
    assert_eq!(get!(Resume, &format!("{SHIM} resume c1")).1.id, "c1");
    assert!(
        get!(Checkpoint, &format!("{SHIM} checkpoint --image-path /i --work-path /w --leave-running c1"))
            .1
            .leave_running
    );
    let r = get!(
        Restore,
        &format!("{SHIM} restore --image-path /i --work-path /w --detach --pid-file /p -no-subreaper --bundle /b c1")
    )
    .1;
    assert_eq!((r.pid_file, r.bundle, r.detach, r.no_subreaper), (path("/p"), path("/b"), true, true));
    let e = get!(Events, &format!("{SHIM} events --interval=5s c1")).1;
    assert_eq!((e.interval, e.stats), (Duration::from_secs(5), false));
    assert!(get!(Events, &format!("{SHIM} events --stats c1")).1.stats);
    assert_eq!(get!(List, &format!("{SHIM} list --format=json")).1.format, "json");
}

#[test]
fn dockers_top() {
    let Ok(Parsed::Verb(i)) = parse(
        "orun",
        vec!["ps".into(), "--format".into(), "table".into(), "c1".into(), "-eo pid,cmd".into()],
    ) else {
        panic!()
    };
    let Verb::Ps(p) = i.verb else { panic!() };
    assert_eq!((p.format.as_str(), p.options), ("table", vec!["-eo pid,cmd".to_owned()]));
    assert_eq!(get!(Ps, "ps c1 aux --forest").1.options, ["aux", "--forest"]);
    assert_eq!(get!(Ps, "ps c1 -e -f").1.options, ["-e", "-f"]);
}

#[test]
fn buildkit() {
    let (g, r) = get!(Run, "--log /l --log-format json run --bundle /b --no-pivot --keep --pid-file /p c1");
    assert_eq!(g.log.as_deref(), Some("/l"));
    assert_eq!(
        (r.target.as_str(), r.flags.bundle.clone(), r.keep, r.detach),
        ("c1", path("/b"), true, false)
    );
    assert!(r.flags.no_pivot);
    assert_eq!(get!(Exec, "exec --process /f --pid-file /p c1").1.pid_file, path("/p"));
    assert_eq!(get!(State, "state c1").1.id, "c1");
    assert_eq!(get!(Kill, "kill c1 9").1.signal, 9);
}

#[test]
fn conmon_and_podman() {
    let (g, c) = get!(
        Create,
        "--systemd-cgroup --log-format=json --log /l --root=/r create --bundle /b --pid-file /p --no-pivot --no-new-keyring --console-socket /s c1"
    );
    assert_eq!((g.root, g.log.as_deref(), g.log_format.as_str()), (path("/r"), Some("/l"), "json"));
    assert_eq!(c.flags.console_socket, path("/s"));
    let e =
        get!(Exec, "exec --pid-file /p --process /f --tty --console-socket /s --preserve-fds 2 --detach c1")
            .1;
    assert!(e.tty && e.detach);
    assert_eq!(e.preserve_fds, 2);
    get!(
        Restore,
        "restore --bundle /b --pid-file /p --detach --image-path /i --work-path /b --tcp-established --tcp-close --file-locks --lsm-profile selinux:x --lsm-mount-context y c1"
    );
    assert_eq!(get!(Update, "update --resources=/var/tmp/podman1 c1").1.resources, path("/var/tmp/podman1"));
    assert_eq!(verb("--cgroup-manager disabled start c1").0.cgroup_manager.as_deref(), Some("disabled"));
    assert!(matches!(parse("orun", words("checkpoint --help")), Ok(Parsed::Help(_))));
    assert_eq!(parse("orun", words("--version")).unwrap(), Parsed::Version);
}

#[test]
fn cri_o() {
    assert_eq!(get!(Kill, "--root /r --systemd-cgroup kill c1 KILL").1.signal, 9);
    let k = get!(Kill, "--root /r --systemd-cgroup kill -a c1 9").1;
    assert!(k.all);
    assert_eq!(k.signal, 9);
    get!(Checkpoint, "--root /r checkpoint --file-locks --image-path /i --work-path /w c1");
    assert_eq!(verb("doctor").1, Verb::Doctor(args::Doctor {}));
    assert_eq!(verb("features").1, Verb::Features(args::Features {}));
}

#[test]
fn conmon_rs_repeats_global_flags_and_appends_commands() {
    let (g, c) = get!(
        Create,
        "--log=journald:c1 --log-level=debug --root=/r --systemd-cgroup --root=/r2 --systemd-cgroup create --bundle /b --pid-file /p --console-socket=/s c1"
    );
    assert_eq!((g.root, g.log.as_deref(), g.systemd_cgroup), (path("/r2"), Some("journald:c1"), true));
    assert_eq!(c.flags.console_socket, path("/s"));
    let e = get!(Exec, "exec -d --console-socket=/s --tty --pid-file=/p c1 ls -la --root /x").1;
    assert_eq!(e.command, ["ls", "-la", "--root", "/x"]);
    assert_eq!((e.id.as_str(), e.detach, e.tty), ("c1", true, true));
}

#[test]
fn buildah_kills_without_a_signal() {
    assert_eq!(get!(Kill, "kill c1").1.signal, 15);
    assert_eq!(get!(Kill, "kill c1 SIGKILL").1.signal, 9);
}

#[test]
fn exec_in_the_words_of_a_user() {
    let e = get!(
        Exec,
        "exec -e A=1 -e B=2 -u 1000:100 -g 5 -g 6 --cap CAP_KILL -it c1 sh -c exit -e X -no-pivot"
    )
    .1;
    assert_eq!(e.env, ["A=1", "B=2"]);
    assert_eq!(e.additional_gids, [5, 6]);
    assert_eq!(e.command, ["sh", "-c", "exit", "-e", "X", "-no-pivot"]);
    assert!(e.tty);
    assert_eq!(get!(Exec, "exec c1 -- ls -l").1.command, ["ls", "-l"]);
    assert_eq!(get!(Exec, "exec -- c1 ls -l").1.command, ["ls", "-l"]);
    assert_eq!(get!(Exec, "exec -uroot c1 id").1.user.as_deref(), Some("root"));
    assert_eq!(get!(Exec, "exec --user 0 c1 sh --help").1.command, ["sh", "--help"]);
}

#[test]
fn run_interactively() {
    let r = get!(Run, "run -it -b /b c1").1;
    assert!(r.tty);
    assert_eq!((r.target.as_str(), r.flags.bundle), ("c1", path("/b")));
    assert!(get!(Run, "run -d /bundle").1.detach);
    assert!(get!(Run, "run -no-subreaper c1").1.no_subreaper);
}

#[test]
fn global_flags_may_stand_after_the_verb() {
    let (g, s) = get!(State, "--root /a state --root /b --log-format json c1");
    assert_eq!((g.root, g.log_format.as_str(), s.id.as_str()), (path("/b"), "json", "c1"));
    assert_eq!(verb("state c1 --root /b").0.root, path("/b"));
}

#[test]
fn go_spellings() {
    assert_eq!(verb("--rootless=true --debug state c1").0.rootless.as_deref(), Some("true"));
    assert_eq!(verb("-root /r -debug state c1").0.root, path("/r"));
    assert_eq!(verb("-root=/r state c1").0.root, path("/r"));
    assert!(verb("--systemd-cgroup=true state c1").0.systemd_cgroup);
    assert!(!verb("--systemd-cgroup=false state c1").0.systemd_cgroup);
    assert_eq!(verb("--criu /usr/sbin/criu state c1").1, Verb::State(args::State { id: "c1".into() }));
    assert!(get!(Create, "create -no-subreaper -bundle /b c1").1.flags.bundle.is_some());
    // A word that is the value of a flag is never a flag itself.
    assert_eq!(
        verb("--root -debug state c1").0,
        Global { root: path("-debug"), log_format: "text".into(), ..Global::default() }
    );
}

#[test]
fn spec_has_rootless_as_a_switch() {
    for line in
        ["spec --rootless", "spec -rootless --bundle /b", "--rootless=true spec", "spec --rootless=true"]
    {
        assert_eq!(get!(Spec, line).0.rootless.as_deref(), Some("true"), "{line}");
    }
    assert_eq!(get!(Spec, "spec").0.rootless, None);
    assert_eq!(get!(Spec, "spec -b /b").1.bundle, path("/b"));
}

#[test]
fn limits_of_update() {
    let u = get!(
        Update,
        "update --memory 512m --memory-swap -1 --cpu-quota=-1 --pids-limit -1 --cpu-share 2 --blkio-weight 10 --cpu-idle 1 --kernel-memory 5 c1"
    )
    .1;
    assert_eq!(
        (u.memory, u.memory_swap, u.cpu_quota, u.pids_limit),
        (Some(512 << 20), Some(-1), Some(-1), Some(-1))
    );
    assert_eq!((u.cpu_share, u.blkio_weight, u.cpu_idle), (Some(2), Some(10), Some(1)));
    assert_eq!(u.resources, None);
}

#[test]
fn bad_usage_is_one_line() {
    for (line, message) in [
        ("state", "state: the following required arguments were not provided: <container-id>"),
        ("state a b", "state: unexpected argument 'b' found"),
        ("state --foo a", "state: unexpected argument '--foo' found"),
        ("kill a FOO", "kill: invalid value 'FOO' for '[SIGNAL]': unknown signal"),
        ("list -f xml", "list: invalid value 'xml' for '--format <FORMAT>' [possible values: table, json]"),
        (
            "events --interval 0s a",
            "events: invalid value '0s' for '--interval <DURATION>': must be greater than 0",
        ),
        ("frob a", "unknown command \"frob\""),
    ] {
        let text = fails(line);
        assert!(text.starts_with(message), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }
}

#[test]
fn help_names_every_verb_and_hides_what_is_ignored() {
    for line in ["--help", "-h", "help", "--root /x", "--debug"] {
        let Ok(Parsed::Help(text)) = parse("orun", words(line)) else { panic!("{line}") };
        for name in args::NAMES {
            assert!(text.contains(&format!("  {name} ")), "{name}: {text}");
        }
    }
    for name in args::NAMES {
        for line in [format!("{name} --help"), format!("help {name}")] {
            let Ok(Parsed::Help(text)) = parse("orun", words(&line)) else { panic!("{line}") };
            assert!(text.contains(&format!("Usage: orun {name}")), "{text}");
            assert!(!text.contains("criu <") && !text.contains("kernel-memory"), "{text}");
        }
    }
}

#[test]
fn the_log_is_found_on_a_line_that_is_wrong() {
    let found = |line: &str| log_flags(&words(line));
    let some = |s: &str| Some(s.to_owned());
    assert_eq!(found("--log /l --log-format json frob"), (some("/l"), some("json")));
    assert_eq!(found("--log=/a --log=/b state"), (some("/b"), None));
    assert_eq!(found("--log"), (None, None));
}

#[test]
fn the_table_of_global_flags_is_that_of_clap() {
    let command = args::globals(Command::new("orun"));
    let mut with_value: Vec<_> = command
        .get_arguments()
        .filter(|a| a.get_action().takes_values())
        .filter_map(|a| a.get_long())
        .collect();
    with_value.sort_unstable();
    let mut table = GLOBALS_WITH_VALUE.to_vec();
    table.sort_unstable();
    assert_eq!(with_value, table);
    for name in args::NAMES {
        args::augment(name, Command::new("orun")).unwrap().debug_assert();
    }
}

#[test]
fn help_begins_with_the_name_that_the_program_was_called_by() {
    let help = |line: &str| match parse("runc", words(line)) {
        Ok(Parsed::Help(text)) => text,
        other => panic!("{line}: {other:?}"),
    };
    let expected = "NAME:\n   runc - Open Container Initiative runtime";
    for line in ["-h", "--help", "help"] {
        assert!(help(line).starts_with(expected), "{}", help(line));
    }
    for name in args::NAMES {
        for line in [format!("{name} -h"), format!("{name} --help"), format!("help {name}")] {
            assert!(help(&line).starts_with(&format!("NAME:\n   runc {name} - ")), "{}", help(&line));
        }
    }
    assert_eq!(fails("foo -h"), "No help topic for 'foo'");
}
