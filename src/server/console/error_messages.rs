//! Rejected groups by their error message: a mistake in a mapping rejects a thousand groups with one message.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::params::Params;
use crate::service::views::RejectedView;

/// The groups of a sync with the same error message.
pub(super) struct MessageGroups<'a> {
    pub(super) text: &'a str,
    pub(super) groups: Vec<&'a RejectedView>,
}

impl MessageGroups<'_> {
    /// What the message is called in an address, which has no room for its text.
    pub(super) fn id(&self) -> String {
        id_of(self.text)
    }
}

fn id_of(message: &str) -> String {
    URL_SAFE_NO_PAD.encode(&Sha256::digest(message.as_bytes())[..9])
}

/// By message, the most frequent first.
pub(super) fn by_message<'a>(groups: impl IntoIterator<Item = &'a RejectedView>) -> Vec<MessageGroups<'a>> {
    let mut found: BTreeMap<&str, Vec<&RejectedView>> = BTreeMap::new();
    for group in groups {
        found.entry(&group.reason).or_default().push(group);
    }
    let mut messages: Vec<_> = found.into_iter().map(|(text, groups)| MessageGroups { text, groups }).collect();
    messages.sort_by_key(|message| Reverse(message.groups.len()));
    messages
}

/// Which rejected groups are shown or downloaded.
#[derive(Clone)]
pub(super) struct RejectedFilter {
    pub(super) sync: Option<String>,
    /// A part of the key or of the error message, in any case.
    pub(super) search: Option<String>,
    /// The id of an error message.
    pub(super) message: Option<String>,
}

impl RejectedFilter {
    pub(super) fn of(params: &Params) -> RejectedFilter {
        let one = |name| params.one(name).map(str::to_owned);
        RejectedFilter { sync: one("sync"), search: one("q"), message: one("message") }
    }

    /// Whether only some groups of its syncs match.
    pub(super) fn is_narrow(&self) -> bool {
        self.search.is_some() || self.message.is_some()
    }

    pub(super) fn matches(&self, group: &RejectedView) -> bool {
        let contains = |text: &str, wanted: &str| text.to_lowercase().contains(wanted);
        let searched = self.search.as_ref().map(|wanted| wanted.to_lowercase());
        searched.is_none_or(|wanted| contains(&group.key, &wanted) || contains(&group.reason, &wanted))
            && self.message.as_ref().is_none_or(|id| *id == id_of(&group.reason))
    }

    /// As a query, for the groups of this sync.
    pub(super) fn pairs<'a>(&'a self, sync: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
        let pairs = [("sync", sync.or(self.sync.as_deref())), ("q", self.search.as_deref())];
        let all = pairs.into_iter().chain([("message", self.message.as_deref())]);
        all.filter_map(|(name, value)| Some((name, value?))).collect()
    }
}
