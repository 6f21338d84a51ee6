//! REST: what a personal API key can do that events cannot, and `write_via = "rest"`.
//!
//! Every call mentions one group, which its address names. The rate is PostHog's: 480 calls a minute and 4,800 an hour.

use std::sync::Arc;

use serde_json::{Value, json};

use super::capture::{split, without_nul};
use super::{
    AddressedChange, CREATE, DELETE_PROPERTY, Element, GROUP_TYPES_MAX, Pace, Part, RequestLimits, Route,
    UPDATE_PROPERTY, UPSERT_PROPERTIES, Verdict, WriteVia, usual_api,
};
use crate::destination::readback::RemoteGroup;
use crate::destination::shared::error_message::error_message;
use crate::destination::shared::status::{self, Acknowledgement, ResponseBody};
use crate::error::{Error, Kind, Result};
use crate::io::http::{Applied, Request, Response};
use crate::model::Change;
use crate::secret::Secret;

/// 400 at once and 1.1 a second from then on stay below 480 in any minute and 4,800 in any hour.
pub(super) const PACE: Pace = Pace { lane: 1, per_second: 1.1, burst: 400 };

/// Every REST write ends as an event as well, so an event's size limits it.
const BODY_BYTES_MAX: usize = 1_000_000;
/// Traits in one `upsert_properties`, in bytes: room for the key and what is around them.
const UPSERT_BYTES_MAX: usize = 900_000;

pub(super) const LIMITS: RequestLimits = RequestLimits {
    elements_max: 1,
    traits_max: usize::MAX,
    body_bytes_max: BODY_BYTES_MAX,
    element_bytes_max: BODY_BYTES_MAX,
    envelope_bytes: 0,
    separator_bytes: 0,
};

/// Where a property is removed, below `groups/`.
const REMOVAL: &str = "delete_property/";

/// The next setup request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asking {
    Types,
    Upsert,
    Nothing,
}

/// A project's REST API.
pub(super) struct Rest {
    /// `…/api/projects/<id>/`.
    pub(super) project: String,
    key: Secret,
    write_via: WriteVia,
    asking: Asking,
    /// The group type's number, once read and if it exists.
    pub(super) index: Option<u64>,
    /// The project's group types, by number.
    pub(super) types: Vec<(u64, String)>,
    /// Whether the server has `upsert_properties`.
    upsert: bool,
}

impl Rest {
    pub(super) fn new(key: &Secret, project: &str, app: &str, write_via: WriteVia) -> Result<Rest> {
        let plain = key.expose().trim();
        if plain.is_empty() || plain.starts_with("phc_") || plain.contains(|char: char| !char.is_ascii_graphic()) {
            return Err(Error::new(Kind::Config, "`personal_api_key` is no personal API key").advise(
                "make one under Settings → Personal API keys (`phx_…`) with the scopes `group:read`, `group:write` and \
                 `activity_log:read`",
            ));
        }
        if project.is_empty() || !project.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"@-_".contains(&byte)) {
            return Err(Error::new(Kind::Config, "`project_id` is no project's id")
                .advise("take it from the project's address in PostHog: `…/project/12345/…`"));
        }
        Ok(Rest {
            project: format!("{app}/api/projects/{project}/"),
            key: Secret::new(plain),
            write_via,
            asking: Asking::Types,
            index: None,
            types: Vec::new(),
            upsert: false,
        })
    }

    pub(super) fn key(&self) -> &Secret {
        &self.key
    }

    pub(super) fn knows_the_type(&self) -> bool {
        self.index.is_some()
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        vec![("authorization", format!("Bearer {}", self.key.expose()))]
    }

    /// A query to a URL below the project's.
    pub(super) fn get(&self, below: &str) -> Request {
        let url = format!("{}{below}", self.project);
        Request { method: "GET", url, headers: self.headers(), body: Vec::new(), gzip: false }
    }

    pub(super) fn setup_request(&self) -> Option<Request> {
        match self.asking {
            Asking::Types => Some(self.get("groups_types/")),
            // An existing endpoint responds that it accepts no GET; a missing one that it does not exist. Nothing can change.
            Asking::Upsert => Some(self.get("groups/upsert_properties/")),
            Asking::Nothing => None,
        }
    }

    pub(super) fn set_up(&mut self, response: &Response, group_type: &str) -> Result<()> {
        match self.asking {
            Asking::Types => {
                self.types = types(&self.answered("its group types", response)?).ok_or_else(|| {
                    Error::new(Kind::Destination, "PostHog's response is not a list of group types")
                        .advise("check `app_url`: it is the address that you open PostHog at")
                })?;
                self.index = self.types.iter().find(|(_, name)| name == group_type).map(|(index, _)| *index);
                if self.index.is_none() && self.types.len() >= GROUP_TYPES_MAX {
                    let names: Vec<&str> = self.types.iter().map(|(_, name)| name.as_str()).collect();
                    let what = format!(
                        "the project has {} group types already ({}); PostHog silently drops everything about a sixth, \
                         `{group_type}`",
                        names.len(),
                        names.join(", ")
                    );
                    return Err(Error::new(Kind::Config, what)
                        .advise("set `type` under `[group]` to one of them, or delete one in PostHog"));
                }
                let mut next = Asking::Nothing;
                if self.write_via == WriteVia::Rest {
                    if self.index.is_none() {
                        let what = format!("the project has no group type `{group_type}`, and REST cannot create one");
                        return Err(Error::new(Kind::Config, what)
                            .advise("remove `write_via`: the first event creates the type"));
                    }
                    next = Asking::Upsert;
                }
                self.asking = next;
            }
            Asking::Upsert => {
                self.upsert = matches!(response.status, 400 | 403 | 405);
                self.asking = Asking::Nothing;
            }
            Asking::Nothing => {}
        }
        Ok(())
    }

    /// The body of a successful response.
    ///
    /// Errors ([`Kind::Destination`]): any other response, with what to do about it.
    pub(super) fn answered(&self, what: &str, response: &Response) -> Result<Value> {
        let failed = |reason: String, advice: &str| {
            Err(Error::new(Kind::Destination, format!("PostHog does not tell {what}: {reason}")).advise(advice))
        };
        let reason = error_message(response, &[&self.key]);
        match response.status {
            200..=299 => match serde_json::from_slice(&response.body) {
                Ok(value) => Ok(value),
                Err(_) => failed(
                    "the response is not JSON".to_owned(),
                    "check `app_url`: it is the URL at which you open PostHog",
                ),
            },
            401 => failed(reason, "check `personal_api_key` and the region"),
            403 => failed(
                reason,
                "give the personal API key the scopes `group:read`, `group:write` and `activity_log:read`, and access to \
                 this project",
            ),
            404 => failed(reason, "check `project_id`, the region and `app_url`"),
            _ => failed(reason, "check `app_url` and `project_id`"),
        }
    }

    /// What sets a change's values. `update_property` needs the group to be there, so it is created first, every time:
    /// if it exists already, the error of that request confirms it, which no other response does.
    pub(super) fn settings(&self, addressed: &AddressedChange) -> Result<Vec<Part>, String> {
        let set = &addressed.change.set;
        if set.is_empty() {
            return Ok(Vec::new());
        }
        let part = |route, change| Part { route, change: Arc::new(change) };
        // Checks each trait's size, whichever way it goes.
        let shares = split(set, &addressed.repeated, UPSERT_BYTES_MAX)?
            .unwrap_or_else(|| vec![Change { set: set.clone(), ..Change::default() }]);
        if self.upsert {
            return Ok(shares.into_iter().map(|share| part(UPSERT_PROPERTIES, share)).collect());
        }
        let single = |(name, value): (&String, &Value)| {
            let set = [(name.clone(), value.clone())].into_iter().collect();
            part(UPDATE_PROPERTY, Change { set, ..Change::default() })
        };
        Ok(std::iter::once(part(CREATE, Change::default())).chain(set.iter().map(single)).collect())
    }

    /// `?group_type_index=…&group_key=…`; `more` holds other parameters.
    pub(super) fn query(&self, more: &[(&str, &str)]) -> String {
        let mut query = form_urlencoded::Serializer::for_suffix(String::from("?"), 1);
        query.append_pair("group_type_index", &self.index.unwrap_or_default().to_string());
        query.extend_pairs(more).finish()
    }

    pub(super) fn element(&self, key: &str, part: &Part) -> Element {
        let (address, body) = match part.route {
            DELETE_PROPERTY => (REMOVAL, json!({"$unset": part.change.unset.first()})),
            UPDATE_PROPERTY => {
                let (name, value) = part.change.set.iter().next().unzip();
                ("update_property/", json!({"key": name, "value": value.map(held)}))
            }
            route => {
                let body = json!({"group_type_index": self.index, "group_key": key,
                    "group_properties": held(&Value::Object(part.change.set.clone()))});
                (if route == CREATE { "" } else { "upsert_properties/" }, body)
            }
        };
        let query = match part.route {
            DELETE_PROPERTY | UPDATE_PROPERTY => self.query(&[("group_key", key)]),
            _ => String::new(),
        };
        Element { bytes: body.to_string().into_bytes(), address: format!("{address}{query}"), ..Element::default() }
    }

    /// Older servers respond 500 to the removal of a property that the group does not have. The group is read then.
    pub(super) fn confirmation_request(&self, route: Route, element: &Element, response: &Response) -> Option<Request> {
        let query = element.address.strip_prefix(REMOVAL)?;
        // Without the last parameter some projects make a notebook for every group that is read.
        (route == DELETE_PROPERTY && response.status == 500)
            .then(|| self.get(&format!("groups/find/{query}&skip_create_notebook=true")))
    }

    pub(super) fn request(&self, element: &Element) -> Request {
        let mut headers = self.headers();
        headers.push(("content-type", "application/json".to_owned()));
        let url = format!("{}groups/{}", self.project, element.address);
        Request { method: "POST", url, headers, body: element.bytes.clone(), gzip: false }
    }
}

/// A value as PostHog stores it.
pub(super) fn held(value: &Value) -> Value {
    match value {
        Value::String(text) => without_nul(text).into(),
        Value::Array(items) => items.iter().map(held).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, member)| (without_nul(name).into_owned(), held(member))).collect()
        }
        other => other.clone(),
    }
}

/// Whether a group that was read does not have the property that a removal names, or is not there.
pub(super) fn is_removed(removal: &Element, answer: &Response) -> bool {
    let removal: Value = serde_json::from_slice(&removal.bytes).unwrap_or_default();
    let Some(name) = removal.get("$unset").and_then(Value::as_str) else { return false };
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match answer.status {
        200 => group_of(&body).is_some_and(|group| !group.traits.contains_key(&*without_nul(name))),
        // PostHog's own, by its form.
        404 => body.get("detail").is_some(),
        _ => false,
    }
}

/// One removal per request.
pub(super) fn removals(change: &Change) -> impl Iterator<Item = Part> {
    change.unset.iter().map(|name| {
        let change = Change { unset: [name.clone()].into(), ..Change::default() };
        Part { route: DELETE_PROPERTY, change: Arc::new(change) }
    })
}

fn types(answer: &Value) -> Option<Vec<(u64, String)>> {
    let one =
        |item: &Value| Some((item.get("group_type_index")?.as_u64()?, item.get("group_type")?.as_str()?.to_owned()));
    answer.as_array()?.iter().map(one).collect()
}

/// Means something by its text: `{"type","code","detail","attr"}`.
struct Problem(Value);

impl Problem {
    fn of(response: &Response) -> Problem {
        Problem(serde_json::from_slice(&response.body).unwrap_or_default())
    }

    /// Whether it has the form of PostHog's errors, rather than that of a proxy's or a web server's.
    fn is_posthogs(&self) -> bool {
        !self.text("detail").is_empty()
    }

    fn text(&self, field: &str) -> &str {
        self.0.get(field).and_then(Value::as_str).unwrap_or_default()
    }
}

/// The acknowledgement is the group as JSON. PostHog's page says "no response body" of `update_property` and
/// `delete_property`, so an empty one counts there too.
pub(super) fn interpret(route: Route, response: &Response, reason: String) -> Verdict {
    let problem = Problem::of(response);
    // The group was written, and PostHog failed to tell its own event queue, under whatever status.
    if problem.text("type").starts_with("capture_") {
        return Verdict::Retry { reason, after: response.retry_after(), applied: Applied::Maybe };
    }
    match (response.status, route) {
        (400, DELETE_PROPERTY)
            if problem.text("attr") == "$unset" && problem.text("detail").contains("does not exist on this group") =>
        {
            return Verdict::ACCEPTED;
        }
        // PostHog's own 404 says so in its form. Another one is of something else at this address.
        (404, DELETE_PROPERTY) if problem.0.get("detail").is_some() => return Verdict::ACCEPTED,
        (400, CREATE) if problem.text("detail").contains("already exists") => return Verdict::ACCEPTED,
        (403, _) if problem.is_posthogs() => {
            let advice = "give the personal API key the scope `group:write` and access to this project";
            return Verdict::stop(reason, advice);
        }
        (404, CREATE) if problem.is_posthogs() => {
            let advice = "look at the project's group types: the mapping's is not among them any more";
            return Verdict::stop(reason, advice);
        }
        (404, UPSERT_PROPERTIES) if problem.text("detail").contains("Endpoint") => {
            let advice = "run again: the server has lost `upsert_properties` since the run began";
            return Verdict::stop(reason, advice);
        }
        (404, _) if problem.is_posthogs() => return Verdict::rejected(reason),
        _ => {}
    }
    let taken = |body: &ResponseBody| {
        let group = body.member("group_key").is_some() || body.member("group_properties").is_some();
        let silent = body.text.is_empty() && matches!(route, UPDATE_PROPERTY | DELETE_PROPERTY);
        Acknowledgement::accepted_if(silent || group && !body.mentions_error())
    };
    let credentials = "check `personal_api_key` and the region";
    let statuses: &[u16] = match route {
        CREATE => &[201],
        UPSERT_PROPERTIES => &[200, 201],
        _ => &[200],
    };
    status::classify(
        response,
        reason,
        &status::DocumentedApi { statuses, ..usual_api(response, &taken, "`app_url`", credentials) },
    )
}

/// The group that an object of the API describes.
pub(super) fn group_of(value: &Value) -> Option<RemoteGroup> {
    let traits = match value.get("group_properties") {
        Some(Value::Object(traits)) => traits.clone(),
        None | Some(Value::Null) => Default::default(),
        // Some servers hand on the text their database holds.
        Some(Value::String(text)) => serde_json::from_str(text).ok()?,
        Some(_) => return None,
    };
    Some(RemoteGroup { key: value.get("group_key")?.as_str()?.to_owned(), traits })
}
