//! Podman: as root, and as an ordinary user.

use crate::broken;
use crate::checkpoints;
use crate::docker::IDLE;
use crate::engine::ARCHIVE;
use crate::env::{Cases, Env};
use crate::restarts;
use runtime_tests::check::{Done, has};
use runtime_tests::ensure;

/// What Podman needs where there is no systemd, and where the host's limits may not be raised.
const CONFIG: &str = r#"[containers]
default_sysctls = []
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "NAME"
runtime_supports_json = ["NAME"]
runtime_supports_nocgroup = ["NAME"]
[engine.runtimes]
NAME = ["PATH"]
"#;

/// Configures Podman and gives it the image.
pub fn start(e: &Env) -> Done {
    let config = CONFIG.replace("NAME", &e.runtime.name).replace("PATH", &e.runtime.path.to_string_lossy());
    std::fs::write("/etc/containers/containers.conf", config)?;
    e.ok("mkdir -p /run/netns; mount -t tmpfs x /run/netns; mount --make-shared /run/netns")?;
    e.ok(&format!("podman load -q -i {ARCHIVE}"))?;
    e.prints("podman info -f '{{.Host.OCIRuntime.Name}}'", &e.runtime.name)
}

/// Removes the containers of one case.
pub fn clean(e: &Env) -> Done {
    e.ok("podman pod rm -f -t 0 --ignore $N >/dev/null
          for try in 1 2 3; do
              c=$(podman ps -aq --filter name=\"^$N(-|\\$)\")
              [ -n \"$c\" ] || exit 0
              podman rm -f -t 0 $c >/dev/null || true
          done; exit 1")
        .map(drop)
}

fn start_idle(e: &Env, options: &str) -> Done {
    e.ok(&format!("podman run -d --name $N --network none {options} $I {IDLE}")).map(drop)
}

fn state(e: &Env, field: &str, want: &str) -> Done {
    e.until(&format!("podman inspect -f '{{{{{field}}}}}' $N"), want)
}

/// All cases of this engine.
pub fn cases() -> Cases {
    let mut c = Cases::of("podman");
    runs(&mut c);
    control(&mut c);
    options(&mut c);
    pods(&mut c);
    errors(&mut c);
    rootless(&mut c);
    c.alone("container checkpoint, container restore", |e| {
        let restore = "podman container restore $N";
        let keep = "podman container checkpoint --leave-running $N";
        checkpoints::container(e, "podman", "podman container checkpoint $N", restore, keep)
    });
    c.alone("--restart always, measured", |e| restarts::container(e, "podman"));
    c.alone("nothing is left", |e| {
        e.until("podman ps -aq --filter name=^c", "")?;
        e.until("pgrep -c conmon || true", "0")?;
        e.until("find /sys/fs/cgroup -name 'libpod-*' ! -name '*conmon*'", "")?;
        e.until("ls -A /run/$RN 2>/dev/null || true", "")
    });
    c
}

fn runs(c: &mut Cases) {
    c.case("exit status", |e| {
        for code in [0, 3, 255] {
            e.sh(&format!("podman run --rm --network none $I sh -c 'exit {code}'"))?.exits(code)?;
        }
        e.fails("podman run --rm $I /none/such", 127, "no such file or directory")?;
        e.fails("podman run --rm $I none-such", 127, "executable file")?;
        e.fails("podman run --rm $I /etc/passwd", 126, "permission denied")
    });
    c.case("a program that cannot be executed", |e| broken::container(e, "podman"));
    c.case("stdin, stdout, tty, logs", |e| {
        e.prints("echo in | podman run -i --rm --network none $I cat", "in")?;
        e.shows("podman run --rm -t --network none $I tty", "/dev/pts/0")?;
        e.ok("podman run --name $N --network none $I sh -c 'echo out; echo bad >&2'")?;
        e.prints("podman logs $N 2>/dev/null", "out")
    });
    c.case("exec", |e| {
        start_idle(e, "")?;
        e.prints("podman exec -u 1000 -w /tmp -e A=b $N sh -c 'id -u; pwd; echo $A'", "1000\n/tmp\nb")?;
        e.sh("podman exec $N sh -c 'exit 9'")?.exits(9)?;
        e.shows("podman exec -t $N tty", "/dev/pts/")?;
        e.fails("podman exec $N /none/such", 127, "no such file or directory")?;
        e.fails("podman exec $N /etc/passwd", 126, "permission denied")?;
        e.prints("exec 3<<<three; podman exec --preserve-fds 1 $N cat /proc/self/fd/3", "three")
    });
    c.case("health check", |e| {
        start_idle(e, "--health-cmd 'test -e /tmp/well' --health-interval disable --health-retries 1")?;
        e.sh("podman healthcheck run $N")?.exits(1)?;
        e.ok("podman exec $N touch /tmp/well; podman healthcheck run $N").map(drop)
    });
}

fn control(c: &mut Cases) {
    c.case("pause, kill, stop, restart", |e| {
        start_idle(e, "")?;
        e.ok("podman pause $N")?;
        state(e, ".State.Status", "paused")?;
        e.ok("podman unpause $N; podman restart -t 20 $N; podman stop -t 20 $N")?;
        state(e, ".State.ExitCode", "0")?;
        e.ok("podman start $N; podman kill $N")?;
        state(e, ".State.ExitCode", "137")
    });
    c.case("stats, top, update", |e| {
        start_idle(e, "-m 64m")?;
        e.shows("podman stats --no-stream --format '{{.MemUsage}}' $N", "/ 67.11MB")?;
        e.shows("podman top $N", "sleep 1")?;
        e.ok("podman update -m 128m $N")?;
        let read =
            "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null || true";
        e.prints(&format!("podman exec $N sh -c '{read}'"), "134217728")
    });
    c.case("--restart", |e| {
        e.ok("podman run -d --name $N --network none --restart on-failure:2 $I sh -c 'exit 5'")?;
        state(e, ".RestartCount", "2")?;
        state(e, ".State.Status", "exited")
    });
    c.case("out of memory", |e| {
        e.sh("podman run --name $N --network none -m 16m --memory-swap 16m $I tail /dev/zero")?
            .exits(137)
            .map(drop)
    });
}

fn options(c: &mut Cases) {
    c.case("a read-only root, volumes, capabilities, seccomp", |e| {
        let run = "podman run --rm --network none";
        e.sh(&format!("{run} --read-only $I touch /x"))?.fails_with(&["read-only"])?;
        e.ok("mkdir $D/v; echo there >$D/v/f")?;
        e.prints(&format!("{run} -v $D/v:/v:ro $I cat /v/f"), "there")?;
        e.shows(&format!("{run} --cap-drop all $I grep CapEff /proc/self/status"), "0000000000000000")?;
        e.shows(&format!("{run} $I grep Seccomp: /proc/self/status"), "\t2")?;
        e.ok(&format!("{run} --init $I ps")).map(drop)
    });
    c.case("a user writes to /dev/stdout", |e| {
        let run = "podman run --rm -u 1000 --network none $I";
        e.prints(
            &format!("{run} sh -c 'echo out >/dev/stdout; echo err >/dev/stderr' 2>&1 | sort"),
            "err\nout",
        )
    });
    c.case("--cgroups=disabled", |e| {
        let out = e.sh("podman run --rm --network none --cgroups=disabled $I cat /proc/self/cgroup")?;
        if e.runtime.name == "runc" {
            return out.fails().map(drop);
        }
        let out = out.ok()?;
        ensure!(out.stdout.contains('/') && !out.stdout.contains("libpod-"), "{}", out.describe());
        Ok(())
    });
    c.case("a user namespace", |e| {
        let run = "podman run --rm --network none --uidmap 0:100000:65536 --gidmap 0:100000:65536";
        e.prints(&format!("{run} $I sh -c 'id -u; tr -s \" \" </proc/self/uid_map'"), "0\n 0 100000 65536")
    });
    c.case("--privileged", |e| {
        e.prints(
            "podman run --rm --network none --privileged $I sh -c 'mount -t tmpfs x /tmp && echo mounted'",
            "mounted",
        )
    });
    c.case("published ports", |e| {
        e.ok("podman run -d --name $N -p 18081:80 $I sh -c 'mkdir /w; echo page >/w/index.html; httpd -f -p 80 -h /w'")?;
        e.until(&crate::docker::page(18081), "page")
    });
}

const MANIFEST: &str = r#"apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  restartPolicy: Never
  containers:
  - {name: one, image: "IMAGE", command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"], resources: {limits: {memory: 64Mi}}}
  - {name: two, image: "IMAGE", command: [sh, -c, "echo hello; sleep 1000"], securityContext: {readOnlyRootFilesystem: true}}
"#;

fn pods(c: &mut Cases) {
    c.alone("pod", |e| {
        crate::engine::make_image(e, "localhost/pause:1", "/keep/pause.tar", "exec sleep 1000000")?;
        e.ok("podman load -q -i /keep/pause.tar")?;
        e.ok("podman pod create --name $N --infra-image localhost/pause:1 --network none --share pid,net,ipc,uts")?;
        e.ok(&format!("podman run -d --pod $N --name $N-a $I {IDLE}"))?;
        e.shows("podman run --rm --pod $N --name $N-b $I ps", "sleep 1000000")?;
        e.prints("podman pod inspect -f '{{.NumContainers}}' $N", "2")?;
        e.ok("podman pod stop -t 5 $N; podman pod rm $N").map(drop)
    });
    c.alone("kube play", |e| {
        crate::engine::make_image(e, "localhost/pause:1", "/keep/pause.tar", "exec sleep 1000000")?;
        e.ok("podman load -q -i /keep/pause.tar; sed -i '/^\\[engine\\]/a infra_image = \"localhost/pause:1\"' /etc/containers/containers.conf")?;
        let manifest = MANIFEST.replace("NAME", &e.name).replace("IMAGE", crate::env::IMAGE);
        std::fs::write(e.dir.join("pod.yaml"), manifest)?;
        e.ok("podman kube play --network none $D/pod.yaml")?;
        e.until("podman logs $N-two", "hello")?;
        e.sh("podman exec $N-two touch /x")?.fails_with(&["read-only"])?;
        e.ok("podman kube down $D/pod.yaml").map(drop)
    });
}

fn errors(c: &mut Cases) {
    c.case("error: a bad mount, a bad seccomp profile", |e| {
        e.ok("mkdir $D/dir; echo '{\"defaultAction\":\"SCMP_ACT_WISH\"}' >$D/p.json")?;
        e.sh("podman run --rm --network none -v $D/dir:/bin/busybox $I true")?
            .fails_with(&["not a directory"])?;
        let out = e.sh("podman run --rm --network none --security-opt seccomp=$D/p.json $I true")?.fails()?;
        has("message", &out.stderr, "SCMP_ACT_WISH")
    });
}

fn rootless(c: &mut Cases) {
    c.alone("rootless: run, exec, tty, volume", |e| {
        e.ok("useradd -m -u 4321 walker; echo walker:600000:65536 | tee -a /etc/subuid >>/etc/subgid
              mount -t tmpfs -o mode=0700,uid=4321 x /home/walker; mkdir -p /run/user/4321; chown 4321 /run/user/4321
              mkdir -p /dev/net; [ -e /dev/net/tun ] || mknod -m 666 /dev/net/tun c 10 200; chmod 644 /keep/image.tar")?;
        let user = |command: &str| {
            format!("cd /; su walker -s /bin/bash -c 'export HOME=/home/walker XDG_RUNTIME_DIR=/run/user/4321; {command}'")
        };
        e.ok(&user(&format!("podman load -q -i {ARCHIVE}")))?;
        let run = format!("podman run --rm --network none {}", crate::env::IMAGE);
        e.prints(&user(&format!("{run} id -u")), "0")?;
        e.shows(&user(&format!("{run} cat /proc/self/uid_map")), "600000")?;
        e.ok(&user(&format!("podman run -d --name idle --network none {} sleep 1000", crate::env::IMAGE)))?;
        e.prints(&user("podman exec idle echo inside"), "inside")?;
        e.shows(&user("podman exec -t idle tty"), "/dev/pts/")?;
        e.fails(&user(&format!("{run} /none/such")), 127, "no such file or directory")?;
        e.ok(&user("podman rm -f -t 0 idle")).map(drop)
    });
}
