//! The other verbs of the probe: each does one thing that a case needs a container to do.

use crate::{die, emit};
use runtime_tests::{proc, sys};
use serde_json::{Map, Value, json};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

static CAUGHT: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(signal: i32) {
    CAUGHT.store(signal, Ordering::Relaxed);
}

/// Does what the verb says. Returns only when there is nothing more to do.
pub fn act(verb: &str, words: &[&str]) {
    let first = words.first().copied().unwrap_or("");
    match verb {
        "sleep" => wait_for_signal(),
        "ignore-term" => ignore_term(),
        "echo-signals" => echo_signals(),
        "exit" => std::process::exit(first.parse().unwrap_or(97)),
        "fault" => sys::fault(),
        "echo" => say(&words.join(" ")),
        "cat" => say(&fs::read_to_string(first).unwrap_or_else(|e| die(&format!("{first}: {e}")))),
        "touch" => fs::write(first, "").unwrap_or_else(|e| die(&format!("{first}: {e}"))),
        "write" => {
            fs::write(first, words.get(1).copied().unwrap_or("")).unwrap_or_else(|e| die(&e.to_string()))
        }
        "stdin" => copy_stdin(),
        "mem" => use_memory(first),
        "fork" => fork_many(first),
        "children" => leave_children(first),
        "spin" => spin(first),
        "hook" => hook(words),
        "hold" => hold_memory(first),
        "notify" => {
            notify(first);
            wait_for_signal();
        }
        "notify-once" => notify(first),
        "notify-on-signal" => notify_on_signal(first),
        "flood" => flood(),
        "overwrite-exe" => overwrite_exe(),
        "exchange" => exchange(words),
        "swap-new" => swap_new(words),
        "peek" => crate::peek::peek(first, words.get(1).copied()),
        "count-locked" => count_locked(words),
        "count-over-tcp" => count_over_tcp(first),
        "count-to-socket" => count_to_socket(words),
        other => die(&format!("what is {other:?}?")),
    }
}

fn say(text: &str) {
    println!("{text}");
    let _ = std::io::stdout().flush();
}

fn catch(signals: &[i32]) {
    for signal in signals {
        if let Err(e) = sys::catch(*signal, note) {
            die(&format!("signal {signal}: {e}"));
        }
    }
}

/// Says `ready` and ends with status 0 on SIGTERM, 1 on SIGINT.
fn wait_for_signal() {
    catch(&[libc::SIGTERM, libc::SIGINT]);
    say("ready");
    loop {
        match CAUGHT.load(Ordering::Relaxed) {
            libc::SIGTERM => std::process::exit(0),
            libc::SIGINT => std::process::exit(1),
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn ignore_term() {
    if let Err(e) = sys::ignore(libc::SIGTERM) {
        die(&e.to_string());
    }
    say("ready");
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Says `ready`, then the number of every signal that comes; ends on SIGTERM with status 0.
fn echo_signals() {
    let all: Vec<i32> = (1..=64).filter(|n| ![libc::SIGKILL, libc::SIGSTOP, 32, 33].contains(n)).collect();
    catch(&all);
    say("ready");
    loop {
        match CAUGHT.swap(0, Ordering::Relaxed) {
            0 => std::thread::sleep(Duration::from_millis(5)),
            libc::SIGTERM => std::process::exit(0),
            n => say(&format!("signal {n}.")),
        }
    }
}

fn copy_stdin() {
    let mut text = String::new();
    let _ = std::io::stdin().read_to_string(&mut text);
    say(&format!("stdin={text:?}"));
}

/// Uses that many bytes (with k, M or G) of memory, and says `used` when every page is mapped.
fn use_memory(amount: &str) {
    let (digits, unit) = amount.split_at(amount.trim_end_matches(['k', 'M', 'G']).len());
    let factor = match unit {
        "k" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => 1,
    };
    let Ok(count) = digits.parse::<usize>() else { die("how much memory?") };
    let mut bytes: Vec<u8> = vec![0; count * factor];
    for at in (0..bytes.len()).step_by(4096) {
        bytes[at] = 1;
    }
    std::hint::black_box(&bytes);
    say("used");
}

/// Forks up to N children that stay, and says how many there are.
fn fork_many(count: &str) {
    let mut children = Vec::new();
    for _ in 0..count.parse().unwrap_or(0) {
        match sys::fork() {
            Ok(Some(pid)) => children.push(pid),
            Ok(None) => loop {
                std::thread::sleep(Duration::from_secs(3600));
            },
            Err(_) => break,
        }
    }
    say(&format!("forked={}", children.len()));
    for pid in children {
        if let Ok(fd) = sys::pidfd_open(pid) {
            let _ = sys::pidfd_kill(&fd, libc::SIGKILL);
        }
    }
}

/// Leaves N children that ignore SIGTERM, says `ready`, and waits.
fn leave_children(count: &str) {
    for _ in 0..count.parse().unwrap_or(1) {
        if let Ok(None) = sys::fork() {
            let _ = sys::ignore(libc::SIGTERM);
            loop {
                std::thread::sleep(Duration::from_secs(3600));
            }
        }
    }
    wait_for_signal();
}

/// Uses the CPU for that many milliseconds of its own CPU time.
fn spin(milliseconds: &str) {
    let limit = milliseconds.parse::<i64>().unwrap_or(100) * 1_000_000;
    while sys::clock(libc::CLOCK_PROCESS_CPUTIME_ID).unwrap_or(i64::MAX) < limit {
        std::hint::spin_loop();
    }
    say("spun");
}

/// `hook FILE NAME [exit=N] [sleep=MS] [stderr=TEXT] [no-stdin] [touch=PATH]`: appends what it got to FILE.
/// Notifies the service manager (sd_notify(3)).
fn notify(text: &str) {
    let socket = std::env::var("NOTIFY_SOCKET").unwrap_or_else(|e| die(&format!("NOTIFY_SOCKET: {e}")));
    let sent = UnixDatagram::unbound().and_then(|s| s.send_to(text.as_bytes(), &socket));
    sent.unwrap_or_else(|e| die(&format!("{socket}: {e}")));
}

/// Says `waiting`, and notifies the service manager at SIGUSR1.
fn notify_on_signal(text: &str) {
    catch(&[libc::SIGUSR1]);
    say("waiting");
    while CAUGHT.load(Ordering::Relaxed) != libc::SIGUSR1 {
        std::thread::sleep(Duration::from_millis(10));
    }
    notify(text);
    wait_for_signal();
}

/// Holds that much memory, and says `holding`.
fn hold_memory(amount: &str) {
    let megabytes: usize = amount.trim_end_matches('M').parse().unwrap_or_else(|_| die("hold MEGABYTES"));
    let held = vec![1u8; megabytes << 20];
    say("holding");
    wait_for_signal();
    drop(held);
}

/// Counts into a file, every 50 ms.
fn count_into(file: &str, mut next: impl FnMut(u32) -> std::io::Result<u32>) -> ! {
    for i in 1.. {
        let counted = next(i).and_then(|i| fs::write(file, i.to_string()));
        counted.unwrap_or_else(|e| die(&format!("counting: {e}")));
        std::thread::sleep(Duration::from_millis(50));
    }
    die("counted to the end")
}

/// `count-locked LOCK FILE`: counts, and holds a lock.
fn count_locked(words: &[&str]) {
    let [lock, file] = words else { die("count-locked LOCK FILE") };
    let lock = fs::File::create(lock).unwrap_or_else(|e| die(&format!("{lock}: {e}")));
    let held = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusiveNonblock);
    let _held = held.unwrap_or_else(|(_, e)| die(&format!("the lock: {e}")));
    count_into(file, Ok)
}

/// Counts what comes through a connection to itself.
fn count_over_tcp(file: &str) {
    let fail = |e: std::io::Error| -> ! { die(&format!("the connection: {e}")) };
    let listener = std::net::TcpListener::bind("127.0.0.1:99").unwrap_or_else(|e| fail(e));
    let mut one = std::net::TcpStream::connect("127.0.0.1:99").unwrap_or_else(|e| fail(e));
    let (mut other, _) = listener.accept().unwrap_or_else(|e| fail(e));
    count_into(file, |i| {
        one.write_all(&i.to_ne_bytes())?;
        let mut bytes = [0; 4];
        other.read_exact(&mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    })
}

/// `count-to-socket SOCKET FILE`: counts, and sends each number to the datagram socket.
fn count_to_socket(words: &[&str]) {
    let [socket, file] = words else { die("count-to-socket SOCKET FILE") };
    let fail = |e: std::io::Error| -> ! { die(&format!("the socket: {e}")) };
    let one = std::os::unix::net::UnixDatagram::unbound().unwrap_or_else(|e| fail(e));
    one.connect(socket).unwrap_or_else(|e| fail(e));
    count_into(file, |i| one.send(&i.to_ne_bytes()).map(|_| i))
}

fn hook(words: &[&str]) {
    let [file, name, options @ ..] = words else { die("hook FILE NAME ...") };
    let option = |key: &str| options.iter().find_map(|o| o.strip_prefix(key)?.strip_prefix('='));
    let mut input = String::new();
    if !options.contains(&"no-stdin") {
        let _ = std::io::stdin().read_to_string(&mut input);
    }
    let ns: Map<String, Value> = ["pid", "net", "mnt", "ipc", "uts", "user", "cgroup"]
        .iter()
        .map(|kind| ((*kind).to_owned(), json!(own_namespace(kind))))
        .collect();
    let env: Map<String, Value> = std::env::vars().map(|(k, v)| (k, json!(v))).collect();
    let document = json!({
        "hook": name,
        "argv0": std::env::args().next(),
        "stdin": input,
        "state": serde_json::from_str::<Value>(&input).ok(),
        "env": env,
        "cwd": std::env::current_dir().map(|d| d.to_string_lossy().into_owned()).ok(),
        "ns": ns,
        "root": fs::read_link("/proc/self/root").map(|d| d.to_string_lossy().into_owned()).ok(),
        "bin": Path::new("/bin/probe").exists(),
        "old_root": Path::new("/etc/debian_version").exists(),
    });
    emit(Some(file), &document);
    if let Some(path) = option("touch") {
        fs::write(path, "").unwrap_or_else(|e| die(&format!("{path}: {e}")));
    }
    if let Some(text) = option("stderr") {
        eprintln!("{text}");
    }
    if let Some(milliseconds) = option("sleep").and_then(|n| n.parse().ok()) {
        std::thread::sleep(Duration::from_millis(milliseconds));
    }
    std::process::exit(option("exit").and_then(|n| n.parse().ok()).unwrap_or(0));
}

/// By `self`: in a hook /proc may be that of an outer pid namespace, in which our number means somebody else.
fn own_namespace(kind: &str) -> Option<String> {
    Some(fs::read_link(format!("/proc/self/ns/{kind}")).ok()?.to_string_lossy().into_owned())
}

/// Writes without end to standard output and error.
fn flood() {
    let line = [b'x'; 8192];
    let mut bytes = 0usize;
    while bytes < 64 << 20 {
        if std::io::stdout().write_all(&line).is_err() || std::io::stderr().write_all(&line).is_err() {
            std::process::exit(3);
        }
        bytes += 2 * line.len();
    }
}

/// Looks for processes whose executable is not in this container's /bin, and tries to open that file for writing:
/// what CVE-2019-5736 did to the runtime. Says `overwrote` if it could.
fn overwrite_exe() {
    say("ready");
    let mut targets = Vec::new();
    loop {
        for process in proc::processes() {
            if process.pid == std::process::id() as i32 {
                continue;
            }
            let link = format!("/proc/{}/exe", process.pid);
            if let Ok(exe) = fs::read_link(&link)
                && !exe.starts_with("/bin")
                && let Ok(file) = fs::OpenOptions::new().custom_flags(libc::O_PATH).open(&link)
            {
                targets.push(file);
            }
        }
        for file in &targets {
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
            if let Ok(mut open) = fs::OpenOptions::new().write(true).open(&path)
                && open.write_all(b"overwritten").is_ok()
            {
                say("overwrote");
                std::process::exit(0);
            }
        }
        targets.truncate(64);
    }
}

/// `exchange A B MILLISECONDS`: swaps two paths again and again, as an attacker does who shares a volume.
fn exchange(words: &[&str]) {
    let [a, b, milliseconds] = words else { die("exchange A B MILLISECONDS") };
    let end = std::time::Instant::now() + Duration::from_millis(milliseconds.parse().unwrap_or(1000));
    say("ready");
    while std::time::Instant::now() < end {
        let cwd = nix::fcntl::AT_FDCWD;
        let flags = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
        let _ = nix::fcntl::renameat2(cwd, *a, cwd, *b, flags);
    }
}

/// `swap-new DIR NAME TARGET`: as soon as NAME shows up in DIR, a symlink to TARGET takes its place, again and again. Says
/// `won` at the first time.
fn swap_new(words: &[&str]) {
    let [dir, name, target] = words else { die("swap-new DIR NAME TARGET") };
    let (place, link) = (Path::new(dir).join(name), Path::new(dir).join(".link"));
    let cwd = nix::fcntl::AT_FDCWD;
    let exchange = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
    let remove = |path: &Path| fs::remove_file(path).or_else(|_| fs::remove_dir(path));
    say("ready");
    let mut won = false;
    loop {
        let _ = remove(&link);
        if std::os::unix::fs::symlink(target, &link).is_err() {
            continue;
        }
        while nix::fcntl::renameat2(cwd, &place, cwd, &link, exchange).is_err() {}
        if !std::mem::replace(&mut won, true) {
            say("won");
        }
        // So long that the runtime reaches its next step.
        std::thread::sleep(Duration::from_millis(2));
        let _ = remove(&place);
    }
}
