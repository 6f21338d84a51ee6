//! The `groupcast` program.
fn main() {}
