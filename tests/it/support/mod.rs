//! What several test modules need: stand-ins for the outside.

#[expect(dead_code, reason = "only the quick start's receiver reads what is told to a person")]
#[path = "../../../examples/receiver/amplitude.rs"]
pub(crate) mod amplitude;
pub(crate) mod cli;
pub(crate) mod clock;
pub(crate) mod postgres;
pub(crate) mod posthog;
pub(crate) mod rows;
pub(crate) mod toy;
