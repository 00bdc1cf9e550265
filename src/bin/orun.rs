//! `orun`: an OCI container runtime.

#![no_main]

/// Most commands end before it would pay to find what they have given back: allocating took a quarter of the instructions of
/// `run`.
#[global_allocator]
static HEAP: orun::sys::heap::Arena = orun::sys::heap::Arena::new();

#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
orun::early_entry!();
orun::entry!(orun::cli::main);
