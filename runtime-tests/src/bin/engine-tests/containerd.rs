//! containerd, by its own client `ctr`.

use crate::broken;
use crate::cri;
use crate::docker::IDLE;
use crate::engine::{self, ARCHIVE};
use crate::env::{Cases, Env, IMAGE};
use crate::many;
use runtime_tests::check::{Done, Result};
use runtime_tests::command::Running;

/// `ctr` with the runtime under test.
const RUN: &str = "ctr run --runc-binary $R";

/// The image of the container that keeps the namespaces of a pod.
const PAUSE: &str = "localhost/pause:1";

/// The score against the OOM killer that pods get may only be lowered with CAP_SYS_RESOURCE.
const CONFIG: &str = r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pause:1"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "tested"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.tested]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.tested.options]
BinaryName = "PATH"
"#;

/// Starts containerd and gives it the image.
pub fn start(e: &Env) -> Result<Running> {
    let config = CONFIG.replace("PATH", &e.runtime.path.to_string_lossy());
    std::fs::write("/etc/containerd/config.toml", config)?;
    let daemon = engine::daemon(e, "containerd", &[], "ctr version")?;
    engine::make_image(e, PAUSE, "/keep/pause.tar", "exec sleep 1000000")?;
    e.ok(&format!("for n in default k8s.io; do ctr -n $n images import {ARCHIVE}; done"))?;
    e.ok("ctr -n k8s.io images import /keep/pause.tar")?;
    cri::await_image(IMAGE)?;
    cri::await_image(PAUSE)?;
    Ok(daemon)
}

/// Removes the containers of one case.
pub fn clean(e: &Env) -> Done {
    e.ok("for c in $(ctr containers ls -q | grep -E \"^$N(-|\\$)\"); do
              ctr tasks kill -s KILL -a $c || true
              for i in $(seq 100); do ctr tasks ls | grep -qE \"^$c .*(RUNNING|CREATED|PAUSED)\" || break; sleep 0.1; done
              ctr tasks rm -f $c || true
              ctr containers rm $c
          done 2>/dev/null")
        .map(drop)
}

/// Demands that no trace of any container is left.
fn leaves_nothing(e: &Env) -> Done {
    e.until("for n in default k8s.io; do ctr -n $n containers ls -q; ctr -n $n tasks ls -q; done", "")?;
    e.until("pgrep -c containerd-shim || true", "0")?;
    e.until(
        "find /sys/fs/cgroup -type d \\( -path '*/default/*' -o -path '*/kubepods/*/*' \\) | head -n 5",
        "",
    )?;
    e.until("ls -A /run/containerd/runc/default /run/containerd/io.containerd.runtime.v2.task/default 2>/dev/null | grep -v : || true", "")?;
    e.until("grep -c /run/containerd/io.containerd.runtime.v2.task /proc/mounts || true", "0")
}

fn start_idle(e: &Env, options: &str) -> Done {
    e.ok(&format!("{RUN} -d {options} $I $N {IDLE}")).map(drop)
}

/// All cases of this engine.
pub fn cases() -> Cases {
    let mut c = Cases::of("containerd");
    runs(&mut c);
    tasks(&mut c);
    options(&mut c);
    errors(&mut c);
    cri::cases(&mut c);
    c.case("the runtime is killed in the middle", killed);
    c.alone("50 at once, killed, removed", many::containerd);
    c.alone("nothing is left", leaves_nothing);
    c
}

fn runs(c: &mut Cases) {
    c.case("exit status", |e| {
        for code in [0, 3, 255] {
            e.sh(&format!("{RUN} --rm $I $N sh -c 'exit {code}'"))?.exits(code)?;
        }
        e.sh(&format!("{RUN} --rm $I $N sh -c 'kill -9 $$; sleep 5'")).map(drop)
    });
    c.case("a program that cannot be executed", broken::containerd);
    c.case("stdin, stdout, tty", |e| {
        // ctr overlooks an end of its input that comes before the container exists.
        e.prints(&format!("{{ echo in; sleep 2; }} | {RUN} --rm $I $N cat"), "in")?;
        e.shows(&format!("script -qec \"{RUN} --rm -t $I $N tty\" /dev/null </dev/null"), "/dev/pts/0")
    });
}

fn tasks(c: &mut Cases) {
    c.case("exec", |e| {
        start_idle(e, "")?;
        e.prints("ctr tasks exec --exec-id a --user 1000 --cwd /tmp $N sh -c 'id -u; pwd'", "1000\n/tmp")?;
        e.sh("ctr tasks exec --exec-id b $N sh -c 'exit 9'")?.exits(9)?;
        e.shows("script -qec 'ctr tasks exec --exec-id c -t '$N' tty' /dev/null </dev/null", "/dev/pts/")?;
        e.sh("ctr tasks exec --exec-id d $N none-such")?
            .fails_with(&["executable file not found in $PATH"])
            .map(drop)
    });
    c.case("ps, metrics", |e| {
        start_idle(e, "--memory-limit 67108864")?;
        let pid = e.ok("ctr tasks ls | awk -v n=$N '$1 == n { print $2 }'")?;
        e.shows("ctr tasks ps $N", &pid)?;
        e.shows("ctr tasks metrics $N", "67108864").or_else(|_| e.shows("ctr tasks metrics $N", "memory"))
    });
    c.case("pause, resume", |e| {
        start_idle(e, "")?;
        e.ok("ctr tasks pause $N")?;
        e.shows("ctr tasks ls | grep \"^$N \"", "PAUSED")?;
        e.sh("ctr tasks exec --exec-id a $N true")?.fails_with(&["paused"])?;
        e.ok("ctr tasks resume $N")?;
        e.prints("ctr tasks exec --exec-id b $N echo awake", "awake")
    });
    c.case("kill, delete, start again", |e| {
        start_idle(e, "")?;
        e.ok("ctr tasks kill -s TERM $N")?;
        e.until("ctr tasks ls | grep \"^$N \" | grep -c STOPPED || true", "1")?;
        e.ok("ctr tasks rm $N")?;
        e.ok("ctr tasks start -d $N && ctr tasks kill -s KILL -a $N")?;
        e.until("ctr tasks ls | grep \"^$N \" | grep -c STOPPED || true", "1")
    });
    c.case("events", |e| {
        let events = e.command("exec ctr events").spawn()?;
        start_idle(e, "")?;
        e.ok("ctr tasks kill -s KILL $N; sleep 0.3; ctr tasks rm $N || true")?;
        let seen = || {
            let text = events.stdout();
            let all = ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]
                .iter()
                .all(|t| text.lines().any(|l| l.contains(t) && l.contains(&format!("\"{}\"", e.name))));
            all.then_some(())
        };
        let found = runtime_tests::command::poll("the events", crate::env::DEADLINE, seen);
        events.signal(libc::SIGTERM)?;
        found
    });
    c.case("out of memory", |e| {
        let events = e.command("exec ctr events").spawn()?;
        e.sh(&format!("{RUN} --memory-limit 16777216 $I $N tail /dev/zero"))?.exits(137)?;
        let topic =
            || events.stdout().lines().any(|l| l.contains("/tasks/oom") && l.contains(&e.name)).then_some(());
        let found = runtime_tests::command::poll("the event", crate::env::DEADLINE, topic);
        events.signal(libc::SIGTERM)?;
        found
    });
}

fn options(c: &mut Cases) {
    c.case("limits, mounts, network of the host", |e| {
        e.ok("mkdir $D/v; echo there >$D/v/f")?;
        let mount = "--mount type=bind,src=$D/v,dst=/v,options=rbind:ro --net-host --cpus 0.5";
        let script = "cat /v/f; ls /sys/class/net | grep eth0; touch /v/g 2>&1 || true";
        e.prints(
            &format!("{RUN} --rm {mount} $I $N sh -c '{script}'"),
            "there\neth0\neth0p\ntouch: /v/g: Read-only file system",
        )
    });
    c.case("a read-only root, seccomp, privileged", |e| {
        e.sh(&format!("{RUN} --rm --read-only $I $N touch /x"))?.fails_with(&["read-only"])?;
        e.shows(&format!("{RUN} --rm --seccomp $I $N grep Seccomp: /proc/self/status"), "\t2")?;
        e.prints(
            &format!("{RUN} --rm --privileged $I $N sh -c 'mount -t tmpfs x /tmp && echo mounted'"),
            "mounted",
        )
    });
}

fn errors(c: &mut Cases) {
    c.case("error: a missing program, a bad mount", |e| {
        e.sh(&format!("{RUN} --rm $I $N /none/such"))?.fails_with(&["no such file or directory"])?;
        e.ok("ctr containers rm $N 2>/dev/null || true; mkdir $D/v")?;
        let bad = "--mount type=bind,src=$D/v,dst=/etc/passwd,options=rbind";
        e.sh(&format!("{RUN} --rm {bad} $I $N true"))?.fails_with(&["not a directory"]).map(drop)
    });
    c.case("error: a cgroup limit that the kernel refuses", |e| {
        let out = e.sh(&format!("{RUN} --rm --cpu-period 1 --cpu-quota 5000 $I $N true"))?.fails()?;
        let text = out.stderr.to_lowercase();
        let reason = ["invalid argument", "is not within", "period"].iter().any(|part| text.contains(part));
        runtime_tests::ensure!(reason, "no reason in {text:?}");
        Ok(())
    });
}

/// A runtime that ends in the middle of one of its commands, as one does that the OOM killer meets.
const KILLED: &str = r#"#!/bin/bash
case " $* " in
*" $(cat DIR/verb) "*)
	RUNTIME "$@" <&0 &
	sleep "$(cat DIR/delay)"
	kill -9 $! 2>/dev/null && echo hit >>DIR/hits
	wait $!
	exit 1 ;;
*) exec RUNTIME "$@" ;;
esac
"#;

/// SIGKILL in the middle of create, exec and delete: the engine's own clean-up has to remove everything.
fn killed(e: &Env) -> Done {
    let dir = e.dir.to_string_lossy();
    let script = KILLED.replace("DIR", &dir).replace("RUNTIME", &e.runtime.path.to_string_lossy());
    std::fs::write(e.dir.join("runtime"), script)?;
    e.ok("chmod +x $D/runtime; touch $D/hits")?;
    for delay in ["0.001", "0.004", "0.008", "0.016", "0.03"] {
        e.ok(&format!("echo create >$D/verb; echo {delay} >$D/delay"))?;
        e.sh("ctr run --runc-binary $D/runtime -d $I $N sleep 1000")?;
        e.ok("echo none >$D/verb")?;
        clean(e)?;
        e.ok("ctr run --runc-binary $D/runtime -d $I $N sleep 1000")?;
        e.ok(&format!("echo exec >$D/verb; echo {delay} >$D/delay"))?;
        e.sh("ctr tasks exec --exec-id a $N true")?;
        e.prints("echo none >$D/verb; ctr tasks exec --exec-id b $N echo well", "well")?;
        e.ok(&format!("echo delete >$D/verb; echo {delay} >$D/delay"))?;
        e.ok("ctr tasks kill -s KILL $N; sleep 0.2; ctr tasks rm $N || true; echo none >$D/verb")?;
        clean(e)?;
        e.until("find /sys/fs/cgroup -path \"*/default/$N\"; ls -d /run/containerd/runc/default/$N 2>/dev/null || true", "")?;
    }
    let hits = e.ok("wc -l <$D/hits")?;
    runtime_tests::ensure!(hits != "0", "the runtime was never killed");
    Ok(())
}
