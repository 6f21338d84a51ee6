//! What does each response prove at each destination? The table `responses.csv` beside this file has a line for every
//! status, content type, body and request; it was read against the vendors' documentation (`docs/destinations.md` names
//! it), and whoever changes a line changes what counts as delivered. `UPDATE_RESPONSES=1 cargo test evidence` writes it
//! anew.

use std::fmt::Write as _;

use groupcast::destination::{Applied, Blame, Destination, Reply, Route, Verdict};

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
    (401, JSON, r#"{"message":"unauthorized"}"#),
    (402, "", ""),
    (403, HTML, "<html><title>403 Forbidden</title>Request blocked.</html>"),
    (403, JSON, r#"{"detail":"no"}"#),
    (404, HTML, "<html>Not found</html>"),
    (404, JSON, r#"{"message":"Not found"}"#),
    (404, JSON, r#"{"detail":"Not found."}"#),
    (405, "", ""),
    (406, HTML, "<html>Not acceptable</html>"),
    (407, "", ""),
    (408, "", ""),
    (410, "", ""),
    (413, HTML, "<html>413 Request Entity Too Large</html>"),
    (422, JSON, r#"{"message":"no"}"#),
    (425, "", ""),
    (429, TEXT, "slow down"),
    (499, "", ""),
    (500, HTML, "<html>Internal Server Error</html>"),
    (500, JSON, r#"{"error":"internal"}"#),
    (501, "", ""),
    (502, HTML, "<html>502 Bad Gateway</html>"),
    (503, HTML, "<html>Down for maintenance</html>"),
    (503, JSON, r#"{"code":503,"error":"Service Unavailable"}"#),
    (504, "", ""),
    (511, HTML, PAGE),
    (520, "", ""),
    (999, "", ""),
];

/// What a verdict says has become of the request.
fn proves(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Delivered { .. } => "applied",
        Verdict::Refused { applied, .. } | Verdict::Retry { applied, .. } | Verdict::Stop { applied, .. } => {
            match applied {
                Applied::No => "not applied",
                Applied::Maybe => "unknown",
            }
        }
        Verdict::RefusedSome { .. } | Verdict::TooLarge { .. } => "not applied",
    }
}

/// What is done about it.
fn named(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Delivered { .. } => "delivered",
        Verdict::Refused { .. } => "split, then reject",
        Verdict::RefusedSome { .. } => "reject the named",
        Verdict::TooLarge { .. } => "split by size",
        Verdict::Retry { .. } => "repeat",
        Verdict::Stop { blame: Blame::Us, .. } => "stop",
        Verdict::Stop { blame: Blame::Credentials, .. } => "stop unless others are accepted (credentials)",
        Verdict::Stop { blame: Blame::Perhaps, .. } => "stop unless others are accepted",
    }
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
            let elements = destination.limits(route).elements_max.min(2);
            for (status, kind, body) in RESPONSES {
                let headers = match kind {
                    &"" => Vec::new(),
                    kind => vec![("content-type".to_owned(), (*kind).to_owned())],
                };
                let reply = Reply { status: *status, headers, body: body.as_bytes().to_vec() };
                let verdict = destination.interpret(route, elements, &reply);
                let kind = kind.split(';').next().unwrap_or_default();
                let (proves, named) = (proves(&verdict), named(&verdict));
                writeln!(table, "{name};{request};{status};{kind};{body};{proves};{named}").unwrap();
                lines += 1;
                let who = format!("{name} {request}: {status} {kind} {body}");
                // What holds for all of them, whatever the table says.
                if let Verdict::Delivered { .. } = verdict {
                    let gone = *status == 404 && (request.starts_with("DELETE") || request.contains("delete"));
                    assert!((200..300).contains(status) || gone, "{who}");
                    let own_rule = name.starts_with("webhook");
                    let no = ["<html", "<!doctype", "Error:", "\"error\":\"", "\"ok\":false", "\"events_ingested\":0"];
                    let said = !no.iter().any(|word| body.contains(word)) && *body != "{\"succ";
                    assert!(said || own_rule && !body.starts_with('<'), "{who}");
                }
                if let Verdict::Stop { advice, .. } = &verdict
                    && (200..400).contains(status)
                    && !body.contains("quota_limited")
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
