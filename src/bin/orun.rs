//! `orun`: an OCI container runtime.

use std::process::ExitCode;

fn main() -> ExitCode {
    orun::cli::main(std::env::args_os().skip(1).collect()).into()
}
