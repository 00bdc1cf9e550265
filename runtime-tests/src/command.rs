//! Running a program with a deadline.
//!
//! Everything a program writes goes to files, not to pipes: a detached container inherits the runtime's output, and
//! a pipe would only end when the container does.

use crate::check::{Context, Result, fail};
use crate::odd::Odd;
use crate::sys::{self, ChildSetup};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// How long a verb of a runtime may take at most. No verb needs a second of its own; the rest is for a loaded machine.
pub const VERB_DEADLINE: Duration = Duration::from_secs(40);

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How much longer everything may take on this machine, in thousandths.
static SLOWNESS: AtomicU32 = AtomicU32::new(1000);
/// What is found before that.
static SEARCHED_FIRST: OnceLock<PathBuf> = OnceLock::new();

/// Has programs find commands in `dir` before the usual directories. Counts once, before any case has been started.
pub fn search_first(dir: &Path) {
    let _ = SEARCHED_FIRST.set(dir.to_owned());
}

/// `usual`, a list of directories for PATH, with what is searched before it.
pub fn search_path(usual: &str) -> String {
    SEARCHED_FIRST.get().map(|dir| format!("{}:", dir.display())).unwrap_or_default() + usual
}

/// The wait statuses of reaped children, ours and those that were reparented to us.
static REAPED: Mutex<BTreeMap<i32, i32>> = Mutex::new(BTreeMap::new());
static COUNTER: AtomicUsize = AtomicUsize::new(0);

/// Reaps every child that has exited and keeps its status. Containers are reparented to the harness, and a runtime
/// that waits for one to vanish must not wait for a zombie that nobody reaps.
pub fn reap() {
    let mut reaped = REAPED.lock().unwrap_or_else(|e| e.into_inner());
    while let Some((pid, status)) = sys::reap_any() {
        reaped.insert(pid, status);
    }
}

/// Forgets the statuses that a parent process has collected; for the child side of a fork.
pub fn forget() {
    REAPED.lock().unwrap_or_else(|e| e.into_inner()).clear();
}

/// Takes the status of a child if it has exited.
pub fn take_status(pid: i32) -> Option<Status> {
    reap();
    REAPED.lock().unwrap_or_else(|e| e.into_inner()).remove(&pid).map(Status)
}

/// The machine is an emulated one: every deadline is this many times longer. None is shorter for it, and nothing else changes.
pub fn slow_by(factor: u32) {
    SLOWNESS.store(factor.max(1).saturating_mul(1000), Ordering::Relaxed);
}

/// Has every deadline be this fraction of what it is: for runtimes that are not going to do what is waited for.
pub fn hasten_by(divisor: u32) {
    SLOWNESS.store(1000 / divisor.clamp(1, 1000), Ordering::Relaxed);
}

/// A deadline as it is on this machine.
pub fn patience(deadline: Duration) -> Duration {
    deadline * SLOWNESS.load(Ordering::Relaxed) / 1000
}

/// Polls `ready` until it gives a value or the deadline is over.
pub fn poll<T>(what: &str, deadline: Duration, mut ready: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = patience(deadline);
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_micros(300);
    loop {
        reap();
        if let Some(value) = ready() {
            return Ok(value);
        }
        if Instant::now() >= end {
            return fail(format!("waited {} s in vain for {what}", deadline.as_secs()));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// The exit of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub i32);

impl Status {
    /// The exit code, 128+N when a signal killed the program.
    pub fn code(self) -> i32 {
        self.signal().map_or((self.0 >> 8) & 0xff, |n| 128 + n)
    }

    /// The signal that killed the program.
    pub fn signal(self) -> Option<i32> {
        (self.0 & 0x7f != 0).then_some(self.0 & 0x7f)
    }

    /// Whether the exit code is 0.
    pub fn success(self) -> bool {
        self.0 == 0
    }
}

/// A program to be run.
#[derive(Debug)]
pub struct Cmd {
    program: PathBuf,
    args: Vec<OsString>,
    arg0: Option<OsString>,
    env: Vec<(String, String)>,
    cwd: Option<PathBuf>,
    stdin: Option<Vec<u8>>,
    terminal: Option<OwnedFd>,
    streams: Option<(PathBuf, PathBuf)>,
    pipes: Option<(OwnedFd, OwnedFd)>,
    setup: ChildSetup,
    dir: PathBuf,
    /// How long [`Cmd::output`] waits.
    pub deadline: Duration,
}

impl Cmd {
    /// A program whose captured output goes below `dir`.
    pub fn new(program: impl Into<PathBuf>, dir: &Path) -> Cmd {
        Cmd {
            program: program.into(),
            args: Vec::new(),
            arg0: None,
            env: vec![("PATH".into(), search_path(PATH))],
            cwd: None,
            stdin: None,
            terminal: None,
            streams: None,
            pipes: None,
            setup: ChildSetup::default(),
            dir: dir.to_owned(),
            deadline: VERB_DEADLINE,
        }
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Cmd {
        self.args.push(arg.into());
        self
    }

    /// More arguments.
    pub fn args<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Cmd {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// A variable of the environment, which otherwise holds only PATH.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Cmd {
        self.env.retain(|(n, _)| n != name);
        self.env.push((name.into(), value.into()));
        self
    }

    /// The program and its arguments, for another program that runs it.
    pub fn words(self) -> Vec<OsString> {
        std::iter::once(self.program.into()).chain(self.args).collect()
    }

    /// An empty environment.
    pub fn no_env(mut self) -> Cmd {
        self.env.clear();
        self
    }

    /// The working directory.
    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Cmd {
        self.cwd = Some(dir.into());
        self
    }

    /// What the program reads from standard input; nothing otherwise.
    pub fn stdin(mut self, data: impl Into<Vec<u8>>) -> Cmd {
        self.stdin = Some(data.into());
        self
    }

    /// The program gets this terminal as its controlling one and as its standard streams.
    pub fn terminal(mut self, slave: OwnedFd) -> Cmd {
        self.terminal = Some(slave);
        self.setup.new_terminal = true;
        self
    }

    /// Standard output and error are appended to these files.
    pub fn streams(mut self, stdout: &Path, stderr: &Path) -> Cmd {
        self.streams = Some((stdout.to_owned(), stderr.to_owned()));
        self
    }

    /// Standard output and error are these descriptors.
    pub fn pipes(mut self, stdout: OwnedFd, stderr: OwnedFd) -> Cmd {
        self.pipes = Some((stdout, stderr));
        self
    }

    /// The program finds its own pid in LISTEN_PID, as the one who starts it for a socket arranges it.
    pub fn listen_pid(mut self) -> Cmd {
        let script = "export LISTEN_PID=$$; exec \"$@\"";
        let mut args: Vec<OsString> = ["sh", "-c", script, "sh"].iter().map(Into::into).collect();
        args.push(std::mem::replace(&mut self.program, "/bin/busybox".into()).into());
        args.append(&mut self.args);
        self.args = args;
        self
    }

    /// The program gets `fd` as number `target`.
    pub fn fd(mut self, fd: OwnedFd, target: i32) -> Cmd {
        self.setup.fds.push((fd, target));
        self
    }

    /// The program does not get this descriptor.
    pub fn closed(mut self, fd: i32) -> Cmd {
        self.setup.closed.push(fd);
        self
    }

    /// The program's file creation mask.
    pub fn umask(mut self, mask: u32) -> Cmd {
        self.setup.umask = Some(mask);
        self
    }

    /// The program's bounding set lacks these capabilities.
    pub fn without_capabilities(mut self, numbers: &[u64]) -> Cmd {
        self.setup.drop_capabilities = numbers.to_vec();
        self
    }

    /// The program's caller is odd in this way, too.
    pub fn odd(mut self, odd: &[Odd]) -> Cmd {
        self.setup.odd.extend_from_slice(odd);
        self
    }

    /// The first string of argv.
    pub fn arg0(mut self, name: &str) -> Cmd {
        self.arg0 = Some(name.into());
        self
    }

    /// The program stops before its first instruction, for its tracer to continue from there.
    pub fn traced(mut self) -> Cmd {
        self.setup.traced = true;
        self
    }

    /// How long the program may run.
    pub fn deadline(mut self, deadline: Duration) -> Cmd {
        self.deadline = deadline;
        self
    }

    /// Starts the program.
    pub fn spawn(self) -> Result<Running> {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let file = |suffix: &str| self.dir.join(format!("{number}.{suffix}"));
        let (stdout, stderr) = self.streams.clone().unwrap_or_else(|| (file("stdout"), file("stderr")));
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear().envs(self.env.iter().map(|(n, v)| (n, v)));
        if let Some(name) = &self.arg0 {
            command.arg0(name);
        }
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        match &self.stdin {
            None => command.stdin(Stdio::null()),
            Some(data) => {
                fs::write(file("stdin"), data)?;
                command.stdin(File::open(file("stdin"))?)
            }
        };
        if let Some(slave) = self.terminal {
            command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
        } else if let Some((out, err)) = self.pipes {
            command.stdout(out).stderr(err);
        } else {
            let append = |path: &Path| File::options().create(true).append(true).open(path);
            command.stdout(append(&stdout)?).stderr(append(&stderr)?);
        }
        if !self.setup.new_terminal {
            command.process_group(0);
        }
        sys::prepare_child(&mut command, self.setup);
        let words: Vec<_> = self.args.iter().map(|a| a.to_string_lossy()).collect();
        let text = format!("{} {}", self.program.display(), words.join(" "));
        let mut reaped = REAPED.lock().unwrap_or_else(|e| e.into_inner());
        let child = command.spawn().context(&format!("starting {text}"))?;
        let pid = child.id() as i32;
        // A status under this number can only be an orphan's from before: the number has just been reused.
        reaped.remove(&pid);
        Ok(Running { pid, text, stdout, stderr, deadline: self.deadline })
    }

    /// Runs the program to its end.
    pub fn output(self) -> Result<Output> {
        self.spawn()?.wait()
    }

    /// Runs the program and demands exit code 0.
    pub fn ok(self) -> Result<Output> {
        self.output()?.ok()
    }
}

/// A program that has been started.
#[derive(Debug)]
pub struct Running {
    /// Its pid.
    pub pid: i32,
    text: String,
    stdout: PathBuf,
    stderr: PathBuf,
    /// How long [`Running::wait`] waits.
    pub deadline: Duration,
}

impl Running {
    /// The output up to now.
    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let pidfd = sys::pidfd_open(self.pid)?;
        Ok(sys::pidfd_kill(&pidfd, signal)?)
    }

    /// Waits for the end; kills the program and fails when the deadline is over.
    pub fn wait(self) -> Result<Output> {
        let status = poll(&format!("the end of `{}`", self.text), self.deadline, || take_status(self.pid));
        let status = match status {
            Ok(status) => status,
            Err(e) => {
                let seen = format!("stdout {:?}, stderr {:?}", self.stdout(), read_lossy(&self.stderr));
                let _ = self.signal(libc::SIGKILL);
                return Err(e).context(&seen);
            }
        };
        Ok(self.ended(status))
    }

    /// What the program left, for one whose wait status is known already.
    pub fn ended(self, status: Status) -> Output {
        let (stdout, stderr) = (read_lossy(&self.stdout), read_lossy(&self.stderr));
        Output { text: self.text, status, stdout, stderr }
    }
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// What a program left.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub text: String,
    /// The exit status.
    pub status: Status,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Demands exit code 0.
    pub fn ok(self) -> Result<Output> {
        self.exits(0)
    }

    /// Demands an exit code.
    pub fn exits(self, code: i32) -> Result<Output> {
        if self.status.code() == code {
            return Ok(self);
        }
        fail(format!("{}, instead of status {code}", self.describe()))
    }

    /// Demands an exit code other than 0 and some words on standard error.
    pub fn fails(self) -> Result<Output> {
        if self.status.success() {
            return fail(format!("{}, although it had to fail", self.describe()));
        }
        if self.stderr.trim().is_empty() && self.stdout.trim().is_empty() {
            return fail(format!("{}: failed without an error", self.describe()));
        }
        Ok(self)
    }

    /// Demands that the command fails and that its message holds one of the phrases.
    pub fn fails_with(self, phrases: &[&str]) -> Result<Output> {
        let out = self.fails()?;
        let text = format!("{}{}", out.stderr, out.stdout).to_lowercase();
        if phrases.is_empty() || phrases.iter().any(|p| text.contains(&p.to_lowercase())) {
            return Ok(out);
        }
        fail(format!("{}: none of {phrases:?} in the message", out.describe()))
    }

    /// The command and its exit, in one line.
    pub fn describe(&self) -> String {
        let shorten = |s: &str| {
            let s = s.trim();
            if s.starts_with("{\"affinity") {
                return "a report of the probe".to_owned();
            }
            if s.len() > 600 {
                format!("{}...", s.chars().take(600).collect::<String>())
            } else {
                s.to_owned()
            }
        };
        let (out, err) = (shorten(&self.stdout), shorten(&self.stderr));
        format!("`{}` exited with {} (stdout {out:?}, stderr {err:?})", self.text, self.status.code())
    }
}
