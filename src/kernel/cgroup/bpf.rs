//! Puts the device filter on a version 2 cgroup.

use super::dir::Dir;
use crate::error::{Errno, Error, Result};
use crate::plan::cgroup::DeviceFilter;
use crate::sys::bpf::{self, Instruction};
use crate::sys::{self, SysResult};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

const PROPERTY: &str = "linux.resources.devices";

/// Loads and attaches `filter` instead of the existing filters. A new cgroup has none, or systemd's, which
/// stays; so it is not asked.
pub(super) fn apply(d: &Dir, filter: &DeviceFilter) -> Result<()> {
    match replace(d, filter.program.as_deref()) {
        Err(e) if filter.best_effort && e.errno().is_some() => Ok(()),
        r => r,
    }
}

fn replace(d: &Dir, program: Option<&[Instruction]>) -> Result<()> {
    let opened;
    let dir = match &d.fd {
        Some(fd) => fd,
        None => {
            opened = d.open_self().map_err(|e| Error::sys(format!("opening {:?}", d.path), e))?;
            &opened
        }
    };
    let dir = dir.as_raw_fd();
    let fail = |doing: &str| {
        let what = format!("{doing} the device filter of {:?}", d.path);
        move |e: Errno| {
            let error = Error::sys(what, e).property(PROPERTY);
            match e.0 {
                libc::EPERM => {
                    error.hint("loading it requires CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN, of the host")
                }
                libc::ENOSYS | libc::EINVAL => error.hint("the kernel needs CONFIG_CGROUP_BPF, Linux 4.15"),
                _ => error,
            }
        }
    };
    let old = if d.fresh { Vec::new() } else { attached(dir).map_err(fail("looking for"))? };
    let Some(program) = program else {
        return old
            .iter()
            .try_for_each(|p| bpf::detach_device_filter(dir, p.as_raw_fd()))
            .map_err(fail("removing"));
    };
    let new = load(program)?;
    // With one old filter the change is one step, so that no moment is without a filter.
    let only = if let [one] = old.as_slice() { Some(one.as_raw_fd()) } else { None };
    match bpf::attach_device_filter(dir, new.as_raw_fd(), only) {
        Err(Errno(libc::EINVAL)) if only.is_some() => {
            // A kernel without BPF_F_REPLACE: both must allow for a moment.
            bpf::attach_device_filter(dir, new.as_raw_fd(), None).map_err(fail("attaching"))?;
            detach(dir, &old).map_err(fail("removing the old one of"))
        }
        Ok(()) if only.is_none() => detach(dir, &old).map_err(fail("removing the old one of")),
        r => r.map_err(fail("attaching")),
    }
}

fn detach(dir: RawFd, old: &[OwnedFd]) -> SysResult<()> {
    old.iter().try_for_each(|p| bpf::detach_device_filter(dir, p.as_raw_fd()))
}

/// The filters of the cgroup.
fn attached(dir: RawFd) -> SysResult<Vec<OwnedFd>> {
    let mut ids = vec![0; 64];
    let n = bpf::device_filters(dir, &mut ids)?;
    ids[..n].iter().map(|id| bpf::program_by_id(*id)).collect()
}

fn load(program: &[Instruction]) -> Result<OwnedFd> {
    let first = match bpf::load_device_filter(program, &mut []) {
        Ok(fd) => return Ok(fd),
        Err(e) => e,
    };
    let second = if first.0 == libc::EPERM { with_memlock(program) } else { Err(first) };
    second.map_err(|e| {
        let error = Error::sys("loading the device filter", e).property(PROPERTY);
        match e.0 {
            libc::EPERM => {
                error.hint("loading it requires CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN, of the host")
            }
            libc::ENOSYS => error.hint("the kernel needs CONFIG_CGROUP_BPF, Linux 4.15"),
            _ => match verifier(program) {
                Some(log) => error.hint(format!("the kernel's verifier reported: {log}")),
                None => error,
            },
        }
    })
}

/// Kernels before 5.11 refuse a program that goes over the limit of locked memory.
fn with_memlock(program: &[Instruction]) -> sys::SysResult<OwnedFd> {
    let old = bpf::raise_memlock()?;
    let result = bpf::load_device_filter(program, &mut []);
    bpf::set_memlock(&old)?;
    result
}

/// The last line of what the verifier says about `program`.
fn verifier(program: &[Instruction]) -> Option<String> {
    let mut log = vec![0; 1 << 16];
    bpf::load_device_filter(program, &mut log).err()?;
    let text = String::from_utf8_lossy(log.split(|b| *b == 0).next()?).into_owned();
    text.lines().rfind(|l| !l.trim().is_empty() && !l.starts_with("processed ")).map(str::to_owned)
}
