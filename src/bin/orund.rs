//! `orund`: the supervisor.

#![no_main]

orun::entry!(orun::orund::main);
