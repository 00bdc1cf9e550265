//! Entry points of the fuzzer: one for each kind of input that this program reads and that somebody else wrote. None may panic,
//! hang or take much memory, whatever its bytes; some also compare what was read with a second way to read it.
//!
//! The library has them only in its own tests, which pass a bounded number of mutated inputs, and for `fuzz/` (`--cfg fuzzing`),
//! where libFuzzer follows the branches that an input takes.

mod files;
mod network;
mod runtime;
mod supervisor;

#[cfg(test)]
mod bounded;
#[cfg(test)]
mod mutate;

/// A kind of input.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name of its corpus below `fuzz/corpus`, and of its program in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Reads an input, and panics where the answer is wrong.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "config", run: runtime::config },
    Target { name: "process", run: runtime::process },
    Target { name: "resources", run: runtime::resources },
    Target { name: "record", run: runtime::record },
    Target { name: "seccomp", run: runtime::seccomp },
    Target { name: "device_filter", run: runtime::device_filter },
    Target { name: "criu", run: runtime::criu },
    Target { name: "dbus", run: crate::kernel::cgroup::systemd::fuzz },
    Target { name: "netlink", run: crate::sys::netlink::fuzz },
    Target { name: "workload", run: files::workload },
    Target { name: "compose", run: files::compose },
    Target { name: "journal", run: supervisor::journal },
    Target { name: "api", run: supervisor::api },
    Target { name: "exec_frame", run: crate::api::frame::fuzz },
    Target { name: "log", run: supervisor::log },
    Target { name: "reference", run: network::reference },
    Target { name: "manifest", run: network::manifest },
    Target { name: "layer", run: network::layer },
    Target { name: "registry", run: crate::image::registry::fuzz },
    Target { name: "dns", run: crate::network::proxy::fuzz },
];

/// Passes `data` to the target `name`.
///
/// # Panics
/// There is none of that name, or it found a fault.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|t| t.name == name);
    (target.unwrap_or_else(|| panic!("no target {name:?}")).run)(data);
}
