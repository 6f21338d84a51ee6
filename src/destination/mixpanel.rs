//! How does Mixpanel's group profile API want a change, and what does its answer mean?
//!
//! `POST /groups` takes a JSON array of updates, each with the project token, the group key (Mixpanel's word for a group
//! type), the group's id and **one** operator. So a change is cut into parts by operator, delivered one after the other:
//! `$unset`, `$set`, `$set_once`, `$union`. A trait is under one operator only, so the order matters to nobody but a
//! profile at its limit of 2,000 properties, which the `$unset` makes room in. All of them may be repeated.
//!
//! A 200 alone proves nothing: `0`, `{"status":0}` and `failed_records` are failures in a 200, and without `strict=1` an
//! update that is wrong among others that are right is dropped silently. A token that no project has is accepted, too.
//!
//! Decisions where the vendor leaves a choice:
//!
//! - `$remove`, which takes single values out of a list, has no use here: a list that lost a value is set as a whole.
//! - `append` is `$union`, under which a list holds each value once. That is what makes it repeatable; a list that is to
//!   hold a value twice is refused, and needs `op = "set"`. `$add` is not offered: it is listed for groups in one
//!   sentence of the reference, described nowhere, and cannot be repeated.
//! - Strings above 255 bytes are refused, or cut by `long_strings = "truncate"`: the vendor would cut them, and the ledger
//!   would then remember a value that the destination does not hold.
//! - Nulls inside lists and objects are left out; a list directly inside a list is refused: no report can use either.
//! - No `$time` is sent: an update is as new as its arrival, which delivery orders.

mod value;

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::evidence::{self, Body, Said};
use super::response::words;
use super::{
    AddressedChange, Attempt, Destination, Element, Features, MappingFinding, Part, RequestLimits, Route, TraitShape,
    UserRule, Verdict,
};
use crate::error::{Error, Kind, Result};
use crate::io::http::{Applied, Request, Response};
use crate::model::{Change, OnNull, Op, Traits};
use crate::secret::Secret;

/// Updates in a request (the reference's page *RequestLimits*).
const UPDATES_MAX: usize = 2_000;
/// Bytes of one update: "1 MB" on the same page, read in the narrower way.
const UPDATE_BYTES_MAX: usize = 1_000_000;
/// Bytes of a request. None is documented beside the two above; this holds 2,000 usual updates, or two of the largest.
const BODY_BYTES_MAX: usize = 2_000_000;
/// Properties in an update.
const PROPERTIES_MAX: usize = 255;
/// Bytes of a property's name, of a group key and (unless cut) of a string.
const TEXT_BYTES_MAX: usize = 255;

/// Where the project's data lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Region {
    /// `api.mixpanel.com`.
    #[default]
    Us,
    /// `api-eu.mixpanel.com`.
    Eu,
    /// `api-in.mixpanel.com`.
    In,
}

/// What happens to a string of more than 255 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LongStrings {
    /// The group is rejected, and the reason names the trait.
    #[default]
    Reject,
    /// As many whole characters as fit into 255 bytes are sent.
    Truncate,
}

/// The `[destinations.<name>]` table of `type = "mixpanel"`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The project's token.
    pub token: Secret,
    /// The project's region; US when absent.
    #[serde(default)]
    pub region: Option<Region>,
    /// Replaces the region's address, for proxies and tests.
    #[serde(default)]
    pub base_url: Option<String>,
    /// What happens to long strings.
    #[serde(default)]
    pub long_strings: LongStrings,
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

/// The name of an operator on the wire.
fn wire_name(op: Op) -> &'static str {
    match op {
        Op::SetOnce => "$set_once",
        Op::Append => "$union",
        // The others are refused before.
        Op::Set | Op::Add | Op::Prepend => "$set",
    }
}

fn json(value: &(impl serde::Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("writing JSON values to memory cannot fail")
}

impl Mixpanel {
    /// The destination that these settings describe, for groups of the group key `group_type`.
    ///
    /// Errors ([`Kind::Config`]): an empty token, a group key that Mixpanel cannot have, a `base_url` that is no plain
    /// http(s) address.
    pub fn new(settings: &Settings, group_type: &str) -> Result<Mixpanel> {
        let token = settings.token.expose();
        // A token is 32 hexadecimal digits. What JSON would escape in it could not be recognised, and so not be hidden.
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        if token.is_empty() || !token.bytes().all(plain) {
            return Err(Error::new(Kind::Config, "`token` is empty or no Mixpanel token")
                .advise("copy it from Mixpanel: Settings → Project → Project Token"));
        }
        if group_type.is_empty() || group_type.len() > TEXT_BYTES_MAX {
            return Err(Error::new(Kind::Config, "the group type must have 1 to 255 bytes")
                .advise("set `type` under `[group]` to the group key in Mixpanel's project settings"));
        }
        let base = match (&settings.base_url, settings.region.unwrap_or_default()) {
            (Some(base), _) => super::base_url(base)?,
            (None, Region::Us) => "https://api.mixpanel.com".to_owned(),
            (None, Region::Eu) => "https://api-eu.mixpanel.com".to_owned(),
            (None, Region::In) => "https://api-in.mixpanel.com".to_owned(),
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

    /// The bytes of an update before its operator's content, at most.
    fn bare_bytes(&self, key: &str) -> usize {
        self.head.len() + json(key).len() + r#","$set_once":{}}"#.len()
    }

    /// What the body of a 200 says: `1`, `{"status":1,"error":null}` (`verbose=1`) or
    /// `{"code":200,"num_records_imported":n,"status":"OK"}` (`strict=1`) are acknowledgements; `0`, a status of 0, an
    /// error, records that failed and a count that is too small are refusals.
    fn success(&self, elements: usize, status: u16, body: &Body) -> Said {
        let failed = failed_records(Some(&body.json), elements, status, &[&self.token]);
        if !failed.is_empty() {
            return Said::RefusedSome(failed);
        }
        let said = match &body.json {
            Value::Object(members) => match (members.get("status"), members.get("code")) {
                (Some(said), _) => said,
                (None, Some(code)) if code.as_u64() == Some(200) => &Value::Bool(true),
                (None, _) => return Said::Foreign,
            },
            Value::Number(_) => &body.json,
            _ => return Said::Foreign,
        };
        let success = match said {
            // `code` says it in place of the status, and the count must say so, too.
            Value::Bool(true) if body.member("num_records_imported").is_some() => true,
            Value::Number(status) if status.as_u64() == Some(1) => true,
            Value::Number(status) if status.as_u64() == Some(0) => false,
            Value::String(status) => match status.to_lowercase().as_str() {
                "1" => true,
                // Never without the count.
                "ok" if body.member("num_records_imported").is_some() => true,
                "0" => false,
                _ => return Said::Foreign,
            },
            _ => return Said::Foreign,
        };
        let error = body.member("error").is_some_and(|error| !error.is_null() && error != "");
        match body.member("num_records_imported").and_then(Value::as_u64) {
            Some(count) if count < elements as u64 => {
                Said::Refused(if count == 0 { Applied::No } else { Applied::Maybe })
            }
            _ if success && !error => Said::Taken(None),
            _ => Said::Refused(Applied::No),
        }
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
        let AddressedChange { key, change, .. } = addressed;
        match key.len() {
            0 => return Err("the group's key is empty: give the row a key, or leave it out with `where`".to_owned()),
            1..=TEXT_BYTES_MAX => {}
            _ => return Err("the group's key has more than 255 bytes: use a shorter column".to_owned()),
        }
        if change.is_empty() {
            return Ok(Vec::new());
        }
        if change.delete {
            let change = Arc::new(Change { delete: true, ..Change::default() });
            return Ok(vec![Part { route: 0, change }]);
        }
        for name in change.names() {
            value::check_name(name)?;
        }
        for (op, name, value) in change.values() {
            let checked = match op {
                Op::Set | Op::SetOnce => value::check(value, self.long_strings),
                Op::Append => value::check_union(value, self.long_strings),
                Op::Add | Op::Prepend => Err(format!("Mixpanel has no `{}` for groups: use `set`", op.name())),
            };
            checked.map_err(|reason| format!("trait `{name}`: {reason}"))?;
        }
        if let Some(name) = twice(change) {
            return Err(format!("trait `{name}` is under two operators: give it one"));
        }
        let operators = change.by_op().iter().filter(|(_, traits)| !traits.is_empty()).count();
        if operators + usize::from(!change.unset.is_empty()) == 1 && change.traits_count() <= PROPERTIES_MAX {
            // Nearly every change of nearly every run: nothing to cut, so nothing is copied.
            let whole = Part { route: 0, change: Arc::clone(change) };
            if self.element(addressed, &whole).bytes.len() <= self.limits(0).element_bytes_max {
                return Ok(vec![whole]);
            }
        }
        let mut cut = Cut::new(UPDATE_BYTES_MAX.saturating_sub(self.bare_bytes(key)));
        for name in &change.unset {
            cut.add(json(name).len(), |part| part.unset.extend([name.clone()]));
        }
        let bytes = |name: &String, value: &Value| json(name).len() + 1 + value::bytes(value, self.long_strings);
        for (op, traits) in change.by_op() {
            cut.close();
            cut.along = if op == Op::Set { addressed.repeated.clone() } else { Traits::new() };
            cut.along_bytes = cut.along.iter().map(|(name, value)| bytes(name, value) + 1).sum();
            if !cut.along.is_empty() && traits.len() == cut.along.len() {
                cut.open();
                continue;
            }
            for (name, value) in
                traits.iter().filter(|(name, _)| op != Op::Set || !addressed.repeated.contains_key(*name))
            {
                cut.add(bytes(name, value), |part| part.under(op).extend([(name.clone(), value.clone())]));
            }
        }
        Ok(cut.parts())
    }

    fn element(&self, addressed: &AddressedChange, part: &Part) -> Element {
        let mut out = self.head.clone().into_bytes();
        out.extend_from_slice(json(&addressed.key).as_bytes());
        let change = &part.change;
        if change.delete {
            out.extend_from_slice(br#","$delete":"""#);
        }
        if !change.unset.is_empty() {
            out.extend_from_slice(format!(r#","$unset":{}"#, json(&change.unset)).as_bytes());
        }
        for (op, traits) in change.by_op().into_iter().filter(|(_, traits)| !traits.is_empty()) {
            out.extend_from_slice(format!(r#","{}":"#, wire_name(op)).as_bytes());
            value::write_members(&mut out, traits, self.long_strings);
        }
        out.push(b'}');
        out.into()
    }

    fn request(&self, _: Route, elements: &[&Element], _: Attempt) -> Request {
        let mut body = Vec::with_capacity(elements.iter().map(|element| element.bytes.len() + 1).sum::<usize>() + 2);
        body.push(b'[');
        for (at, element) in elements.iter().enumerate() {
            if at > 0 {
                body.push(b',');
            }
            body.extend_from_slice(&element.bytes);
        }
        body.push(b']');
        Request {
            method: "POST",
            // `strict` has every update validated and named when it fails; `ip=0` keeps our address out of the profiles.
            url: format!("{}/groups?strict=1&verbose=1&ip=0", self.base),
            headers: vec![("content-type", "application/json".to_owned()), ("accept", "application/json".to_owned())],
            body,
            gzip: false,
        }
    }

    fn interpret(&self, _: Route, elements: usize, response: &Response) -> Verdict {
        let reason = words(response, &[&self.token]);
        const TOKEN: &str = "check `token` (Mixpanel: Settings → Project → Project Token) and `region`";
        match response.status {
            200..=299 | 400..=499 if speaks_of_the_token(&response.body) => {
                return Verdict::stop(reason, TOKEN);
            }
            400 => {
                let parsed: Option<Value> = serde_json::from_slice(&response.body).ok();
                let failed = failed_records(parsed.as_ref(), elements, response.status, &[&self.token]);
                if !failed.is_empty() {
                    return Verdict::RejectedSome { elements: failed };
                }
            }
            _ => {}
        }
        let api = evidence::Api {
            vendor: "Mixpanel",
            statuses: &[200],
            body: &|body| self.success(elements, response.status, body),
            address: "`base_url`",
            credentials: TOKEN,
            plan: "check that the Mixpanel plan includes Group Analytics",
            after: response.retry_after(),
        };
        evidence::judge(response, reason, &api)
    }

    /// A GET of the address's root: no token, no data. A token cannot be tried: Mixpanel accepts any.
    fn probe(&self) -> Option<Request> {
        Some(Request::get(format!("{}/", self.base)))
    }

    fn masked(&self, request: &Request) -> Request {
        let text = String::from_utf8_lossy(&request.body).replace(&self.token_member, r#""$token":"***""#);
        Request { body: self.token.mask(&text).into_bytes(), ..request.clone() }
    }
}

/// A change being cut: one operator per part, and no more of it than an update may hold.
struct Cut {
    room: usize,
    parts: Vec<Change>,
    filled: usize,
    open: bool,
    /// What every part under the present operator sets as well.
    along: Traits,
    along_bytes: usize,
}

impl Cut {
    fn new(room: usize) -> Cut {
        Cut { room, parts: Vec::new(), filled: 0, open: false, along: Traits::new(), along_bytes: 0 }
    }

    /// What comes next is under another operator.
    fn close(&mut self) {
        self.open = false;
    }

    /// Begins a part.
    fn open(&mut self) {
        self.parts.push(Change { set: self.along.clone(), ..Change::default() });
        self.filled = self.along_bytes;
        self.open = true;
    }

    /// Puts a property of so many bytes (without its comma) into the part it belongs to.
    fn add(&mut self, bytes: usize, put: impl FnOnce(&mut Change)) {
        let full = self.parts.last().is_none_or(|part| {
            part.traits_count() >= PROPERTIES_MAX
                || part.traits_count() > self.along.len() && self.filled + bytes + 1 > self.room
        });
        if full || !self.open {
            self.open();
        }
        self.filled += bytes + 1;
        if let Some(part) = self.parts.last_mut() {
            put(part);
        }
    }

    fn parts(self) -> Vec<Part> {
        self.parts.into_iter().map(|change| Part { route: 0, change: Arc::new(change) }).collect()
    }
}

/// A trait that is under two operators, whose parts would contradict each other.
fn twice(change: &Change) -> Option<&String> {
    let mut names: Vec<&String> = change.names().collect();
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

/// The updates that an answer names as wrong, with the vendor's words.
fn failed_records(answer: Option<&Value>, elements: usize, status: u16, secrets: &[&Secret]) -> Vec<(usize, String)> {
    let records = answer.and_then(|answer| answer.get("failed_records")).and_then(Value::as_array);
    let failed = |record: &Value| {
        let index = usize::try_from(record.get("index")?.as_u64()?).ok().filter(|index| *index < elements)?;
        let text = |name| record.get(name).and_then(Value::as_str).unwrap_or_default();
        let said = match (text("field"), text("message")) {
            ("", "") => json(record),
            ("", message) => message.to_owned(),
            (field, message) => format!("{field}: {message}"),
        };
        // In the form of any other refusal, and as carefully.
        Some((index, words(&Response { status, body: said.into_bytes(), ..Response::default() }, secrets)))
    };
    records.into_iter().flatten().filter_map(failed).collect()
}

/// Whether a refusal is about the project's token rather than the data.
fn speaks_of_the_token(body: &[u8]) -> bool {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let records = answer.get("failed_records").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if records.iter().any(|record| record.get("field").is_some_and(|field| field == "$token")) {
        return true;
    }
    let error = answer.get("error").and_then(Value::as_str).unwrap_or_default().to_lowercase();
    ["invalid token", "invalid project token", "token is invalid", "token, missing", "missing token", "unknown token"]
        .iter()
        .any(|phrase| error.contains(phrase))
}

/// Traits under one operator.
type Properties = Map<String, Value>;

#[cfg(test)]
mod tests;
