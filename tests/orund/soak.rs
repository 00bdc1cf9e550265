//! Many replicas that die, log and are changed, while supervisor, keeper, disks and clients misbehave, all at random; and an audit:
//! each line and each exit code once, nothing twice, nothing left, memory flat. `scripts/soak` runs it for longer.

use crate::client::ok;
use crate::daemon::{Daemon, can_run, kill, pid_of, wait_for};
use crate::soak_audit::{Audit, memory, mounts_below, open_files, programs_by_replica};
use serde_json::json;
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the disks stay full, and a supervisor stays stopped unless its keeper ends it before.
const TROUBLE: Duration = Duration::from_secs(3);
/// The supervisor is killed in the first part of each period only, so that in the second its memory can grow.
const PERIOD: Duration = Duration::from_secs(1800);
const WITH_KILLS: Duration = Duration::from_secs(900);
/// Then it has its events, and plans of all workloads.
const SETTLED: Duration = Duration::from_secs(1200);
/// What memory may grow by in the second part, in kB beside a tenth: what restarts have touched for the first time.
const GROWTH: u64 = 2048;
/// Clients that neither read nor finish their requests.
const HUNG: usize = 40;
/// Workloads of each kind.
const KINDS: u64 = 5;

/// Writes its lines by number, and how it ends; lives for up to `seconds`.
fn mortal(seconds: u64) -> String {
    format!(
        "n=0; say() {{ while [ $n -lt $1 ]; do echo $n; n=$((n+1)); done; }}; say 3; sleep $((RANDOM % {seconds} + 1)); say 6; \
         code=$((RANDOM % 90 + 10)); echo end $code; exit $code"
    )
}

/// Lives until it is asked to exit.
const CHANGED: &str = "trap 'exit 0' TERM; echo 0; sleep 100000 & wait";
const STAYS: &str = "trap 'exit 0' TERM; sleep 100000 & wait";

/// Numbers that look random, the same ones for the same seed: xorshift64 (Marsaglia, Xorshift RNGs, 2003).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// A disk of its own for a directory of the supervisor.
struct Disk {
    filler: std::path::PathBuf,
    full_until: Option<Instant>,
}

impl Disk {
    fn mount(d: &Daemon, name: &str, size: &str) -> Disk {
        let dir = d.dir.join(name);
        fs::create_dir(&dir).unwrap();
        let options = format!("size={size}");
        let arguments = ["-t", "tmpfs", "-o", &options, "orund-test", dir.to_str().unwrap()];
        assert!(Command::new("mount").args(arguments).status().unwrap().success());
        Disk { filler: dir.join("filler"), full_until: None }
    }

    fn fill(&mut self) {
        // Nothing frees a block in between: the last one is taken as well.
        let mut file = fs::File::create(&self.filler).unwrap();
        while file.write(&[0; 1 << 16]).is_ok() {}
        while file.write(&[0; 1 << 12]).is_ok() {}
        self.full_until = Some(Instant::now() + TROUBLE);
    }

    fn free(&mut self) {
        let _ = fs::remove_file(&self.filler);
        self.full_until = None;
    }
}

struct Soak {
    d: Daemon,
    chance: Chance,
    /// Of each workload.
    replicas: u64,
    disks: [Disk; 2],
    hung: Vec<UnixStream>,
    followers: Vec<Child>,
    stay: Vec<Option<i32>>,
    audit: Audit,
    revision: u32,
    done: std::collections::BTreeMap<&'static str, u64>,
}

impl Soak {
    fn start(total: u64, seconds: u64, seed: u64) -> Soak {
        let replicas = (total / (2 * KINDS)).max(1);
        let mut d = Daemon::prepare("soak", &[]);
        let disks = [Disk::mount(&d, "data", "8m"), Disk::mount(&d, "logs", "256m")];
        d.start_again();
        let quick = |grace: u32| json!({"backoff": {"initial": 1, "factor": 1, "max": 1}, "terminationGracePeriodSeconds": grace});
        d.apply("stay", 3, STAYS, quick(10));
        for n in 0..KINDS {
            d.apply(&format!("mortal{n}"), replicas as u32, &mortal(seconds), quick(10));
            d.apply(&format!("changed{n}"), replicas as u32, CHANGED, quick(10));
        }
        let stay = (0..3).map(|n| pid_of(&d.wait_running(&format!("stay-{n}")))).collect();
        let audit = Audit::new(d.socket(), d.dir.join("logs"));
        let chance = Chance(seed);
        let done = std::collections::BTreeMap::new();
        Soak {
            d,
            chance,
            replicas,
            disks,
            hung: Vec::new(),
            followers: Vec::new(),
            stay,
            audit,
            revision: 0,
            done,
        }
    }

    /// One thing that goes wrong, or is changed.
    fn disturb(&mut self, with_kills: bool) {
        let choice = self.chance.below(100);
        let what = match choice {
            0..=9 if with_kills => self.kill_supervisor(),
            10..=12 if with_kills => self.stop_supervisor(),
            13..=14 if with_kills => self.kill_keeper(),
            15..=16 if with_kills => self.restart(),
            20..=39 => self.kill_container(),
            40..=54 => self.scale(),
            55..=64 => self.roll_out(),
            65..=69 => self.restart_replica(),
            70..=74 => self.fill_a_disk(),
            75..=89 => self.hang(),
            _ => "nothing",
        };
        *self.done.entry(what).or_default() += 1;
        if what != "nothing" {
            println!("{} {what}", rfc3339());
        }
    }

    fn kill_supervisor(&mut self) -> &'static str {
        self.d.supervisor().map_or("nothing", |pid| {
            kill(pid, libc::SIGKILL);
            "supervisor killed"
        })
    }

    fn stop_supervisor(&mut self) -> &'static str {
        self.d.supervisor().map_or("nothing", |pid| {
            kill(pid, libc::SIGSTOP);
            std::thread::sleep(TROUBLE);
            kill(pid, libc::SIGCONT);
            "supervisor stopped"
        })
    }

    /// As when a service manager starts the service again whose main process was killed.
    fn kill_keeper(&mut self) -> &'static str {
        let Some(supervisor) = self.d.supervisor() else { return "nothing" };
        kill(self.d.main(), libc::SIGKILL);
        std::thread::sleep(Duration::from_millis(self.chance.below(1000)));
        kill(supervisor, [libc::SIGKILL, libc::SIGTERM][self.chance.below(2) as usize]);
        wait_for("the supervisor to end", || {
            (!std::path::Path::new(&format!("/proc/{supervisor}")).exists()).then_some(())
        });
        self.d.stop();
        self.audit.nobody_lived();
        self.d.start_again();
        "keeper killed"
    }

    fn restart(&mut self) -> &'static str {
        self.d.stop();
        self.audit.nobody_lived();
        self.d.start_again();
        "service restarted"
    }

    fn kill_container(&mut self) -> &'static str {
        let kind = ["mortal", "changed"][self.chance.below(2) as usize];
        let name = format!("{kind}{}-{}", self.chance.below(KINDS), self.chance.below(self.replicas));
        let replica = self.d.try_api("GET", &format!("/v1/replicas/{name}"), "");
        match replica.and_then(|(_, r)| pid_of(&r)) {
            Some(pid) => {
                kill(pid, libc::SIGKILL);
                "container killed"
            }
            None => "nothing",
        }
    }

    fn changed(&mut self) -> String {
        format!("changed{}", self.chance.below(KINDS))
    }

    /// A change that a full disk or a dying supervisor may refuse.
    fn verb(&self, words: &str) {
        let _ = crate::client::run(&self.d, words);
    }

    fn scale(&mut self) -> &'static str {
        let replicas = self.chance.below(self.replicas + 1);
        let name = self.changed();
        self.verb(&format!("scale {name}={replicas}"));
        "scaled"
    }

    fn roll_out(&mut self) -> &'static str {
        self.revision += 1;
        let name = self.changed();
        let spec =
            json!({"terminationGracePeriodSeconds": 10, "backoff": {"initial": 1, "factor": 1, "max": 1}});
        let script = format!("{CHANGED} # {}", self.revision);
        self.d.try_apply(&name, self.replicas as u32, &script, spec);
        "rolled out"
    }

    fn restart_replica(&mut self) -> &'static str {
        let name = format!("{}-{}", self.changed(), self.chance.below(self.replicas));
        self.verb(&format!("restart {name}"));
        "replica restarted"
    }

    fn fill_a_disk(&mut self) -> &'static str {
        let disk = &mut self.disks[self.chance.below(2) as usize];
        if disk.full_until.is_some() {
            return "nothing";
        }
        disk.fill();
        "disk filled"
    }

    /// Clients that stop in the middle of a request, or read nothing of an answer that never ends.
    fn hang(&mut self) -> &'static str {
        if self.hung.len() > HUNG {
            self.hung.drain(..HUNG / 2);
        }
        for mut old in self.followers.drain(..) {
            let _ = old.kill();
            let _ = old.wait();
        }
        let Ok(mut stream) = UnixStream::connect(self.d.socket()) else { return "nothing" };
        let text = [
            "GET /v1/watch HTTP/1.1\r\nhost: x\r\n\r\n",
            "GET /v1/replicas HTTP/1.1\r\nhost: x\r\n\r\n",
            "POST /v1/workloads HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{",
            "GET /v1/wor",
        ][self.chance.below(4) as usize];
        let _ = stream.write_all(text.as_bytes());
        self.hung.push(stream);
        let mut follower = crate::client::command(&self.d, "logs -f mortal0");
        // Nobody reads the pipe.
        let child = follower.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        self.followers.extend(child);
        "client hung"
    }

    fn free_disks(&mut self, all: bool) {
        for disk in &mut self.disks {
            if disk.full_until.is_some_and(|until| all || until <= Instant::now()) {
                disk.free();
            }
        }
    }

    /// Disturbs for `length`; what grew although nobody was killed.
    fn run(&mut self, length: Duration) {
        let begin = Instant::now();
        // Chance may leave it out.
        self.kill_supervisor();
        let mut before: Option<(i32, [u64; 2])> = None;
        while begin.elapsed() < length {
            let of_period = Duration::from_secs(begin.elapsed().as_secs() % PERIOD.as_secs());
            let with_kills = of_period < WITH_KILLS;
            self.disturb(with_kills);
            std::thread::sleep(Duration::from_millis(self.chance.below(700)));
            self.free_disks(false);
            self.audit.look();
            let now = self.d.supervisor().map(|pid| (pid, [memory(pid), memory(self.d.main())]));
            let settled = of_period > SETTLED;
            before = match (before, now) {
                (None, Some(now)) if settled => Some(now),
                (Some(first), Some(now)) if !with_kills => {
                    assert_eq!(first.0, now.0, "the supervisor exited by itself: {}", self.d.output());
                    for (first, now) in first.1.iter().zip(now.1) {
                        assert!(now < first + first / 10 + GROWTH, "memory grows: {first} kB, then {now} kB");
                    }
                    Some(first)
                }
                (_, Some(now)) if begin.elapsed().as_secs().is_multiple_of(60) => {
                    println!("{:?}: memory {:?} kB, {}", begin.elapsed(), now.1, self.audit);
                    None
                }
                _ => None,
            };
        }
    }

    /// Everything becomes as it should be once nobody disturbs any more.
    fn settle(&mut self) {
        self.free_disks(true);
        self.hung.clear();
        self.hang();
        self.hung.clear();
        for mut follower in self.followers.drain(..) {
            let _ = follower.kill();
            let _ = follower.wait();
        }
        for n in 0..KINDS {
            ok(&self.d, &format!("scale changed{n}={} --wait --timeout 300", self.replicas));
        }
        let expected = self.replicas as usize * KINDS as usize;
        let changed = || {
            let programs = programs_by_replica(&self.d);
            assert!(programs.values().all(|n| *n <= 1), "twice: {programs:?}");
            (programs.keys().filter(|r| r.starts_with("changed")).count() == expected).then_some(())
        };
        wait_for("each replica once", changed);
        for (n, pid) in self.stay.iter().enumerate() {
            let replica = self.d.wait_running(&format!("stay-{n}"));
            assert_eq!((pid_of(&replica), &replica["restarts"]), (*pid, &json!(0)), "{replica:#}");
        }
        let begin = Instant::now();
        while !self.audit.is_settled() {
            self.audit.look();
            assert!(begin.elapsed() < Duration::from_secs(60), "{:#?}", self.audit.doubts());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn end(mut self) {
        self.settle();
        ok(&self.d, "delete --all --wait --timeout 300");
        assert_eq!(self.d.processes(), [0i32; 0]);
        let left = |dir: &str| fs::read_dir(self.d.dir.join(dir)).map_or(0, |entries| entries.count());
        assert_eq!(left("run/containers"), 0, "state records are left");
        assert_eq!(mounts_below(&self.d, "run"), 0, "mounts are left");
        wait_for("the cgroups to go", || (self.d.cgroups() == 0).then_some(()));
        let supervisor = wait_for("the supervisor", || self.d.supervisor());
        for pid in [supervisor, self.d.main()] {
            let files = open_files(pid);
            assert!(files.len() < 60, "open files are left: {files:?}");
        }
        println!("{:?}; {}", self.done, self.audit);
        assert!(self.audit.exits() > 0, "{:?}", self.done);
        self.d.stop();
    }
}

fn rfc3339() -> String {
    let out = Command::new("date").args(["-u", "+%FT%T.%3NZ"]).output().unwrap();
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn soak(length: Duration, replicas: u64, seconds: u64) {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = number("ORUN_SOAK_SEED", clock.as_nanos() as u64 | 1);
    println!("ORUN_SOAK_SEED={seed}");
    let mut soak = Soak::start(replicas, seconds, seed);
    soak.run(length);
    soak.end();
}

#[test]
fn a_short_soak_loses_nothing() {
    if can_run() {
        soak(Duration::from_secs(20), 40, 6);
    }
}

#[test]
#[ignore = "takes minutes: scripts/soak"]
fn a_long_soak_loses_nothing() {
    let length = Duration::from_secs(60 * number("ORUN_SOAK_MINUTES", 10));
    soak(length, number("ORUN_SOAK_REPLICAS", 1000), 60);
}
