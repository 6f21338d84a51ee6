//! A reader process with the system's allocator, for ADBC drivers that bring one of their own and do not bear the program's:
//! `cargo build --release --example reader`, and its path as `reader = "…"` at the source.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(groupcast::source::adbc::run_reader())
}
