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
