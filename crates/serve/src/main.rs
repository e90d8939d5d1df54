//! The program `dhow-serve`, which `dhow registry serve` becomes.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(serve::run(std::env::args_os().collect()))
}
