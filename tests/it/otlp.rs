//! Do runs become spans at a collector, within the trace of whoever started them, without a secret, a key or a value; and is a
//! collector that is down no matter?

use std::collections::BTreeMap;
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::support::cli::{KEY, Place, Receiver, mapping};
use crate::support::daemon::Daemon;
use crate::support::http_stub::HttpStub;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn collector() -> HttpStub {
    HttpStub::start(|_| (200, "{}".to_owned()))
}

fn place(receiver: &Receiver, endpoint: &str) -> Place {
    let mut place = Place::with(receiver);
    place.set("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    place.warehouse("CREATE TABLE accounts AS SELECT 'group-' || i AS id, 'value-' || i AS plan FROM range(3) r(i)");
    place.mapping("accounts", &mapping("plan = \"plan\"\n", ""));
    place
}

/// The spans that came, and the resource they are of.
fn exported(collector: &HttpStub) -> (Vec<Value>, Value) {
    let (mut spans, mut resource) = (Vec::new(), Value::Null);
    for request in collector.received() {
        assert!(request.head.starts_with("POST /v1/traces "), "{}", request.head);
        assert_eq!(request.header("content-type"), Some("application/json"));
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let [of_resource] = body["resourceSpans"].as_array().unwrap().as_slice() else { panic!("{body}") };
        resource = of_resource["resource"].clone();
        assert_eq!(of_resource["scopeSpans"][0]["scope"]["name"], "groupcast");
        spans.extend(of_resource["scopeSpans"][0]["spans"].as_array().unwrap().clone());
    }
    (spans, resource)
}

/// Attributes by name.
fn attributes(of: &Value) -> BTreeMap<String, Value> {
    let pair = |one: &Value| {
        let value = one["value"].as_object().unwrap().values().next().unwrap().clone();
        (one["key"].as_str().unwrap().to_owned(), value)
    };
    of["attributes"].as_array().unwrap().iter().map(pair).collect()
}

fn named<'a>(spans: &'a [Value], name: &str) -> &'a Value {
    let found: Vec<&Value> = spans.iter().filter(|span| span["name"] == name).collect();
    assert_eq!(found.len(), 1, "{name}: {spans:?}");
    found[0]
}

fn nanoseconds(span: &Value, name: &str) -> u64 {
    span[name].as_str().unwrap().parse().unwrap()
}

#[test]
fn a_run_is_a_trace_of_its_phases_statements_and_requests() {
    let (receiver, collector) = (Receiver::start(), collector());
    let mut place = place(&receiver, &collector.url);
    place.set("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=k%2B1,x-team=data");
    place.set("OTEL_SERVICE_NAME", "sync");
    place.set("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod");
    place.set("TRACEPARENT", &format!("00-{TRACE}-{PARENT}-01"));
    place.run(&["run"]).exits(0);
    let (spans, resource) = exported(&collector);
    let requests = collector.received();
    assert_eq!((requests[0].header("x-api-key"), requests[0].header("x-team")), (Some("k+1"), Some("data")));
    let resource = attributes(&resource);
    assert_eq!(resource["service.name"], "sync");
    assert_eq!(resource["deployment.environment.name"], "prod");

    let run = named(&spans, "run");
    assert_eq!((&run["traceId"], &run["parentSpanId"]), (&json!(TRACE), &json!(PARENT)));
    assert_eq!((&run["kind"], &run["status"]["code"]), (&json!(1), &json!(0)));
    let of_run = attributes(run);
    let counts = ["rows", "delivered", "rejected", "requests"].map(|name| of_run[&format!("groupcast.{name}")].clone());
    assert_eq!(counts, ["3", "3", "0", "1"]);
    assert_eq!((&of_run["groupcast.sync"], &of_run["groupcast.status"]), (&json!("accounts"), &json!("succeeded")));
    let recorded = place.run(&["runs", "--json"]).exits(0).json();
    assert_eq!(of_run["groupcast.run"], recorded["runs"][0]["run"]);
    for name in ["prepare", "SELECT", "compare", "send", "POST"] {
        let span = named(&spans, name);
        assert_eq!((&span["traceId"], &span["parentSpanId"]), (&json!(TRACE), &run["spanId"]), "{name}");
        let within = |of: &Value| (nanoseconds(of, "startTimeUnixNano"), nanoseconds(of, "endTimeUnixNano"));
        let ((began, ended), (run_began, run_ended)) = (within(span), within(run));
        // Two clocks measure: a millisecond either way is theirs.
        assert!(
            began <= ended && run_began <= began + 1_000_000 && ended <= run_ended + 1_000_000,
            "{name}: {spans:?}"
        );
    }
    assert_eq!(spans.len(), 6);
    let post = attributes(named(&spans, "POST"));
    assert_eq!((&post["http.response.status_code"], &post["server.address"]), (&json!("200"), &json!("127.0.0.1")));
    let select = attributes(named(&spans, "SELECT"));
    assert_eq!((&select["db.system.name"], &select["groupcast.statement"]), (&json!("duckdb"), &json!("rows")));
    for request in &requests {
        let text = String::from_utf8_lossy(&request.body);
        for private in [KEY, "group-1", "value-1", "groupidentify", "FROM"] {
            assert!(!text.contains(private), "{private} in {text}");
        }
    }
}

#[test]
fn failures_are_kinds_and_untraced_runs_none() {
    let (receiver, collector) = (Receiver::start(), collector());
    let mut place = place(&receiver, &collector.url);
    place.set("AMPLITUDE_API_KEY", "another-key-of-somebody");
    place.run(&["run"]).exits(1);
    let (spans, _) = exported(&collector);
    let run = named(&spans, "run");
    assert_eq!((&run["parentSpanId"], &run["status"]["code"]), (&json!(""), &json!(2)));
    assert_eq!(attributes(run)["error.type"], "destination");
    let post = spans.iter().find(|span| span["name"] == "POST").unwrap();
    assert_eq!(post["status"]["code"], 2);
    assert!(!spans.iter().any(|span| span.to_string().contains("another-key")));
    // An orchestrator that does not record its trace wants no spans.
    let seen = collector.received().len();
    place.set("AMPLITUDE_API_KEY", KEY);
    place.set("TRACEPARENT", &format!("00-{TRACE}-{PARENT}-00"));
    place.run(&["run"]).exits(0);
    place.set("TRACEPARENT", "");
    place.set("OTEL_SDK_DISABLED", "true");
    place.run(&["run"]).exits(0);
    assert_eq!(collector.received().len(), seen);
    // A command that runs nothing exports nothing, and a mistake stops nothing.
    place.unset("OTEL_SDK_DISABLED");
    place.run(&["plan"]).exits(0);
    assert_eq!(collector.received().len(), seen);
    place.set("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    place.run(&["run"]).exits(0).says(&["no spans are exported: OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"]);
    assert_eq!(collector.received().len(), seen);
}

#[test]
fn a_collector_that_is_down_or_silent_holds_up_no_run() {
    let receiver = Receiver::start();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let place = place(&receiver, &format!("http://127.0.0.1:{port}"));
    let output = place.run(&["run"]).exits(0).says(&["3 delivered"]);
    assert!(!output.all().contains("OpenTelemetry") && !output.all().contains("warning"), "{}", output.all());
    // It takes connections and never responds: the time that an export may take is not waited for.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut place = self::place(&receiver, &format!("http://{}", silent.local_addr().unwrap()));
    place.set("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000");
    place.run(&["run"]).exits(0);
    let refusing = HttpStub::start(|_| (503, String::new()));
    place.set("OTEL_EXPORTER_OTLP_ENDPOINT", &refusing.url);
    place.run(&["run"]).exits(0);
    assert_eq!(refusing.received().len(), 1, "an export is not repeated");
}

#[test]
fn a_daemons_runs_are_traces_of_their_own() {
    let (receiver, collector) = (Receiver::start(), collector());
    let mut place = place(&receiver, &collector.url);
    place.set("TRACEPARENT", &format!("00-{TRACE}-{PARENT}-01"));
    let daemon = Daemon::start(&place);
    daemon.run("accounts", &json!({}));
    daemon.run("accounts", &json!({}));
    daemon.stop().exits(0);
    let (spans, _) = exported(&collector);
    let runs: Vec<&Value> = spans.iter().filter(|span| span["name"] == "run").collect();
    assert_eq!(runs.len(), 2, "{spans:?}");
    assert_ne!(runs[0]["traceId"], runs[1]["traceId"]);
    assert!(runs.iter().all(|run| run["parentSpanId"] == "" && run["traceId"] != TRACE));
}
