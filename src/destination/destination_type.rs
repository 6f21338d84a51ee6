//! A type of destination, before any is configured: its name, its settings, and how one is opened.

use std::path::PathBuf;

use super::Destination;
use crate::error::Result;
use crate::model::setting::{Setting, SettingValues};

/// A type of destination: one row of [`DESTINATION_TYPES`](super::registry::DESTINATION_TYPES).
pub trait DestinationType: Sync {
    /// What `type = "…"` says.
    fn name(&self) -> &'static str;

    /// Its settings, besides `type` and those of delivery.
    fn settings(&self) -> &'static [Setting];

    /// A destination of this type, for groups of one type. Connects to nothing.
    ///
    /// Errors: [`Kind::Config`](crate::error::Kind::Config), its settings or the group type cannot be used.
    fn open(&self, settings: &SettingValues, group_type: &str) -> Result<Box<dyn Destination>>;

    /// The file of this machine that it writes to.
    fn output_file(&self, _settings: &SettingValues) -> Result<Option<PathBuf>> {
        Ok(None)
    }

    /// The settings that it needs to be read back, as messages name them; none where its API cannot be read.
    fn readback_settings(&self) -> Option<&'static str> {
        None
    }

    /// The settings that hold its address.
    fn address_settings(&self) -> Vec<&'static str> {
        let names = self.settings().iter().map(|setting| setting.name);
        names.filter(|name| ["url", "base_url", "app_url", "region"].contains(name)).collect()
    }

    /// The settings that change neither what is sent nor who receives it, such as the size of requests: a plan stays valid when
    /// they change.
    fn unsealed_settings(&self) -> &'static [&'static str] {
        &[]
    }

    /// Traits that every call of a mapping should have, so that `init` can propose them.
    fn always_traits(&self, _settings: &SettingValues) -> Vec<&'static str> {
        Vec::new()
    }

    /// What keys of this vendor begin with, and what each is: `phc_`, "a project API key of PostHog".
    fn key_prefixes(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// The settings that take this vendor's own keys only, so that a key that begins like another service's is a mistake.
    fn own_keys(&self) -> &'static [OwnKey] {
        &[]
    }
}

/// A setting that takes a key of the vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnKey {
    /// The setting.
    pub setting: &'static str,
    /// What such a key begins with, if it has a prefix of its own.
    pub prefix: Option<&'static str>,
}
