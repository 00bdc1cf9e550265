//! Programs that are found and cannot be executed: `start` has succeeded by the time execve(2) fails, so that the engine
//! has to see a container that exits, with the reason on its standard error.

use crate::env::Env;
use runtime_tests::check::{Done, skip};

/// Containers that are started at once, and how many times each.
const AT_ONCE: usize = 20;
const ROUNDS: usize = 10;

/// Makes two such programs in `$D`: a text without an interpreter, and one whose interpreter is missing.
const MAKE: &str =
    "echo 'not a program' >$D/text; printf '#!/none/such\\n' >$D/lost; chmod 755 $D/text $D/lost";

/// What the container's standard error says of each, in the words of the kernel.
const REASONS: [(&str, &str); 2] = [("text", "exec format error"), ("lost", "no such file or directory")];

/// 200 starts by Docker, 20 at a time: every one exits with a status of its own, and no shim, state or cgroup is left.
pub fn docker_parallel(e: &Env) -> Done {
    if e.runtime.name == "runc" {
        return skip("Docker shows some of them as running for ever with runc 1.1.5");
    }
    e.ok(MAKE)?;
    e.ok(&format!("for i in $(seq {AT_ONCE}); do docker create --name $N-$i --network none -v $D/text:/text:ro $I /text; done"))?;
    let start = format!("for i in $(seq {AT_ONCE}); do docker start $N-$i & done; wait");
    let exited = "docker ps -aq --filter name=^/$N- --filter status=exited | wc -l";
    for _ in 0..ROUNDS {
        e.ok(&start)?;
        e.until(exited, &AT_ONCE.to_string())?;
    }
    let codes = "docker inspect -f '{{.State.ExitCode}}' $(docker ps -aq --filter name=^/$N-) | sort -u | grep -cx 0 || true";
    e.prints(codes, "0")?;
    let said = "for c in $(docker ps -aq --filter name=^/$N-); do docker logs $c 2>&1; done | grep -ci 'exec format error'";
    e.prints(said, &(AT_ONCE * ROUNDS).to_string())?;
    let ids = e.ok("docker ps -aq --no-trunc --filter name=^/$N- | tr '\\n' '|' | sed 's/|$//'")?;
    e.until(&format!("ps -eo args | grep -E 'containerd-shim.*({ids})' | grep -vc grep || true"), "0")?;
    e.until(&format!("find /sys/fs/cgroup -type d | grep -cE '({ids})' || true"), "0")?;
    e.until(&format!("find /run -maxdepth 6 -type d -path '*runtime*' | grep -cE '({ids})$' || true"), "0")?;
    e.ok("docker rm $(docker ps -aq --filter name=^/$N-)").map(drop)
}

/// Docker restarts it as often as the policy says, and then leaves it exited.
pub fn docker_restarts(e: &Env) -> Done {
    e.ok(MAKE)?;
    e.ok("docker run -d --name $N --network none --restart on-failure:3 -v $D/text:/text:ro $I /text")?;
    e.until("docker inspect -f '{{.RestartCount}} {{.State.Status}}' $N", "3 exited")?;
    e.prints("docker inspect -f '{{.State.ExitCode}}' $N | grep -cx 0 || true", "0")
}

/// `run` in the foreground, which Docker's and Podman's command lines have in common.
pub fn container(e: &Env, engine: &str) -> Done {
    e.ok(MAKE)?;
    for (program, reason) in REASONS {
        let run =
            format!("{engine} run --name $N --network none -v $D/{program}:/{program}:ro $I /{program}");
        e.sh(&run)?.fails_with(&[reason])?;
        e.until(&format!("{engine} inspect -f '{{{{.State.Status}}}}' $N"), "exited")?;
        e.ok(&format!("{engine} rm $N"))?;
    }
    Ok(())
}

/// `ctr run`: the program's status, and nothing is left of the task.
pub fn containerd(e: &Env) -> Done {
    e.ok(MAKE)?;
    for (program, reason) in REASONS {
        let mount = format!("--mount type=bind,src=$D/{program},dst=/{program},options=rbind:ro");
        e.sh(&format!("ctr run --runc-binary $R --rm {mount} $I $N /{program}"))?.fails_with(&[reason])?;
        e.until("ctr tasks ls -q | grep -cx $N || true", "0")?;
        e.ok("ctr containers rm $N 2>/dev/null || true")?;
    }
    Ok(())
}
