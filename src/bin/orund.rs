//! `orund`: the supervisor.

#![no_main]

orun::entry!(orun::cli::main);
