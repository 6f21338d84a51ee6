//! The only door to the outside: [clock](Clock), [random numbers](Random), [HTTP](mod@http), [small files](files), the
//! [process] itself. Everything else takes them as arguments, so that tests and simulations can hold time still,
//! replay a seed and script a destination. Imports no other module.
//!
//! `clippy.toml` bans `Utc::now`, `Instant::now` and `tokio::time::sleep` everywhere but here.

mod clock;
pub mod disk;
pub mod file_id;
pub mod files;
pub mod http;
pub mod process;
pub mod process_id;
mod random;
pub mod terminal;

pub use clock::{Clock, SystemClock};
pub use random::{Random, secret_bytes};
