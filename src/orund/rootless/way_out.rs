//! The way from a user's network namespace to the host's network: slirp4netns(1) or pasta(1), whichever is installed.

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

/// A program that leads outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    Slirp4netns(PathBuf),
    Pasta(PathBuf),
}

/// The one that is installed.
pub fn find() -> Option<Program> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Administrators' programs are not in every user's path.
    let dirs: Vec<PathBuf> =
        std::env::split_paths(&path).chain(["/usr/bin".into(), "/usr/local/bin".into()]).collect();
    let installed = |name: &str| dirs.iter().map(|dir| dir.join(name)).find(|file| file.is_file());
    installed("slirp4netns").map(Program::Slirp4netns).or_else(|| installed("pasta").map(Program::Pasta))
}

impl Program {
    /// The address that answers questions for names inside.
    pub fn resolver(&self) -> &'static str {
        match self {
            Program::Slirp4netns(_) => "10.0.2.3",
            Program::Pasta(_) => "169.254.1.1",
        }
    }

    fn command(&self, pid: i32, ready: i32, exit: i32) -> Command {
        match self {
            Program::Slirp4netns(file) => {
                let mut command = Command::new(file);
                command.args([
                    "--configure",
                    "--mtu=65520",
                    "--disable-host-loopback",
                    "--enable-sandbox",
                    "--enable-seccomp",
                ]);
                command.arg(format!("--ready-fd={ready}")).arg(format!("--exit-fd={exit}"));
                command.arg(pid.to_string()).arg("tap0");
                command
            }
            Program::Pasta(file) => {
                let mut command = Command::new(file);
                command.args(["--config-net", "--quiet", "--no-map-gw", "--dns-forward", self.resolver()]);
                command.args(["-t", "none", "-u", "none", "-T", "none", "-U", "none"]);
                command.arg(pid.to_string());
                command
            }
        }
    }

    /// Leads the network namespace of process `pid` outside. `exit`: a descriptor that is closed when the way is not needed any more.
    ///
    /// # Errors
    /// The program cannot be started, or ends without a network.
    pub fn start(&self, pid: i32, exit: &OwnedFd) -> Result<()> {
        let name = match self {
            Program::Slirp4netns(_) => "slirp4netns",
            Program::Pasta(_) => "pasta",
        };
        let fail = |e| Error::sys(format!("starting {name}"), e);
        let (ready_read, ready_write) = fd::pipe().map_err(fail)?;
        let mut command = self.command(pid, ready_write.as_raw_fd(), exit.as_raw_fd());
        // It may write long after anybody reads.
        let mut errors = File::from(memfd::create(c"errors").map_err(fail)?);
        let copy = errors.try_clone().map_err(|e| fail(e.into()))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(copy);
        exec::clean_but(&mut command, [ready_write.as_raw_fd(), exit.as_raw_fd()]);
        let mut child = command.spawn().map_err(|e| fail(e.into()))?;
        drop(ready_write);
        match self {
            // It reports that it is ready, and stays.
            Program::Slirp4netns(_) => {
                let mut said = Vec::with_capacity(8);
                let waited = fd::poll(&mut [PollFd::new(ready_read.as_raw_fd(), libc::POLLIN)], START);
                if waited == Ok(1) && fd::append(ready_read.as_raw_fd(), &mut said).is_ok_and(|n| n > 0) {
                    return Ok(());
                }
                let _ = child.kill();
            }
            // It goes to the background when it is ready.
            Program::Pasta(_) => {
                if child.wait().is_ok_and(|status| status.success()) {
                    return Ok(());
                }
            }
        }
        let _ = child.wait();
        let mut text = String::new();
        let _ = errors.rewind().and_then(|()| errors.read_to_string(&mut text));
        let text = text.trim().replace('\n', "; ");
        Err(Error::new(Kind::System, format!("{name} did not make a network: {text}")))
    }
}

/// Writes what is to be /etc/resolv.conf in `dir`: the host's, with the resolver `address`.
///
/// # Errors
/// The file cannot be written.
pub fn resolv_conf(dir: &Path, address: &str) -> Result<PathBuf> {
    let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let file = dir.join("resolv.conf");
    std::fs::write(&file, with_resolver(&host, address))
        .map_err(|e| Error::sys(format!("writing {file:?}"), e))?;
    Ok(file)
}

fn with_resolver(host: &str, address: &str) -> String {
    let others = host.lines().filter(|line| !line.trim_start().starts_with("nameserver"));
    let others: String = others.map(|line| format!("{line}\n")).collect();
    format!("nameserver {address}\n{others}")
}

/// Reports that there is no way out.
pub fn warn_missing() {
    log::warn(
        "pods reach each other, but nothing outside: install slirp4netns (or pasta), and restart orund",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolver_takes_the_place_of_the_host_s() {
        let host =
            "# made by systemd-resolved\nnameserver 127.0.0.53\n nameserver ::1\noptions edns0\nsearch lan\n";
        let expected = "nameserver 10.0.2.3\n# made by systemd-resolved\noptions edns0\nsearch lan\n";
        assert_eq!(with_resolver(host, "10.0.2.3"), expected);
    }
}
