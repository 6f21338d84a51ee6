//! Do memory and handles stay flat over many real runs against a receiver with faults, and do the counts add up?

/// Placeholder until the soak is written.
#[test]
fn soak() {}
