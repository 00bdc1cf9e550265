//! `orun`: an OCI container runtime.

#![no_main]

orun::entry!(orun::cli::main);
