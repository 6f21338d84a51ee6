//! Random numbers: a generator that can be seeded, and bytes for keys from the operating system.

use parking_lot::Mutex;

/// Draws random numbers: jitter and run ids, nothing secret.
pub struct Random(Mutex<fastrand::Rng>);

impl Random {
    /// Seeded from the operating system.
    #[expect(clippy::disallowed_methods, reason = "`io` is the one place that draws random numbers")]
    pub fn from_entropy() -> Random {
        Random(Mutex::new(fastrand::Rng::new()))
    }

    /// The same numbers for the same seed.
    pub fn seeded(seed: u64) -> Random {
        Random(Mutex::new(fastrand::Rng::with_seed(seed)))
    }

    /// A number from 0 to `bound`, both included.
    pub fn up_to(&self, bound: u64) -> u64 {
        self.0.lock().u64(0..=bound)
    }
}

/// Bytes that cannot be guessed, for keys: from the operating system, never from [`Random`]. Read by a system call, for a
/// confined process may have no /dev.
pub fn secret_bytes<const COUNT: usize>() -> std::io::Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
