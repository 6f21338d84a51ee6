//! Does every destination keep the promises of the `Destination` trait? One table of destinations, one suite for all.
//!
//! A new destination is one row of [`ROWS`]. Nothing here knows a vendor: routes are found by trying every kind of
//! change, requests are read back by their content type, and a destination is built from `groupcast.toml` as the program
//! builds it. What a vendor's own rules are is tested beside each destination.

mod answers;
mod contents;
mod documented;
mod evidence;
mod limits;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::DateTime;
use groupcast::config::{self, DestinationSettings};
use groupcast::destination::{AddressedChange, Attempt, Destination, Element, Part, Route, User, UserRule};
use groupcast::io::http::{Request, Response};
use groupcast::model::{Change, OnNull, Op};
use serde_json::{Value, json};

use self::read::Trees;

/// Long, and of letters that every encoding changes.
const SECRET: &str = "K3y+7f/1d2c=9a4b8e6f05";
/// A second one, for destinations that take two.
const OTHER_SECRET: &str = "phx_Other/5+ecret=77c0d1e9";

/// A destination under test.
struct Row {
    /// As the documentation calls it.
    name: &'static str,
    /// The lines of its section in `groupcast.toml`; `${SECRET}` and `${OTHER_SECRET}` stand for secrets.
    settings: &'static str,
    /// Lines before them, where rows share some.
    prelude: &'static str,
    /// What its documentation says becomes of a value on its way.
    carried: fn(&Value) -> Value,
    /// Whether its calls name the type of the group; not every vendor has types.
    tells_group_type: bool,
    /// Whether appending there means that a list holds each value once, so that a repetition changes nothing.
    unions: bool,
    /// The response to a question it asks before it says anything.
    response: fn(&Request) -> Response,
}

impl Row {
    const PLAIN: Row = Row {
        name: "",
        settings: "",
        prelude: "",
        carried: Value::clone,
        tells_group_type: true,
        unions: false,
        response: |_| Response::default(),
    };
}

const ROWS: &[Row] = &[
    Row {
        name: "`amplitude`",
        settings: "type = \"amplitude\"\napi_key = \"${SECRET}\"",
        carried: without_nested_nulls,
        ..Row::PLAIN
    },
    Row {
        name: "`amplitude`, `api = \"http_v2\"`",
        settings: "type = \"amplitude\"\napi = \"http_v2\"\napi_key = \"${SECRET}\"",
        carried: without_nested_nulls,
        ..Row::PLAIN
    },
    Row {
        name: "`posthog`",
        settings: "type = \"posthog\"\napi_key = \"${SECRET}\"",
        carried: without_nul,
        ..Row::PLAIN
    },
    Row {
        name: "`posthog`, `capture = \"v1\"`",
        settings: "type = \"posthog\"\napi_key = \"${SECRET}\"\ncapture = \"v1\"",
        response: |_| Response { status: 405, ..Response::default() },
        carried: without_nul,
        ..Row::PLAIN
    },
    Row {
        name: "`posthog`, `personal_api_key`",
        settings: "type = \"posthog\"\napi_key = \"${SECRET}\"\npersonal_api_key = \"${OTHER_SECRET}\"\nproject_id = \"1\"",
        response: posthog_types,
        carried: without_nul,
        ..Row::PLAIN
    },
    Row {
        name: "`posthog`, `write_via = \"rest\"`",
        settings: "type = \"posthog\"\napi_key = \"${SECRET}\"\npersonal_api_key = \"${OTHER_SECRET}\"\nproject_id = \"1\"\nwrite_via = \"rest\"",
        response: posthog_types,
        tells_group_type: false,
        carried: without_nul,
        ..Row::PLAIN
    },
    segment("`segment`", ""),
    segment("`segment`, `preset = \"segment-eu\"`", "preset = \"segment-eu\""),
    segment(
        "`segment`, `preset = \"rudderstack\"`",
        "preset = \"rudderstack\"\nbase_url = \"https://data.example.com\"",
    ),
    segment("`segment`, `preset = \"customerio\"`", "preset = \"customerio\""),
    segment("`segment`, `preset = \"customerio-eu\"`", "preset = \"customerio-eu\""),
    segment("`segment`, `preset = \"dittofeed\"`", "preset = \"dittofeed\"\nbase_url = \"https://feed.example.com\""),
    segment("`segment`, `preset = \"journy\"`", "preset = \"journy\""),
    segment("`segment`, `preset = \"jitsu\"`", "preset = \"jitsu\""),
    segment("`segment`, `preset = \"hightouch\"`", "preset = \"hightouch\""),
    segment("`segment`, `preset = \"accoil\"`", "preset = \"accoil\""),
    segment(
        "`segment`, `preset = \"custom\"`",
        "preset = \"custom\"\nbase_url = \"https://track.example.com\"\nauth = \"bearer\"\nkey_in_body = true",
    ),
    Row { name: "`thrivestack`", settings: "type = \"thrivestack\"\napi_key = \"${SECRET}\"", ..Row::PLAIN },
    Row {
        name: "`thrivestack`, `wire = \"single\"`",
        settings: "type = \"thrivestack\"\napi_key = \"${SECRET}\"\nwire = \"single\"",
        ..Row::PLAIN
    },
    Row {
        name: "`mixpanel`",
        settings: "type = \"mixpanel\"\ntoken = \"${SECRET}\"",
        carried: without_nested_nulls,
        unions: true,
        ..Row::PLAIN
    },
    Row {
        name: "`journy`",
        settings: "type = \"journy\"\napi_key = \"${SECRET}\"",
        tells_group_type: false,
        ..Row::PLAIN
    },
    Row {
        name: "`webhook`",
        settings: "type = \"webhook\"\nurl = \"https://hooks.example.com/a\"\nauth_header = \"X-Key: ${SECRET}\"",
        ..Row::PLAIN
    },
    Row {
        name: "`webhook`, `body = \"single\"`, signed",
        settings: "type = \"webhook\"\nurl = \"https://hooks.example.com/a\"\nbody = \"single\"\nsigning_secret = \"${SECRET}\"\ndedup = true",
        ..Row::PLAIN
    },
    Row { name: "`file`", settings: "type = \"file\"\npath = \"changes.ndjson\"", ..Row::PLAIN },
];

/// A vendor that speaks Segment's protocol, which knows no types of groups.
const fn segment(name: &'static str, settings: &'static str) -> Row {
    Row {
        name,
        settings,
        prelude: "type = \"segment\"\nwrite_key = \"${SECRET}\"",
        tells_group_type: false,
        ..Row::PLAIN
    }
}

/// PostHog: two group types, and a server whose REST API cannot upsert.
fn posthog_types(request: &Request) -> Response {
    if request.url.ends_with("groups_types/") {
        let types = json!([{"group_type": "company", "group_type_index": 0}, {"group_type": "workspace", "group_type_index": 1}]);
        return Response { status: 200, body: types.to_string().into_bytes(), ..Response::default() };
    }
    Response { status: 404, ..Response::default() }
}

/// PostHog: its database knows no NUL, so texts lose theirs.
fn without_nul(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace('\0', "")),
        Value::Array(items) => items.iter().map(without_nul).collect(),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(name, member)| (name.replace('\0', ""), without_nul(member))).collect())
        }
        plain => plain.clone(),
    }
}

/// Amplitude: "arrays lose their nulls", and so do nested objects.
fn without_nested_nulls(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().filter(|item| !item.is_null()).map(without_nested_nulls).collect(),
        Value::Object(members) => {
            let kept = members.iter().filter(|(_, member)| !member.is_null());
            Value::Object(kept.map(|(name, member)| (name.clone(), without_nested_nulls(member))).collect())
        }
        plain => plain.clone(),
    }
}

/// A row with its settings read.
struct Subject {
    row: &'static Row,
    settings: DestinationSettings,
}

impl Subject {
    fn new(row: &'static Row) -> Subject {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("[destinations.it]\n{}\n{}\n", row.prelude, row.settings);
        std::fs::write(folder.path().join("groupcast.toml"), text).unwrap();
        let secrets = [("SECRET", SECRET), ("OTHER_SECRET", OTHER_SECRET)];
        let environment = secrets.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let project = config::load(folder.path(), environment)
            .unwrap_or_else(|problems| panic!("{}: {}", row.name, problems.render(false)));
        let settings = project.settings.destinations["it"].clone();
        Subject { row, settings }
    }

    /// One after the other; with `CONFORMANCE=posthog` only those whose name holds this.
    fn all() -> impl Iterator<Item = Subject> {
        let only = std::env::var("CONFORMANCE").unwrap_or_default();
        ROWS.iter().filter(move |row| row.name.contains(&only)).map(Subject::new)
    }

    /// The destination for groups of this type, with its questions answered.
    fn try_of(&self, group_type: &str) -> groupcast::error::Result<Box<dyn Destination>> {
        let mut destination = groupcast::service::open::destination(&self.settings, group_type)?;
        for _ in 0..10 {
            let Some(question) = destination.setup_request() else { return Ok(destination) };
            destination.set_up(&(self.row.response)(&question))?;
        }
        panic!("{} asks without end", self.row.name)
    }

    fn of(&self, group_type: &str) -> Box<dyn Destination> {
        self.try_of(group_type).unwrap_or_else(|error| panic!("{}: {error}", self.row.name))
    }

    fn destination(&self) -> Box<dyn Destination> {
        self.of("company")
    }

    /// Every route, with the first kind of change that travels on it.
    fn routes(&self) -> BTreeMap<Route, Says> {
        let destination = self.destination();
        let mut routes = BTreeMap::new();
        for says in Says::ALL {
            let addressed = addressed(&*destination, "acme", says.change(3, "x"));
            for part in destination.parts(&addressed).unwrap_or_default() {
                routes.entry(part.route).or_insert(says);
            }
        }
        assert!(!routes.is_empty(), "{} takes no change at all", self.row.name);
        routes
    }
}

/// A kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Values(Op),
    Null,
    Unset,
    Delete,
}

impl Says {
    const ALL: [Says; 8] = [
        Says::Values(Op::Set),
        Says::Values(Op::SetOnce),
        Says::Values(Op::Add),
        Says::Values(Op::Append),
        Says::Values(Op::Prepend),
        Says::Null,
        Says::Unset,
        Says::Delete,
    ];

    /// A change of so many traits. `filler` is what each of them is given, where it is given a text.
    fn change(self, traits: usize, filler: &str) -> Change {
        self.with(traits, |_| filler.to_owned())
    }

    /// Likewise, with a text for each trait.
    fn with(self, traits: usize, filler: impl Fn(usize) -> String) -> Change {
        let mut change = Change::default();
        for at in 0..traits {
            // As long as each other, so that only the filler's length counts.
            let name = format!("trait_{at:07}");
            match self {
                Says::Values(Op::Add) => drop(change.add.insert(name, json!(at + 1))),
                Says::Values(op @ (Op::Append | Op::Prepend)) => {
                    drop(change.under(op).insert(name, json!([filler(at)])));
                }
                Says::Values(op) => drop(change.under(op).insert(name, json!(filler(at)))),
                Says::Null => drop(change.set.insert(name, Value::Null)),
                Says::Unset => drop(change.unset.insert(name)),
                Says::Delete => change.delete = true,
            }
        }
        change
    }

    /// Whether a destination with these features promises to carry it.
    fn promised(self, destination: &dyn Destination) -> bool {
        let features = destination.features();
        match self {
            Says::Values(op) => features.ops.contains(&op),
            Says::Null => features.on_null.contains(&OnNull::Null),
            Says::Unset => features.on_null.contains(&OnNull::Unset),
            Says::Delete => features.delete,
        }
    }
}

/// Whether calls may not do without a user.
fn needs_user(destination: &dyn Destination) -> bool {
    matches!(destination.features().user, UserRule::Required | UserRule::RequiredKnown)
}

fn addressed(destination: &dyn Destination, key: &str, change: Change) -> AddressedChange {
    let user = (destination.features().user != UserRule::Never).then(|| User::Id("account:owner-1".to_owned()));
    let at = DateTime::from_timestamp_millis(1_763_840_646_123).unwrap();
    AddressedChange {
        key: key.to_owned(),
        user,
        at,
        change: Arc::new(change),
        settled_seq: 7,
        ..AddressedChange::default()
    }
}

/// The first attempt, a second after the run began.
fn first_attempt() -> Attempt {
    Attempt { at: DateTime::from_timestamp_millis(1_763_840_647_123).unwrap(), number: 1, request: 0 }
}

/// A part as it travels alone.
struct Sent {
    part: Part,
    element: Element,
    request: Request,
}

impl Sent {
    fn trees(&self) -> Trees {
        Trees::of(&self.request).unwrap_or_else(|problem| panic!("{problem} in {}", shown(&self.request)))
    }
}

/// Every part of a change, each in a request of its own; or why the change is refused here.
fn send(destination: &dyn Destination, addressed: &AddressedChange) -> Result<Vec<Sent>, String> {
    let mut sent = Vec::new();
    for part in destination.parts(addressed)? {
        let element = destination.element(addressed, &part);
        let limits = destination.limits(part.route);
        let size =
            groupcast::destination::batch::Size { bytes: element.bytes.len(), traits: part.change.traits_count() };
        if let Some((_, reason)) = groupcast::destination::batch::pack(&[size], &limits, usize::MAX).oversized.pop() {
            return Err(reason);
        }
        let request = destination.request(part.route, &[&element], first_attempt());
        sent.push(Sent { part, element, request });
    }
    Ok(sent)
}

/// What parts say together. Fails when two of them speak about one trait.
fn union(parts: &[Part]) -> Change {
    let mut whole = Change::default();
    let mut names = BTreeSet::new();
    for part in parts {
        for name in part.change.names() {
            assert!(names.insert(name.clone()), "{name:?} is in two parts");
        }
        for (op, name, value) in part.change.values() {
            whole.under(op).insert(name.clone(), value.clone());
        }
        whole.unset.extend(part.change.unset.iter().cloned());
        whole.delete |= part.change.delete;
    }
    whole
}

/// The start of a request, for messages.
fn shown(request: &Request) -> String {
    let body = String::from_utf8_lossy(&request.body);
    format!("{} {} {:?}", request.method, request.url, body.chars().take(2_000).collect::<String>())
}

/// Fails unless a refusal says what to do, in a line, without repeating the value.
#[track_caller]
fn says_what_to_do(who: &str, reason: &str, value: Option<&str>) {
    const VERBS: [&str; 24] = [
        "add", "cast", "choose", "clean", "correct", "cut", "declare", "drop", "give", "keep", "leave", "limit", "map",
        "remove", "rename", "replace", "round", "send", "set", "shorten", "split", "strip", "use", "write",
    ];
    let mut words = reason.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    assert!(words.any(|word| VERBS.contains(&word)), "{who}: does not say what to do: {reason:.500}");
    if let Some(value) = value.filter(|value| value.len() > 3) {
        assert!(!reason.contains(value), "{who}: repeats the value: {reason:.500}");
    }
}

/// Every type that a `groupcast.toml` may name has a row here.
#[test]
fn every_type_of_destination_has_a_row() {
    let covered: BTreeSet<String> = ROWS.iter().map(|row| Subject::new(row).settings.kind).collect();
    let known: BTreeSet<String> =
        groupcast::destination::registry::DESTINATION_TYPES.iter().map(|of| of.name().to_owned()).collect();
    assert_eq!(covered, known, "a new type of destination needs a row in ROWS");
}
