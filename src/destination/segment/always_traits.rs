//! Traits that every call of a mapping should have: what the tools behind the vendor need in each message.

use super::SegmentSettings;
use super::downstream::{Tool, tools};
use super::preset::{Preset, preset};

/// Traits that every call of a mapping should have, as far as the settings show.
pub(super) fn always_traits(settings: &SegmentSettings) -> Vec<&'static str> {
    let Some(preset) = preset(settings.preset.as_deref().unwrap_or("segment")) else { return Vec::new() };
    let tools = settings.downstream.as_deref().and_then(|list| tools(list).ok());
    needed(preset, tools.as_deref())
}

/// Traits that each call to `preset` must have, by the first of their names.
fn needed(preset: &Preset, tools: Option<&[&'static Tool]>) -> Vec<&'static str> {
    let Some(all) = tools.or(preset.tool.is_some().then_some(&[])) else {
        // The tools behind are not configured, and most of those that need anything need these.
        return if preset.passes_on { vec!["name", "website"] } else { Vec::new() };
    };
    let needs = all.iter().copied().chain(preset.tool).flat_map(|tool| tool.needs);
    needs.filter_map(|names| names.first().copied()).collect()
}
