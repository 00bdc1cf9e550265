//! The way from a user's network namespace to the host's network: slirp4netns(1).

use crate::error::{Error, Kind, Result};
use crate::log;
use crate::sys::fd::{self, PollFd};
use crate::sys::{exec, memfd};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How long it may take until there is a network, in milliseconds.
const START: i32 = 10_000;
/// The address at which slirp4netns forwards questions for names to the resolver of the host.
const RESOLVER: &str = "10.0.2.3";

/// The program, if it is installed.
pub fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Users may have a short search path.
    let dirs = std::env::split_paths(&path).chain(["/usr/bin".into(), "/usr/local/bin".into()]);
    dirs.map(|dir| dir.join("slirp4netns")).find(|file| file.is_file())
}

/// Connects the network namespace of process `pid` with the host's network. `exit`: a descriptor whose other end is closed when nobody
/// needs the connection any more.
///
/// # Errors
/// The program cannot be started, or exits without a network.
pub fn start(program: &Path, pid: i32, exit: &OwnedFd) -> Result<()> {
    let fail = |e| Error::sys("starting slirp4netns", e);
    let (ready_read, ready_write) = fd::pipe().map_err(fail)?;
    let (ready, exit) = (ready_write.as_raw_fd(), exit.as_raw_fd());
    let mut command = Command::new(program);
    command.args(["--configure", "--mtu=65520", "--disable-host-loopback"]);
    command.args(["--enable-sandbox", "--enable-seccomp"]);
    command.arg(format!("--ready-fd={ready}")).arg(format!("--exit-fd={exit}"));
    command.arg(pid.to_string()).arg("tap0");
    // It may write long after anybody reads.
    let mut errors = File::from(memfd::create(c"errors").map_err(fail)?);
    let copy = errors.try_clone().map_err(|e| fail(e.into()))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(copy);
    exec::clean_but(&mut command, [ready, exit]);
    let mut child = command.spawn().map_err(|e| fail(e.into()))?;
    drop(ready_write);
    let mut said = Vec::with_capacity(8);
    let waited = fd::poll(&mut [PollFd::new(ready_read.as_raw_fd(), libc::POLLIN)], START);
    if waited == Ok(1) && fd::append(ready_read.as_raw_fd(), &mut said).is_ok_and(|n| n > 0) {
        return Ok(());
    }
    let _ = child.kill();
    let _ = child.wait();
    let mut text = String::new();
    let _ = errors.rewind().and_then(|()| errors.read_to_string(&mut text));
    let text = text.trim().replace('\n', "; ");
    Err(Error::new(Kind::System, format!("slirp4netns did not create a network: {text}")))
}

/// Writes the resolv.conf(5) of the namespace to a file in `dir`: that of the host, with the resolver of slirp4netns.
///
/// # Errors
/// The file cannot be written.
pub fn resolv_conf(dir: &Path) -> Result<PathBuf> {
    let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let file = dir.join("resolv.conf");
    std::fs::write(&file, with_resolver(&host)).map_err(|e| Error::sys(format!("writing {file:?}"), e))?;
    Ok(file)
}

fn with_resolver(host: &str) -> String {
    let others = host.lines().filter(|line| !line.trim_start().starts_with("nameserver"));
    let others: String = others.map(|line| format!("{line}\n")).collect();
    format!("nameserver {RESOLVER}\n{others}")
}

/// Reports that there is no way out.
pub fn warn_missing() {
    log::warn("pods reach each other, but nothing outside: install slirp4netns, and restart orund");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolver_takes_the_place_of_the_host_s() {
        let host =
            "# made by systemd-resolved\nnameserver 127.0.0.53\n nameserver ::1\noptions edns0\nsearch lan\n";
        let expected = "nameserver 10.0.2.3\n# made by systemd-resolved\noptions edns0\nsearch lan\n";
        assert_eq!(with_resolver(host), expected);
    }
}
