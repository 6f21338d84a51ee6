//! The `groupcast` program; everything it does is in the library's `cli` module.

use std::process::ExitCode;

/// Documents are many small allocations, made on one thread and freed on another; the system allocator spends a third of
/// a first run on them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ExitCode::from(groupcast::cli::main())
}
