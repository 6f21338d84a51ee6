//! What becomes of answers and secrets: every answer has a verdict, and no secret is seen in an address, a message or a
//! shown request.

use base64::prelude::{BASE64_STANDARD, Engine};
use groupcast::destination::{Destination, TraitShape, Verdict};
use groupcast::error::Kind;
use groupcast::io::http::{Applied, NoResponse, Request, Response};
use groupcast::model::Op;
use groupcast::model::cell::As;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::{OTHER_SECRET, ROWS, SECRET, Says, Subject, addressed, first_attempt, send};

/// Bodies that vendors answer with, whole and torn.
const BODIES: [&str; 22] = [
    "",
    "success",
    "OK",
    "1",
    "0",
    "null",
    "[]",
    "<html><body>502 Bad Gateway</body></html>",
    r#"{"status":1}"#,
    r#"{"status":"Ok","quota_limited":["events"]}"#,
    r#"{"success":true}"#,
    r#"{"success":false,"message":"no"}"#,
    r#"{"success":true,"warnings":["odd",1,null]}"#,
    r#"{"code":200,"events_ingested":1,"payload_size_bytes":50,"server_upload_time":1396381378123}"#,
    r#"{"code":400,"error":"Invalid field values on some events","events_with_invalid_fields":{"time":[1,3,-1,99999999999999999999]}}"#,
    r#"{"code":400,"error":"x","events_with_missing_fields":{"a":"b","c":{}},"silenced_events":[0,0,7]}"#,
    r#"{"code":429,"throttled_events":[0],"eps_threshold":3,"exceeded_daily_quota_users":{"a":1}}"#,
    r#"{"error":"Invalid API key: ***","code":400}"#,
    r#"{"status":0,"error":"data, token is missing"}"#,
    r#"{"type":"validation_error","code":"invalid_input","detail":"not present","attr":null}"#,
    r#"{"meta":{"requestId":"1","status":401},"errors":{"fields":{"a":"b"},"parameters":{}}}"#,
    r#"{"results":{"not-a-uuid":{"result":"retry"}}}"#,
];

fn responses() -> impl Strategy<Value = Response> {
    let status = prop_oneof![
        3 => prop::sample::select(vec![200_u16, 201, 202, 204, 301, 307, 400, 401, 402, 403, 404, 405, 408, 410, 413, 415, 429, 460, 500, 501, 502, 503, 504, 505, 511]),
        1 => any::<u16>(),
    ];
    let body = prop_oneof![
        3 => prop::sample::select(&BODIES[..]).prop_map(|body| body.as_bytes().to_vec()),
        1 => (prop::sample::select(&BODIES[..]), any::<prop::sample::Index>()).prop_map(|(body, at)| body.as_bytes()[..at.index(body.len() + 1)].to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => any::<String>().prop_map(String::into_bytes),
    ];
    let name = prop::sample::select(vec![
        "retry-after",
        "date",
        "content-type",
        "location",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "x-ratelimit-limit",
    ]);
    let value = prop_oneof![
        any::<String>(),
        "-?[0-9]{1,22}(\\.[0-9]{1,3})?",
        Just("Sun, 06 Nov 1994 08:49:37 GMT".to_owned()),
        Just("application/json".to_owned()),
        Just("0".to_owned()),
    ];
    let headers = prop::collection::vec((name.prop_map(str::to_owned), value), 0..4);
    (status, headers, body).prop_map(|(status, headers, body)| Response {
        status,
        headers,
        body,
        ..Response::default()
    })
}

/// One runner per destination, with the number of cases that suits a cheap function.
fn runner() -> TestRunner {
    TestRunner::new(Config { cases: 2_000, failure_persistence: None, ..Config::default() })
}

#[test]
fn every_answer_has_a_verdict_and_only_a_2xx_is_delivered() {
    for subject in Subject::all() {
        let destination = subject.destination();
        for (route, says) in subject.routes() {
            let deletes = says == Says::Delete
                || send(&*destination, &addressed(&*destination, "acme", says.change(1, "x"))).is_ok_and(|sent| {
                    sent.iter().any(|sent| sent.part.route == route && sent.part.change.set.is_empty())
                });
            let elements_max = destination.limits(route).elements_max.min(50);
            let outcome = runner().run(&(responses(), 1..=elements_max), |(response, elements)| {
                let _ = destination.pause(&response);
                match destination.interpret(route, elements, &response) {
                    Verdict::Accepted { .. } => {
                        // A deletion of what is not there has nothing left to do.
                        let gone = deletes && (400..=404).contains(&response.status);
                        prop_assert!((200..300).contains(&response.status) || gone, "{} is delivered", response.status);
                    }
                    Verdict::Stop { reason, advice, .. } => {
                        prop_assert!(!reason.trim().is_empty() && advice.len() > 5, "{reason:?} {advice:?}");
                    }
                    Verdict::RejectedSome { elements } => {
                        prop_assert!(elements.iter().all(|(_, reason)| !reason.trim().is_empty()));
                    }
                    Verdict::PerElement { .. } => prop_assert!(false, "without its elements nothing is known of each"),
                    Verdict::Rejected { reason, .. } | Verdict::TooLarge { reason } | Verdict::Retry { reason, .. } => {
                        prop_assert!(reason.len() < 10_000);
                    }
                }
                Ok(())
            });
            outcome.unwrap_or_else(|failure| panic!("{} route {route}: {failure}", subject.row.name));
        }
    }
}

#[test]
fn an_unknown_outcome_is_called_one() {
    for subject in Subject::all() {
        let destination = subject.destination();
        for route in subject.routes().into_keys() {
            for status in [500, 502, 504] {
                let verdict = destination.interpret(route, 1, &Response { status, ..Response::default() });
                let cautious = matches!(verdict, Verdict::Retry { applied: Applied::Maybe, .. });
                assert!(cautious, "{}: {status} may have been applied: {verdict:?}", subject.row.name);
            }
        }
    }
    // The transport's word for the same.
    assert_ne!(NoResponse { applied: Applied::Maybe, what: String::new() }.applied, Applied::No);
}

#[test]
fn answers_to_questions_are_taken_or_refused() {
    for row in ROWS {
        let subject = Subject::new(row);
        let outcome = runner().run(&prop::collection::vec(responses(), 1..4), |responses| {
            let mut destination = groupcast::service::open::destination(&subject.settings, "company").unwrap();
            for response in responses {
                if destination.setup_request().is_none() {
                    break;
                }
                if let Err(error) = destination.set_up(&response) {
                    prop_assert!(matches!(error.kind(), Kind::Destination | Kind::Config), "{error}");
                    prop_assert!(error.advice().is_some(), "{error} has no advice");
                }
            }
            Ok(())
        });
        outcome.unwrap_or_else(|failure| panic!("{}: {failure}", row.name));
    }
}

/// The secrets that a destination's settings hold.
fn secrets(subject: &Subject) -> Vec<&'static str> {
    let all = [("${SECRET}", SECRET), ("${OTHER_SECRET}", OTHER_SECRET)];
    all.into_iter()
        .filter(|(name, _)| format!("{}{}", subject.row.prelude, subject.row.settings).contains(name))
        .map(|(_, secret)| secret)
        .collect()
}

/// Every spelling of secrets that could give them away.
fn spellings(secrets: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    for secret in secrets.iter().copied() {
        let form: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let forms =
            [base64(secret), base64(&format!("{secret}:")), base64(&format!(":{secret}")), secret.replace('/', "\\/")];
        all.extend([secret.to_owned(), form.clone(), form.replace('+', "%20"), form.to_lowercase()]);
        // Without padding: what follows may share the last block.
        all.extend(forms.map(|form| form.trim_end_matches('=').to_owned()));
    }
    all
}

fn base64(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

fn leak(spellings: &[String], text: &str) -> Option<String> {
    let lower = text.to_lowercase();
    let seen = |spelling: &&String| text.contains(spelling.as_str()) || lower.contains(&spelling.to_lowercase());
    spellings.iter().find(seen).cloned()
}

fn whole(request: &Request) -> String {
    let headers: String = request.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    format!("{} {}\n{headers}\n{}", request.method, request.url, String::from_utf8_lossy(&request.body))
}

#[test]
fn secrets_stay_where_they_belong() {
    for subject in Subject::all() {
        let who = subject.row.name;
        let destination = subject.destination();
        let secrets = secrets(&subject);
        let spellings = spellings(&secrets);
        let leak = |text: &str| leak(&spellings, text);
        assert_eq!(leak(&format!("{:?}", subject.settings)), None, "{who}: settings");
        let mut requests: Vec<Request> = Vec::new();
        for says in Says::ALL {
            if let Ok(sent) = send(&*destination, &addressed(&*destination, "acme", says.change(2, "x"))) {
                requests.extend(sent.into_iter().map(|sent| sent.request));
            }
        }
        let mut untaught = groupcast::service::open::destination(&subject.settings, "company").unwrap();
        while let Some(question) = untaught.setup_request() {
            let response = (subject.row.response)(&question);
            requests.push(question);
            untaught.set_up(&response).unwrap();
        }
        let mut secret_anywhere = false;
        for request in &requests {
            assert_eq!(leak(&request.url), None, "{who}: the address is logged");
            assert_eq!(leak(&format!("{request:?}")), None, "{who}: `Debug`");
            let masked = destination.masked(request);
            assert_eq!(leak(&whole(&masked)), None, "{who}: shown to a person:\n{}", whole(&masked));
            assert_eq!(leak(&format!("{masked:?}")), None);
            assert_eq!(
                (masked.method, &masked.url, masked.headers.len()),
                (request.method, &request.url, request.headers.len())
            );
            secret_anywhere |= leak(&whole(request)).is_some();
        }
        // A key that signs never travels.
        let travels = !secrets.is_empty() && !subject.row.settings.contains("signing_secret");
        assert_eq!(secret_anywhere, travels, "{who}: the test looks for what is there");
        if let Some(probe) = destination.probe() {
            assert_eq!(leak(&whole(&probe)), None, "{who}: a probe carries no secret");
        }
        // A vendor, or a proxy before it, that says back what it was sent.
        for request in &requests {
            let mut echoes: Vec<Vec<u8>> = vec![request.body.clone(), whole(request).into_bytes()];
            echoes.extend(BODIES.iter().map(|body| format!("{} {body}", secrets.join(" ")).into_bytes()));
            for secret in &secrets {
                let sent = [
                    json!({"error": secret, "code": 400}),
                    json!({"success": false, "message": secret, "warnings": [secret]}),
                ];
                echoes.extend(sent.map(|sent| sent.to_string().into_bytes()));
            }
            for route in subject.routes().into_keys() {
                for status in [200, 201, 207, 302, 400, 401, 403, 404, 413, 422, 429, 500] {
                    for body in &echoes {
                        let response = Response { status, body: body.clone(), ..Response::default() };
                        let verdict = destination.interpret(route, 1, &response);
                        let shown = format!("{verdict:?}");
                        assert!(leak(&shown).is_none(), "{who}: {status}: {shown}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_wrong_answer_to_a_question_names_no_secret() {
    for subject in Subject::all() {
        for status in [200, 400, 401, 404] {
            let mut destination = groupcast::service::open::destination(&subject.settings, "company").unwrap();
            if let Some(question) = destination.setup_request() {
                // A server that says back what it was asked.
                let body = whole(&question).into_bytes();
                let spellings = spellings(&secrets(&subject));
                if let Err(error) = destination.set_up(&Response { status, body, ..Response::default() }) {
                    assert_eq!(
                        leak(&spellings, &format!("{error:?} {error} {:?}", error.advice())),
                        None,
                        "{}",
                        subject.row.name
                    );
                }
            }
        }
    }
}

/// Name, operator, declared type, constant and members of a trait.
type Shape = (String, Op, Option<As>, Option<Value>, Option<Vec<String>>);

#[test]
fn remarks_are_total_and_helpful() {
    let declared = prop::sample::select(vec![
        None,
        Some(As::String),
        Some(As::Number),
        Some(As::Integer),
        Some(As::Boolean),
        Some(As::Date),
        Some(As::Timestamp),
        Some(As::Json),
        Some(As::List),
    ]);
    let name = || {
        prop_oneof![
            "\\PC{1,6}",
            "[a-zA-Z_$]{1,8}",
            prop::sample::select(vec![
                "createdAt",
                "created_at",
                "CREATED_AT",
                "employees",
                "name",
                "id",
                "address",
                "$set",
                "group_type",
                "user_id",
                "email",
                "plan",
                "timestamp",
                "$group_key",
            ])
            .prop_map(str::to_owned)
        ]
    };
    let constant = prop::sample::select(vec![
        None,
        Some(json!(null)),
        Some(json!("x")),
        Some(json!(7)),
        Some(json!({"postalCode": 1})),
    ]);
    let members = prop::option::of(prop::collection::vec(name(), 0..4));
    let shape = (name(), prop::sample::select(Op::ALL), declared, constant, members);
    let shapes = prop::collection::vec(shape, 0..12);
    for subject in Subject::all() {
        let destination = subject.destination();
        let outcome = runner().run(&shapes, |shapes: Vec<Shape>| {
            let shapes: Vec<TraitShape<'_>> = shapes
                .iter()
                .map(|(name, op, declared, constant, members)| TraitShape {
                    name,
                    op: *op,
                    declared: *declared,
                    constant: constant.as_ref(),
                    always: false,
                    members: members.as_ref().map(|members| members.iter().map(String::as_str).collect()),
                })
                .collect();
            for remark in destination.findings(&shapes) {
                prop_assert!(!remark.what.is_empty() && !remark.help.is_empty(), "{remark:?}");
                let known = remark.about.as_ref().is_none_or(|about| shapes.iter().any(|shape| shape.name == about));
                prop_assert!(known, "it is about a trait of the mapping: {remark:?}");
            }
            Ok(())
        });
        outcome.unwrap_or_else(|failure| panic!("{}: {failure}", subject.row.name));
    }
}

#[test]
fn an_attempt_changes_nothing_but_what_tells_of_it() {
    for subject in Subject::all() {
        let destination: &dyn Destination = &*subject.destination();
        let addressed = addressed(destination, "acme", Says::ALL[0].change(2, "x"));
        for part in destination.parts(&addressed).unwrap() {
            let element = destination.element(&addressed, &part);
            let one = destination.request(part.route, &[&element], first_attempt());
            let same = destination.request(part.route, &[&element], first_attempt());
            assert!(one == same, "{}: no clock and no chance in here", subject.row.name);
        }
    }
}
