//! Docker: single containers.

use crate::broken;
use crate::checkpoints;
use crate::engine::{self, ARCHIVE};
use crate::env::{Cases, Env};
use crate::many;
use crate::restarts;
use runtime_tests::check::{Done, Result, has};
use runtime_tests::command::Running;
use runtime_tests::ensure;

/// A container that does nothing until it is stopped, and then exits at once.
pub const IDLE: &str = "sh -c 'trap \"exit 0\" TERM; while :; do sleep 1 & wait $!; done'";

/// What reads a limit inside of a container: the file of cgroup version 1, or of version 2.
const MEMORY: &str =
    "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null || true";
const PIDS: &str = "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null || true";
const SHARES: &str = "cat /sys/fs/cgroup/cpu/cpu.shares /sys/fs/cgroup/cpu.weight 2>/dev/null || true";

/// All cases of this engine.
pub fn cases() -> Cases {
    let mut c = Cases::of("docker");
    ends(&mut c);
    streams(&mut c);
    exec(&mut c);
    control(&mut c);
    restarts(&mut c);
    limits(&mut c);
    security(&mut c);
    files(&mut c);
    networks(&mut c);
    sharing(&mut c);
    errors(&mut c);
    c.alone("200 starts of a program that cannot be executed", broken::docker_parallel);
    c.alone("50 at once, killed, restarted, removed", many::docker);
    c.alone("checkpoint create, start --checkpoint", |e| {
        let keep = "docker checkpoint create --leave-running $N two; docker checkpoint ls $N | grep two";
        let restore = "docker start --checkpoint one $N";
        checkpoints::container(e, "docker", "docker checkpoint create $N one", restore, keep)
    });
    c.alone("--restart always, measured", |e| restarts::container(e, "docker"));
    c.alone("nothing is left", leaves_nothing);
    c
}

/// Shell commands that print the last line of what a web server of the world answers.
pub fn page(port: u16) -> String {
    format!("exec 3<>/dev/tcp/10.201.0.2/{port}; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; tail -n 1 <&3")
}

fn start_idle(e: &Env, options: &str) -> Done {
    e.ok(&format!("docker run -d --name $N --network none {options} $I {IDLE}")).map(drop)
}

fn state(e: &Env, field: &str, want: &str) -> Done {
    e.until(&format!("docker inspect -f '{{{{{field}}}}}' $N"), want)
}

fn ends(c: &mut Cases) {
    c.case("exit status", |e| {
        for code in [0, 3, 125, 255] {
            e.sh(&format!("docker run --rm --network none $I sh -c 'exit {code}'"))?.exits(code)?;
        }
        Ok(())
    });
    c.case("exit status 128+N", |e| {
        e.sh("docker run --rm --network none --init $I sh -c 'kill -9 $$'")?.exits(137)?;
        e.ok("docker run -d --name $N --network none $I sleep 1000")?;
        e.ok("docker kill $N")?;
        e.prints("docker wait $N", "137")
    });
    c.case("exit status 127 and the reason", |e| {
        e.fails("docker run --rm $I /none/such", 127, "no such file or directory")?;
        e.fails("docker run --rm $I none-such", 127, "executable file not found in $PATH")
    });
    c.case("a program that cannot be executed", |e| broken::container(e, "docker"));
    c.case("exit status 126 and the reason", |e| {
        e.fails("docker run --rm $I /etc/passwd", 126, "permission denied")
    });
}

fn streams(c: &mut Cases) {
    c.case("stdin, stdout, stderr", |e| {
        e.prints("echo in | docker run -i --rm --network none $I cat", "in")?;
        e.prints("docker run --rm --network none $I sh -c 'echo lost >&2; echo out' 2>/dev/null", "out")?;
        e.prints("head -c 300000 /dev/zero | docker run -i --rm --network none $I wc -c", "300000")
    });
    c.case("a user writes to /dev/stdout", |e| {
        let program = "sh -c 'echo out >/dev/stdout; echo err >/dev/stderr'";
        e.prints(&format!("docker run --rm -u 1000 --network none $I {program} 2>&1 | sort"), "err\nout")?;
        e.ok("docker run -d --name $N --network none $I sleep 1000")?;
        e.prints(&format!("docker exec -u 1000 $N {program} 2>&1 | sort"), "err\nout")
    });
    c.case("tty", |e| {
        e.prints("docker run --rm -t --network none $I tty", "/dev/pts/0")?;
        e.shows(
            "docker run --rm -t --network none $I sh -c 'stty -a; ls -l /proc/self/fd/0 /dev/console'",
            "/dev/",
        )
    });
    c.case("logs", |e| {
        e.ok("docker run --name $N --network none $I sh -c 'echo bad >&2; for i in 1 2 3; do echo line $i; done'")?;
        // The order of lines of different streams is anybody's.
        e.prints("docker logs $N 2>/dev/null | tail -n 1; docker logs --tail 4 $N 2>/dev/null | wc -l", "line 3\n3")?;
        e.prints("docker logs $N 2>&1 >/dev/null", "bad")
    });
    c.case("attach", |e| {
        start_idle(e, "")?;
        let attached = e.command("docker attach --no-stdin $N").spawn()?;
        // Once it is attached it shows what comes, and that is some time after it has been started.
        runtime_tests::command::poll("what the program writes", crate::env::DEADLINE, || {
            e.ok("docker exec $N sh -c 'echo to the log >/proc/1/fd/1'; sleep 0.2").ok()?;
            attached.stdout().contains("to the log").then_some(())
        })?;
        e.ok("docker stop -t 20 $N")?;
        attached.wait()?.ok().map(drop)
    });
}

fn exec(c: &mut Cases) {
    c.case("exec", |e| {
        start_idle(e, "")?;
        e.prints("docker exec -u 1000:1000 -w /tmp -e A=b $N sh -c 'id -u; pwd; echo $A'", "1000\n/tmp\nb")?;
        e.prints("echo in | docker exec -i $N cat", "in")?;
        e.sh("docker exec $N sh -c 'exit 9'")?.exits(9)?;
        e.sh("docker exec $N sh -c 'kill -9 $$'")?.exits(137)?;
        e.ok("docker exec -d $N touch /tmp/detached")?;
        e.until("docker exec $N ls /tmp/detached", "/tmp/detached")
    });
    c.case("exec with a tty", |e| {
        start_idle(e, "")?;
        e.shows("docker exec -t $N tty", "/dev/pts/")?;
        e.shows("script -qec \"docker exec -it $N sh -c 'stty size; tty'\" /dev/null </dev/null", "/dev/pts/")
    });
    c.case("exec: errors", |e| {
        start_idle(e, "")?;
        // Docker 20.10 ends with 126 for all of them and prints the reason to standard output.
        e.sh("docker exec $N /none/such")?.fails_with(&["no such file or directory"])?;
        e.sh("docker exec $N none-such")?.fails_with(&["executable file not found in $PATH"])?;
        e.sh("docker exec $N /etc/passwd")?.exits(126)?.fails_with(&["permission denied"])?;
        e.sh("docker exec -w /none $N true")?.fails_with(&["/none"]).map(drop)
    });
    c.case("exec, 20 at once", |e| {
        start_idle(e, "")?;
        e.prints(
            "for i in $(seq 20); do docker exec $N echo done & done | sort | uniq -c | tr -s ' '; wait",
            "20 done",
        )
    });
    c.case("health check", |e| {
        let health = "--health-cmd 'test -e /tmp/well' --health-interval 500ms --health-retries 1 --health-timeout 20s";
        start_idle(e, health)?;
        state(e, ".State.Health.Status", "unhealthy")?;
        e.ok("docker exec $N touch /tmp/well")?;
        state(e, ".State.Health.Status", "healthy")
    });
}

fn control(c: &mut Cases) {
    c.case("stats", |e| {
        start_idle(e, "-m 64m")?;
        e.shows("docker stats --no-stream --format '{{.MemUsage}} {{.PIDs}}' $N", "/ 64MiB")
    });
    c.case("top", |e| {
        start_idle(e, "")?;
        e.shows("docker top $N", "sleep 1")?;
        e.shows("docker top $N -o pid,comm", "sleep")
    });
    c.case("pause", |e| {
        start_idle(e, "")?;
        e.ok("docker pause $N")?;
        state(e, ".State.Status", "paused")?;
        e.fails("docker exec $N true", 1, "is paused")?;
        e.ok("docker unpause $N")?;
        e.prints("docker exec $N echo awake", "awake")?;
        e.ok("docker pause $N; docker rm -f $N").map(drop)
    });
    c.case("kill with a signal", |e| {
        e.ok("docker run -d --name $N --network none $I sh -c 'trap \"exit 44\" USR1; echo up; while :; do sleep 1 & wait $!; done'")?;
        e.until("docker logs $N", "up")?;
        e.ok("docker kill -s USR1 $N")?;
        e.prints("docker wait $N", "44")?;
        e.sh("docker kill $N")?.fails_with(&["is not running"]).map(drop)
    });
    c.case("stop within the grace period", |e| {
        e.ok("docker run -d --name $N --network none $I sh -c 'trap \"exit 7\" TERM; echo up; while :; do sleep 1 & wait $!; done'")?;
        e.until("docker logs $N", "up")?;
        e.ok("docker stop -t 30 $N")?;
        state(e, ".State.ExitCode", "7")
    });
    c.case("stop after the grace period", |e| {
        e.ok("docker run -d --name $N --network none $I sh -c 'trap \"\" TERM; while :; do sleep 1; done'")?;
        e.ok("docker stop -t 1 $N")?;
        state(e, ".State.ExitCode", "137")
    });
    c.case("restart, start again", |e| {
        start_idle(e, "")?;
        e.ok("docker exec $N touch /kept; docker restart -t 20 $N; docker exec $N ls /kept")?;
        e.ok("docker stop -t 20 $N; docker start $N; docker exec $N ls /kept").map(drop)
    });
    c.case("events", |e| {
        e.ok("docker run --name $N --network none $I true; docker rm $N")?;
        // The end is a second of the clock.
        let actions = "sleep 1.1; docker events --since 5m --until 0s --filter container=$N --format '{{.Action}}' | tr '\\n' ' '";
        e.prints(actions, "create attach start die destroy")
    });
}

fn restarts(c: &mut Cases) {
    c.case("--restart on-failure", |e| {
        e.ok("docker run -d --name $N --network none --restart on-failure:2 $I sh -c 'exit 5'")?;
        state(e, ".RestartCount", "2")?;
        state(e, ".State.Status", "exited")?;
        state(e, ".State.ExitCode", "5")
    });
    c.case("--restart on-failure: a program that cannot be executed", broken::docker_restarts);
    c.case("--restart always", |e| {
        e.ok("docker run -d --name $N --network none --restart always $I sleep 1000")?;
        let pid = e.ok("docker inspect -f '{{.State.Pid}}' $N")?;
        e.ok(&format!("kill -9 {pid}"))?;
        state(e, ".RestartCount", "1")?;
        state(e, ".State.Running", "true")
    });
}

fn limits(c: &mut Cases) {
    c.case("limits", |e| {
        let run = "docker run --rm --network none -m 64m --pids-limit 50 --cpu-shares 512 --cpuset-cpus 0 $I";
        e.prints(&format!("{run} sh -c '{MEMORY}'"), "67108864")?;
        e.prints(&format!("{run} sh -c '{PIDS}'"), "50")?;
        e.shows(&format!("{run} grep Cpus_allowed_list /proc/self/status"), "\t0\n")
    });
    c.case("update of limits", |e| {
        start_idle(e, "-m 64m")?;
        e.ok("docker update -m 128m --memory-swap -1 --pids-limit 77 --cpu-shares 2048 --cpus 0.5 $N")?;
        e.prints(&format!("docker exec $N sh -c '{MEMORY}'"), "134217728")?;
        e.prints(&format!("docker exec $N sh -c '{PIDS}'"), "77")?;
        let shares = e.ok(&format!("docker exec $N sh -c '{SHARES}'"))?;
        ensure!(["2048", "79"].contains(&shares.as_str()), "shares are {shares}");
        e.prints("docker exec $N sh -c 'echo x >/dev/null; echo devices'", "devices")
    });
    c.case("out of memory", |e| {
        e.sh("docker run --name $N --network none -m 16m --memory-swap 16m $I tail /dev/zero")?.exits(137)?;
        state(e, ".State.OOMKilled", "true")
    });
    c.case("the limit of processes", |e| {
        let run = "docker run --rm --network none --pids-limit 8 $I";
        e.shows(&format!("{run} sh -c 'for i in $(seq 20); do sleep 1 & done' 2>&1 || true"), "fork")
    });
    c.case("--ulimit, --sysctl, --shm-size", |e| {
        e.prints("docker run --rm --ulimit nofile=321:321 $I sh -c 'ulimit -n'", "321")?;
        e.prints(
            "docker run --rm --sysctl net.ipv4.ip_default_ttl=77 $I cat /proc/sys/net/ipv4/ip_default_ttl",
            "77",
        )?;
        e.shows("docker run --rm --network none --shm-size 5m $I df -k /dev/shm", "5120")
    });
}

fn security(c: &mut Cases) {
    c.case("capabilities", |e| {
        let caps = "$I grep CapEff /proc/self/status";
        e.shows(&format!("docker run --rm --network none {caps}"), "00000000a80425fb")?;
        e.shows(&format!("docker run --rm --network none --cap-drop ALL {caps}"), "0000000000000000")?;
        e.shows(
            &format!("docker run --rm --network none --cap-drop ALL --cap-add NET_ADMIN {caps}"),
            "0000000000001000",
        )?;
        e.shows(&format!("docker run --rm --network none -u 1000 {caps}"), "0000000000000000")
    });
    c.case("--privileged", |e| {
        e.prints(
            "docker run --rm --network none --privileged $I sh -c 'mount -t tmpfs x /tmp && echo mounted'",
            "mounted",
        )
    });
    c.case("seccomp", |e| {
        let run = "docker run --rm --network none";
        e.shows(&format!("{run} $I grep Seccomp: /proc/self/status"), "\t2")?;
        e.shows(&format!("{run} --security-opt seccomp=unconfined $I grep Seccomp: /proc/self/status"), "\t0")?;
        e.ok("echo '{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"mkdir\",\"mkdirat\"],\"action\":\"SCMP_ACT_ERRNO\"}]}' >$D/p.json")?;
        e.sh(&format!("{run} --security-opt seccomp=$D/p.json $I mkdir /x"))?.fails_with(&["not permitted"])?;
        e.ok(&format!("{run} --security-opt seccomp=$D/p.json $I touch /x")).map(drop)
    });
    c.case("no-new-privileges", |e| {
        let run = "docker run --rm --network none --security-opt no-new-privileges";
        e.shows(&format!("{run} $I grep NoNewPrivs /proc/self/status"), "\t1")
    });
    c.case("users and groups", |e| {
        let run = "docker run --rm --network none -u app --group-add 55 $I";
        e.prints(&format!("{run} sh -c 'id -u; id -G'"), "1000\n1000 55")
    });
    c.case("devices", |e| {
        let run = "docker run --rm --network none";
        e.prints(
            &format!("{run} --device /dev/zero:/dev/mine:r $I sh -c 'head -c 4 /dev/mine | wc -c'"),
            "4",
        )?;
        let denied = format!("{run} $I sh -c 'mknod /tmp/x c 10 229; cat /tmp/x'");
        e.sh(&denied)?.fails_with(&["not permitted"])?;
        e.shows(&format!("{run} $I ls -l /dev/null /dev/fd /dev/ptmx"), "/proc/self/fd")
    });
    c.case("masked and read-only paths", |e| {
        let run = "docker run --rm --network none $I";
        e.prints(
            &format!("{run} sh -c 'wc -c </proc/keys; touch /proc/sys/x 2>/dev/null || echo ro'"),
            "0\nro",
        )?;
        e.sh(&format!("{run} sh -c 'echo 1 >/proc/sys/kernel/domainname'"))?
            .fails_with(&["read-only"])
            .map(drop)
    });
}

fn files(c: &mut Cases) {
    c.case("a read-only root", |e| {
        let run = "docker run --rm --network none --read-only --tmpfs /scratch:size=1m $I";
        e.sh(&format!("{run} touch /x"))?.exits(1)?.fails_with(&["read-only file system"])?;
        e.ok(&format!("{run} touch /scratch/x")).map(drop)
    });
    c.case("volumes", |e| {
        e.ok("mkdir $D/v; echo there >$D/v/f")?;
        let run = "docker run --rm --network none";
        e.prints(
            &format!("{run} -v $D/v:/v $I sh -c 'cat /v/f; echo back >/v/g'; cat $D/v/g"),
            "there\nback",
        )?;
        e.sh(&format!("{run} -v $D/v:/v:ro $I touch /v/h"))?.fails_with(&["read-only file system"])?;
        e.prints(&format!("{run} -v $D/v/f:/a/deep/file $I cat /a/deep/file"), "there")?;
        e.ok("docker volume create $N")?;
        e.ok(&format!("{run} -v $N:/v $I sh -c 'echo kept >/v/f'"))?;
        e.prints(&format!("{run} --mount src=$N,dst=/v $I cat /v/f; docker volume rm $N >/dev/null"), "kept")
    });
    c.case("propagation of mounts", |e| {
        e.ok("mkdir -p $D/v/m")?;
        start_idle(e, "-v $D/v:/v:rslave")?;
        e.ok("mount -t tmpfs x $D/v/m; touch $D/v/m/seen")?;
        e.prints("docker exec $N ls /v/m; umount $D/v/m", "seen")
    });
    c.case("cp, diff, commit, export", |e| {
        start_idle(e, "")?;
        e.ok("echo data >$D/f; docker cp $D/f $N:/f; docker exec $N cat /f; docker cp $N:/f $D/g; cmp $D/f $D/g")?;
        e.shows("docker diff $N", "A /f")?;
        e.prints("docker commit $N $N:new >/dev/null; docker run --rm --network none $N:new cat /f", "data")?;
        e.ok("docker rmi $N:new; docker export $N | tar -t | grep -x f").map(drop)
    });
    c.case("build", |e| {
        e.ok("printf 'FROM %s\\nRUN echo built >/made && test $(id -u) = 0\\nUSER 1000\\nRUN touch /tmp/own\\n' $I >$D/Dockerfile")?;
        e.ok("DOCKER_BUILDKIT=0 docker build --network none -t $N:b $D")?;
        e.prints("docker run --rm --network none $N:b cat /made; docker rmi $N:b >/dev/null", "built")
    });
}

fn networks(c: &mut Cases) {
    c.case("published ports", |e| {
        e.ok("docker run -d --name $N -p 18080:80 $I sh -c 'mkdir /w; echo page >/w/index.html; httpd -f -p 80 -h /w'")?;
        e.until(&page(18080), "page")
    });
    c.case("networks and names", |e| {
        e.ok("docker network create $N; docker run -d --name $N-a --network $N --network-alias peer $I sleep 1000")?;
        e.shows("docker run --rm --network $N $I ping -c 1 -W 5 peer", "1 packets received")?;
        e.ok("docker rm -f $N-a; docker network rm $N").map(drop)
    });
    c.case("network of another container, of the host", |e| {
        start_idle(e, "")?;
        e.prints("docker run --rm --network container:$N $I ls /sys/class/net", "lo")?;
        e.shows("docker run --rm --network host $I ip -o addr", "10.201.0.2")
    });
}

fn sharing(c: &mut Cases) {
    c.case("shared namespaces", |e| {
        start_idle(e, "--ipc shareable")?;
        e.shows("docker run --rm --network none --pid container:$N $I ps", "sleep 1")?;
        e.shows("docker run --rm --network none --pid host $I ps", "dockerd")?;
        let shm = "docker exec $N touch /dev/shm/x; docker run --rm --network none --ipc container:$N $I ls /dev/shm";
        e.prints(shm, "x")?;
        e.prints("docker run --rm --uts host --network host $I hostname", "world")
    });
    c.case("a container in the host's pid namespace ends with all of its processes", |e| {
        e.ok("docker run -d --name $N --network none --pid host $I sh -c 'sleep 98765 & sleep 98765'")?;
        e.until("pgrep -fxc 'sleep 98765'", "2")?;
        e.ok("docker rm -f $N")?;
        e.until("pgrep -fxc 'sleep 98765' || true", "0")
    });
    c.case("--init reaps", |e| {
        e.ok("docker run -d --name $N --network none --init $I sh -c '(sleep 0.1 &); exec sleep 1000'")?;
        e.shows("docker exec $N ps", "docker-init")?;
        e.until("docker exec $N ps -o stat,comm | grep -c '^Z' || true", "0")
    });
    c.case("--cgroup-parent, --cgroupns", |e| {
        start_idle(e, "--cgroup-parent /parent-$N --cgroupns private")?;
        e.prints("docker exec $N cat /proc/1/cgroup | grep -vc :/$ || true", "0")?;
        e.shows("find /sys/fs/cgroup -maxdepth 2 -name parent-$N", "/parent-")
    });
}

fn errors(c: &mut Cases) {
    c.case("error: a bad mount", |e| {
        e.ok("mkdir $D/dir")?;
        e.sh("docker run --rm -v $D/dir:/etc/passwd $I true")?.fails_with(&["not a directory"]).map(drop)
    });
    c.case("error: a bad seccomp profile", |e| {
        e.ok("echo '{\"defaultAction\":\"SCMP_ACT_WISH\"}' >$D/p.json")?;
        let out = e.sh("docker run --rm --security-opt seccomp=$D/p.json $I true")?.fails()?;
        has("message", &out.stderr, "SCMP_ACT_WISH")
    });
    c.case("error: a bad sysctl", |e| {
        let out = e.sh("docker run --rm --sysctl net.none.such=1 $I true")?.fails()?;
        has("message", &out.stderr.replace('/', "."), "net.none.such")
    });
    c.case("error: a bad rlimit", |e| {
        let out = e.sh("docker run --rm --ulimit nofile=3000000000:3000000000 $I true")?.fails()?;
        has("message", &out.stderr.to_lowercase(), "rlimit")
    });
    c.case("error: a limit that the kernel refuses", |e| {
        start_idle(e, "-m 128m --memory-swap 128m --shm-size 100m")?;
        e.ok("docker exec $N dd if=/dev/zero of=/dev/shm/x bs=1M count=60")?;
        let out = e.sh("docker update -m 16m --memory-swap 16m $N")?.fails()?;
        has("message", &out.stderr, "memory")
    });
    c.case("after a failed start nothing is left", |e| {
        e.sh("docker run --name $N --network none $I /none/such")?.exits(127)?;
        let id = e.ok("docker inspect -f '{{.Id}}' $N")?;
        e.prints(&format!("find /sys/fs/cgroup -name '{id}*'; ls -d /run/docker/runtime-*/moby/{id}* /run/docker/containerd/daemon/*/moby/{id} 2>/dev/null || true"), "")
    });
}

/// Starts dockerd, whose every container gets the runtime of the case, and gives it the image.
pub fn start(e: &Env, more: &[&str]) -> Result<Running> {
    // dockerd knows runc already and finds it in PATH.
    let runtimes = match e.runtime.name.as_str() {
        "runc" => String::new(),
        name => format!("\"runtimes\": {{\"{name}\": {{\"path\": \"{}\"}}}},", e.runtime.path.display()),
    };
    let config = format!("{{{runtimes} \"default-runtime\": \"{}\"}}", e.runtime.name);
    std::fs::write("/etc/docker/daemon.json", config)?;
    // Its own score against the OOM killer is the host's business.
    let mut args = vec!["--storage-driver", "overlay2", "--oom-score-adjust", "0"];
    args.extend(more);
    let daemon = engine::daemon(e, "dockerd", &args, "docker version")?;
    e.ok(&format!("docker load -i {ARCHIVE}"))?;
    e.prints("docker info -f '{{.DefaultRuntime}}'", &e.runtime.name)?;
    Ok(daemon)
}

/// Removes the containers of one case.
pub fn clean(e: &Env) -> Done {
    e.ok("c=$(docker ps -aq --filter name=\"^/$N(-|\\$)\"); [ -z \"$c\" ] || docker rm -f -v $c").map(drop)
}

/// Demands that no trace of any container is left.
pub fn leaves_nothing(e: &Env) -> Done {
    e.ok("c=$(docker ps -aq); [ -z \"$c\" ] || docker rm -f -v $c")?;
    no_traces(e)
}

/// Demands that there is no shim, mount, cgroup, state or network namespace of a container.
pub fn no_traces(e: &Env) -> Done {
    e.until("pgrep -c containerd-shim || true", "0")?;
    e.until("find /sys/fs/cgroup -regextype posix-extended -regex '.*/[0-9a-f]{64}' | head -n 5", "")?;
    e.until("ls -A /run/docker/runtime-*/moby 2>/dev/null || true", "")?;
    // Docker removes the empty files themselves once a minute.
    e.until("grep -cE '/run/docker/netns/[0-9a-f]{12} ' /proc/mounts || true", "0")?;
    e.until("grep -c -E 'overlay2/.*/merged|/shm ' /proc/mounts | sed 's/^1$/0/' || true", "0")
}

/// The cases of a dockerd that gives every container a user namespace.
pub fn userns_cases() -> Cases {
    let mut c = Cases::of("docker-userns");
    c.case("root is somebody else", |e| {
        e.prints(
            "docker run --rm --network none $I sh -c 'id -u; head -n1 /proc/self/uid_map | tr -s \" \"'",
            "0\n 0 500000 65536",
        )?;
        e.sh("docker run --rm --network none -v /root:/r $I touch /r/x")?
            .fails_with(&["permission denied"])
            .map(drop)
    });
    c.case("run, exec, tty, limits", |e| {
        start_idle(e, "-m 64m")?;
        e.prints("docker exec $N id -u", "0")?;
        e.prints("docker run --rm -t --network none $I tty", "/dev/pts/0")?;
        e.prints(&format!("docker exec $N sh -c '{MEMORY}'"), "67108864")?;
        e.fails("docker run --rm $I /none/such", 127, "no such file or directory")
    });
    c.case("network", |e| e.shows("docker run --rm $I ip -o addr show eth0", "inet 172."));
    c.alone("nothing is left", leaves_nothing);
    c
}
