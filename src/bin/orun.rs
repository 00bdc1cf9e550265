//! `orun`: an OCI container runtime.

#![no_main]

orun::early_entry!();
orun::entry!(orun::cli::main);
