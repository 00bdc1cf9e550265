//! `orun`: an OCI container runtime.

#![no_main]

#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
orun::early_entry!();
orun::entry!(orun::cli::main);
