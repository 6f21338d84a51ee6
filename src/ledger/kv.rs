//! Key-value notes: small texts under a name, for what a process must remember over a restart.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::error::Result;

/// The kind of note that says since when a sync is paused.
pub const PAUSED: &str = "paused";

/// The name of a note of this kind about a sync.
pub fn note_of(kind: &str, sync: &str) -> String {
    format!("{kind}/{sync}")
}

/// The key-value notes of a ledger.
#[async_trait]
pub trait KeyValue: Send + Sync {
    /// The text under a name.
    async fn get(&self, name: &str) -> Result<Option<String>>;

    /// All texts, by name.
    async fn all(&self) -> Result<BTreeMap<String, String>>;

    /// Keeps a text under a name, in place of an earlier one. Durable when it returns.
    async fn put(&self, name: &str, text: &str) -> Result<()>;

    /// Drops the text under a name. Durable when it returns.
    async fn delete(&self, name: &str) -> Result<()>;

    /// Drops the text under a name if it contains this part: another text may have been put there since.
    async fn delete_if(&self, name: &str, contains: &str) -> Result<()>;
}
