//! `[policy]`: what happens in the cases that need a decision. The same section is in `[defaults]` of `groupcast.toml`.

use strum::VariantNames as _;

use crate::mapping::reader::{Report, Section};
use crate::model::OnNull;
use crate::model::setting::{Setting, SettingType};

/// The settings of the section, and of `[defaults.policy]`.
pub const SETTINGS: &[Setting] = &[
    Setting::optional("on_null", SettingType::OneOf(OnNull::VARIANTS)),
    Setting::optional("on_missing", SettingType::OneOf(OnMissing::VARIANTS)),
    Setting::optional("on_removed_trait", SettingType::OneOf(OnRemovedTrait::VARIANTS)),
    Setting::optional("on_duplicate", SettingType::OneOf(OnDuplicate::VARIANTS)),
];

/// What happens in the cases that need a decision.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// A null in a trait's column.
    pub on_null: OnNull,
    /// A group that left the model.
    pub on_missing: OnMissing,
    /// A trait that left the mapping.
    pub on_removed_trait: OnRemovedTrait,
    /// Two rows with one key.
    pub on_duplicate: OnDuplicate,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            on_null: OnNull::Unset,
            on_missing: OnMissing::Keep,
            on_removed_trait: OnRemovedTrait::Keep,
            on_duplicate: OnDuplicate::Fail,
        }
    }
}

/// What happens to a group that left the model.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    strum::IntoStaticStr,
    strum::VariantArray,
    strum::VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum OnMissing {
    /// Nothing.
    Keep,
    /// Its traits are unset.
    Unset,
    /// It is deleted, where the destination can.
    Delete,
}

/// What happens to a trait that left the mapping.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    strum::IntoStaticStr,
    strum::VariantArray,
    strum::VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum OnRemovedTrait {
    /// Nothing; the destination keeps its last value.
    Keep,
    /// It is unset.
    Unset,
}

/// What happens when two rows have one key.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    strum::IntoStaticStr,
    strum::VariantArray,
    strum::VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum OnDuplicate {
    /// The run stops before anything is sent.
    Fail,
    /// None of the rows of that key is sent; they are counted and shown.
    Skip,
}

/// Reads the section; what it doesn't set stays as in `base`.
pub(crate) fn read(section: &Section<'_>, base: &Policy, report: &mut Report<'_>) -> Policy {
    section.expect_settings(SETTINGS, report);
    Policy {
        on_null: section.choice("on_null", report).unwrap_or(base.on_null),
        on_missing: section.choice("on_missing", report).unwrap_or(base.on_missing),
        on_removed_trait: section.choice("on_removed_trait", report).unwrap_or(base.on_removed_trait),
        on_duplicate: section.choice("on_duplicate", report).unwrap_or(base.on_duplicate),
    }
}
