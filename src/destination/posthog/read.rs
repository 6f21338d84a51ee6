//! Reading back: the list of groups, one group, what is related to it, what was done to it, and what is known of traits.

use serde_json::Value;

use super::Pace;
use super::rest::{PACE, Rest, group_of, held};
use crate::destination::readback::{Activity, Page, ReadBack, ReadBackQuery, Related, RemoteGroup};
use crate::error::{Error, Kind, Result};
use crate::io::http::{Request, Response};

fn unreadable(what: &str) -> Error {
    Error::new(Kind::Destination, format!("PostHog's response is not {what}"))
        .advise("check `app_url`; if PostHog changed its API, update Groupcast")
}

fn text(value: &Value, field: &str) -> Option<String> {
    match value.get(field)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The cursor in the address of the next page. Only it is taken: behind a proxy the address itself may name a host that is
/// not ours to call.
fn cursor(next: &str) -> Option<String> {
    let url = url::Url::parse(next).ok()?;
    url.query_pairs().find(|(name, _)| name == "cursor").map(|(_, cursor)| cursor.into_owned())
}

impl ReadBack for Rest {
    fn pace(&self) -> Option<Pace> {
        Some(PACE)
    }

    fn request(&self, question: ReadBackQuery<'_>) -> Option<Request> {
        self.index?;
        let below = match question {
            ReadBackQuery::Page(None) => format!("groups/{}", self.query(&[])),
            ReadBackQuery::Page(Some(cursor)) => format!("groups/{}", self.query(&[("cursor", cursor)])),
            // Without the last parameter some projects make a notebook for every group that is read.
            ReadBackQuery::Find(key) => {
                format!("groups/find/{}", self.query(&[("group_key", key), ("skip_create_notebook", "true")]))
            }
            ReadBackQuery::Related(key) => format!("groups/related/{}", self.query(&[("id", key)])),
            // Documented as `id`; the server looks the group up by `group_key`.
            ReadBackQuery::Activity(key) => {
                format!("groups/activity/{}", self.query(&[("id", key), ("group_key", key)]))
            }
            ReadBackQuery::Names => "groups/property_definitions/".to_owned(),
            ReadBackQuery::Values(name) => format!("groups/property_values/{}", self.query(&[("key", name)])),
        };
        Some(self.get(&below))
    }

    fn page(&self, response: &Response) -> Result<Page> {
        let answer = self.answered("its groups", response)?;
        let broken = || unreadable("a page of groups");
        let results = answer.get("results").and_then(Value::as_array).ok_or_else(broken)?;
        let groups = results.iter().map(group_of).collect::<Option<Vec<_>>>().ok_or_else(broken)?;
        let next = match answer.get("next") {
            None | Some(Value::Null) => None,
            Some(next) => Some(next.as_str().and_then(cursor).ok_or_else(broken)?),
        };
        Ok(Page { groups, next })
    }

    fn found(&self, response: &Response) -> Result<Option<RemoteGroup>> {
        if response.status == 404 {
            return Ok(None);
        }
        let answer = self.answered("this group", response)?;
        group_of(&answer).map(Some).ok_or_else(|| unreadable("a group"))
    }

    fn related(&self, response: &Response) -> Result<Vec<Related>> {
        let answer = self.answered("what is related to this group", response)?;
        let one = |actor: &Value| {
            let index = actor.get("group_type_index").and_then(Value::as_u64);
            let group_type = self.types.iter().find(|(known, _)| Some(*known) == index);
            let kind = group_type.map(|(_, name)| name.clone()).or_else(|| text(actor, "type"))?;
            let properties = actor.get("properties").or_else(|| actor.get("group_properties"));
            let name = properties.and_then(|known| text(known, "name").or_else(|| text(known, "email")));
            let distinct = actor.get("distinct_ids").and_then(|ids| ids.get(0)).and_then(Value::as_str);
            let id = distinct.map(str::to_owned).or_else(|| text(actor, "id")).or_else(|| text(actor, "group_key"))?;
            Some(Related { kind, id, name })
        };
        let actors = answer.as_array().ok_or_else(|| unreadable("a list of related persons and groups"))?;
        actors.iter().map(one).collect::<Option<Vec<_>>>().ok_or_else(|| unreadable("a list of persons and groups"))
    }

    fn activity(&self, response: &Response) -> Result<Vec<Activity>> {
        let answer = self.answered("what was done to this group", response)?;
        let results = answer.get("results").unwrap_or(&answer);
        let one = |entry: &Value| {
            let user = entry.get("user").and_then(|user| text(user, "email").or_else(|| text(user, "first_name")));
            Some(Activity {
                at: text(entry, "created_at")?,
                what: text(entry, "activity")?,
                about: entry.get("detail").and_then(|detail| text(detail, "name")),
                by: user,
            })
        };
        let entries = results.as_array().ok_or_else(|| unreadable("an activity log"))?;
        entries.iter().map(one).collect::<Option<Vec<_>>>().ok_or_else(|| unreadable("an activity log"))
    }

    /// `{"0": [{"name", "count"}, …], "1": …}`, by group type; newer servers have it no more.
    fn names(&self, response: &Response) -> Option<Vec<String>> {
        let answer: Value = (response.status == 200).then(|| serde_json::from_slice(&response.body).ok())??;
        match answer.as_object()?.get(&self.index?.to_string()) {
            Some(listed) => listed.as_array()?.iter().map(|entry| text(entry, "name")).collect(),
            None => Some(Vec::new()),
        }
    }

    /// `{"results": [{"name", "count"}]}`; older servers respond with the list alone.
    fn values(&self, response: &Response) -> Option<Vec<Value>> {
        let answer: Value = (response.status == 200).then(|| serde_json::from_slice(&response.body).ok())??;
        let results = answer.get("results").unwrap_or(&answer).as_array()?;
        Some(results.iter().filter_map(|entry| entry.get("name").cloned()).collect())
    }

    fn held(&self, value: &Value) -> Value {
        held(value)
    }
}
