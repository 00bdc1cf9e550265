//! A supervisor with directories and cgroups of its own, and what tests ask it.

use crate::skip::{is_root, skip};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ORUND: &str = env!("CARGO_BIN_EXE_orund");
/// Nothing in these tests takes so long, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether these tests can run here.
pub fn can_run() -> bool {
    if !is_root() {
        return false;
    }
    let busybox = Path::new("/bin/busybox").exists();
    if !busybox {
        skip("needs /bin/busybox");
    }
    busybox
}

/// A supervisor, and everything that a test leaves.
pub struct Daemon {
    pub dir: PathBuf,
    name: String,
    flags: Vec<String>,
    /// What `orund` is started by: a program and its arguments.
    pub wrapper: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Of clients; and nothing is said to `serve` about its directories.
    pub user: Option<u32>,
    pub stdin: Option<OwnedFd>,
    /// The keeper, or the supervisor itself when it has none.
    main: Option<Child>,
    /// Cleans up when its standard input is closed: also when this process is killed.
    cleaner: Child,
}

impl Daemon {
    /// Starts one. `flags` are for `serve`.
    pub fn start(test: &str, flags: &[&str]) -> Daemon {
        let mut d = Daemon::prepare(test, flags);
        d.start_again();
        d
    }

    /// Makes the directories only.
    pub fn prepare(test: &str, flags: &[&str]) -> Daemon {
        let name = format!("orund-test-{}-{test}.", std::process::id());
        let dir = Path::new("/dev/shm").join(&name);
        fs::create_dir_all(dir.join("bundle/rootfs/bin")).unwrap();
        fs::copy("/bin/busybox", dir.join("bundle/rootfs/bin/busybox")).unwrap();
        for applet in ["sh", "sleep", "cat", "true", "dd", "setsid", "mkdir"] {
            std::os::unix::fs::symlink("busybox", dir.join("bundle/rootfs/bin").join(applet)).unwrap();
        }
        let config = json!({
            "ociVersion": "1.2.0",
            "root": {"path": "rootfs"},
            "process": {"args": ["sh"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}]}
        });
        fs::write(dir.join("bundle/config.json"), config.to_string()).unwrap();
        Daemon {
            cleaner: cleaner(&name, &dir),
            dir,
            name,
            flags: own(flags),
            wrapper: Vec::new(),
            environment: Vec::new(),
            user: None,
            stdin: None,
            main: None,
        }
    }

    /// Starts the supervisor, and waits until it answers.
    pub fn start_again(&mut self) {
        self.spawn();
        wait_for("the supervisor to answer", || {
            self.try_api("GET", "/healthz", "").filter(|(s, _)| *s == 200)
        });
    }

    /// The flags of `serve` for the next start.
    pub fn set_flags(&mut self, flags: &[&str]) {
        self.flags = own(flags);
    }

    pub fn spawn(&mut self) {
        let out = fs::OpenOptions::new().create(true).append(true).open(self.dir.join("output")).unwrap();
        let words: Vec<&str> = self.wrapper.iter().map(String::as_str).chain([ORUND]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg("serve").arg("--socket").arg(self.socket());
        command.envs(self.environment.iter().cloned());
        if self.user.is_none() {
            for (flag, dir) in [("--data-dir", "data"), ("--run-dir", "run"), ("--log-dir", "logs")] {
                command.arg(flag).arg(self.dir.join(dir));
            }
            command.args(["--cgroup-parent", &format!("/{}", self.name)]);
            if !self.flags.iter().any(|f| f.starts_with("--network")) {
                // The host's own interfaces are left alone.
                command.args(["--network", "none"]);
            }
        }
        command.args(&self.flags);
        command
            .stdin(self.stdin.take().map_or_else(Stdio::null, Stdio::from))
            .stdout(out.try_clone().unwrap())
            .stderr(out);
        self.main = Some(command.spawn().unwrap());
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("sock")
    }

    /// What the supervisor wrote for people.
    pub fn output(&self) -> String {
        fs::read_to_string(self.dir.join("output")).unwrap_or_default()
    }

    /// The exit code of a supervisor that ends by itself.
    pub fn exit_code(&mut self) -> Option<i32> {
        let child = self.main.as_mut().unwrap();
        wait_for("the supervisor to end", || child.try_wait().unwrap()).code()
    }

    /// The process of the keeper, or of the supervisor when it has none.
    pub fn main(&self) -> i32 {
        self.main.as_ref().unwrap().id() as i32
    }

    /// The process of the supervisor below its keeper, if it runs at this moment.
    pub fn supervisor(&self) -> Option<i32> {
        children(self.main()).into_iter().find(|pid| {
            let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            // A process that is about to become a container still has the supervisor's name, but not its namespace.
            let same = |l: &str| l.starts_with("NSpid:") && l.split_whitespace().count() == 2;
            read("cmdline").contains("serve") && read("status").lines().any(same)
        })
    }

    /// Asks the supervisor to exit, and waits for it. Containers keep running.
    pub fn stop(&mut self) {
        kill(self.main(), libc::SIGTERM);
        let mut child = self.main.take().unwrap();
        wait_for("the keeper to end", || child.try_wait().unwrap());
    }

    /// A request; None when nobody answers.
    pub fn try_api(&self, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
        let mut s = UnixStream::connect(self.socket()).ok()?;
        s.set_read_timeout(Some(PATIENCE)).ok()?;
        let length = body.len();
        write!(
            s,
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .ok()?;
        let mut answer = String::new();
        s.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        let json = body.find('{').map(|at| &body[at..=body.rfind('}').unwrap_or(at)]);
        Some((status, json.and_then(|t| serde_json::from_str(t).ok()).unwrap_or(Value::Null)))
    }

    /// A page that is not JSON.
    pub fn text(&self, path: &str) -> String {
        let mut s = UnixStream::connect(self.socket()).unwrap();
        s.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(s, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        s.read_to_string(&mut answer).unwrap();
        answer
    }

    /// A request that is answered, as soon as a supervisor serves.
    pub fn api(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        wait_for("an answer", || self.try_api(method, path, body))
    }

    /// Applies a workload of replicas that run `script`; `spec` has more of its specification.
    pub fn apply(&self, name: &str, replicas: u32, script: &str, spec: Value) {
        let (status, answer) = self.try_apply(name, replicas, script, spec);
        assert_eq!(status, 200, "{answer}\n{}", self.output());
    }

    pub fn try_apply(&self, name: &str, replicas: u32, script: &str, spec: Value) -> (u16, Value) {
        let mut container =
            json!({"name": "main", "bundle": self.dir.join("bundle"), "args": ["sh", "-c", script]});
        let mut all = json!({"replicas": replicas});
        for (key, value) in spec.as_object().unwrap() {
            let to = if key == "resources" || key == "lifecycle" { &mut container } else { &mut all };
            to[key] = value.clone();
        }
        all["containers"] = json!([container]);
        let workload =
            json!({"apiVersion": "orun.dev/v1", "kind": "Workload", "metadata": {"name": name}, "spec": all});
        self.api("POST", "/v1/workloads", &workload.to_string())
    }

    /// Deletes a workload and waits until nothing of it is left; how long that took.
    pub fn delete(&self, name: &str, grace: Option<u32>) -> Duration {
        let query = grace.map(|g| format!("?gracePeriodSeconds={g}")).unwrap_or_default();
        let begun = Instant::now();
        let (status, answer) = self.api("DELETE", &format!("/v1/workloads/{name}{query}"), "");
        assert_eq!(status, 200, "{answer}");
        wait_for("the workload to go", || {
            (self.api("GET", &format!("/v1/workloads/{name}"), "").0 == 404).then_some(())
        });
        begun.elapsed()
    }

    /// Adds a flag of `serve` whose value is a path in the directory of the test.
    pub fn flag(&mut self, name: &str, path: &str) {
        self.flags.extend([name.to_owned(), self.dir.join(path).to_str().unwrap().to_owned()]);
    }

    /// The workload `name` as the interface shows it.
    pub fn workload(&self, name: &str) -> Value {
        self.api("GET", &format!("/v1/workloads/{name}"), "").1
    }

    /// The replica `name` as the interface shows it.
    pub fn replica(&self, name: &str) -> Value {
        self.api("GET", &format!("/v1/replicas/{name}"), "").1
    }

    /// Waits until the replica satisfies the condition, and returns it.
    pub fn wait(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let replica = self.replica(name);
            if wanted(&replica) {
                return replica;
            }
            assert!(begun.elapsed() < PATIENCE, "waiting for {what}: {replica:#}\n{}", self.output());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn wait_running(&self, name: &str) -> Value {
        self.wait(name, "it to run", |r| pid_of(r).is_some() && r["phase"] == "Running")
    }

    /// The texts that a replica has written to standard output, all of its runs, as the log files have them.
    pub fn logged(&self, workload: &str, slot: u32) -> Vec<String> {
        self.logged_by(workload, slot, "main")
    }

    /// The same of the container of that name.
    pub fn logged_by(&self, workload: &str, slot: u32, container: &str) -> Vec<String> {
        let dir = self.dir.join("logs").join(workload).join(slot.to_string()).join(container);
        let mut files: Vec<PathBuf> =
            fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
        // Beside them is the number of the workload.
        files.retain(|p| p.file_name().is_some_and(|n| n.to_string_lossy().contains(".log")));
        // N.log comes after N.log.000001 and so on.
        files.sort_by_key(|p| {
            let name = p.file_name().unwrap().to_string_lossy().into_owned();
            let (run, full) = name.split_once(".log").unwrap();
            (run.parse::<u64>().unwrap(), full.is_empty(), full.to_owned())
        });
        // A listed one may be gone by now, or have another name; the caller polls.
        let text: String = files.iter().map(|f| fs::read_to_string(f).unwrap_or_default()).collect();
        text.lines().map(|l| l.splitn(4, ' ').nth(3).unwrap_or_default().to_owned()).collect()
    }

    /// How many cgroups there are below that of this test.
    pub fn cgroups(&self) -> usize {
        let below = |h: &PathBuf| {
            let entries = fs::read_dir(h.join(&self.name)).into_iter().flatten().flatten();
            entries.filter(|e| e.path().is_dir()).count()
        };
        hierarchies().iter().map(below).sum()
    }

    /// The processes in the cgroups of this test.
    pub fn processes(&self) -> Vec<i32> {
        let mut found = Vec::new();
        let mut todo: Vec<PathBuf> = hierarchies().iter().map(|h| h.join(&self.name)).collect();
        while let Some(dir) = todo.pop() {
            let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()));
            let below = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
            todo.extend(below.filter(|p| p.is_dir()));
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.cleaner.stdin.take());
        let _ = self.cleaner.wait();
        if let Some(mut child) = self.main.take() {
            let _ = child.wait();
        }
    }
}

fn own(flags: &[&str]) -> Vec<String> {
    flags.iter().map(|f| (*f).to_owned()).collect()
}

/// Mount points of cgroup hierarchies.
fn hierarchies() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap();
    let mounts = text.lines().map(|l| l.split(' ').collect::<Vec<_>>());
    mounts.filter(|m| m[2].starts_with("cgroup")).map(|m| m[1].into()).collect()
}

/// A process that outlives this one and removes everything that carries the test's name.
fn cleaner(name: &str, dir: &Path) -> Child {
    let script = format!(
        "cat >/dev/null
         for signal in KILL KILL; do
             for p in /proc/[0-9]*; do
                 grep -qaF -e '/{name}' $p/cmdline 2>/dev/null && [ ${{p#/proc/}} != $$ ] && kill -$signal ${{p#/proc/}}
             done
         done
         for id in $('{ORUND}' oci --root {dir}/run/containers list -q 2>/dev/null); do
             '{ORUND}' oci --root {dir}/run/containers delete --force $id
         done
         umount {dir}/* 2>/dev/null
         find /sys/fs/cgroup -depth -path '*/{name}*' -type d -exec rmdir {{}} + 2>/dev/null
         rm -rf {dir}",
        dir = dir.display()
    );
    // A signal for the group of the test's terminal is not for the cleaner.
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script).arg("cleaner").process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Waits until `look` finds something.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Reads all of `buffer`, or as much as comes within ten seconds.
pub fn read_within(from: &mut (impl Read + std::os::fd::AsFd), buffer: &mut [u8]) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut len = 0;
    while len < buffer.len() {
        let mut fds = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(10_000u16)).unwrap() == 0 {
            break;
        }
        match from.read(&mut buffer[len..]).unwrap() {
            0 => break,
            n => len += n,
        }
    }
}

pub fn kill(pid: i32, signal: i32) {
    let signal = nix::sys::signal::Signal::try_from(signal).unwrap();
    // It may just have exited.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
}

fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|p| p.parse().ok()).collect()
}

/// The first processes of containers that run their program, in the cgroups of this replica.
pub fn programs(d: &Daemon, replica: &str) -> usize {
    let is_program = |pid: &&i32| {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let first = read("status").lines().any(|l| l.starts_with("NSpid:") && l.ends_with("\t1"));
        first && read("cmdline").starts_with("sh\0") && read("cgroup").contains(&format!("/{replica}."))
    };
    d.processes().iter().filter(is_program).count()
}

pub fn pid_of(replica: &Value) -> Option<i32> {
    replica["containers"][0]["pid"].as_i64().map(|pid| pid as i32)
}

/// The last ends of the replica's container, oldest first.
pub fn exits(replica: &Value) -> Vec<Value> {
    replica["containers"][0]["exits"].as_array().cloned().unwrap_or_default()
}
