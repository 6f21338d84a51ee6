//! The vendors at work: a stand-in for each, and the destination that speaks to it as a new process would.

use groupcast::destination::amplitude::http_v2::HttpV2;
use groupcast::destination::amplitude::{self, Amplitude, AmplitudeApi};
use groupcast::destination::posthog::{self, PostHog, WriteVia};
use groupcast::destination::segment::{self, Segment};
use groupcast::destination::thrivestack::{self, ThriveStack, ThriveStackWire};
use groupcast::destination::webhook::{self, Webhook, WebhookBody};
use groupcast::destination::{Destination, journy, mixpanel};
use groupcast::secret::Secret;
use serde_json::json;

use super::{Groups, Mishap, Vendor};
use crate::support::group_server::{self, Server};
use crate::support::journy::Journy;
use crate::support::mixpanel::Mixpanel;
use crate::support::segment::Kind;
use crate::support::stand_in::{self, Answer, Api, StandIn};
use crate::support::webhook::Hook;
use crate::support::{amplitude as amplitudes, posthog as posthogs, segment as segments, thrivestack as thrivestacks};

type Make = Box<dyn Fn(&str) -> Box<dyn Destination> + Send + Sync>;

pub(super) struct Amplitudes {
    vendor: amplitudes::Vendor,
    url: String,
    api: AmplitudeApi,
}

impl Amplitudes {
    pub(super) fn start(api: AmplitudeApi) -> Amplitudes {
        let vendor = amplitudes::Vendor::new(amplitudes::Rules { api_key: Some(KEY.to_owned()), ..Default::default() });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = vendor.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                serving.serve(tokio::net::TcpListener::from_std(listener).unwrap()).await.unwrap();
            });
        });
        Amplitudes { vendor, url, api }
    }
}

impl Vendor for Amplitudes {
    fn destination(&self) -> Box<dyn Destination> {
        let base_url = Some(self.url.clone());
        let settings = amplitude::AmplitudeSettings {
            api: self.api,
            base_url,
            ..amplitude::AmplitudeSettings::new(Secret::new(KEY))
        };
        match self.api {
            AmplitudeApi::HttpV2 => Box::new(HttpV2::new(&settings, "company").unwrap()),
            AmplitudeApi::GroupIdentify => Box::new(Amplitude::new(&settings, "company").unwrap()),
        }
    }

    fn spoil(&self, mishap: Mishap) {
        let answer =
            |status, apply| amplitudes::Fault::Answer { status, headers: Vec::new(), body: String::new(), apply };
        self.vendor.script([match mishap {
            Mishap::Refused(status) => answer(status, false),
            Mishap::Doubtful(status) => answer(status, true),
            Mishap::Lost => amplitudes::Fault::ApplyThenDrop,
        }]);
    }

    fn held(&self) -> Groups {
        self.vendor.groups().into_iter().map(|((_, key), group)| (key, group)).collect()
    }

    fn complaint(&self) -> Option<String> {
        let misnamed = self.vendor.counts.misnamed.load(std::sync::atomic::Ordering::Relaxed);
        (misnamed > 0).then(|| format!("{misnamed} times one id for two things"))
    }
}

pub(super) struct PostHogs {
    vendor: posthogs::Vendor,
    settings: posthog::PostHogSettings,
}

impl PostHogs {
    /// With or without a personal key.
    pub(super) fn start(write_via: WriteVia, personal: bool) -> PostHogs {
        let vendor = posthogs::Vendor::new(posthogs::Rules::default());
        if write_via == WriteVia::Rest {
            vendor.create_types(&["company"]);
        }
        let url = vendor.start();
        let settings = posthog::PostHogSettings {
            api_key: Secret::new(posthogs::TOKEN),
            personal_api_key: personal.then(|| Secret::new(posthogs::PERSONAL)),
            project_id: personal.then(|| posthogs::PROJECT.to_owned()),
            region: None,
            base_url: Some(url.clone()),
            app_url: personal.then_some(url),
            write_via,
            gzip: None,
            capture: if personal { posthog::CaptureProtocol::V1 } else { posthog::CaptureProtocol::V0 },
        };
        PostHogs { vendor, settings }
    }
}

impl Vendor for PostHogs {
    fn destination(&self) -> Box<dyn Destination> {
        Box::new(PostHog::new(&self.settings, "company").unwrap())
    }

    fn spoil(&self, mishap: Mishap) {
        self.vendor.script([match mishap {
            Mishap::Refused(status) => posthogs::answers(status, false),
            Mishap::Doubtful(status) => posthogs::answers(status, true),
            // What a proxy says that waited in vain.
            Mishap::Lost => posthogs::answers(504, true),
        }]);
    }

    fn held(&self) -> Groups {
        self.vendor.groups("company")
    }
}

/// A vendor behind the server of `group_server`.
struct Served<R> {
    server: Server<R>,
    make: Make,
    held: fn(&R) -> Groups,
}

impl<R: group_server::Rules> Vendor for Served<R> {
    fn destination(&self) -> Box<dyn Destination> {
        (self.make)(&self.server.url)
    }

    fn spoil(&self, mishap: Mishap) {
        self.server.script([match mishap {
            Mishap::Refused(status) => group_server::Fault::Answer(group_server::answer(status, "no")),
            Mishap::Doubtful(status) => group_server::Fault::AppliedThen(group_server::answer(status, "no")),
            Mishap::Lost => group_server::Fault::AppliedThenLost,
        }]);
    }

    fn held(&self) -> Groups {
        (self.held)(&self.server.rules())
    }
}

/// A vendor behind the server of `stand_in`.
struct Stood<A> {
    vendor: StandIn<A>,
    make: Make,
    held: fn(&A) -> Groups,
}

impl<A: Api> Vendor for Stood<A> {
    fn destination(&self) -> Box<dyn Destination> {
        (self.make)(&self.vendor.url)
    }

    fn spoil(&self, mishap: Mishap) {
        self.vendor.script([match mishap {
            Mishap::Refused(status) => stand_in::Fault::Instead(Answer::new(status, "no")),
            Mishap::Doubtful(status) => stand_in::Fault::ApplyThen(Answer::new(status, "no")),
            Mishap::Lost => stand_in::Fault::ApplyThenDrop,
        }]);
    }

    fn held(&self) -> Groups {
        (self.held)(&self.vendor.api())
    }
}

const KEY: &str = "k3y-7f1d2c9a4b8e6f05";
/// What [`KEY`] becomes in Basic authentication: base64 of the key and a colon.
const BASIC: &str = "Basic azN5LTdmMWQyYzlhNGI4ZTZmMDU6";

pub(super) fn segment(kind: Kind) -> Box<dyn Vendor> {
    let (preset, shown) = match kind {
        Kind::Segment => ("segment", BASIC.to_owned()),
        Kind::RudderStack => ("rudderstack", BASIC.to_owned()),
        Kind::CustomerIo => ("customerio", BASIC.to_owned()),
        Kind::Dittofeed => ("dittofeed", format!("Basic {KEY}")),
        Kind::Accoil => ("accoil", format!("Basic {KEY}")),
        Kind::Jitsu => ("jitsu", KEY.to_owned()),
    };
    let make: Make = Box::new(move |url| {
        let settings = json!({"preset": preset, "write_key": KEY, "base_url": url});
        let settings: segment::SegmentSettings = serde_json::from_value(settings).unwrap();
        Box::new(Segment::new(&settings, "company").unwrap())
    });
    let server = Server::start(segments::Vendor::new(kind, &shown));
    Box::new(Served { server, make, held: |vendor| vendor.groups.clone() })
}

pub(super) fn thrivestack(wire: ThriveStackWire) -> Box<dyn Vendor> {
    let make: Make = Box::new(move |url| {
        let settings = thrivestack::ThriveStackSettings {
            api_key: Secret::new(KEY),
            base_url: Some(url.to_owned()),
            wire,
            legacy_fields: true,
            context: None,
        };
        Box::new(ThriveStack::new(&settings, "company").unwrap())
    });
    let server = Server::start(thrivestacks::Vendor::new(KEY, wire == ThriveStackWire::Single));
    let held = |vendor: &thrivestacks::Vendor| {
        let mut groups = vendor.groups.clone();
        // Not a trait of the mapping's.
        groups.values_mut().for_each(|group| drop(group.remove("group_type")));
        groups
    };
    Box::new(Served { server, make, held })
}

pub(super) fn mixpanel() -> Box<dyn Vendor> {
    let make: Make = Box::new(|url| {
        let settings = mixpanel::MixpanelSettings {
            token: Secret::new(KEY),
            region: None,
            base_url: Some(url.to_owned()),
            long_strings: mixpanel::LongStrings::Reject,
        };
        Box::new(mixpanel::Mixpanel::new(&settings, "company").unwrap())
    });
    Box::new(Stood { vendor: StandIn::start(Mixpanel::new(KEY)), make, held: |api: &Mixpanel| api.groups("company") })
}

pub(super) fn journy() -> Box<dyn Vendor> {
    let make: Make = Box::new(|url| {
        let settings = journy::JournySettings { api_key: Secret::new(KEY), base_url: Some(url.to_owned()) };
        Box::new(journy::Journy::new(&settings, "account").unwrap())
    });
    Box::new(Stood { vendor: StandIn::start(Journy::new(KEY)), make, held: |api: &Journy| api.accounts.clone() })
}

/// A receiver that knows a change again, or not.
pub(super) fn webhook(body: WebhookBody, remembers: bool) -> Box<dyn Vendor> {
    let make: Make = Box::new(move |url| {
        let settings = webhook::WebhookSettings {
            url: format!("{url}/in"),
            body,
            signing_secret: Some(Secret::new(KEY)),
            ..webhook::WebhookSettings::default()
        };
        Box::new(Webhook::new(&settings, "company").unwrap())
    });
    let hook = Hook { secret: Some(KEY.to_owned()), remembers, ..Hook::new("POST", "/in") };
    Box::new(Stood { vendor: StandIn::start(hook), make, held: |api: &Hook| api.groups.clone() })
}
