//! The settings of a destination as a plan seals them: a salted hash of each. A run can tell by it which setting changed, and
//! the plan has none of their values.
//!
//! Keys are sealed like the rest, for at most vendors the key is what names the project: of a new key it is not known whether
//! it belongs to the same one. What changes neither the requests nor who receives them is not sealed
//! ([`unsealed_settings`](DestinationType::unsealed_settings)).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::DestinationType;
use crate::error::{Error, Kind, Result};
use crate::io;
use crate::model::setting::{SettingType, SettingValues};

/// A destination as it is configured.
#[derive(Clone, Copy)]
pub struct ConfiguredDestination<'a> {
    /// Its type.
    pub of: &'a dyn DestinationType,
    /// Its own settings.
    pub values: &'a SettingValues,
}

/// The settings of a destination that decide what is sent and who receives it, each as a hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DestinationSeal {
    /// What the hashes are salted with, in hexadecimal: the same setting has another hash in another plan.
    pub salt: String,
    /// The SHA-256 of each setting, by its name.
    pub settings: BTreeMap<String, String>,
}

impl DestinationSeal {
    /// Seals the settings as they are now.
    ///
    /// Errors ([`Kind::Bug`]): the system gives no random bytes.
    pub fn new(destination: ConfiguredDestination<'_>) -> Result<DestinationSeal> {
        let random = io::secret_bytes::<16>().map_err(|error| {
            Error::new(Kind::Bug, "failed to get random bytes from the operating system").because(error)
        })?;
        let salt = hex::encode(random);
        Ok(DestinationSeal { settings: hashes(&salt, destination), salt })
    }

    /// The settings that are others now.
    pub fn changed(&self, destination: ConfiguredDestination<'_>) -> Vec<String> {
        let now = hashes(&self.salt, destination);
        let names: BTreeSet<&String> = self.settings.keys().chain(now.keys()).collect();
        names.into_iter().filter(|name| self.settings.get(*name) != now.get(*name)).cloned().collect()
    }
}

/// The hash of each sealed setting, and of the type.
fn hashes(salt: &str, ConfiguredDestination { of, values }: ConfiguredDestination<'_>) -> BTreeMap<String, String> {
    let unsealed = of.unsealed_settings();
    // A path begins at the config folder, which commands may name in several ways.
    let is_path = |name: &str| {
        let declared = of.settings().iter().find(|setting| setting.name == name);
        matches!(declared.map(|setting| setting.of), Some(SettingType::Path | SettingType::PathOrDash))
    };
    let sealed = values.texts().filter(|(name, _)| !unsealed.contains(name)).map(|(name, text)| {
        let path = is_path(name).then(|| serde_json::from_str::<String>(&text).ok()).flatten();
        let whole = path.and_then(|path| std::path::absolute(path).ok()).map(|path| path.display().to_string());
        (name, whole.unwrap_or(text))
    });
    let all = sealed.chain([("type", of.name().to_owned())]);
    all.map(|(name, text)| (name.to_owned(), hash([salt, name, &text]))).collect()
}

fn hash(parts: [&str; 3]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part.as_bytes());
    }
    hex::encode(digest.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::registry;

    fn values(text: &str) -> SettingValues {
        SettingValues::new(toml::from_str(text).unwrap())
    }

    fn seal(kind: &str, text: &str) -> DestinationSeal {
        DestinationSeal::new(ConfiguredDestination { of: registry::find(kind).unwrap(), values: &values(text) })
            .unwrap()
    }

    fn changed(seal: &DestinationSeal, kind: &str, text: &str) -> Vec<String> {
        seal.changed(ConfiguredDestination { of: registry::find(kind).unwrap(), values: &values(text) })
    }

    #[test]
    fn a_seal_names_what_changed_and_has_no_value() {
        let settings = "api_key = \"key-of-the-project\"\nregion = \"eu\"\n";
        let sealed = seal("amplitude", settings);
        assert_eq!(changed(&sealed, "amplitude", settings), Vec::<String>::new());
        let text = serde_json::to_string(&sealed).unwrap();
        assert!(!text.contains("key-of-the-project") && !text.contains("\"eu\""), "{text}");
        assert_ne!(sealed, seal("amplitude", settings), "salted");
        for (kind, settings, named) in [
            ("amplitude", settings.replace("the-project", "another"), "api_key"),
            ("amplitude", settings.replace("eu", "us"), "region"),
            ("amplitude", "api_key = \"key-of-the-project\"".to_owned(), "region"),
            (
                "amplitude",
                format!("{settings}base_url = \"https://a.example\"\ngzip = true\nbatch_max = 9"),
                "base_url",
            ),
            ("posthog", settings.to_owned(), "type"),
        ] {
            assert_eq!(changed(&sealed, kind, &settings), [named], "{kind} {settings}");
        }
    }

    #[test]
    fn a_path_is_the_same_however_the_folder_is_named() {
        let whole = std::env::current_dir().unwrap().join("out.ndjson");
        let sealed = seal("file", "path = \"./out.ndjson\"");
        assert_eq!(
            changed(&sealed, "file", &format!("path = {:?}", whole.display().to_string())),
            Vec::<String>::new()
        );
        assert_eq!(changed(&sealed, "file", "path = \"-\""), ["path"]);
    }

    #[test]
    fn what_is_not_sealed_is_a_setting() {
        for of in registry::DESTINATION_TYPES {
            for name in of.unsealed_settings() {
                assert!(of.settings().iter().any(|setting| setting.name == *name), "{} {name}", of.name());
            }
        }
    }
}
