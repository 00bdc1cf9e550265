//! Seccomp: actions, arguments, architectures, flags, the moment of loading, and the listener.

use crate::bundle::Bundle;
use crate::case::T;
use crate::check::{Context, Done, Result, same};
use crate::console::FdSocket;
use crate::ensure;
use crate::matrix::Matrix;
use crate::notify;
use serde_json::{Value, json};

const SPEC: &str = "config-linux.md Seccomp";

/// A profile that allows all but what `syscalls` say.
fn allow_but(syscalls: Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": syscalls})
}

fn rule(names: &[&str], action: &str) -> Value {
    json!([{"names": names, "action": action}])
}

/// What a system call gives under a profile: `ok N` or the name of an errno.
fn call(t: &T<'_>, profile: &Value, words: &[&str]) -> Result<String> {
    let mut all = vec!["syscall"];
    all.extend(words);
    t.attempt(t.bundle()?.set("/linux/seccomp", profile.clone()), &all)
}

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    actions(m);
    arguments(m);
    defaults(m);
    moment(m);
    flags(m);
    refusals(m);
    listener(m);
}

fn actions(m: &mut Matrix) {
    m.case("seccomp/errno-is-eperm-by-default", SPEC, |t| {
        let profile = allow_but(rule(&["getcwd"], "SCMP_ACT_ERRNO"));
        same("getcwd", call(t, &profile, &["getcwd", "0", "0"])?.as_str(), "EPERM")
    });
    m.case("seccomp/errno-ret", SPEC, |t| {
        let rule = json!([{"names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]);
        same("getcwd", call(t, &allow_but(rule), &["getcwd", "0", "0"])?.as_str(), "ENOSYS")
    });
    m.case("seccomp/errno-ret-zero", SPEC, |t| {
        let rule = json!([{"names": ["sync"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0}]);
        same("sync", call(t, &allow_but(rule), &["sync"])?.as_str(), "ok 0")
    });
    for (action, signal) in
        [("SCMP_ACT_KILL", 31), ("SCMP_ACT_KILL_PROCESS", 31), ("SCMP_ACT_KILL_THREAD", 31)]
    {
        m.case(format!("seccomp/{}", action.to_lowercase()), SPEC, move |t| {
            let bundle = t.bundle()?.set("/linux/seccomp", allow_but(rule(&["sync"], action)));
            t.run(&bundle.args(&["probe", "try", "syscall", "sync"]))?.exits(128 + signal).map(drop)
        });
    }
    m.case("seccomp/trap-sends-sigsys", SPEC, |t| {
        let bundle = t.bundle()?.set("/linux/seccomp", allow_but(rule(&["sync"], "SCMP_ACT_TRAP")));
        t.run(&bundle.args(&["probe", "try", "syscall", "sync"]))?.exits(128 + 31).map(drop)
    });
    m.case("seccomp/log-lets-it-through", SPEC, |t| {
        let profile = allow_but(rule(&["getppid"], "SCMP_ACT_LOG"));
        same("getppid", call(t, &profile, &["getppid"])?.as_str(), "ok 0")
    });
    m.case("seccomp/trace-without-tracer-is-enosys", "seccomp(2): SECCOMP_RET_TRACE", |t| {
        let profile = allow_but(rule(&["getppid"], "SCMP_ACT_TRACE"));
        same("getppid", call(t, &profile, &["getppid"])?.as_str(), "ENOSYS")
    });
    m.case("seccomp/filter-is-loaded", SPEC, |t| {
        let bundle = t.bundle()?.set("/linux/seccomp", allow_but(rule(&["sync"], "SCMP_ACT_ERRNO")));
        let report = t.report(&bundle)?;
        report.is("/seccomp", "2")?;
        report.is("/seccomp_filters", "1")
    });
    m.case("seccomp/absent-means-none", SPEC, |t| t.report(&t.bundle()?)?.is("/seccomp", "0"));
    m.case("seccomp/exec-has-it-too", SPEC, |t| {
        let bundle = t.bundle()?.set("/linux/seccomp", allow_but(rule(&["sync"], "SCMP_ACT_ERRNO")));
        let c = t.sleeper(bundle)?;
        let out = c.exec(&["probe", "try", "syscall", "sync"])?.ok()?;
        same("sync", out.stdout.trim(), "EPERM")
    });
}

/// Values of an argument and whether the rule matches them.
type Probes = &'static [(u64, bool)];

fn arguments(m: &mut Matrix) {
    // close(FD) of a number that is not open gives EBADF; a matching rule gives EACCES (13) instead.
    let ops: [(&str, u64, u64, Probes); 7] = [
        ("SCMP_CMP_EQ", 500, 0, &[(500, true), (501, false)]),
        ("SCMP_CMP_NE", 500, 0, &[(500, false), (501, true)]),
        ("SCMP_CMP_LT", 500, 0, &[(499, true), (500, false)]),
        ("SCMP_CMP_LE", 500, 0, &[(500, true), (501, false)]),
        ("SCMP_CMP_GT", 500, 0, &[(501, true), (500, false)]),
        ("SCMP_CMP_GE", 500, 0, &[(500, true), (499, false)]),
        ("SCMP_CMP_MASKED_EQ", 0xf00, 0x300, &[(0x3ff, true), (0x4ff, false)]),
    ];
    for (op, value, second, probes) in ops {
        m.case(format!("seccomp/arg-{}", op.trim_start_matches("SCMP_CMP_").to_lowercase()), SPEC, move |t| {
            let mut arg = json!({"index": 5, "value": value, "op": op});
            if op == "SCMP_CMP_MASKED_EQ" {
                arg["valueTwo"] = json!(second);
            }
            let rule = json!([{"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13, "args": [arg]}]);
            for (fd, matches) in probes {
                // Only the unused sixth argument of getppid is looked at, so that nothing else is hit.
                let fd = fd.to_string();
                let seen = call(t, &allow_but(rule.clone()), &["getppid", "0", "0", "0", "0", "0", &fd])?;
                same(&format!("{op} {value} of {fd}"), seen.as_str(), if *matches { "EACCES" } else { "ok 0" })?;
            }
            Ok(())
        });
    }
    m.case("seccomp/args-are-64-bit", SPEC, |t| {
        let arg = json!({"index": 5, "value": 0x1_0000_0005_u64, "op": "SCMP_CMP_EQ"});
        let rule = json!([{"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13, "args": [arg]}]);
        let profile = allow_but(rule);
        let with = |value: &str| call(t, &profile, &["getppid", "0", "0", "0", "0", "0", value]);
        same("the low half alone", with("5")?.as_str(), "ok 0")?;
        same("all 64 bits", with("0x100000005")?.as_str(), "EACCES")
    });
    m.case("seccomp/two-args-must-both-match", SPEC, |t| {
        let args = json!([{"index": 4, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 5, "value": 2, "op": "SCMP_CMP_EQ"}]);
        let rule = json!([{"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13, "args": args}]);
        let profile = allow_but(rule);
        let with = |a: &str, b: &str| call(t, &profile, &["getppid", "0", "0", "0", "0", a, b]);
        same("both", with("1", "2")?.as_str(), "EACCES")?;
        same("one", with("1", "3")?.as_str(), "ok 0")
    });
    m.case("seccomp/one-index-twice-means-either", "runc contract: repeated index makes separate rules", |t| {
        let args = json!([{"index": 5, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 5, "value": 2, "op": "SCMP_CMP_EQ"}]);
        let rule = json!([{"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13, "args": args}]);
        let profile = allow_but(rule);
        for (value, want) in [("1", "EACCES"), ("2", "EACCES"), ("3", "ok 0")] {
            same(value, call(t, &profile, &["getppid", "0", "0", "0", "0", "0", value])?.as_str(), want)?;
        }
        Ok(())
    });
}

fn defaults(m: &mut Matrix) {
    m.case("seccomp/unknown-names-are-skipped", "runc contract: engines list names of newer kernels", |t| {
        let profile = allow_but(rule(&["sync", "moonwalk"], "SCMP_ACT_ERRNO"));
        same("sync", call(t, &profile, &["sync"])?.as_str(), "EPERM")
    });
    m.case("seccomp/deny-by-default-with-a-list", SPEC, |t| {
        let profile = everything_but(&["sync"]);
        same("sync", call(t, &profile, &["sync"])?.as_str(), "EPERM")
    });
    m.case("seccomp/newer-than-the-profile-is-enosys", "runc contract: ENOSYS stub", |t| {
        // 462 is mseal of Linux 6.10; numbers far above are not system calls at all.
        let profile = everything_but(&["sync"]);
        same("number 9999", call(t, &profile, &["9999"])?.as_str(), "ENOSYS")
    });
    m.case("seccomp/default-errno-ret", SPEC, |t| {
        let mut profile = everything_but(&["sync"]);
        profile["defaultErrnoRet"] = json!(13);
        same("sync", call(t, &profile, &["sync"])?.as_str(), "EACCES")
    });
    m.case("seccomp/no-architectures-means-native", SPEC, |t| {
        let mut profile = allow_but(rule(&["sync"], "SCMP_ACT_ERRNO"));
        profile["architectures"] = Value::Null;
        same("sync", call(t, &profile, &["sync"])?.as_str(), "EPERM")
    });
    m.case("seccomp/other-architectures-beside-the-native", SPEC, |t| {
        let mut profile = allow_but(rule(&["sync"], "SCMP_ACT_ERRNO"));
        profile["architectures"] = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
        same("sync", call(t, &profile, &["sync"])?.as_str(), "EPERM")
    });
    m.case("seccomp/rules-like-the-default-are-fine", SPEC, |t| {
        let profile = allow_but(json!([{"names": ["getppid"], "action": "SCMP_ACT_ALLOW"},
                                       {"names": ["sync"], "action": "SCMP_ACT_ERRNO"}]));
        same("sync", call(t, &profile, &["sync"])?.as_str(), "EPERM")
    });
}

/// Denies by default and lists what the probe and the last steps of a runtime need, less `missing`.
fn everything_but(missing: &[&str]) -> Value {
    let names: Vec<&str> = ALLOWED.split_whitespace().filter(|n| !missing.contains(n)).collect();
    json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"],
           "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]})
}

const ALLOWED: &str = "read write open close stat fstat lstat poll lseek mmap mprotect munmap brk rt_sigaction \
    rt_sigprocmask rt_sigreturn ioctl pread64 pwrite64 readv writev access pipe select sched_yield mremap madvise dup \
    dup2 pause nanosleep getpid socket connect sendto recvfrom sendmsg recvmsg shutdown bind clone fork vfork execve \
    exit wait4 kill uname fcntl flock fsync ftruncate getdents getcwd chdir fchdir mkdir rmdir creat link unlink \
    symlink readlink chmod fchmod chown umask gettimeofday getrlimit getrusage sysinfo getuid getgid setuid setgid \
    geteuid getegid setpgid getppid getpgrp setsid setgroups getgroups setresuid getresuid setresgid getresgid getpgid \
    getsid capget capset sigaltstack statfs fstatfs getpriority prctl arch_prctl setrlimit sync gettid futex \
    sched_setaffinity sched_getaffinity set_thread_area getdents64 set_tid_address restart_syscall fadvise64 \
    clock_gettime clock_getres clock_nanosleep exit_group epoll_wait epoll_ctl tgkill openat mkdirat fchownat newfstatat \
    unlinkat readlinkat faccessat pselect6 ppoll set_robust_list splice tee utimensat epoll_pwait eventfd2 epoll_create1 \
    dup3 pipe2 preadv pwritev prlimit64 getcpu seccomp getrandom memfd_create execveat statx rseq close_range openat2 \
    faccessat2 keyctl personality sched_getscheduler ioprio_get";

fn moment(m: &mut Matrix) {
    for value in [true, false] {
        m.case(format!("seccomp/with-no-new-privileges-{value}"), SPEC, move |t| {
            let bundle = t.bundle()?.set("/process/noNewPrivileges", value);
            let bundle = bundle.set("/linux/seccomp", allow_but(rule(&["sync"], "SCMP_ACT_ERRNO")));
            let bundle = bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
            same("sync", t.attempt(bundle, &["syscall", "sync"])?.as_str(), "EPERM")
        });
    }
    m.case(
        "seccomp/late-load-does-not-need-the-setup-calls",
        "config.md noNewPrivileges: loaded last",
        |t| {
            // With noNewPrivileges the filter is loaded after ids, groups and capabilities have been set.
            let profile =
                allow_but(rule(&["setgroups", "setresuid", "capset", "mount", "umount2"], "SCMP_ACT_ERRNO"));
            let bundle = t.bundle()?.set("/linux/seccomp", profile);
            t.report(&bundle.set("/process/user", json!({"uid": 1000, "gid": 1000})))?.is("/uids/0", 1000)
        },
    );
}

fn flags(m: &mut Matrix) {
    for flag in ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"] {
        m.case(
            format!("seccomp/flag-{}", flag.trim_start_matches("SECCOMP_FILTER_FLAG_").to_lowercase()),
            SPEC,
            move |t| {
                let mut profile = allow_but(rule(&["sync"], "SCMP_ACT_ERRNO"));
                profile["flags"] = json!([flag]);
                same("sync", call(t, &profile, &["sync"])?.as_str(), "EPERM")
            },
        );
    }
    m.case("seccomp/flag-wait_killable_recv", SPEC, |t| {
        t.kernel(5, 19)?;
        let socket = FdSocket::listen(&t.path("notify"))?;
        let bundle = with_listener(t, &socket, &["mkdirat"])?;
        let bundle = bundle.set("/linux/seccomp/flags", json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]));
        let c = t.create(&bundle.args(&["probe", "try", "syscall", "mkdirat", "0", "0"]))?;
        let start = c.verb("start").spawn()?;
        let mut message = socket.receive()?;
        start.wait()?.ok()?;
        notify::answer_one(&message.fds.remove(0), |_| Ok(6))?;
        c.await_output("ok 6")
    });
    m.case("seccomp/no-flags", SPEC, |t| {
        let mut profile = allow_but(rule(&["sync"], "SCMP_ACT_ERRNO"));
        profile["flags"] = json!([]);
        same("sync", call(t, &profile, &["sync"])?.as_str(), "EPERM")
    });
    m.case("seccomp/unknown-flag-is-an-error", SPEC, |t| {
        let mut profile = allow_but(rule(&["sync"], "SCMP_ACT_ERRNO"));
        profile["flags"] = json!(["SECCOMP_FILTER_FLAG_MOON"]);
        t.refuses(&t.bundle()?.set("/linux/seccomp", profile), &["flag"]).map(drop)
    });
}

fn refusals(m: &mut Matrix) {
    fn refuses(t: &mut T<'_>, profile: Value) -> Done {
        t.refuses(&t.bundle()?.set("/linux/seccomp", profile), &["seccomp"]).map(drop)
    }
    m.case("seccomp/unknown-action-is-an-error", SPEC, |t| {
        refuses(t, allow_but(rule(&["sync"], "SCMP_ACT_MOON")))
    });
    m.case("seccomp/unknown-default-action-is-an-error", SPEC, |t| {
        refuses(t, json!({"defaultAction": "SCMP_ACT_MOON"}))
    });
    m.case("seccomp/unknown-architecture-is-an-error", SPEC, |t| {
        let mut profile = allow_but(rule(&["sync"], "SCMP_ACT_ERRNO"));
        profile["architectures"] = json!(["SCMP_ARCH_MOON"]);
        refuses(t, profile)
    });
    m.case("seccomp/unknown-operator-is-an-error", SPEC, |t| {
        let args = json!([{"index": 0, "value": 1, "op": "SCMP_CMP_MOON"}]);
        refuses(t, allow_but(json!([{"names": ["sync"], "action": "SCMP_ACT_ERRNO", "args": args}])))
    });
    m.case("seccomp/argument-index-above-5-is-an-error", SPEC, |t| {
        let args = json!([{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]);
        refuses(t, allow_but(json!([{"names": ["sync"], "action": "SCMP_ACT_ERRNO", "args": args}])))
    });
    m.case("seccomp/errno-ret-with-an-action-that-has-none-is-an-error", SPEC, |t| {
        refuses(t, allow_but(json!([{"names": ["sync"], "action": "SCMP_ACT_KILL", "errnoRet": 5}])))
    });
    m.case("seccomp/default-errno-ret-with-allow-is-an-error", SPEC, |t| {
        let mut profile = allow_but(rule(&["sync"], "SCMP_ACT_ERRNO"));
        profile["defaultErrnoRet"] = json!(5);
        refuses(t, profile)
    });
    m.case("seccomp/rule-without-names-is-an-error", SPEC, |t| {
        refuses(t, allow_but(json!([{"names": [], "action": "SCMP_ACT_ERRNO"}])))
    });
    m.case("seccomp/default-action-missing-is-an-error", SPEC, |t| refuses(t, json!({"syscalls": []})));
    m.case("seccomp/notify-as-default-is-an-error", "runc contract: the runtime itself would wait", |t| {
        refuses(t, json!({"defaultAction": "SCMP_ACT_NOTIFY"}))
    });
    m.case("seccomp/notify-of-write-is-an-error", "runc contract: the runtime itself would wait", |t| {
        refuses(t, allow_but(rule(&["write"], "SCMP_ACT_NOTIFY")))
    });
    m.case("seccomp/notify-without-listener-is-an-error", SPEC, |t| {
        refuses(t, allow_but(rule(&["sync"], "SCMP_ACT_NOTIFY")))
    });
    m.case("seccomp/metadata-without-listener-is-an-error", SPEC, |t| {
        let mut profile = allow_but(rule(&["sync"], "SCMP_ACT_ERRNO"));
        profile["listenerMetadata"] = json!("meta");
        refuses(t, profile)
    });
    m.case("seccomp/listener-that-is-missing-is-an-error", SPEC, |t| {
        let mut profile = allow_but(rule(&["sync"], "SCMP_ACT_NOTIFY"));
        profile["listenerPath"] = json!("/none/such");
        refuses(t, profile)
    });
}

fn with_listener(t: &T<'_>, socket: &FdSocket, names: &[&str]) -> Result<Bundle> {
    let mut profile = allow_but(rule(names, "SCMP_ACT_NOTIFY"));
    profile["listenerPath"] = json!(socket.path);
    profile["listenerMetadata"] = json!("some metadata");
    Ok(t.bundle()?.set("/linux/seccomp", profile))
}

fn listener(m: &mut Matrix) {
    const NOTIFY: &str = "config-linux.md The Container Process State";
    for value in [true, false] {
        m.case(format!("seccomp/notify-with-no-new-privileges-{value}"), NOTIFY, move |t| {
            let socket = FdSocket::listen(&t.path("notify"))?;
            let bundle = with_listener(t, &socket, &["mkdirat"])?.set("/process/noNewPrivileges", value);
            // mkdirat(0, NULL) would fail with EFAULT; the listener lets it "succeed" with 77.
            let c = t.create(&bundle.args(&["probe", "try", "syscall", "mkdirat", "0", "0"]))?;
            // Whether the filter is loaded at create or at start is the runtime's business.
            let start = c.verb("start").spawn()?;
            let mut message = socket.receive()?;
            let state: Value =
                serde_json::from_slice(&message.data).context("the container process state")?;
            same("state.id", &state["state"]["id"], &json!(c.id))?;
            let status = state["state"]["status"].as_str().unwrap_or("");
            ensure!(["creating", "created", "running"].contains(&status), "state.status is {status:?}");
            same("metadata", &state["metadata"], &json!("some metadata"))?;
            same("fds", &state["fds"], &json!(["seccompFd"]))?;
            ensure!(state["pid"].as_i64().is_some_and(|p| p > 0), "pid {:?}", state["pid"]);
            ensure!(state["ociVersion"].is_string(), "ociVersion {:?}", state["ociVersion"]);
            same("descriptors", message.fds.len(), 1)?;
            start.wait()?.ok()?;
            let seen = notify::answer_one(&message.fds.remove(0), |_| Ok(77))?;
            same("system call", i64::from(seen.number), libc::SYS_mkdirat)?;
            c.await_output("ok 77")
        });
    }
    m.case("seccomp/notify-of-calls-the-runtime-makes", "the listener's fd is fetched by the parent", |t| {
        let socket = FdSocket::listen(&t.path("notify"))?;
        let bundle = with_listener(t, &socket, &["sendmsg", "connect", "setsid", "mkdirat"])?;
        let c = t.create(&bundle.args(&["probe", "try", "syscall", "mkdirat", "0", "0"]))?;
        let start = c.verb("start").spawn()?;
        let mut message = socket.receive()?;
        start.wait()?.ok()?;
        notify::answer_one(&message.fds.remove(0), |_| Err(libc::ENOTEMPTY))?;
        c.await_output("ENOTEMPTY")
    });
    m.case("seccomp/notify-in-exec", NOTIFY, |t| {
        let socket = FdSocket::listen(&t.path("notify"))?;
        let c = t.create(&with_listener(t, &socket, &["mkdirat"])?.sleeps())?;
        let start = c.verb("start").spawn()?;
        let _first = socket.receive()?;
        start.wait()?.ok()?;
        c.await_output("ready")?;
        let running = c.exec_cmd(&[], &["probe", "try", "syscall", "mkdirat", "0", "0"]).spawn()?;
        let mut message = socket.receive()?;
        let state: Value = serde_json::from_slice(&message.data)?;
        same("state.status", &state["state"]["status"], &json!("running"))?;
        notify::answer_one(&message.fds.remove(0), |_| Ok(5))?;
        same("answer", running.wait()?.ok()?.stdout.trim(), "ok 5")
    });
    m.case("seccomp/listener-is-left-alone-without-notify", NOTIFY, |t| {
        let socket = FdSocket::listen(&t.path("notify"))?;
        let mut profile = allow_but(rule(&["sync"], "SCMP_ACT_ERRNO"));
        profile["listenerPath"] = json!(socket.path);
        t.report(&t.bundle()?.set("/linux/seccomp", profile))?.is("/seccomp", "2")?;
        ensure!(socket.is_untouched(), "the runtime connected although nothing notifies");
        Ok(())
    });
}
