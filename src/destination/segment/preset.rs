//! The presets: how the vendors that speak Segment's protocol differ, one row each.

use super::super::UserRule;
use super::downstream::{self, Tool};
use crate::destination::shared::status::{Acknowledgement, ResponseBody, any_body, undocumented_body};
use crate::io::http::Applied;

/// How the key is shown to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Auth {
    /// `Authorization: Basic` with the base64 of the key and a colon.
    Basic,
    /// `Authorization: Basic` with the key as it is.
    BasicRaw,
    /// `Authorization: Bearer` with the key.
    Bearer,
    /// A header of this name with the key as it is.
    Header(&'static str),
    /// In no header.
    None,
}

/// What the body of an acknowledgement says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acknowledges {
    /// `{"success":true}`: Segment's HTTP API.
    Success,
    /// The text `OK`: RudderStack's gateway.
    Ok,
    /// `{"ok":true}`: Jitsu's ingest.
    OkTrue,
    /// Nothing: a 204.
    Nothing,
    /// The vendor documents no body: an empty one, a word or an object that mentions no error.
    Undocumented,
    /// A server of the operator's own: anything but a page of HTML and what mentions an error.
    Anything,
}

impl Acknowledges {
    pub(super) fn acknowledgement(self, body: &ResponseBody) -> Acknowledgement {
        if body.reports_failure() {
            // Where the vendor's own responses have such a member; elsewhere something else responds.
            return match self {
                Acknowledges::Success | Acknowledges::OkTrue | Acknowledges::Anything => {
                    Acknowledgement::Rejected(Applied::No)
                }
                Acknowledges::Ok | Acknowledges::Nothing | Acknowledges::Undocumented => Acknowledgement::Undocumented,
            };
        }
        let is_true = |name: &str| body.member(name).is_some_and(|value| value.as_bool() == Some(true));
        match self {
            Acknowledges::Success => Acknowledgement::accepted_if(is_true("success") && !body.mentions_error()),
            Acknowledges::OkTrue => Acknowledgement::accepted_if(is_true("ok") && !body.mentions_error()),
            Acknowledges::Ok => {
                Acknowledgement::accepted_if(body.json.as_str().unwrap_or(&body.text).eq_ignore_ascii_case("ok"))
            }
            Acknowledges::Nothing => Acknowledgement::accepted_if(body.text.is_empty()),
            Acknowledges::Undocumented => undocumented_body(body),
            Acknowledges::Anything => any_body(body),
        }
    }
}

/// One vendor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Preset {
    /// As `preset` names it.
    pub(super) name: &'static str,
    /// As messages name it.
    pub(super) vendor: &'static str,
    /// Where it lives; nothing where every customer has an address of their own.
    pub(super) base_url: Option<&'static str>,
    /// Takes an array of messages.
    pub(super) batch_path: Option<&'static str>,
    /// Takes one message.
    pub(super) group_path: Option<&'static str>,
    /// Whether one message is sent per request.
    pub(super) single: bool,
    pub(super) auth: Auth,
    /// Whether the key is in the body as well (`writeKey`).
    pub(super) key_in_body: bool,
    /// Bytes of one message.
    pub(super) event_bytes_max: usize,
    /// Bytes of a request.
    pub(super) batch_bytes_max: usize,
    /// Messages in a request.
    pub(super) batch_count_max: usize,
    /// The statuses that mean "taken" …
    pub(super) success: &'static [u16],
    /// … and the body that comes with them.
    pub(super) acknowledges: Acknowledges,
    /// Whether bodies travel compressed.
    pub(super) gzip: bool,
    /// Whether messages carry a `messageId`.
    pub(super) message_id: bool,
    pub(super) user: UserRule,
    /// Headers of its own.
    pub(super) headers: &'static [(&'static str, &'static str)],
    /// Whether one bad message makes the server reject all of its batch. Otherwise a 400 is about the request itself: its
    /// size, its JSON.
    pub(super) whole_batch_fails: bool,
    /// Whether `context` and `integrations` must be at the batch, because those of its messages are not read.
    pub(super) batch_context: bool,
    /// Whether `status` is reserved, with the values of the journy.io spec.
    pub(super) status_words: bool,
    /// Whether it passes calls on to other tools.
    pub(super) passes_on: bool,
    /// The tool that it is, where that needs something in every call.
    pub(super) tool: Option<&'static Tool>,
    /// What its UI calls the key, and where it is.
    pub(super) key_is: &'static str,
}

const SEGMENT: Preset = Preset {
    name: "segment",
    vendor: "Segment",
    base_url: Some("https://api.segment.io"),
    batch_path: Some("/v1/batch"),
    group_path: Some("/v1/group"),
    single: false,
    auth: Auth::Basic,
    // The official clients send it in both places; one is enough.
    key_in_body: false,
    // "32 KB" is 32,768 in the official clients. "500 KB" is read in the narrower way: they stop at 475,000 and 480,000.
    event_bytes_max: 32_768,
    batch_bytes_max: 500_000,
    // More are dropped, with a 200.
    batch_count_max: 2_500,
    success: &[200],
    acknowledges: Acknowledges::Success,
    // The official Python client can compress; the HTTP API's page does not mention it.
    gzip: false,
    message_id: true,
    user: UserRule::Required,
    headers: &[],
    whole_batch_fails: false,
    batch_context: false,
    status_words: false,
    passes_on: true,
    tool: None,
    key_is: "the write key of an HTTP API source (Connections → Sources → the source → Settings → API Keys)",
};

const CUSTOMERIO: Preset = Preset {
    name: "customerio",
    acknowledges: Acknowledges::Undocumented,
    vendor: "Customer.io",
    passes_on: false,
    tool: Some(&downstream::CUSTOMERIO),
    base_url: Some("https://cdp.customer.io"),
    user: UserRule::Optional,
    // Without it a message that fails validation, or a wrong key, gets a 200 and is logged on their side.
    headers: &[("x-strict-mode", "1")],
    whole_batch_fails: true,
    batch_context: true,
    key_is: "the API key of an HTTP source (Data & Integrations → Integrations → Connections → the source → Settings)",
    ..SEGMENT
};

/// The presets' names.
pub(super) const NAMES: [&str; PRESETS.len()] = {
    let mut names = [""; PRESETS.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = PRESETS[at].name;
        at += 1;
    }
    names
};

/// Every preset, `custom` last.
pub(super) const PRESETS: [Preset; 11] = [
    SEGMENT,
    Preset { name: "segment-eu", base_url: Some("https://events.eu1.segmentapis.com"), ..SEGMENT },
    Preset {
        name: "rudderstack",
        acknowledges: Acknowledges::Ok,
        vendor: "RudderStack",
        // The data plane.
        base_url: None,
        // 4,000 KB in the gateway's configuration; the page says 4 MB.
        batch_bytes_max: 4_000_000,
        // None is documented. One bad message fails its batch, so batches that are not huge are found guilty sooner.
        batch_count_max: 1_000,
        whole_batch_fails: true,
        key_is: "the write key of an HTTP source (Connections → Sources → the source → Setup)",
        ..SEGMENT
    },
    CUSTOMERIO,
    Preset { name: "customerio-eu", base_url: Some("https://cdp-eu.customer.io"), ..CUSTOMERIO },
    Preset {
        name: "dittofeed",
        passes_on: false,
        acknowledges: Acknowledges::Nothing,
        vendor: "Dittofeed",
        base_url: None,
        batch_path: Some("/api/public/apps/batch"),
        group_path: Some("/api/public/apps/group"),
        auth: Auth::BasicRaw,
        // No limit per message is documented; the server reads bodies of 5 MB.
        event_bytes_max: 1_000_000,
        batch_bytes_max: 5_000_000,
        batch_count_max: 1_000,
        success: &[204],
        whole_batch_fails: true,
        key_is: "the public write key exactly as the dashboard shows it (Settings → Authentication)",
        ..SEGMENT
    },
    Preset {
        name: "journy",
        passes_on: false,
        acknowledges: Acknowledges::Undocumented,
        vendor: "journy.io",
        base_url: Some("https://analyze.journy.io"),
        batch_path: Some("/backend/v1/batch"),
        // Not documented.
        group_path: None,
        status_words: true,
        key_is: "the write key of a backend source (Settings → Connections → the source)",
        ..SEGMENT
    },
    Preset {
        name: "jitsu",
        acknowledges: Acknowledges::OkTrue,
        vendor: "Jitsu",
        base_url: Some("https://use.jitsu.com"),
        group_path: Some("/api/s/s2s/group"),
        single: true,
        auth: Auth::Header("x-write-key"),
        key_is: "the server-to-server write key of a site, `keyId:keySecret` (Sites → the site → Write keys)",
        ..SEGMENT
    },
    Preset {
        name: "hightouch",
        acknowledges: Acknowledges::Undocumented,
        vendor: "Hightouch",
        base_url: Some("https://us-east-1.hightouch-events.com"),
        key_is: "the write key of an HTTP event source (Events → Sources → the source)",
        ..SEGMENT
    },
    Preset {
        name: "accoil",
        passes_on: false,
        acknowledges: Acknowledges::Undocumented,
        vendor: "Accoil",
        base_url: Some("https://in.accoil.com"),
        batch_path: None,
        group_path: Some("/v2/group"),
        single: true,
        auth: Auth::BasicRaw,
        success: &[202],
        user: UserRule::Optional,
        key_is: "the API key of the product (Account → General settings)",
        ..SEGMENT
    },
    Preset {
        name: "custom",
        passes_on: false,
        acknowledges: Acknowledges::Anything,
        vendor: "the destination",
        base_url: None,
        success: &[200, 201, 202, 204],
        whole_batch_fails: true,
        key_is: "the key that this server knows you by",
        ..SEGMENT
    },
];

/// The preset of this name.
pub(super) fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}
