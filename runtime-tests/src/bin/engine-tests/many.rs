//! Many containers at once: none may be lost, none may have a wrong status; and the time it takes.

use crate::env::Env;
use runtime_tests::check::{Done, Result};
use std::time::Instant;

/// How many.
const MANY: usize = 50;

/// Runs shell commands that succeed, and returns how long they take in seconds.
fn time(e: &Env, script: &str) -> Result<f64> {
    let begin = Instant::now();
    e.ok(script)?;
    Ok(begin.elapsed().as_secs_f64())
}

fn note(e: &Env, text: &str) -> Done {
    Ok(std::fs::write(e.dir.join("note"), text)?)
}

/// One shell loop over the names of all containers, the bodies in parallel; a failed one fails the whole.
fn each(body: &str) -> String {
    format!(
        "p=; for i in $(seq {MANY}); do {{ {body}; }} >/dev/null & p=\"$p $!\"; done; for q in $p; do wait $q; done"
    )
}

/// 50 containers by Docker: started, killed, started again, removed.
pub fn docker(e: &Env) -> Done {
    let count = |status: &str| format!("docker ps -aq --filter name=^/$N- --filter status={status} | wc -l");
    let many = MANY.to_string();
    // One network for all of them: Docker 20.10 (libnetwork) locks itself up now and then when many leave theirs at once.
    e.ok("docker run -d --network none --name $N $I sleep 1000")?;
    let start = time(e, &each("docker run -d --network container:$N --name $N-$i $I sleep 1000"))?;
    e.prints(&count("running"), &many)?;
    e.prints(&each("docker exec $N-$i true"), "")?;
    let kill = time(e, "docker kill $(docker ps -q --filter name=^/$N-)")?;
    e.until(&count("exited"), &many)?;
    let codes = "docker inspect -f '{{.State.ExitCode}}' $(docker ps -aq --filter name=^/$N-) | sort | uniq -c | tr -s ' '";
    e.prints(codes, &format!("{MANY} 137"))?;
    let again = time(e, "docker start $(docker ps -aq --filter name=^/$N-)")?;
    e.prints(&count("running"), &many)?;
    let remove = time(e, "docker rm -f $(docker ps -aq --filter name=^/$N-)")?;
    e.prints("docker ps -aq --filter name=^/$N-", "")?;
    note(e, &format!("start {start:.1} s, kill {kill:.1} s, start again {again:.1} s, remove {remove:.1} s"))
}

/// 50 containers by ctr: started, killed, removed.
pub fn containerd(e: &Env) -> Done {
    let count = |status: &str| format!("ctr tasks ls | grep -c \"^$N-.*{status}\" || true");
    let many = MANY.to_string();
    let start = time(e, &each("ctr run --runc-binary $R -d $I $N-$i sleep 1000"))?;
    e.prints(&count("RUNNING"), &many)?;
    let kill = time(e, &each("ctr tasks kill -s KILL $N-$i"))?;
    e.until(&count("STOPPED"), &many)?;
    let remove = time(e, &each("ctr tasks rm $N-$i || [ $? = 137 ]; ctr containers rm $N-$i"))?;
    e.prints("ctr containers ls -q | grep -c ^$N- || true", "0")?;
    note(e, &format!("start {start:.1} s, kill {kill:.1} s, remove {remove:.1} s"))
}
