//! Docker Swarm: one node that is manager and worker. Tasks use the host's network: an overlay network and the
//! ingress mesh need modules that not every kernel has.

use crate::docker::{self, IDLE};
use crate::env::{Cases, Env};
use crate::restarts;
use crate::world::ADDRESS;
use runtime_tests::check::{Done, Result};
use runtime_tests::command::Running;

/// Starts dockerd and makes it a swarm.
pub fn start(e: &Env) -> Result<Running> {
    let daemon = docker::start(e, &[])?;
    e.ok(&format!("docker swarm init --advertise-addr {ADDRESS} --listen-addr {ADDRESS}:2377"))?;
    Ok(daemon)
}

/// Removes the service of one case.
pub fn clean(e: &Env) -> Done {
    e.ok("docker service rm $N 2>/dev/null || true")?;
    e.until("docker ps -aq --filter label=com.docker.swarm.service.name=$N", "")
}

const CREATE: &str = "docker service create -q --no-resolve-image --name $N --restart-delay 100ms --stop-grace-period 20s \
     --update-delay 0s --update-monitor 1s --rollback-monitor 1s";

fn create(e: &Env, options: &str) -> Done {
    e.ok(&format!("{CREATE} --network host {options} $I {IDLE}")).map(drop)
}

fn replicas(e: &Env, want: &str) -> Done {
    e.until("docker service ls -f name=$N --format '{{.Replicas}}'", want)
}

const TASKS: &str = "docker ps -q --filter label=com.docker.swarm.service.name=$N";

/// All cases of this engine.
pub fn cases() -> Cases {
    let mut c = Cases::of("swarm");
    services(&mut c);
    c.case("rolling update, rollback", |e| {
        let version = format!("for t in $({TASKS}); do docker exec $t sh -c 'echo $V'; done | tr '\\n' ' '");
        create(e, "--replicas 3 --env V=1 --update-parallelism 1")?;
        e.prints(&version, "1 1 1")?;
        e.ok("docker service update -q --no-resolve-image --env-add V=2 $N")?;
        e.prints("docker service inspect -f '{{.UpdateStatus.State}}' $N", "completed")?;
        e.until(&version, "2 2 2")?;
        e.ok("docker service rollback -q $N")?;
        e.until(&version, "1 1 1")
    });
    c.case("a failed update is rolled back", |e| {
        create(e, "--replicas 2 --update-failure-action rollback")?;
        e.ok("docker service update -d --no-resolve-image --args '/none/such' $N")?;
        e.until("docker service inspect -f '{{.UpdateStatus.State}}' $N", "rollback_completed")?;
        replicas(e, "2/2")?;
        e.shows("docker service ps --no-trunc --format '{{.Error}}' $N", "no such file or directory")
    });
    c.alone("a killed task is replaced, measured", restarts::service);
    c.alone("nothing is left", |e| {
        e.ok("s=$(docker service ls -q); [ -z \"$s\" ] || docker service rm $s")?;
        e.until("docker ps -aq", "")?;
        docker::no_traces(e)
    });
    c
}

fn services(c: &mut Cases) {
    c.case("service create --replicas 3, scale", |e| {
        create(e, "--replicas 3")?;
        replicas(e, "3/3")?;
        e.ok("docker service scale -d=false $N=6")?;
        e.until(&format!("{TASKS} | wc -l"), "6")?;
        e.ok("docker service scale -d=false $N=1")?;
        e.until(&format!("{TASKS} | wc -l"), "1")
    });
    c.case("a killed task is replaced", |e| {
        create(e, "--replicas 2")?;
        let old = e.ok(&format!("{TASKS} | head -n 1"))?;
        e.ok(&format!("kill -9 $(docker inspect -f '{{{{.State.Pid}}}}' {old})"))?;
        e.until(&format!("{TASKS} | grep -vc {old}"), "2")?;
        replicas(e, "2/2")
    });
    c.case("a task whose health check fails is replaced", |e| {
        create(e, "--health-cmd 'test ! -e /tmp/ill' --health-interval 500ms --health-retries 1 --health-timeout 20s")?;
        let old = e.ok(TASKS)?;
        e.ok(&format!("docker exec {old} touch /tmp/ill"))?;
        e.until(&format!("{TASKS} | grep -vc {old} || true"), "1")
    });
    c.case("limits, logs, read-only root", |e| {
        let limits = "--limit-memory 64m --limit-pids 40 --read-only --restart-condition none -d";
        let read =
            "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; touch /x";
        e.ok(&format!("{CREATE} --network host {limits} $I sh -c '{read}'"))?;
        e.until("docker service logs --raw $N 2>/dev/null | head -n 1", "67108864")?;
        e.until("docker service logs --raw $N 2>&1 | grep -ci 'read-only' || true", "1")
    });
    c.case("secrets and configs", |e| {
        e.ok("echo hush | docker secret create $N-s -; echo conf | docker config create $N-c -")?;
        create(e, "--secret $N-s --config src=$N-c,target=/etc/conf")?;
        e.prints(&format!("docker exec $({TASKS}) cat /run/secrets/$N-s /etc/conf"), "hush\nconf")?;
        e.ok("docker service rm $N; docker secret rm $N-s; docker config rm $N-c").map(drop)
    });
    c.case("published ports in host mode", |e| {
        let serve = "sh -c 'mkdir /w; echo page >/w/index.html; exec httpd -f -p 80 -h /w'";
        e.ok(&format!("{CREATE} --publish mode=host,target=80,published=18090 $I {serve}"))?;
        e.until(&docker::page(18090), "page")
    });
}
