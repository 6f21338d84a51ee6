//! The `groupcast` program; everything it does is in the library's `cli` module.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(groupcast::cli::main())
}
