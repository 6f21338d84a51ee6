//! The registry of destination types.

use super::DestinationType;
use super::amplitude::AmplitudeType;
use super::file::FileType;
use super::journy::JournyType;
use super::mixpanel::MixpanelType;
use super::posthog::PostHogType;
use super::segment::SegmentType;
use super::thrivestack::ThriveStackType;
use super::webhook::WebhookType;

/// Every destination type, one per line.
pub const DESTINATION_TYPES: &[&dyn DestinationType] = &[
    &AmplitudeType,
    &FileType,
    &JournyType,
    &MixpanelType,
    &PostHogType,
    &SegmentType,
    &ThriveStackType,
    &WebhookType,
];

/// The type of this name.
pub fn find(name: &str) -> Option<&'static dyn DestinationType> {
    DESTINATION_TYPES.iter().copied().find(|of| of.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::model::setting::{SettingType, SettingValues};

    /// A value of each kind that a setting of this type may have.
    fn samples(of: SettingType) -> Vec<toml::Value> {
        match of {
            SettingType::Boolean => vec![true.into(), false.into()],
            SettingType::Integer(least, most) => vec![least.into(), most.into()],
            SettingType::OneOf(words) => words.iter().map(|word| (*word).into()).collect(),
            SettingType::Names => vec![Vec::<String>::new().into()],
            SettingType::Table => vec![toml::Table::new().into()],
            SettingType::Url | SettingType::SecretUrl => vec!["https://example.com".into()],
            SettingType::PathOrDash => vec!["out/changes.ndjson".into(), "-".into()],
            _ => vec!["0123456789abcdef".into()],
        }
    }

    #[test]
    fn every_type_reads_every_setting_that_it_declares() {
        for of in DESTINATION_TYPES {
            let required = of.settings().iter().filter(|setting| setting.required);
            let required: toml::Table =
                required.map(|setting| (setting.name.to_owned(), samples(setting.of).remove(0))).collect();
            for setting in of.settings() {
                for value in samples(setting.of) {
                    let mut table = required.clone();
                    table.insert(setting.name.to_owned(), value.clone());
                    // Settings that contradict each other are the operator's mistake, a setting that is not read is ours.
                    if let Err(error) = of.open(&SettingValues::new(table), "account") {
                        assert_eq!(error.kind(), Kind::Config, "{}: {} = {value:?}: {error}", of.name(), setting.name);
                        assert!(error.advice().is_some(), "{}: {} = {value:?}: {error}", of.name(), setting.name);
                    }
                }
            }
            let names = DESTINATION_TYPES.iter().filter(|other| other.name() == of.name());
            assert_eq!(names.count(), 1, "{}", of.name());
        }
    }
}
