//! The OpenAPI document describes the server that is there: routes in both directions, parameters, and every body against
//! its schema.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Served, request};
use crate::error::Kind;
use crate::ledger::{ChangeOutcome, RunStatus};
use crate::server::http::routes;
use crate::service::views::ActivityState;

async fn document() -> Value {
    Served::open().get("/api/v1/openapi.json").await.json()
}

/// The target of `{"$ref": "#/…"}`.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(at) => document.pointer(at.strip_prefix('#').unwrap()).unwrap_or_else(|| panic!("{at} leads nowhere")),
        None => value,
    }
}

/// The keywords this document uses; another one fails the test rather than being ignored.
const KEYWORDS: [&str; 16] = [
    "$ref",
    "additionalProperties",
    "default",
    "description",
    "enum",
    "format",
    "items",
    "maxItems",
    "maximum",
    "minItems",
    "minimum",
    "oneOf",
    "properties",
    "required",
    "type",
    "uniqueItems",
];

/// Checks a value against a schema: everything in the schema, and nothing beyond it.
fn check(document: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    let wrong = |what: String| Err(format!("{place}: {what}: {value}"));
    let keywords = schema.as_object().unwrap();
    if let Some(unknown) = keywords.keys().find(|key| !KEYWORDS.contains(&key.as_str())) {
        return wrong(format!("unknown keyword {unknown}"));
    }
    if schema.get("$ref").is_some() {
        return check(document, resolved(document, schema), value, place);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let fitting = choices.iter().filter(|choice| check(document, choice, value, place).is_ok()).count();
        return if fitting == 1 {
            Ok(())
        } else {
            let why: Vec<_> = choices.iter().map(|choice| check(document, choice, value, place)).collect();
            wrong(format!("{fitting} of its choices fit: {why:?}"))
        };
    }
    if let Some(values) = schema["enum"].as_array()
        && !values.contains(value)
    {
        return wrong("not one of its values".to_owned());
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => return Ok(()),
    };
    let fits = |kind: &&str| match *kind {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        kind => panic!("{place}: unknown type {kind}"),
    };
    if !types.iter().any(fits) {
        return wrong(format!("not of type {types:?}"));
    }
    if schema["format"] == json!("date-time")
        && let Some(text) = value.as_str()
        && chrono::DateTime::parse_from_rfc3339(text).is_err()
    {
        return wrong("not a time".to_owned());
    }
    if let Some(number) = value.as_f64() {
        let bound = |name: &str| schema[name].as_f64();
        if bound("minimum").is_some_and(|least| number < least) || bound("maximum").is_some_and(|most| number > most) {
            return wrong("out of bounds".to_owned());
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check(document, &schema["items"], item, &format!("{place}[{index}]"))?;
    }
    if let Some(object) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !object.contains_key(name) {
                return wrong(format!("`{name}` is missing"));
            }
        }
        for (name, member) in object {
            let place = format!("{place}.{name}");
            match (schema["properties"].get(name), &schema["additionalProperties"]) {
                (Some(schema), _) | (None, schema @ Value::Object(_)) => check(document, schema, member, &place)?,
                (None, Value::Bool(true)) => {}
                _ => return Err(format!("{place} is not in the document")),
            }
        }
    }
    Ok(())
}

/// Every operation: path, method, description.
fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object()
                .unwrap()
                .iter()
                .map(move |(method, described)| (path.clone(), method.to_uppercase(), described))
        })
        .collect()
}

fn concrete(path: &str) -> String {
    let path = path
        .replace("{sync}", "accounts")
        .replace("{daemon}", "one")
        .replace("{run}", if path.ends_with("cancel") { "r2" } else { "r1" });
    let path = path.replace("{key}", "a%2Fb").replace("{destination}", "amplitude");
    if path.ends_with("accounts/groups") || path.ends_with("accounts/requests") {
        format!("{path}?key=a%2Fb")
    } else {
        path
    }
}

#[tokio::test]
async fn the_document_and_the_router_have_the_same_routes() {
    let document = document().await;
    let described: BTreeSet<(String, String)> =
        operations(&document).into_iter().map(|(path, method, _)| (path, method)).collect();
    let served: BTreeSet<(String, String)> =
        routes::table().iter().map(|route| (route.path.replace("{*", "{"), route.method.to_owned())).collect();
    assert_eq!(described, served);
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(document["openapi"], "3.1.0");
}

#[tokio::test]
async fn every_response_fits_its_schema() {
    let (document, served) = (document().await, Served::open());
    for (path, method, operation) in operations(&document) {
        let place = format!("{method} {path}");
        let response = served.send(request(&method, &concrete(&path), &[], "")).await;
        let status = response.status.as_u16();
        assert!(response.status.is_success(), "{place}: {status} {}", response.body);
        let described = resolved(&document, &operation["responses"][status.to_string()]);
        let content =
            described["content"].as_object().unwrap_or_else(|| panic!("{place}: {status} is not in the document"));
        let (media_type, content) = content.iter().next().unwrap();
        let given = response.header("content-type").split(';').next().unwrap().to_owned();
        assert_eq!(&given, media_type, "{place}");
        let body = if given == "application/json" { response.json() } else { Value::String(response.body.clone()) };
        check(&document, &content["schema"], &body, &place).unwrap();
    }
    let dry = served.post("/api/v1/syncs/accounts/runs", r#"{"dry_run": true}"#).await;
    check(&document, &json!({"$ref": "#/components/schemas/PlanView"}), &dry.json(), "dry run").unwrap();
    let running = served.get("/api/v1/runs/r2").await;
    check(&document, &json!({"$ref": "#/components/schemas/RunDetail"}), &running.json(), "running").unwrap();
}

#[tokio::test]
async fn other_responses_do_not_fit_the_schema() {
    let (document, served) = (document().await, Served::open());
    let about = served.get("/api/v1/about").await.json();
    let schema = json!({"$ref": "#/components/schemas/About"});
    assert!(check(&document, &schema, &about, "about").is_ok());
    for (name, value) in
        [("version", json!(1)), ("started_at", json!("soon")), ("running", json!(-1)), ("more", json!(1))]
    {
        let mut other = about.clone();
        other[name] = value;
        assert!(check(&document, &schema, &other, "about").is_err(), "{name}");
    }
    let mut lacking = about.clone();
    lacking.as_object_mut().unwrap().remove("version");
    assert!(check(&document, &schema, &lacking, "about").is_err());
}

#[tokio::test]
async fn every_error_is_in_the_document_with_its_shape() {
    let (document, served) = (document().await, Served::open());
    let guarded = Served::guarded();
    let schema = json!({"$ref": "#/components/schemas/Error"});
    let described = |path: &str, method: &str, status: u16| {
        document["paths"][path][method]["responses"].get(status.to_string()).is_some()
    };
    let runs = "/api/v1/syncs/{sync}/runs";
    let mut seen = BTreeSet::new();
    let mut syncs: Vec<String> = Kind::ALL.iter().map(|kind| format!("fails-{}", kind.name())).collect();
    syncs.extend(["busy", "invalid", "unknown", "panics"].map(str::to_owned));
    for sync in syncs {
        let response = served.post(&format!("/api/v1/syncs/{sync}/runs"), "").await;
        check(&document, &schema, &response.json(), &sync).unwrap();
        assert!(described(runs, "post", response.error_status()), "{sync}: {}", response.error_status());
        seen.insert(response.error_status());
    }
    let path = "/api/v1/syncs/accounts/runs";
    let too_large = format!("\"{}\"", "x".repeat(140_000));
    for response in [
        served.post(path, "{").await,
        served.post(path, &too_large).await,
        served.send(request("POST", path, &[("content-type", "text/plain")], "{}")).await,
        served.send(request("POST", path, &[("origin", "http://evil.example")], "")).await,
        served.send(request("POST", path, &[("host", "evil.example")], "")).await,
        guarded.post(path, "").await,
    ] {
        check(&document, &schema, &response.json(), path).unwrap();
        assert!(described(runs, "post", response.error_status()), "{}", response.error_status());
        seen.insert(response.error_status());
    }
    let expected = [400, 401, 403, 404, 409, 413, 415, 421, 500, 502, 503];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
}

/// A new value of an enum must come into the document.
#[tokio::test]
async fn the_values_of_enums_are_all_there() {
    let document = document().await;
    let values = |name: &str| document["components"]["schemas"][name]["enum"].clone();
    let states = [
        ActivityState::Running,
        ActivityState::Queued,
        ActivityState::Paused,
        ActivityState::BackingOff,
        ActivityState::Scheduled,
        ActivityState::Manual,
        ActivityState::Disabled,
    ];
    assert_eq!(values("ActivityState"), json!(states));
    let statuses = [
        RunStatus::Queued,
        RunStatus::Running,
        RunStatus::Succeeded,
        RunStatus::SucceededWithRejections,
        RunStatus::Incomplete,
        RunStatus::StoppedByGuard,
        RunStatus::Failed,
        RunStatus::Crashed,
        RunStatus::Cancelled,
    ];
    assert_eq!(values("RunStatus"), json!(statuses));
    let outcomes = [
        ChangeOutcome::Unchanged,
        ChangeOutcome::Adopted,
        ChangeOutcome::Delivered,
        ChangeOutcome::Rejected,
        ChangeOutcome::PartlyRejected,
        ChangeOutcome::Pending,
        ChangeOutcome::Unconfirmed,
    ];
    let kind = &document["components"]["schemas"]["ErrorObject"]["properties"]["kind"]["enum"];
    assert_eq!(*kind, json!(Kind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>()));
    assert_eq!(values("ChangeOutcome"), json!(outcomes));
}
