//! From the death of a program to the first instruction of the one that the engine starts in its place: measured, not
//! judged. The program is `floor stamp`, as in `bench supervisor`.

use crate::env::Env;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runtime_tests::check::{Done, Fail};
use runtime_tests::stamps::{Stamps, now};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Containers that are killed, one after the other. Each only once: engines wait longer before every further restart.
const ROUNDS: usize = 5;

/// The program in the world.
pub const FLOOR: &str = "/keep/floor";

/// Notes the median of several containers, each of which `start` starts (`$N-$i`, with `$D`, the directory of the socket, as
/// volume `/stamps`, and `$P`, the program, as `/floor`) and `stop` removes.
fn measure(e: &Env, start: &str, stop: &str) -> Done {
    let stamps = Stamps::bind(&e.dir.join("socket")).map_err(Fail::Failed)?;
    let mut times: Vec<Duration> = Vec::new();
    for i in 0..ROUNDS {
        let with = |script: &str| format!("i={i} D={} P={FLOOR}; {script}", e.dir.display());
        e.ok(&with(start))?;
        let first = stamps.wait().map_err(Fail::Failed)?;
        let begin = now();
        kill(Pid::from_raw(first.pid), Signal::SIGKILL)?;
        let next = stamps.wait().map_err(Fail::Failed)?;
        runtime_tests::ensure!(next.pid != first.pid, "process {} reported twice", first.pid);
        times.push(next.at.saturating_sub(begin));
        e.ok(&with(stop))?;
        stamps.drain();
    }
    times.sort();
    let text = format!("{:.0} ms from death to replacement", times[ROUNDS / 2].as_secs_f64() * 1000.0);
    Ok(fs::write(e.dir.join("note"), text)?)
}

/// `--restart always` of Docker and Podman, whose command line is the same.
pub fn container(e: &Env, engine: &str) -> Done {
    let run = format!(
        "{engine} run -d --name $N-$i --network none --restart always -v $P:/floor -v $D:/stamps $I /floor stamp /stamps/socket"
    );
    measure(e, &run, &format!("{engine} rm -f $N-$i"))
}

/// A service of Swarm.
pub fn service(e: &Env) -> Done {
    let create = "docker service create -q -d --no-resolve-image --name $N-$i --network host --restart-delay 0s \
                  --mount type=bind,src=$P,dst=/floor --mount type=bind,src=$D,dst=/stamps $I /floor stamp /stamps/socket";
    measure(e, create, "docker service rm $N-$i")
}

/// The program beside this one.
pub fn floor() -> runtime_tests::check::Result<std::path::PathBuf> {
    let path = std::env::current_exe()?.with_file_name("floor");
    runtime_tests::ensure!(Path::exists(&path), "there is no {}: run scripts/build", path.display());
    Ok(path)
}
