//! What does each response prove at each destination? The table `responses.csv` beside this file has a line for every
//! status, content type, body and request; it was read against the vendors' documentation (`docs/destinations.md` names
//! it), and whoever changes a line changes what counts as delivered. `UPDATE_RESPONSES=1 cargo test evidence` writes it
//! anew.

use std::fmt::Write as _;

use groupcast::destination::{Blame, Destination, Element, ElementVerdict, Route, Verdict};
use groupcast::io::http::{Applied, Response};

use super::{Says, Subject, addressed, send};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/conformance/responses.csv");
const HEADER: &str = "destination;request;status;content type;body;proves;verdict\n";

const PAGE: &str = "<!doctype html><html><head><title>Sign in</title></head><body></body></html>";
const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain";
const JSON: &str = "application/json";
const EVENTS: &str = r#"{"code":200,"events_ingested":2,"payload_size_bytes":50,"server_upload_time":1396381378123}"#;
const GROUP: &str = r#"{"group_type_index":0,"group_key":"acme","group_properties":{"a":1}}"#;
const RECORDS: &str = r#"{"code":200,"num_records_imported":2,"status":"OK"}"#;
const SAVED: &str = r#"{"meta":{"requestId":"r","status":201},"message":"Saved."}"#;

/// What servers, proxies, firewalls and networks answer with.
const RESPONSES: &[(u16, &str, &str)] = &[
    (200, HTML, PAGE),
    (200, JSON, PAGE),
    (200, HTML, "success"),
    (200, "", ""),
    (200, HTML, ""),
    (200, TEXT, "success"),
    (200, TEXT, "OK"),
    (200, JSON, "\"OK\""),
    (200, TEXT, "1"),
    (200, TEXT, "0"),
    (200, TEXT, "Error: upstream failed"),
    (200, TEXT, "Thank you!"),
    (200, JSON, "{}"),
    (200, JSON, "null"),
    (200, JSON, "[]"),
    (200, JSON, r#"{"succ"#),
    (200, JSON, r#"{"error":"internal"}"#),
    (200, JSON, r#"{"success":true}"#),
    (200, JSON, r#"{"success":false,"message":"no"}"#),
    (200, JSON, r#"{"success":true,"error":"quota"}"#),
    (200, JSON, r#"{"ok":true}"#),
    (200, JSON, r#"{"ok":false}"#),
    (200, JSON, r#"{"status":"Ok"}"#),
    (200, JSON, r#"{"status":"Ok","quota_limited":["events"]}"#),
    (200, JSON, r#"{"status":1,"error":null}"#),
    (200, JSON, r#"{"status":0,"error":"some data objects are not valid"}"#),
    (200, JSON, r#"{"status":"error"}"#),
    (200, JSON, EVENTS),
    (200, JSON, r#"{"code":200,"events_ingested":1}"#),
    (200, JSON, r#"{"code":200,"events_ingested":0}"#),
    (200, JSON, r#"{"code":400,"error":"Invalid API key"}"#),
    (200, JSON, RECORDS),
    (200, JSON, r#"{"code":200,"num_records_imported":0,"status":"OK"}"#),
    (200, JSON, SAVED),
    (200, JSON, GROUP),
    // Capture v1 answers for each event by its id.
    (200, JSON, r#"{"results":{"ID0":{"result":"ok"},"ID1":{"result":"ok"}}}"#),
    (200, JSON, r#"{"results":{"ID0":{"result":"ok"},"ID1":{"result":"warning","details":"clock_skew"}}}"#),
    (
        200,
        JSON,
        r#"{"results":{"ID0":{"result":"ok"},"ID1":{"result":"warning","details":"person_processing_disabled"}}}"#,
    ),
    (200, JSON, r#"{"results":{"ID0":{"result":"ok"},"ID1":{"result":"drop","details":"event_restriction_drop"}}}"#),
    (
        200,
        JSON,
        r#"{"results":{"ID0":{"result":"drop","details":"invalid_options"},"ID1":{"result":"drop","details":"invalid_options"}}}"#,
    ),
    (200, JSON, r#"{"results":{"ID0":{"result":"ok"},"ID1":{"result":"drop","details":"billing_limit_exceeded"}}}"#),
    (200, JSON, r#"{"results":{"ID0":{"result":"limited"},"ID1":{"result":"limited"}}}"#),
    (200, JSON, r#"{"results":{"ID0":{"result":"ok"},"ID1":{"result":"retry","details":"not_persisted"}}}"#),
    (200, JSON, r#"{"results":{"ID0":{"result":"retry"},"ID1":{"result":"retry"}}}"#),
    (200, JSON, r#"{"results":{"ID0":{"result":"ok"}}}"#),
    (200, JSON, r#"{"results":{"ID0":{"result":"ok"},"ID1":{"result":"postponed"}}}"#),
    (200, JSON, r#"{"results":{}}"#),
    (200, JSON, r#"{"success":true,"response_id":"r","warnings":["group_type is missing"]}"#),
    (200, JSON, r#"{"success":true,"eventId":"e"}"#),
    (201, JSON, SAVED),
    (201, "", ""),
    (202, "", ""),
    (204, "", ""),
    (206, JSON, r#"{"success":true}"#),
    (207, JSON, r#"{"errors":[{"index":0}]}"#),
    (301, HTML, "<html>Moved</html>"),
    (302, "", ""),
    (307, "", ""),
    (400, TEXT, "bad request"),
    (400, HTML, PAGE),
    (400, TEXT, "Invalid API key"),
    (400, TEXT, "missing_event"),
    (400, TEXT, "invalid json"),
    (400, TEXT, "request neither has anonymousId nor userId"),
    (400, JSON, r#"{"success":false,"message":"Exceeds max request size"}"#),
    (
        400,
        JSON,
        r#"{"code":400,"error":"Invalid field values on some events","events_with_invalid_fields":{"time":[1]}}"#,
    ),
    (400, JSON, r#"{"code":400,"error":"Request missing required field","missing_field":"api_key"}"#),
    (
        400,
        JSON,
        r#"{"code":400,"status":"Bad Request","failed_records":[{"index":1,"field":"$group_id","message":"must be a string"}]}"#,
    ),
    (
        400,
        JSON,
        r#"{"code":400,"status":"Bad Request","failed_records":[{"index":0,"field":"$token","message":"unknown"}]}"#,
    ),
    (
        400,
        JSON,
        r#"{"error":"duplicate_event_uuid","error_description":"duplicate event uuid","error_uri":"https://posthog.com/docs/api"}"#,
    ),
    (400, JSON, r#"{"error":"missing_required_headers","error_description":"request is missing required headers"}"#),
    (
        400,
        JSON,
        r#"{"type":"validation_error","code":"invalid_input","detail":"The $unset property does not exist on this group","attr":"$unset"}"#,
    ),
    (
        400,
        JSON,
        r#"{"type":"validation_error","code":"invalid_input","detail":"A group with this key already exists","attr":"detail"}"#,
    ),
    (400, JSON, r#"{"meta":{"status":400},"errors":{"fields":{"plan":"must be text"}}}"#),
    (401, JSON, r#"{"message":"unauthorized"}"#),
    (401, TEXT, "invalid write key"),
    (401, JSON, r#"{"error":"invalid_api_token","error_description":"The provided API token is not valid."}"#),
    (402, "", ""),
    (402, JSON, r#"{"error":"billing_limit_exceeded","error_description":"billing limit exceeded"}"#),
    (403, JSON, r#"{"code":403,"error":"Forbidden"}"#),
    (
        403,
        JSON,
        r#"{"type":"authentication_error","code":"permission_denied","detail":"API key missing required scope"}"#,
    ),
    (403, HTML, "<html><title>403 Forbidden</title>Request blocked.</html>"),
    (403, JSON, r#"{"detail":"no"}"#),
    (404, HTML, "<html>Not found</html>"),
    (404, JSON, r#"{"message":"Not found"}"#),
    (404, JSON, r#"{"detail":"Not found."}"#),
    (404, TEXT, "source is disabled"),
    (404, JSON, r#"{"meta":{"status":404},"message":"Account not found"}"#),
    (405, "", ""),
    (406, HTML, "<html>Not acceptable</html>"),
    (407, "", ""),
    (408, "", ""),
    (409, JSON, r#"{"message":"conflict"}"#),
    (410, "", ""),
    (413, JSON, r#"{"code":413,"error":"Payload too large"}"#),
    (413, TEXT, "request size exceeds max limit"),
    (414, HTML, "<html>URI Too Long</html>"),
    (415, JSON, r#"{"error":"unsupported_encoding","error_description":"unsupported content encoding"}"#),
    (413, HTML, "<html>413 Request Entity Too Large</html>"),
    (422, JSON, r#"{"message":"no"}"#),
    (425, "", ""),
    (429, TEXT, "slow down"),
    (429, JSON, r#"{"error":"rate_limited","error_description":"Rate limit exceeded."}"#),
    (429, JSON, r#"{"error":"billing_limit_exceeded","error_description":"billing limit exceeded"}"#),
    (429, JSON, r#"{"code":429,"error":"Too many requests for some devices and users","throttled_events":[0]}"#),
    (
        429,
        JSON,
        r#"{"code":429,"error":"Too many requests for some devices and users","exceeded_daily_quota_devices":{"d":500001}}"#,
    ),
    (431, "", ""),
    (451, "", ""),
    (460, "", ""),
    (499, "", ""),
    (500, HTML, "<html>Internal Server Error</html>"),
    (500, JSON, r#"{"error":"internal"}"#),
    (501, "", ""),
    (502, HTML, "<html>502 Bad Gateway</html>"),
    (503, HTML, "<html>Down for maintenance</html>"),
    (503, TEXT, "transient error, please retry"),
    (503, JSON, r#"{"error":"service_unavailable","error_description":"Service Unavailable"}"#),
    (505, "", ""),
    (503, JSON, r#"{"code":503,"error":"Service Unavailable"}"#),
    (504, "", ""),
    (511, HTML, PAGE),
    (520, "", ""),
    (999, "", ""),
];

/// What a verdict says has become of the request.
fn proves(verdict: &Verdict) -> String {
    let one = match verdict {
        Verdict::PerElement { verdicts, rest, .. } => {
            let of = |settled: &ElementVerdict| match settled {
                ElementVerdict::Accepted => "applied",
                ElementVerdict::Rejected { .. } => "not applied",
                ElementVerdict::Unclear { .. } => "unknown",
            };
            let all: Vec<String> = verdicts.iter().map(|(at, verdict)| format!("{at}: {}", of(verdict))).collect();
            return format!("{}, others: {}", all.join(", "), proves(rest));
        }
        Verdict::Accepted { .. } => "applied",
        Verdict::Rejected { applied, .. } | Verdict::Retry { applied, .. } | Verdict::Stop { applied, .. } => {
            match applied {
                Applied::No => "not applied",
                Applied::Maybe => "unknown",
            }
        }
        Verdict::RejectedSome { .. } | Verdict::TooLarge { .. } => "not applied",
    };
    one.to_owned()
}

/// What is done about it.
fn named(verdict: &Verdict) -> String {
    let one = match verdict {
        Verdict::PerElement { rest, .. } => return format!("each, others: {}", named(rest)),
        Verdict::Accepted { .. } => "delivered",
        Verdict::Rejected { .. } => "split, then reject",
        Verdict::RejectedSome { .. } => "reject the named",
        Verdict::TooLarge { .. } => "split by size",
        Verdict::Retry { .. } => "repeat",
        Verdict::Stop { blame: Blame::Us, .. } => "stop",
        Verdict::Stop { blame: Blame::Credentials, .. } => "stop unless others are accepted (credentials)",
        Verdict::Stop { blame: Blame::Unclear, .. } => "stop unless others are accepted",
    };
    one.to_owned()
}

/// The request of a route, without a host.
fn request(destination: &dyn Destination, route: Route, says: Says) -> Option<String> {
    let sent = send(destination, &addressed(destination, "acme", says.change(2, "x"))).ok()?;
    let request = &sent.iter().find(|sent| sent.part.route == route)?.request;
    let path = request.url.split("://").last()?.split_once('/').map_or("", |(_, path)| path);
    Some(format!("{} /{}", request.method, path.split('?').next()?))
}

#[test]
fn what_responses_prove_is_as_reviewed() {
    let mut table = HEADER.to_owned();
    let mut lines = 0;
    for subject in Subject::all().filter(|subject| subject.settings.kind != "file") {
        let name = subject.row.name.replace('`', "").replace("\"", "");
        // The same server under another address.
        if name.ends_with("-eu") || name.ends_with("personal_api_key") {
            continue;
        }
        let destination = subject.destination();
        for (route, says) in subject.routes() {
            // Routes of one request differ in what may be repeated, not in what a response proves.
            let Some(request) = request(&*destination, route, says) else { continue };
            if table.contains(&format!("\n{name};{request};")) {
                continue;
            }
            let of = |key: &str| -> Element {
                let sent = send(&*destination, &addressed(&*destination, key, says.change(2, "x"))).unwrap();
                sent.into_iter().find(|sent| sent.part.route == route).unwrap().element
            };
            let all = [of("acme"), of("bolt")];
            let elements: Vec<&Element> = all.iter().take(destination.limits(route).elements_max).collect();
            for (status, kind, body) in RESPONSES {
                let headers = match kind {
                    &"" => Vec::new(),
                    kind => vec![("content-type".to_owned(), (*kind).to_owned())],
                };
                let sent = body.replace("ID0", &all[0].id).replace("ID1", &all[1].id);
                let response = Response { status: *status, headers, body: sent.into_bytes(), ..Response::default() };
                let verdict = destination.interpret_each(route, &elements, &response);
                let kind = kind.split(';').next().unwrap_or_default();
                let (proves, named) = (proves(&verdict), named(&verdict));
                writeln!(table, "{name};{request};{status};{kind};{body};{proves};{named}").unwrap();
                lines += 1;
                let who = format!("{name} {request}: {status} {kind} {body}");
                // What holds for all of them, whatever the table says.
                if let Verdict::Accepted { .. } = verdict {
                    let removes = request.starts_with("DELETE") || request.contains("delete");
                    let made = body.contains("already exists") && request.ends_with("/groups/");
                    let gone = removes && [400, 404].contains(status) || made && *status == 400;
                    assert!((200..300).contains(status) || gone, "{who}");
                    let own_rule = name.starts_with("webhook");
                    let no = ["<html", "<!doctype", "Error:", "\"error\":\"", "\"ok\":false", "\"events_ingested\":0"];
                    let accepting = !no.iter().any(|word| body.contains(word)) && *body != "{\"succ";
                    assert!(accepting || own_rule && !body.starts_with('<'), "{who}");
                }
                if let Verdict::Stop { advice, .. } = &verdict
                    && (200..400).contains(status)
                    && !["quota_limited", "\"limited\"", "billing"].iter().any(|quota| body.contains(quota))
                {
                    let credentials = named.contains("credentials");
                    assert!(
                        advice.starts_with("check `") && (credentials || advice.contains("url`")),
                        "{who}: {advice}"
                    );
                }
            }
        }
    }
    assert!(lines >= 400, "{lines} lines");
    if std::env::var_os("UPDATE_RESPONSES").is_some() {
        return std::fs::write(FILE, table).unwrap();
    }
    let reviewed = std::fs::read_to_string(FILE).unwrap_or_default();
    for (line, (now, then)) in table.lines().zip(reviewed.lines()).enumerate() {
        assert_eq!(
            now,
            then,
            "line {} of responses.csv; `UPDATE_RESPONSES=1` writes it anew, and is then reviewed",
            line + 1
        );
    }
    assert_eq!(table.lines().count(), reviewed.lines().count(), "responses.csv has other lines");
}
