//! The process: arguments, working directory, environment, ids, limits, priorities.

use crate::case::T;
use crate::check::{Context, Done, Result, same, same_set, skip};
use crate::ensure;
use crate::matrix::Matrix;
use crate::report::Report;
use serde_json::json;

const SPEC: &str = "config.md Process";
const POSIX: &str = "config.md POSIX process";
const USER: &str = "config.md POSIX-platform User";
const KEEP_GROUPS: &str = "crun contract: run.oci.keep_original_groups (podman run --group-add keep-groups)";

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    arguments(m);
    lookup_errors(m);
    working_directory(m);
    environment(m);
    home(m);
    ids(m);
    limits(m);
    rest(m);
}

fn arguments(m: &mut Matrix) {
    m.case("process/arguments-arrive-as-they-are", SPEC, |t| {
        let args = ["probe", "echo", "", "two words", "quote\"s", "back\\slash", "new\nline", "ünï"];
        let out = t.run(&t.bundle()?.args(&args))?.ok()?;
        same("stdout", out.stdout.as_str(), " two words quote\"s back\\slash new\nline ünï\n")
    });
    m.case("process/found-in-path-of-the-container", "config.md Process: execvp semantics", |t| {
        let bundle = t.bundle()?.dir("/opt/bin")?;
        std::fs::hard_link(bundle.rootfs().join("bin/probe"), bundle.rootfs().join("opt/bin/other"))?;
        let bundle =
            bundle.set("/process/env", json!(["PATH=/none:/opt/bin"])).args(&["other", "echo", "found"]);
        same("stdout", t.run(&bundle)?.ok()?.stdout.as_str(), "found\n")
    });
    m.case("process/relative-to-the-working-directory", "config.md Process: execvp semantics", |t| {
        let bundle = t.bundle()?.set("/process/cwd", "/bin").args(&["./probe", "echo", "found"]);
        same("stdout", t.run(&bundle)?.ok()?.stdout.as_str(), "found\n")
    });
    m.case("process/program-name-begins-with-dots", SPEC, |t| {
        let bundle = t.bundle()?;
        std::fs::hard_link(bundle.rootfs().join("bin/probe"), bundle.rootfs().join("bin/..dots"))?;
        same("stdout", t.run(&bundle.args(&["..dots", "echo", "x"]))?.ok()?.stdout.as_str(), "x\n")
    });
    m.case("process/script-with-interpreter", SPEC, |t| {
        let bundle = t.bundle()?.file("/bin/script", "#!/bin/sh\necho script $1\n", 0o755)?;
        same("stdout", t.run(&bundle.args(&["script", "x"]))?.ok()?.stdout.as_str(), "script x\n")
    });
    m.case("process/long-argument", SPEC, |t| {
        let long = "a".repeat(100_000);
        let out = t.run(&t.bundle()?.args(&["probe", "echo", &long]))?.ok()?;
        same("length", out.stdout.len(), 100_001)
    });
    m.case("process/new-session", "runc contract: the program leads a session", |t| {
        let report = t.report(&t.bundle()?)?;
        same("session", report.num("/sid")?, report.num("/pid")?)
    });
    m.case("process/signals-are-default", "signal(7): a fresh program blocks and ignores none", |t| {
        let report = t.report(&t.bundle()?)?;
        report.is("/signals/blocked", "0000000000000000")?;
        report.is("/signals/pending", "0000000000000000")?;
        // Bit 12 is SIGPIPE, which the probe's own language ignores.
        let ignored = u64::from_str_radix(report.str("/signals/ignored"), 16).unwrap_or(u64::MAX);
        same("ignored", ignored & !(1 << 12), 0)
    });
    m.case("process/no-parent-death-signal", "runc contract: engines set one on the runtime", |t| {
        t.report(&t.bundle()?)?.is("/parent_death_signal", 0)
    });
}

/// What engines turn into exit codes 126 and 127 by the message.
fn lookup_errors(m: &mut Matrix) {
    const TEXT: &str = "runc contract: error phrases of create";
    fn fails(t: &mut T<'_>, args: &[&str], phrases: &[&str]) -> Done {
        let bundle =
            t.bundle()?.file("/etc/plain", "text", 0o644)?.file("/bin/wrong", "\u{1}\u{2}garbage", 0o755)?;
        t.refuses_create(&bundle.args(args), phrases).map(drop)
    }
    for (name, program, phrases) in [
        ("missing-from-path", "none-such", &["executable file not found in $path"][..]),
        ("missing-absolute", "/bin/none-such", &["no such file or directory"]),
        ("is-a-directory", "/etc", &["is a directory", "permission denied"]),
        ("not-executable", "/etc/plain", &["permission denied"]),
        ("below-a-file", "/etc/plain/x", &["not a directory"]),
        ("empty", "", &["no such file or directory", "executable file not found", "args"]),
    ] {
        m.case(format!("process/program-{name}-is-an-error-at-create"), TEXT, move |t| {
            fails(t, &[program], phrases)
        });
    }
    m.case("process/program-of-wrong-format-is-an-error", TEXT, |t| {
        let bundle = t.bundle()?.file("/bin/wrong", "\u{1}\u{2}garbage", 0o755)?;
        t.run(&bundle.args(&["wrong"]))?.fails_with(&["exec format error"])?;
        t.nothing_left()
    });
    m.case("process/interpreter-missing-is-an-error", TEXT, |t| {
        let bundle = t.bundle()?.file("/bin/script", "#!/none/such\n", 0o755)?;
        t.run(&bundle.args(&["script"]))?.fails_with(&["no such file or directory"])?;
        t.nothing_left()
    });
    m.case("process/without-args-is-an-error", SPEC, |t| {
        t.refuses(&t.bundle()?.unset("/process/args"), &["args"]).map(drop)
    });
    m.case("process/empty-args-is-an-error", SPEC, |t| {
        t.refuses(&t.bundle()?.set("/process/args", json!([])), &["args"]).map(drop)
    });
}

fn working_directory(m: &mut Matrix) {
    m.case("process/cwd", SPEC, |t| t.report(&t.bundle()?.set("/process/cwd", "/etc"))?.is("/cwd", "/etc"));
    m.case("process/cwd-is-made", "runc contract: a missing cwd is made", |t| {
        t.report(&t.bundle()?.set("/process/cwd", "/new/deep"))?.is("/cwd", "/new/deep")
    });
    m.case("process/cwd-in-a-mount", SPEC, |t| {
        let bundle = t.bundle()?.mount("/mnt", "tmpfs", "tmpfs", &[]).set("/process/cwd", "/mnt");
        t.report(&bundle)?.is("/cwd", "/mnt")
    });
    m.case(
        "process/cwd-that-only-the-user-may-enter",
        "runc contract: chdir is tried as the user too",
        |t| {
            let bundle = t.bundle()?.dir("/home/user")?;
            let home = bundle.rootfs().join("home/user");
            std::fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
            std::os::unix::fs::chown(&home, Some(1000), Some(1000))?;
            let bundle = bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
            t.report(&bundle.set("/process/cwd", "/home/user"))?.is("/cwd", "/home/user")
        },
    );
    m.case("process/cwd-relative-is-an-error", "config.md: cwd MUST be absolute", |t| {
        t.refuses(&t.bundle()?.set("/process/cwd", "etc"), &["cwd"]).map(drop)
    });
    m.case("process/cwd-missing-is-an-error", "config.md: cwd is REQUIRED", |t| {
        t.refuses(&t.bundle()?.unset("/process/cwd"), &["cwd"]).map(drop)
    });
    m.case("process/cwd-is-a-file-is-an-error", SPEC, |t| {
        t.refuses(&t.bundle()?.set("/process/cwd", "/etc/passwd"), &["not a directory"]).map(drop)
    });
}

fn environment(m: &mut Matrix) {
    m.case("process/env", SPEC, |t| {
        let env = ["A=1", "B=two words", "C=", "D=x=y", "E=line\nbreak", "PATH=/bin", "HOME=/h"];
        let report = t.report(&t.bundle()?.set("/process/env", json!(env)))?;
        same_set("environment", &report.list("/environ"), &env)
    });
    m.case("process/env-is-not-inherited", SPEC, |t| {
        let bundle = t.bundle()?;
        let out = t.run_cmd(&bundle)?.env("LEAKED", "yes").ok()?;
        let report = crate::report::Report::parse(&out.stdout)?;
        same("LEAKED", report.env("LEAKED"), None::<String>)
    });
    m.case("process/env-last-of-duplicates-wins", "runc contract", |t| {
        let report = t.report(&t.bundle()?.set("/process/env", json!(["PATH=/bin", "A=1", "A=2"])))?;
        let seen: Vec<_> = report.list("/environ").into_iter().filter(|e| e.starts_with("A=")).collect();
        same("A", seen.last().map(String::as_str), Some("A=2"))
    });
    m.case("process/env-entry-without-equals-is-an-error", "config.md: environ(7), name=value", |t| {
        t.refuses(&t.bundle()?.set("/process/env", json!(["PATH=/bin", "no-equals"])), &["env", "no-equals"])
            .map(drop)
    });
    m.case("process/env-entry-with-nul-is-an-error", "environ(7)", |t| {
        t.refuses(&t.bundle()?.set("/process/env", json!(["PATH=/bin", "A=\u{0}b"])), &["env"]).map(drop)
    });
}

fn home(m: &mut Matrix) {
    const HOME: &str = "runc contract: HOME comes from the container's passwd";
    for (name, uid, want) in
        [("of-root", 0, "/root"), ("of-user", 1000, "/home"), ("of-unknown-user", 4242, "/")]
    {
        m.case(format!("process/home-{name}"), HOME, move |t| {
            let bundle = t.bundle()?.set("/process/user", json!({"uid": uid, "gid": 0}));
            same("HOME", t.report(&bundle)?.env("HOME").as_deref(), Some(want))
        });
    }
    m.case("process/home-empty-is-replaced", HOME, |t| {
        let bundle = t.bundle()?.set("/process/env", json!(["PATH=/bin", "HOME="]));
        same("HOME", t.report(&bundle)?.env("HOME").as_deref(), Some("/root"))
    });
    m.case("process/home-given-is-kept", HOME, |t| {
        let bundle = t.bundle()?.set("/process/env", json!(["PATH=/bin", "HOME=/elsewhere"]));
        same("HOME", t.report(&bundle)?.env("HOME").as_deref(), Some("/elsewhere"))
    });
    m.case("process/home-without-passwd", HOME, |t| {
        let bundle = t.bundle()?;
        std::fs::remove_file(bundle.rootfs().join("etc/passwd"))?;
        same("HOME", t.report(&bundle)?.env("HOME").as_deref(), Some("/"))
    });
}

fn ids(m: &mut Matrix) {
    m.case("process/user-and-group", USER, |t| {
        let user = json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 6, 4000]});
        let report = t.report(&t.bundle()?.set("/process/user", user))?;
        report.is("/uids", json!([1000, 1000, 1000, 1000]))?;
        report.is("/gids", json!([1001, 1001, 1001, 1001]))?;
        let mut groups: Vec<i64> =
            report.at("/groups").as_array().into_iter().flatten().filter_map(|g| g.as_i64()).collect();
        groups.retain(|g| *g != 1001);
        same("additional groups", groups, vec![5, 6, 4000])
    });
    m.case("process/no-additional-groups", USER, |t| {
        let report = t.report(&t.bundle()?)?;
        let groups = report.at("/groups").as_array().cloned().unwrap_or_default();
        ensure!(groups.iter().all(|g| *g == 0), "groups {groups:?}");
        Ok(())
    });
    m.case("process/original-groups", KEEP_GROUPS, |t| {
        if t.runtime.is("runc") {
            return skip("runc does not know the annotation");
        }
        for (value, expected) in [(Some("1"), json!([4711])), (Some("0"), json!([5])), (None, json!([5]))] {
            let bundle = t.bundle()?.set("/process/user/additionalGids", json!([5]));
            let bundle = match value {
                Some(value) => bundle.set("/annotations", json!({"run.oci.keep_original_groups": value})),
                None => bundle,
            };
            bundle.save()?;
            let caller = |verb: &str| {
                let caller = t.host("setpriv").args(["--groups", "4711"]).arg(&t.runtime.path);
                caller.args(t.globals()).arg("--root").arg(&t.root).arg(verb)
            };
            let out = caller("run").arg("--bundle").arg(&bundle.dir).arg(t.id()).ok()?;
            Report::parse(&out.stdout)?.is("/groups", expected.clone()).context(&format!("{value:?}"))?;
            let c = t.sleeper(bundle)?;
            let mut process = c.bundle.spec["process"].clone();
            process["args"] = json!(["probe", "report"]);
            let file = t.path("process.json");
            std::fs::write(&file, process.to_string())?;
            let out = caller("exec").arg("--process").arg(&file).arg(&c.id).ok()?;
            Report::parse(&out.stdout)?.is("/groups", expected).context(&format!("exec, {value:?}"))?;
            c.end()?;
        }
        Ok(())
    });
    m.case("process/without-user-is-root", USER, |t| {
        t.report(&t.bundle()?.unset("/process/user"))?.is("/uids", json!([0, 0, 0, 0]))
    });
    for mask in [0o77, 0o2, 0] {
        m.case(format!("process/umask-{mask:03o}"), USER, move |t| {
            let bundle = t.bundle()?.set("/process/user", json!({"uid": 0, "gid": 0, "umask": mask}));
            t.report(&bundle)?.is("/umask", format!("{mask:04o}"))
        });
    }
    m.case("process/umask-in-exec", USER, |t| {
        let user = json!({"uid": 0, "gid": 0, "umask": 0o77});
        let c = t.sleeper(t.bundle()?.set("/process/user", user))?;
        c.exec_report(&[])?.is("/umask", "0077")
    });
    m.case("process/negative-uid-is-an-error", USER, |t| {
        t.refuses(&t.bundle()?.set("/process/user", json!({"uid": -1, "gid": 0})), &["uid"]).map(drop)
    });
    m.case("process/uid-above-32-bits-is-an-error", USER, |t| {
        t.refuses(&t.bundle()?.set("/process/user", json!({"uid": 4_294_967_296_u64, "gid": 0})), &["uid"])
            .map(drop)
    });
}

fn limits(m: &mut Matrix) {
    for (name, soft, hard) in [
        ("RLIMIT_NOFILE", 512, 1024),
        ("RLIMIT_CORE", 0, 0),
        ("RLIMIT_NPROC", 1000, 2000),
        ("RLIMIT_FSIZE", 1 << 30, 1 << 31),
        ("RLIMIT_STACK", 8 << 20, 16 << 20),
        ("RLIMIT_CPU", 1000, 2000),
        ("RLIMIT_AS", 1 << 33, 1 << 34),
        ("RLIMIT_DATA", 1 << 33, 1 << 34),
        ("RLIMIT_RSS", 1 << 33, 1 << 34),
        ("RLIMIT_MEMLOCK", 4096, 8192),
        ("RLIMIT_LOCKS", 10, 20),
        ("RLIMIT_SIGPENDING", 100, 200),
        ("RLIMIT_MSGQUEUE", 1000, 2000),
        ("RLIMIT_NICE", 0, 0),
        ("RLIMIT_RTPRIO", 0, 0),
        ("RLIMIT_RTTIME", 100_000_000_u64, 200_000_000_u64),
    ] {
        m.case(format!("process/{}", name.to_lowercase()), POSIX, move |t| {
            let limit = json!([{"type": name, "soft": soft, "hard": hard}]);
            t.report(&t.bundle()?.set("/process/rlimits", limit))?
                .is(&format!("/rlimits/{name}"), json!([soft, hard]))
        });
    }
    m.case("process/rlimits-absent-are-inherited", POSIX, |t| {
        let (soft, hard) = crate::sys::getrlimit(libc::RLIMIT_NOFILE)?;
        let report = t.report(&t.bundle()?.unset("/process/rlimits"))?;
        report.is("/rlimits/RLIMIT_NOFILE", json!([soft, hard]))
    });
    m.case("process/rlimit-unknown-is-an-error", POSIX, |t| {
        let limit = json!([{"type": "RLIMIT_MOON", "soft": 1, "hard": 1}]);
        t.refuses(&t.bundle()?.set("/process/rlimits", limit), &["RLIMIT_MOON"]).map(drop)
    });
    m.case("process/rlimit-twice-is-an-error", POSIX, |t| {
        let limit = json!({"type": "RLIMIT_NOFILE", "soft": 1000, "hard": 1000});
        t.refuses(&t.bundle()?.push("/process/rlimits", limit), &["rlimit", "duplicate"]).map(drop)
    });
    m.case("process/rlimit-soft-above-hard-is-an-error", POSIX, |t| {
        let limit = json!([{"type": "RLIMIT_NOFILE", "soft": 2000, "hard": 1000}]);
        t.refuses(&t.bundle()?.set("/process/rlimits", limit), &["rlimit", "invalid argument"]).map(drop)
    });
}

fn rest(m: &mut Matrix) {
    const LINUX: &str = "config.md Linux Process";
    for value in [100, 1000, 500] {
        m.case(format!("process/oom-score-adj-{value}"), LINUX, move |t| {
            t.report(&t.bundle()?.set("/process/oomScoreAdj", value))?.is("/oom_score_adj", value.to_string())
        });
    }
    m.case("process/oom-score-adj-absent-is-untouched", LINUX, |t| {
        let mine = std::fs::read_to_string("/proc/self/oom_score_adj")?;
        t.report(&t.bundle()?)?.is("/oom_score_adj", mine.trim())
    });
    m.case("process/oom-score-adj-too-large-is-an-error", LINUX, |t| {
        t.refuses(&t.bundle()?.set("/process/oomScoreAdj", 1001), &["oom", "invalid argument"]).map(drop)
    });
    for value in [true, false] {
        m.case(format!("process/no-new-privileges-{value}"), LINUX, move |t| {
            let report = t.report(&t.bundle()?.set("/process/noNewPrivileges", value))?;
            report.is("/no_new_privs", i64::from(value))
        });
    }
    m.case("process/apparmor-profile", LINUX, |t| {
        let profile = apparmor_profile(t, "profile")?;
        let bundle = t.bundle()?.file("/denied", "secret", 0o644)?;
        same("without it", t.attempt(bundle.clone(), &["read", "/denied"])?.as_str(), "ok secret")?;
        let bundle = bundle.set("/process/apparmorProfile", profile.as_str());
        same("with it", t.attempt(bundle.clone(), &["read", "/denied"])?.as_str(), "EACCES")?;
        let c = t.sleeper(bundle)?;
        let label = c.exec(&["cat", "/proc/self/attr/apparmor/current"])?.ok()?.stdout;
        same("of another process", label.trim(), format!("{profile} (enforce)").as_str())?;
        c.end()?;
        t.host("apparmor_parser").args(["--remove"]).arg(t.dir.join("profile")).ok().map(drop)
    });
    m.case("process/apparmor-profile-that-is-not-loaded-is-an-error", LINUX, |t| {
        apparmor()?;
        t.refuses(&t.bundle()?.set("/process/apparmorProfile", "not-loaded"), &["apparmor"]).map(drop)
    });
    m.case("process/apparmor-without-the-module-is-an-error", LINUX, |t| {
        if std::path::Path::new("/sys/module/apparmor").exists() {
            return crate::check::skip("this kernel has AppArmor");
        }
        t.refuses(&t.bundle()?.set("/process/apparmorProfile", "some-profile"), &["apparmor"]).map(drop)
    });
    m.case("process/selinux-without-the-module-is-an-error", LINUX, |t| {
        if std::path::Path::new("/sys/fs/selinux/enforce").exists() {
            return crate::check::skip("this kernel has SELinux");
        }
        let label = "system_u:system_r:container_t:s0:c1,c2";
        t.refuses(&t.bundle()?.set("/process/selinuxLabel", label), &["selinux"]).map(drop)
    });
    m.case("process/empty-labels-mean-none", LINUX, |t| {
        t.report(&t.bundle()?.set("/process/apparmorProfile", "").set("/process/selinuxLabel", "")).map(drop)
    });
    m.case("process/session-keyring-is-new", "runc contract: a session keyring of its own", |t| {
        let mine = crate::sys::key_id(libc::KEY_SPEC_SESSION_KEYRING)?;
        let report = t.report(&t.bundle()?)?;
        ensure!(report.num("/keyring/id")? != i64::from(mine), "the harness's keyring is the container's");
        ensure!(report.num("/keyring/id")? > 0, "{}", report.at("/keyring"));
        Ok(())
    });
    m.case("process/session-keyring-can-be-kept", "runc contract: --no-new-keyring", |t| {
        let mine = crate::sys::key_id(libc::KEY_SPEC_SESSION_KEYRING)?;
        let bundle = t.bundle()?;
        bundle.save()?;
        let out = t.verb("run").args(["--no-new-keyring", "--bundle"]).arg(&bundle.dir).arg(t.id()).ok()?;
        crate::report::Report::parse(&out.stdout)?.is("/keyring/id", mine)
    });
}

/// Leaves the case where the kernel has no AppArmor.
fn apparmor() -> Done {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    if enabled.is_ok_and(|t| t.trim() == "Y") {
        Ok(())
    } else {
        crate::check::skip("no AppArmor in this kernel")
    }
}

/// Loads a profile that allows everything but to read /denied, from a file of the name `file`.
pub(super) fn apparmor_profile(t: &T<'_>, file: &str) -> Result<String> {
    apparmor()?;
    let name = format!("{}-{file}", t.marker());
    let rules = "file, capability, network, signal, ptrace, unix, mount, umount, pivot_root, deny /denied r,";
    let file = t.dir.join(file);
    std::fs::write(&file, format!("profile {name} flags=(attach_disconnected) {{ {rules} }}\n"))?;
    t.host("apparmor_parser").args(["--skip-cache", "--add"]).arg(&file).ok()?;
    Ok(name)
}
