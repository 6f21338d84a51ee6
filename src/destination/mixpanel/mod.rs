//! Mixpanel: how a change is encoded for its group profile API, and what the responses mean.
//!
//! `POST /groups` takes a JSON array of updates, each with the project token, the group key (Mixpanel's word for a group
//! type), the group's id and **one** operator. So a change is cut into parts by operator, delivered one after the other:
//! `$unset`, `$set`, `$set_once`, `$union`. A trait is under one operator only, so the order matters only to a
//! profile at its limit of 2,000 properties, which the `$unset` makes room in. All of them may be repeated.
//!
//! A 200 alone proves nothing: `0`, `{"status":0}` and `failed_records` are failures in a 200, and without `strict=1` an
//! update that is wrong among others that are right is dropped silently. A token that no project has is accepted, too.
//!
//! Decisions where the vendor leaves a choice:
//!
//! - `$remove`, which takes single values out of a list, has no use here: a list that lost a value is set as a whole.
//! - `append` is `$union`, under which a list holds each value once. That is what makes it repeatable; a list that is to
//!   hold a value twice is rejected, and needs `op = "set"`. `$add` is not offered: it is listed for groups in one
//!   sentence of the reference, described nowhere, and cannot be repeated.
//! - Strings above 255 bytes are rejected, or cut by `long_strings = "truncate"`: the vendor would cut them, and the ledger
//!   would then remember a value that the destination does not hold.
//! - Nulls inside lists and objects are left out; a list directly inside a list is rejected: no report can use either.
//! - No `$time` is sent: an update is as new as its arrival, which delivery orders.

mod encode;
mod response;
mod settings;
pub use crate::destination::shared::settings::LongStrings;
use crate::destination::shared::settings::base_url;
use crate::destination::{DestinationType, OwnKey};
use crate::model::setting::{Setting, SettingValues};
pub use settings::{MixpanelRegion, MixpanelSettings};

mod value;

use serde_json::{Map, Value};

use super::{
    AddressedChange, Attempt, Destination, Element, Features, MappingFinding, Part, RequestLimits, Route, TraitShape,
    UserRule, Verdict,
};
use crate::error::{Error, Kind, Result};
use crate::io::http::{Request, Response};
use crate::model::{OnNull, Op};
use crate::secret::Secret;

/// Updates in a request (the reference's page *Limits*).
const UPDATES_MAX: usize = 2_000;
/// Bytes of one update: "1 MB" on the same page, read in the narrower way.
const UPDATE_BYTES_MAX: usize = 1_000_000;
/// Bytes of a request. None is documented beside the two above; this holds 2,000 usual updates, or two of the largest.
const BODY_BYTES_MAX: usize = 2_000_000;
/// Properties in an update.
const PROPERTIES_MAX: usize = 255;
/// Bytes of a property's name, of a group key and (unless cut) of a string.
const TEXT_BYTES_MAX: usize = 255;

/// The type `mixpanel`.
pub struct MixpanelType;

impl DestinationType for MixpanelType {
    fn name(&self) -> &'static str {
        "mixpanel"
    }

    fn settings(&self) -> &'static [Setting] {
        settings::SETTINGS
    }

    fn own_keys(&self) -> &'static [OwnKey] {
        &[OwnKey { setting: "token", prefix: None }]
    }

    fn open(&self, settings: &SettingValues, group_type: &str) -> Result<Box<dyn Destination>> {
        Ok(Box::new(Mixpanel::new(&settings.parse()?, group_type)?))
    }
}

/// Mixpanel, for one group key.
pub struct Mixpanel {
    base: String,
    token: Secret,
    long_strings: LongStrings,
    /// `"$token":"…"`, as every element begins with. Holds the token.
    token_member: String,
    /// `{"$token":"…","$group_key":"…","$group_id":`. Holds the token.
    head: String,
}

fn json(value: &(impl serde::Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("writing JSON values to memory cannot fail")
}

impl Mixpanel {
    /// The destination that these settings describe, for groups of the group key `group_type`.
    ///
    /// Errors ([`Kind::Config`]): an empty token, a group key that Mixpanel cannot have, a `base_url` that is no plain
    /// http(s) address.
    pub fn new(settings: &MixpanelSettings, group_type: &str) -> Result<Mixpanel> {
        let token = settings.token.expose();
        // A token is 32 hexadecimal digits. What JSON would escape in it could not be recognised, and so not be hidden.
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        if token.is_empty() || !token.bytes().all(plain) {
            return Err(Error::new(Kind::Config, "`token` is empty or not a Mixpanel token")
                .advise("copy it from Mixpanel: Settings → Project → Project Token"));
        }
        if group_type.is_empty() || group_type.len() > TEXT_BYTES_MAX {
            return Err(Error::new(Kind::Config, "the group type must have 1 to 255 bytes")
                .advise("set `type` under `[group]` to the group key in Mixpanel's project settings"));
        }
        let base = match (&settings.base_url, settings.region.unwrap_or_default()) {
            (Some(base), _) => base_url(base)?,
            (None, MixpanelRegion::Us) => "https://api.mixpanel.com".to_owned(),
            (None, MixpanelRegion::Eu) => "https://api-eu.mixpanel.com".to_owned(),
            (None, MixpanelRegion::In) => "https://api-in.mixpanel.com".to_owned(),
        };
        let token_member = format!(r#""$token":{}"#, json(token));
        Ok(Mixpanel {
            base,
            token: settings.token.clone(),
            long_strings: settings.long_strings,
            head: format!(r#"{{{token_member},"$group_key":{},"$group_id":"#, json(group_type)),
            token_member,
        })
    }
}

impl Destination for Mixpanel {
    fn name(&self) -> &'static str {
        "mixpanel"
    }

    fn features(&self) -> Features {
        Features {
            ops: &[Op::Set, Op::SetOnce, Op::Append],
            // What a JSON null does is not documented, so it is not offered.
            on_null: &[OnNull::Unset, OnNull::Skip],
            delete: true,
            exact_numbers: false,
            objects: true,
            gzip: false,
            user: UserRule::Never,
        }
    }

    fn limits(&self, _: Route) -> RequestLimits {
        RequestLimits {
            elements_max: UPDATES_MAX,
            // The limit is per update, and kept by `parts`.
            traits_max: usize::MAX,
            body_bytes_max: BODY_BYTES_MAX,
            element_bytes_max: UPDATE_BYTES_MAX,
            envelope_bytes: 2,
            separator_bytes: 1,
        }
    }

    fn findings(&self, traits: &[TraitShape<'_>]) -> Vec<MappingFinding> {
        let reserved = |name: &str| name.starts_with('$') && name != "$name" || name.starts_with("mp_");
        let remark = |shape: &TraitShape<'_>| MappingFinding {
            about: Some(shape.name.to_owned()),
            error: false,
            what: "names that begin with `$` or `mp_` are Mixpanel's own".to_owned(),
            help: "choose another name, unless you mean Mixpanel's property (`$name` is a profile's title)".to_owned(),
        };
        traits.iter().filter(|shape| reserved(shape.name)).map(remark).collect()
    }

    fn parts(&self, addressed: &AddressedChange) -> Result<Vec<Part>, String> {
        self.encode_parts(addressed)
    }

    fn element(&self, addressed: &AddressedChange, part: &Part) -> Element {
        self.encode_element(addressed, part)
    }

    fn request(&self, _: Route, elements: &[&Element], _: Attempt) -> Request {
        self.encode_request(elements)
    }

    fn interpret(&self, _: Route, elements: usize, response: &Response) -> Verdict {
        self.verdict(elements, response)
    }

    /// A GET of the address's root: no token, no data. A token cannot be tried: Mixpanel accepts any.
    fn probe(&self) -> Option<Request> {
        Some(Request::get(format!("{}/", self.base)))
    }

    fn masked(&self, request: &Request) -> Request {
        let text = String::from_utf8_lossy(&request.body).replace(&self.token_member, r#""$token":"***""#);
        Request { body: self.token.mask(&text).into_bytes(), ..request.clone() }
    }

    fn secrets(&self) -> Vec<Secret> {
        vec![self.token.clone()]
    }
}

/// Traits under one operator.
type Properties = Map<String, Value>;

#[cfg(test)]
mod tests;
