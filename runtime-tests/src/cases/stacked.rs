//! Two stacked terminals: the caller's, whose outer end is ours, and the container's. Bytes are compared at the outer
//! end, for every combination of what the three streams are, with readers that leave and input that ends.

use crate::case::T;
use crate::check::{Context, Done, Result, fail, has, same};
use crate::command::{Cmd, Running, Status, VERB_DEADLINE, poll, take_status};
use crate::container::Container;
use crate::matrix::Matrix;
use crate::{ensure, proc};
use nix::sys::termios::{self, LocalFlags, OutputFlags, Termios};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

const CALLER: &str = "runc contract: run with a terminal in the foreground";
const LINES: &str =
    "a line feed becomes carriage return and line feed once on a terminal, never on a pipe (runc#1272)";
const LEAVES: &str = "a reader that leaves ends the pipeline, as ssh -t and runc do";
const ENDS: &str = "the end of the input is the end for the program";
const ATTRIBUTES: &str = "termios(3): the caller's terminal is as it was";

/// What a standard stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Terminal,
    Pipe,
    File,
    Null,
    Closed,
}

use Stream::{Closed, Null, Pipe, Terminal};
const STREAMS: [Stream; 5] = [Terminal, Pipe, Stream::File, Null, Closed];

/// A command on our terminal, and our ends of its streams.
struct Outer {
    running: Running,
    master: File,
    slave: OwnedFd,
    before: Termios,
    input: Option<File>,
    /// Our ends of standard output and error: pipes, or files.
    ends: [Option<File>; 2],
    seen: [Vec<u8>; 3],
}

fn nonblocking(fd: OwnedFd) -> Result<File> {
    let flags = nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_RDWR;
    nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(flags))?;
    Ok(fd.into())
}

impl Outer {
    /// Starts `cmd` with these streams. What it reads from a file is `input`.
    fn start(t: &T<'_>, cmd: Cmd, streams: [Stream; 3], input: &[u8]) -> Result<Outer> {
        let pair = nix::pty::openpty(None, None)?;
        // The command must not hold the end whose closing it is to see.
        for end in [&pair.master, &pair.slave] {
            nix::fcntl::fcntl(end, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
        }
        crate::sys::set_winsize(pair.master.as_fd(), 44, 99)?;
        let before = termios::tcgetattr(&pair.slave)?;
        let mut cmd = cmd.terminal(pair.slave.try_clone()?);
        let (mut keys, mut ends) = (None, [None, None]);
        for (n, stream) in streams.into_iter().enumerate() {
            let fd = n as i32;
            match (stream, n) {
                (Terminal, _) => {}
                (Closed, _) => cmd = cmd.closed(fd),
                (Null, _) => {
                    cmd = cmd.fd(File::options().read(true).write(true).open("/dev/null")?.into(), fd)
                }
                (Pipe, 0) => {
                    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
                    (cmd, keys) = (cmd.fd(read, fd), Some(nonblocking(write)?));
                }
                (Pipe, _) => {
                    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
                    (cmd, ends[n - 1]) = (cmd.fd(write, fd), Some(nonblocking(read)?));
                }
                (Stream::File, _) => {
                    let path = t.path("stream");
                    fs::write(&path, if n == 0 { input } else { b"" })?;
                    let file = File::options().read(true).append(n > 0).open(&path)?;
                    cmd = cmd.fd(file.into(), fd);
                    if n > 0 {
                        ends[n - 1] = Some(File::open(&path)?);
                    }
                }
            }
        }
        let running = cmd.spawn()?;
        let master = nonblocking(pair.master)?;
        Ok(Outer { running, master, slave: pair.slave, before, input: keys, ends, seen: Default::default() })
    }

    /// Takes what has come: at the terminal, and from standard output and error.
    fn take(&mut self) {
        let [out, err] = &mut self.ends;
        let ends = [Some(&mut self.master), out.as_mut(), err.as_mut()];
        let mut chunk = [0u8; 65_536];
        for (seen, end) in self.seen.iter_mut().zip(ends) {
            let Some(end) = end else { continue };
            while let Ok(n @ 1..) = end.read(&mut chunk) {
                seen.extend_from_slice(&chunk[..n]);
            }
        }
    }

    /// Waits until one of the three has shown this.
    fn await_text(&mut self, text: &str) -> Done {
        let found = poll(&format!("{text:?}"), VERB_DEADLINE, || {
            self.take();
            let shows = |seen: &Vec<u8>| String::from_utf8_lossy(seen).contains(text);
            self.seen.iter().any(shows).then_some(())
        });
        found.context(&self.shown())
    }

    /// Writes all of `bytes` to the input while the output is read, and ends it.
    fn feed(&mut self, bytes: &[u8]) -> Done {
        let mut rest = bytes;
        let fed = poll("the input to be taken", VERB_DEADLINE, || {
            self.take();
            let input = self.input.as_mut()?;
            while let Ok(n @ 1..) = input.write(rest) {
                rest = &rest[n..];
            }
            rest.is_empty().then_some(())
        });
        self.input = None;
        fed.context(&self.shown())
    }

    /// Reads until the command has ended.
    fn end(&mut self) -> Result<Status> {
        let status = poll("the end of the command", VERB_DEADLINE, || {
            self.take();
            take_status(self.running.pid)
        });
        self.take();
        if status.is_err() {
            let _ = self.running.signal(libc::SIGKILL);
        }
        status.context(&self.shown())
    }

    fn shown(&self) -> String {
        let shorten = |b: &Vec<u8>| String::from_utf8_lossy(&b[..b.len().min(400)]).into_owned();
        format!("shown: {:?}", self.seen.each_ref().map(shorten))
    }

    /// Demands that the terminal is as it was.
    fn is_restored(&self) -> Done {
        same("the caller's terminal", termios::tcgetattr(&self.slave)? == self.before, true)
    }

    /// Whether the caller's terminal is in raw mode.
    fn is_raw(&self) -> Result<bool> {
        Ok(!termios::tcgetattr(&self.slave)?.local_flags.contains(LocalFlags::ICANON))
    }
}

/// The verbs that serve a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Run,
    Exec,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Verb::Run => "run",
            Verb::Exec => "exec",
        }
    }

    /// The command that runs `script` with or without a terminal, and the container that it needs.
    fn cmd<'t>(self, t: &'t T<'t>, script: &str, terminal: bool) -> Result<(Cmd, Option<Container<'t>>)> {
        match self {
            Verb::Run => {
                Ok((t.run_cmd(&t.bundle()?.set("/process/terminal", terminal).shell(script))?, None))
            }
            Verb::Exec => {
                let c = t.sleeper(t.bundle()?)?;
                let options: &[&str] = if terminal { &["--tty"] } else { &[] };
                Ok((c.exec_cmd(options, &["sh", "-c", script]), Some(c)))
            }
        }
    }
}

fn end_container(t: &T<'_>, c: Option<Container<'_>>) -> Done {
    match c {
        Some(c) => c.end(),
        None => t.nothing_left(),
    }
}

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    for verb in [Verb::Run, Verb::Exec] {
        combinations(m, verb);
        lines(m, verb);
        readers(m, verb);
        ends(m, verb);
        attributes(m, verb);
    }
    jobs(m);
}

const SPEAKS: &str = "echo one; echo two >&2; printf 'three\\n'";

fn combinations(m: &mut Matrix, verb: Verb) {
    for stdin in STREAMS {
        for terminal in [true, false] {
            let flag = if terminal { "-t" } else { "" };
            let name = format!("terminal/{}{flag}-with-{stdin:?}-as-input", verb.name()).to_lowercase();
            m.case(name, LINES, move |t| {
                for (out, err) in STREAMS.iter().flat_map(|o| STREAMS.iter().map(move |e| (*o, *e))) {
                    let streams = [stdin, out, err];
                    combination(t, verb, terminal, streams).context(&format!("{streams:?}"))?;
                }
                Ok(())
            });
        }
    }
}

fn combination(t: &T<'_>, verb: Verb, terminal: bool, streams: [Stream; 3]) -> Done {
    let (cmd, container) = verb.cmd(t, SPEAKS, terminal)?;
    let mut outer = Outer::start(t, cmd, streams, b"")?;
    outer.input = None;
    same("status", outer.end()?.code(), 0)?;
    let [_, out, err] = streams;
    // The container's terminal knows one output only.
    let said = if terminal { ["one\ntwo\nthree\n", ""] } else { ["one\nthree\n", "two\n"] };
    let mut shown = String::new();
    for (n, (stream, said)) in [out, err].into_iter().zip(said).enumerate() {
        match stream {
            Terminal => shown += said,
            Pipe | Stream::File => {
                same("the stream", String::from_utf8_lossy(&outer.seen[n + 1]).as_ref(), said)?
            }
            Null | Closed => {}
        }
    }
    let seen = String::from_utf8_lossy(&outer.seen[0]).into_owned();
    if terminal || [out, err] != [Terminal; 2] {
        same("the terminal", seen.as_str(), shown.replace('\n', "\r\n").as_str())?;
    } else {
        // Two streams, which a runtime may copy one after the other.
        let mut lines: Vec<&str> = seen.split_inclusive('\n').collect();
        lines.sort_unstable();
        same("the terminal", lines, ["one\r\n", "three\r\n", "two\r\n"])?;
    }
    outer.is_restored()?;
    end_container(t, container)
}

fn lines(m: &mut Matrix, verb: Verb) {
    let name = verb.name();
    m.case(format!("terminal/{name}-t-a-program-without-output-processing-gets-none"), LINES, move |t| {
        let (cmd, c) = verb.cmd(t, "busybox stty -opost; printf 'a\\nb\\n'", true)?;
        let mut outer = Outer::start(t, cmd, [Terminal; 3], b"")?;
        same("status", outer.end()?.code(), 0)?;
        same("the terminal", String::from_utf8_lossy(&outer.seen[0]).as_ref(), "a\nb\n")?;
        end_container(t, c)
    });
    m.case(format!("terminal/{name}-t-leaves-others-on-the-terminal-their-lines"), LINES, move |t| {
        // `run -t | grep` writes to the terminal while we have it.
        let (cmd, c) = verb.cmd(t, "echo ready; read x", true)?;
        let mut outer = Outer::start(t, cmd, [Terminal, Pipe, Terminal], b"")?;
        outer.await_text("ready")?;
        poll("raw mode", VERB_DEADLINE, || outer.is_raw().ok().filter(|raw| *raw))?;
        let output = termios::tcgetattr(&outer.slave)?.output_flags;
        ensure!(output.contains(OutputFlags::OPOST | OutputFlags::ONLCR), "output flags {output:?}");
        outer.master.write_all(b"\r")?;
        same("status", outer.end()?.code(), 0)?;
        outer.is_restored()?;
        end_container(t, c)
    });
    m.case(format!("terminal/{name}-t-has-the-size-of-the-terminal-that-is-there"), CALLER, move |t| {
        for streams in [[Null, Terminal, Pipe], [Null, Pipe, Terminal], [Terminal, Pipe, Pipe]] {
            let (cmd, c) = verb.cmd(t, "busybox stty size", true)?;
            let mut outer = Outer::start(t, cmd, streams, b"")?;
            same("status", outer.end()?.code(), 0)?;
            let all = outer.seen.concat();
            has(&format!("{streams:?}"), &String::from_utf8_lossy(&all), "44 99")?;
            end_container(t, c)?;
        }
        Ok(())
    });
}

fn readers(m: &mut Matrix, verb: Verb) {
    for (what, script) in [
        ("a-program-that-writes-for-ever", "exec busybox yes"),
        ("a-shell-that-ignores-errors", "while :; do echo x; done"),
        ("a-program-that-ignores-the-hangup", "trap '' HUP; while :; do echo x; done"),
        // 99 kB: more than the pipe of the reader holds, less than the pipe and the runtime's buffer together.
        ("one-that-writes-no-more", "busybox yes | busybox head -n 33000; exec busybox sleep 1000"),
    ] {
        m.case(format!("terminal/{}-t-a-reader-leaves-{what}", verb.name()), LEAVES, move |t| {
            for stdin in [Terminal, Null, Pipe] {
                let (cmd, c) = verb.cmd(t, script, true)?;
                let mut outer = Outer::start(t, cmd, [stdin, Pipe, Terminal], b"")?;
                poll("the first line", VERB_DEADLINE, || {
                    let mut line = [0; 2];
                    outer.ends[0].as_mut()?.read_exact(&mut line).ok()
                })?;
                outer.ends[0] = None;
                // As a program on a pipe would end: by SIGPIPE.
                same("status", outer.end()?.code(), 128 + libc::SIGPIPE)?;
                outer.is_restored()?;
                end_container(t, c)?;
            }
            Ok(())
        });
    }
    m.case(format!("terminal/{}-t-the-terminal-goes-away", verb.name()), LEAVES, move |t| {
        let (cmd, c) = verb.cmd(t, "echo ready; exec busybox sleep 1000", true)?;
        let mut outer = Outer::start(t, cmd, [Terminal; 3], b"")?;
        outer.await_text("ready")?;
        poll("raw mode", VERB_DEADLINE, || outer.is_raw().ok().filter(|raw| *raw))?;
        let Outer { running, master, slave, .. } = outer;
        drop((master, slave));
        let status = poll("the end of the command", VERB_DEADLINE, || take_status(running.pid))?;
        ensure!(!status.success(), "status {status:?}");
        end_container(t, c)
    });
    m.case(format!("terminal/{}-t-a-slow-reader-gets-all", verb.name()), CALLER, move |t| {
        let marker = t.volume()?;
        // More than a pipe holds. Small writes fill each of its 16 pages by half only: with the 64 kB that the runtime buffers
        // that is still more than this.
        let script = "busybox yes 0123456789 | busybox head -c 90000; echo; echo end";
        let (cmd, c) = verb.cmd(t, script, true)?;
        let mut outer = Outer::start(t, cmd, [Null, Pipe, Null], b"")?;
        drop(marker);
        // The program ends long before its output is read: what it has written fits into what lies between.
        let ended = || proc::descendants(outer.running.pid).is_empty().then_some(());
        poll("the program's end", VERB_DEADLINE, ended)?;
        std::thread::sleep(std::time::Duration::from_millis(500));
        same("status", outer.end()?.code(), 0)?;
        same("bytes", outer.seen[1].len(), 90_000 + "\nend\n".len())?;
        end_container(t, c)
    });
}

/// A script that waits for the end of its input, what it reads, and what it says in the end.
const ENDINGS: [(&str, &str, &[u8], &str); 7] = [
    ("after-a-line", "busybox stty -echo; cat; echo end", b"hello\n", "hello\nend\n"),
    ("after-part-of-a-line", "busybox stty -echo; cat; echo end", b"hello", "helloend\n"),
    ("at-once", "cat; echo end", b"", "end\n"),
    ("for-every-reader", "busybox stty -echo; cat; cat; busybox cat; echo end", b"hello\n", "hello\nend\n"),
    (
        "for-a-loop-of-read",
        "busybox stty -echo; while read x; do echo got $x; done; echo end",
        b"1\n2\n",
        "got 1\ngot 2\nend\n",
    ),
    ("for-an-interactive-shell", "PS1= exec sh -i 2>&1", b"echo a$((1+1))b\n", "a2b"),
    ("behind-the-literal-key", "busybox stty -echo; cat | busybox wc -c; echo end", b"hello\x16", "end\n"),
];

fn ends(m: &mut Matrix, verb: Verb) {
    for (what, script, input, said) in ENDINGS {
        m.case(format!("terminal/{}-t-the-input-ends-{what}", verb.name()), ENDS, move |t| {
            for stdin in [Pipe, Stream::File] {
                let (cmd, c) = verb.cmd(t, script, true)?;
                let mut outer = Outer::start(t, cmd, [stdin, Pipe, Null], input)?;
                if stdin == Pipe {
                    outer.feed(input)?;
                }
                outer.end()?;
                has("the output", &String::from_utf8_lossy(&outer.seen[1]), said)?;
                end_container(t, c)?;
            }
            Ok(())
        });
    }
    m.case(format!("terminal/{}-t-raw-input-is-left-alone", verb.name()), ENDS, move |t| {
        // After the last byte the program waits half a second for another one.
        let script = "busybox stty raw -echo; echo ready; busybox head -c 8 >/tmp/got; \
                      busybox stty min 0 time 5; cat >>/tmp/got; echo end";
        let (cmd, c) = verb.cmd(t, script, true)?;
        let dir = t.dir.clone();
        let mut outer = Outer::start(t, cmd, [Pipe, Pipe, Null], b"")?;
        outer.await_text("ready")?;
        let bytes = b"\x00\x03\x04\x11\x13\x1a\xff\r";
        outer.feed(bytes)?;
        same("status", outer.end()?.code(), 0)?;
        let got = find(&dir, "rootfs/tmp/got").context("what the program got")?;
        same("bytes", fs::read(got)?.as_slice(), &bytes[..])?;
        end_container(t, c)
    });
    m.case(format!("terminal/{}-t-much-both-ways", verb.name()), ENDS, move |t| {
        let (cmd, c) = verb.cmd(t, "busybox stty -echo; echo ready; cat", true)?;
        let mut outer = Outer::start(t, cmd, [Pipe, Pipe, Null], b"")?;
        outer.await_text("ready\n")?;
        let lines: String = (0..100_000).map(|n| format!("line {n}\n")).collect();
        outer.feed(lines.as_bytes())?;
        same("status", outer.end()?.code(), 0)?;
        let got = &outer.seen[1]["ready\n".len()..];
        ensure!(got == lines.as_bytes(), "{} bytes instead of {}, or others", got.len(), lines.len());
        end_container(t, c)
    });
}

/// The file whose path below one of the bundles this is.
fn find(dir: &std::path::Path, below: &str) -> Result<PathBuf> {
    let bundles = fs::read_dir(dir)?.flatten().map(|e| e.path().join(below));
    match bundles.into_iter().find(|p| p.exists()) {
        Some(path) => Ok(path),
        None => fail(format!("there is no {below}")),
    }
}

fn attributes(m: &mut Matrix, verb: Verb) {
    for (what, signal) in [("SIGTERM", libc::SIGTERM), ("SIGINT", libc::SIGINT), ("SIGHUP", libc::SIGHUP)] {
        m.case(format!("terminal/{}-t-is-restored-after-{what}", verb.name()), ATTRIBUTES, move |t| {
            let script = "trap 'exit 9' TERM INT HUP; echo ready; while :; do busybox sleep 0.1; done";
            let (cmd, c) = verb.cmd(t, script, true)?;
            let mut outer = Outer::start(t, cmd, [Terminal; 3], b"")?;
            outer.await_text("ready")?;
            poll("raw mode", VERB_DEADLINE, || outer.is_raw().ok().filter(|raw| *raw))?;
            outer.running.signal(signal)?;
            same("status", outer.end()?.code(), 9)?;
            outer.is_restored()?;
            end_container(t, c)
        });
    }
}

/// As a job of a shell.
fn jobs(m: &mut Matrix) {
    m.case("terminal/run-t-is-stopped-and-continued", ATTRIBUTES, |t| {
        t.only("orun")?;
        let bundle =
            t.bundle()?.set("/process/terminal", true).shell("echo ready; read x; echo got $x; exit 5");
        let run = t.run_cmd(&bundle)?;
        // A shell with job control: the command is a process group of its own in the foreground.
        let script = "\"$@\"; echo stopped; read x; fg; echo code $?";
        let shell = t.host("/bin/busybox").args(["sh", "-mc", script, "sh"]).args(run.words());
        let mut outer = Outer::start(t, shell, [Terminal; 3], b"")?;
        outer.await_text("ready")?;
        poll("raw mode", VERB_DEADLINE, || outer.is_raw().ok().filter(|raw| *raw))?;
        let jobs = proc::descendants(outer.running.pid);
        let Some(job) = jobs.iter().find(|p| p.parent == outer.running.pid) else {
            return fail(format!("no job of the shell among {jobs:?}"));
        };
        crate::sys::pidfd_kill(&crate::sys::pidfd_open(job.pid)?, libc::SIGTSTP)?;
        outer.await_text("stopped\r\n")?;
        outer.is_restored()?;
        outer.master.write_all(b"go\n")?;
        poll("raw mode again", VERB_DEADLINE, || outer.is_raw().ok().filter(|raw| *raw))?;
        outer.master.write_all(b"typed\r")?;
        outer.await_text("got typed\r\n")?;
        outer.await_text("code 5\r\n")?;
        outer.end()?;
        outer.is_restored()?;
        t.nothing_left()
    });
    m.case("terminal/run-t-in-the-background-waits-for-the-terminal", ATTRIBUTES, |t| {
        t.only("orun")?;
        let bundle = t.bundle()?.set("/process/terminal", true).shell("read x; echo got $x; exit 5");
        let run = t.run_cmd(&bundle)?;
        let script = "\"$@\" & echo begun; read x; echo read $x; fg; echo code $?";
        let shell = t.host("/bin/busybox").args(["sh", "-mc", script, "sh"]).args(run.words());
        let mut outer = Outer::start(t, shell, [Terminal; 3], b"")?;
        outer.await_text("begun")?;
        poll("the job to be stopped", VERB_DEADLINE, || {
            let jobs = proc::descendants(outer.running.pid);
            jobs.iter().any(|p| p.parent == outer.running.pid && p.state == 'T').then_some(())
        })?;
        outer.is_restored()?;
        outer.master.write_all(b"line\n")?;
        outer.await_text("read line\r\n")?;
        poll("raw mode", VERB_DEADLINE, || outer.is_raw().ok().filter(|raw| *raw))?;
        outer.master.write_all(b"typed\r")?;
        outer.await_text("got typed\r\n")?;
        outer.await_text("code 5\r\n")?;
        outer.end()?;
        outer.is_restored()?;
        t.nothing_left()
    });
}
