//! The OpenAPI document, from the routes' own types: schemas, query parameters and bodies are derived (`schemars`), so that
//! a new field of a view or option is documented by its doc comment.
//!
//! `schemars` alone: it knows which keys a *response* always has (`null` included) and which a *request* may omit. `aide`, which
//! builds on it, would replace axum's router and extractors by its own to save the hundred lines here. Building `schemars` and
//! everything below it takes 8.7 s of CPU time.

use std::collections::BTreeMap;

use schemars::generate::{Contract, SchemaSettings};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::error::Kind;
use crate::mapping::diagnostic::Problem;

/// The entry of a path and method in the document.
pub(super) struct Operation {
    id: &'static str,
    summary: &'static str,
    description: Option<&'static str>,
    public: bool,
    query: Option<SchemaOf>,
    body: Option<SchemaOf>,
    responses: Vec<ResponseContent>,
    errors: &'static [u16],
}

type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

struct ResponseContent {
    status: u16,
    description: &'static str,
    media_type: &'static str,
    schema: SchemaOf,
}

impl Operation {
    pub(super) fn new(id: &'static str, summary: &'static str) -> Operation {
        let (description, query, body, responses) = (None, None, None, Vec::new());
        Operation { id, summary, description, public: false, query, body, responses, errors: &[] }
    }

    pub(super) fn describe(mut self, description: &'static str) -> Operation {
        self.description = Some(description);
        self
    }

    /// It needs no token.
    pub(super) fn public(mut self) -> Operation {
        self.public = true;
        self
    }

    pub(super) fn query<T: JsonSchema>(mut self) -> Operation {
        self.query = Some(T::json_schema);
        self
    }

    pub(super) fn body<T: JsonSchema>(mut self) -> Operation {
        self.body = Some(SchemaGenerator::subschema_for::<T>);
        self
    }

    pub(super) fn returns<T: JsonSchema>(mut self, status: u16, description: &'static str) -> Operation {
        let schema: SchemaOf = SchemaGenerator::subschema_for::<T>;
        self.responses.push(ResponseContent { status, description, media_type: "application/json", schema });
        self
    }

    pub(super) fn returns_text(mut self, description: &'static str) -> Operation {
        let schema: SchemaOf = SchemaGenerator::subschema_for::<String>;
        self.responses.push(ResponseContent { status: 200, description, media_type: "text/plain", schema });
        self
    }

    /// Statuses of errors beyond those that its kind of path always has.
    pub(super) fn errors(mut self, errors: &'static [u16]) -> Operation {
        self.errors = errors;
        self
    }
}

/// An error: its status, its name in the document, its meaning, and a header with its meaning.
type ErrorEntry = (u16, &'static str, &'static str, Option<(&'static str, &'static str)>);

/// Every error that a path can return.
const ERRORS: [ErrorEntry; 14] = [
    (400, "Invalid", "The request is not valid: an unknown key, a value out of bounds, a body of another shape.", None),
    (
        401,
        "Unauthorized",
        "There is no token, or it is wrong.",
        Some(("WWW-Authenticate", "Always `Bearer realm=\"groupcast\"`.")),
    ),
    (403, "Forbidden", "A browser sends this request from another site's page.", None),
    (404, "NotFound", "There is no such sync, destination, run or group.", None),
    (408, "BodyTimeout", "The body did not arrive within ten seconds.", None),
    (409, "Conflict", "Not possible now: the sync is busy, the daemon is shutting down, or a guard stopped it.", None),
    (413, "TooLarge", "The body is larger than 64 KiB.", None),
    (415, "UnsupportedMediaType", "`Content-Type` is not `application/json`.", None),
    (421, "Misdirected", "The daemon has no token and accepts only this machine's own names as `Host`.", None),
    (
        429,
        "TooManyFailedLogins",
        "Ten wrong tokens came from this address within a minute, and this one is wrong too.",
        Some(("Retry-After", "Seconds to wait.")),
    ),
    (500, "Failed", "It was tried and failed: the config, the ledger, or a bug.", None),
    (502, "Upstream", "The source or the destination failed or rejected the request.", None),
    (
        503,
        "Busy",
        "The source or the ledger is busy, or the daemon cannot do its work; the same request may succeed later.",
        Some(("Retry-After", "Seconds to wait; not at /readyz.")),
    ),
    (504, "Timeout", "The request took longer than a minute; ten for plans.", None),
];

/// Why a request failed.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct ErrorObject {
    /// What kind of thing failed, which decides what to do.
    #[schemars(extend("enum" = Kind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>()))]
    kind: String,
    /// What failed, and where.
    message: String,
    /// What to do next.
    advice: Option<String>,
    /// The mistakes in mapping files, each at its place; absent where it is about something else.
    #[schemars(skip_serializing_if = "Option::is_none")]
    problems: Option<Vec<Problem>>,
}

/// The body of every error.
#[derive(JsonSchema)]
#[serde(rename = "Error")]
#[expect(dead_code, reason = "only its schema is used")]
struct ErrorBody {
    error: ErrorObject,
}

/// The document of these paths, methods and operations.
pub(super) fn document<'a>(operations: impl Iterator<Item = (&'static str, &'static str, &'a Operation)>) -> Value {
    let generator = |contract: Contract| {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.contract = contract;
            settings.definitions_path = "/components/schemas".into();
        });
        settings.into_generator()
    };
    let (mut requests, mut responses) = (generator(Contract::Deserialize), generator(Contract::Serialize));
    responses.subschema_for::<ErrorBody>();
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for (path, method, operation) in operations {
        let item = paths.entry(path.replace("{*", "{")).or_default();
        item.insert(method.to_lowercase(), described(path, method, operation, &mut requests, &mut responses));
    }
    let mut schemas = responses.take_definitions(true);
    schemas.values_mut().for_each(absent_instead_of_null);
    schemas.extend(requests.take_definitions(true));
    // The guard's error has the shape of all errors; the service, which does not know this document, keeps it as JSON.
    if let Some(guard) = schemas.get_mut("PlanView").and_then(|plan| plan.pointer_mut("/properties/guard")) {
        guard["oneOf"] = json!([{"$ref": "#/components/schemas/ErrorObject"}, {"type": "null"}]);
    }
    let errors: Map<String, Value> =
        ERRORS.iter().map(|(_, name, description, header)| ((*name).to_owned(), error(description, *header))).collect();
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Groupcast",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "The queries and commands of a running daemon. Unknown paths return 404, other methods 405, \
                unknown keys in a query or a body 400; every error has the same shape. HEAD works wherever GET does. Times \
                are UTC; shares go from 0 to 1.",
        },
        "security": [{"token": []}, {"session": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http", "scheme": "bearer",
                    "description": "The `token` of `[daemon]`. Without one in the config, programs of the daemon's machine \
                        need none.",
                },
                "session": {
                    "type": "apiKey", "in": "cookie", "name": super::auth::COOKIE,
                    "description": "A browser's session, from POST /login.",
                },
            },
            "responses": errors,
            "schemas": schemas,
        },
    });
    tidy(&mut document["components"]["schemas"]);
    tidy(&mut document["paths"]);
    document
}

fn described(
    path: &str,
    method: &str,
    operation: &Operation,
    requests: &mut SchemaGenerator,
    responses: &mut SchemaGenerator,
) -> Value {
    let mut described = json!({"operationId": operation.id, "summary": operation.summary});
    if let Some(description) = operation.description {
        described["description"] = description.into();
    }
    if operation.public {
        described["security"] = json!([]);
    }
    let mut parameters: Vec<Value> = path
        .split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| match name {
            "sync" => path_parameter("sync", "The sync's name."),
            "run" => path_parameter("run", "The run's id."),
            "destination" => path_parameter("destination", "The destination's name."),
            _ => path_parameter("key", "The group's key, percent-encoded; slashes may stay."),
        })
        .collect();
    let has_parameters = !parameters.is_empty();
    if let Some(query) = operation.query {
        parameters.extend(query_parameters(query(requests).into()));
    }
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if let Some(body) = operation.body {
        let schema = Value::from(body(requests));
        described["requestBody"] = json!({"required": false, "content": {"application/json": {"schema": schema}}});
    }
    let mut statuses = vec![400, 403, 421, 500, 503, 504];
    statuses.extend((!operation.public).then_some([401, 429]).into_iter().flatten());
    statuses.extend(has_parameters.then_some(404));
    statuses.extend((method == "POST").then_some([408, 413, 415]).into_iter().flatten());
    statuses.extend(operation.errors);
    let errors = ERRORS.iter().filter(|(status, ..)| statuses.contains(status));
    let mut all: Map<String, Value> = errors
        .map(|(status, name, ..)| (status.to_string(), json!({"$ref": format!("#/components/responses/{name}")})))
        .collect();
    for ResponseContent { status, description, media_type, schema } in &operation.responses {
        let schema = Value::from(schema(responses));
        all.insert(
            status.to_string(),
            json!({"description": description, "content": {*media_type: {"schema": schema}}}),
        );
    }
    described["responses"] = all.into();
    described
}

fn path_parameter(name: &str, description: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "description": description, "schema": {"type": "string"}})
}

/// The parameters of a query, from the schema of its type.
fn query_parameters(mut schema: Value) -> Vec<Value> {
    let required = schema["required"].take();
    let Value::Object(properties) = schema["properties"].take() else { return Vec::new() };
    properties
        .into_iter()
        .map(|(name, mut schema)| {
            let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            let required = required.as_array().is_some_and(|required| required.contains(&json!(name)));
            let schema = without_null(schema);
            json!({"name": name, "in": "query", "required": required, "description": description, "schema": schema})
        })
        .collect()
}

/// Of a response, a key that is not always there is never null.
fn absent_instead_of_null(schema: &mut Value) {
    let required = schema["required"].clone();
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (name, property) in properties.into_iter().flatten() {
        if required.as_array().is_none_or(|required| !required.contains(&json!(name))) {
            *property = without_null(property.take());
        }
    }
}

/// A parameter is omitted, never null.
fn without_null(mut schema: Value) -> Value {
    let Some(object) = schema.as_object_mut() else { return schema };
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [kind] = types.as_slice() {
            let kind = kind.clone();
            object.insert("type".to_owned(), kind);
        }
        object.remove("default");
    }
    if let Some(Value::Array(choices)) = object.remove("anyOf")
        && let Some(choice) = choices.into_iter().find(|choice| choice["type"] != "null")
    {
        object.extend(choice.as_object().cloned().unwrap_or_default());
        object.remove("default");
    }
    schema
}

fn error(description: &str, header: Option<(&str, &str)>) -> Value {
    let schema = json!({"$ref": "#/components/schemas/Error"});
    let mut response = json!({"description": description, "content": {"application/json": {"schema": schema}}});
    if let Some((name, description)) = header {
        let kind = if name == "Retry-After" { "integer" } else { "string" };
        response["headers"] = json!({name: {"description": description, "schema": {"type": kind}}});
    }
    response
}

/// Makes the derived schemas plain: closed objects, constants as `enum`, no formats of Rust's, no links of its documentation.
fn tidy(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(object) => {
            if let Some(Value::String(text)) = object.get_mut("description") {
                *text = without_links(text);
            }
            if object.get("format").is_some_and(|format| format != "date-time") {
                object.remove("format");
            }
            if object.get("default") == Some(&Value::Null) {
                object.remove("default");
            }
            if let Some(choices) = object.remove("anyOf") {
                object.insert("oneOf".to_owned(), choices);
            }
            let constants = object.get("oneOf").and_then(Value::as_array).and_then(|choices| {
                choices.iter().map(|choice| choice.get("const").cloned()).collect::<Option<Vec<Value>>>()
            });
            if let Some(constants) = constants {
                object.remove("oneOf");
                object.insert("type".to_owned(), "string".into());
                object.insert("enum".to_owned(), constants.into());
            }
            // A map whose keys are numbers.
            if let Some(Value::Object(patterns)) = object.remove("patternProperties") {
                object.insert("additionalProperties".to_owned(), patterns.into_iter().next().map(|(_, of)| of).into());
            }
            if object.get("type").is_some_and(|kind| kind == "object") && object.contains_key("properties") {
                object.entry("additionalProperties").or_insert(false.into());
            }
            for (name, value) in object.iter_mut() {
                if let (Value::Object(properties), "properties") = (&mut *value, name.as_str()) {
                    for property in properties.values_mut().filter(|property| **property == true) {
                        *property = json!({});
                    }
                }
                tidy(value);
            }
        }
        _ => {}
    }
}

/// A doc comment as plain text: one line, and of a link its text alone.
fn without_links(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("[`") {
        out.push_str(&rest[..start]);
        rest = &rest[start + 1..];
        let Some((shown, after)) = rest.split_once(']') else { break };
        out.push_str(shown);
        rest = match after.strip_prefix('(') {
            Some(target) => target.split_once(')').map_or("", |(_, after)| after),
            None => after,
        };
    }
    out.push_str(rest);
    out.replace('\n', " ")
}
