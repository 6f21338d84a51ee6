//! What several test modules need: stand-ins for the outside.

#[expect(dead_code, reason = "only the quick start's receiver reads what is told to a person")]
#[path = "../../../examples/receiver/amplitude.rs"]
pub(crate) mod amplitude;
pub(crate) mod cli;
pub(crate) mod clock;
pub(crate) mod daemon;
pub(crate) mod flights;
pub(crate) mod group_server;
pub(crate) mod http_stub;
pub(crate) mod journy;
pub(crate) mod memory_ledger;
pub(crate) mod mixpanel;
pub(crate) mod namespace;
pub(crate) mod pooler;
pub(crate) mod postgres;
pub(crate) mod posthog;
pub(crate) mod proxy;
pub(crate) mod rows;
pub(crate) mod segment;
pub(crate) mod stand_in;
pub(crate) mod terminal;
pub(crate) mod thrivestack;
pub(crate) mod toy;
pub(crate) mod webhook;
