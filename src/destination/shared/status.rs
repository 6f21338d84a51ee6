//! What does a response prove about its request: applied, certainly not applied, or unknown? One classification for all
//! vendors, from status, content type and body.
//!
//! A vendor supplies an [`DocumentedApi`]: the statuses and the body that its documentation promises for a request that was accepted,
//! and what an operator should check. Everything else is decided here, so that a page of HTML, a
//! redirect, an empty body or a proxy's error is never a delivery at any of them. What a vendor documents beyond that
//! (a 400 that names the key, a quota that is used up) it decides before.
//!
//! | response | proves | verdict |
//! |---|---|---|
//! | a documented status with the documented body | applied | delivered |
//! | the documented rejection in a 2xx (`"success": false`) | not applied | rejected: split, then rejected |
//! | any other 2xx | nothing: what responded may have passed the request on | stop, outcome unknown, unless others are accepted |
//! | 3xx | nothing: some servers work first and redirect then | as above |
//! | 401 | not applied | stop unless others are accepted |
//! | 403, 404, 405, 410, 451, 501, 505 | not applied | stop unless others are accepted: a firewall responds so to a single text |
//! | 406, 415, 421, 426, 431 | not applied | the same: they are about how it was sent |
//! | 402, 407, 511 | not applied | stop |
//! | 413 | not applied | split |
//! | 425, 429 | not applied | repeat later |
//! | other 4xx | not applied | rejected: split, then rejected |
//! | 408, other 5xx, anything else | nothing | repeat, then split |

use std::time::Duration;

use serde_json::Value;

use crate::destination::{Blame, ElementVerdict, Verdict};
use crate::io::http::{Applied, Response};

/// How many bytes of a body are searched for HTML.
const PAGE_SEARCHED_BYTES: usize = 1_024;

/// What a vendor's documentation says, as far as this classification needs it.
pub(in crate::destination) struct DocumentedApi<'a> {
    /// The vendor as messages name it.
    pub(in crate::destination) vendor: &'a str,
    /// The statuses of its acknowledgement.
    pub(in crate::destination) statuses: &'a [u16],
    /// What the body of such a response says.
    pub(in crate::destination) body: &'a dyn Fn(&ResponseBody) -> Acknowledgement,
    /// The settings that hold its address, in backquotes.
    pub(in crate::destination) address: &'a str,
    /// What to do about a 401.
    pub(in crate::destination) credentials: &'a str,
    /// What to do about a 402.
    pub(in crate::destination) plan: &'a str,
    /// How long to wait before the request is repeated, where the response asks for it.
    pub(in crate::destination) after: Option<Duration>,
}

/// What the body of a success says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::destination) enum Acknowledgement {
    /// The documented acknowledgement, and what the vendor remarked with it.
    Accepted(Option<String>),
    /// The documented rejection, and whether some of the request may have been applied all the same.
    Rejected(Applied),
    /// Elements that the vendor names as rejected.
    RejectedSome(Vec<(usize, String)>),
    /// Nothing that the vendor documents.
    Undocumented,
}

impl Acknowledgement {
    /// The acknowledgement without a remark where `taken`, and nothing documented otherwise.
    pub(in crate::destination) fn accepted_if(accepted: bool) -> Acknowledgement {
        if accepted { Acknowledgement::Accepted(None) } else { Acknowledgement::Undocumented }
    }
}

/// A response's body, read once.
pub(in crate::destination) struct ResponseBody {
    /// The text without blanks around it.
    pub(in crate::destination) text: String,
    /// Its JSON; null when it is not JSON.
    pub(in crate::destination) json: Value,
    /// Whether it is a page of HTML, by its beginning or by its content type.
    pub(in crate::destination) page: bool,
}

impl ResponseBody {
    /// Reads a response's body.
    pub(in crate::destination) fn of(response: &Response) -> ResponseBody {
        let text = String::from_utf8_lossy(&response.body).trim_start_matches('\u{feff}').trim().to_owned();
        let json = serde_json::from_str(&text).unwrap_or_default();
        ResponseBody { text, json, page: is_page(response) }
    }

    /// The member of this name, where the body is an object.
    pub(in crate::destination) fn member(&self, name: &str) -> Option<&Value> {
        self.json.as_object()?.get(name)
    }

    /// Whether it says that something went wrong: `"success": false`, `"ok": false`.
    pub(in crate::destination) fn reports_failure(&self) -> bool {
        ["success", "ok"].iter().any(|name| self.member(name) == Some(&Value::Bool(false)))
    }

    /// Whether it mentions an error: a member of that name that is not empty, a status or a code of that kind, or a plain
    /// text that begins with the word.
    pub(in crate::destination) fn mentions_error(&self) -> bool {
        let filled = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(members) => !members.is_empty(),
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::Bool(true) => true,
        };
        let bad_word = |value: &Value| {
            let word = value.as_str().unwrap_or_default().to_ascii_lowercase();
            ["error", "fail", "failed", "failure", "denied"].contains(&word.as_str())
        };
        let bad_code = |value: &Value| value.as_u64().is_some_and(|code| (400..600).contains(&code));
        if self.json.is_object() {
            // "0 ingested" is no consent, however politely it comes.
            let none = ["events_ingested", "num_records_imported", "ingested", "imported", "accepted", "processed"]
                .iter()
                .any(|name| self.member(name).is_some_and(|count| count.as_u64() == Some(0)));
            return none
                || ["error", "errors", "exception", "quota_limited", "failed_records"]
                    .iter()
                    .any(|name| self.member(name).is_some_and(filled))
                || ["status", "result"].iter().any(|name| self.member(name).is_some_and(bad_word))
                || ["status", "code", "statusCode"].iter().any(|name| self.member(name).is_some_and(bad_code));
        }
        let text = self.json.as_str().unwrap_or(&self.text).to_ascii_lowercase();
        ["error", "internal server error", "bad gateway", "service unavailable", "forbidden", "denied", "unauthorized"]
            .iter()
            .any(|word| text.starts_with(word))
    }
}

/// Whether a response is a page of HTML, by its content type or by how its body begins. XML that is no page
/// (`<response>`) does not begin so.
pub(in crate::destination) fn is_page(response: &Response) -> bool {
    let start =
        String::from_utf8_lossy(&response.body[..response.body.len().min(PAGE_SEARCHED_BYTES)]).to_ascii_lowercase();
    let start = start.trim_start_matches('\u{feff}').trim_start();
    let typed = response.header("content-type").is_some_and(|kind| {
        let kind = kind.trim_start().to_ascii_lowercase();
        kind.starts_with("text/html") || kind.starts_with("application/xhtml")
    });
    if typed {
        return !start.is_empty();
    }
    if !start.starts_with('<') {
        return false;
    }
    ["<!doctype html", "<html", "<head", "<body"].iter().any(|tag| start.contains(tag))
        || ["<title", "<script", "<meta", "<h1", "<p>", "<div", "<center", "<br"]
            .iter()
            .any(|tag| start.starts_with(tag))
}

/// The verdict that a response has at a vendor. `reason` is what it says, safe to show. Total: any status and body has one.
pub(in crate::destination) fn classify(response: &Response, reason: String, api: &DocumentedApi<'_>) -> Verdict {
    let DocumentedApi { vendor, address, after, .. } = *api;
    let stop = |reason: String, blame, applied, advice: String| Verdict::Stop { reason, advice, blame, applied };
    let elsewhere = || format!("check {address}: {vendor} does not seem to be what responds there");
    match response.status {
        200..=299 => {
            let body = ResponseBody::of(response);
            let documented = api.statuses.contains(&response.status);
            match if documented { (api.body)(&body) } else { Acknowledgement::Undocumented } {
                Acknowledgement::Accepted(warning) => Verdict::Accepted { warning },
                Acknowledgement::Rejected(applied) => Verdict::Rejected { reason, applied },
                Acknowledgement::RejectedSome(elements) => Verdict::RejectedSome { elements },
                Acknowledgement::Undocumented => {
                    let what = match () {
                        () if body.page => "a web page",
                        () if body.text.is_empty() && documented => "an empty body",
                        () if !documented => "another status",
                        () => "another body",
                    };
                    let reason = format!("{reason} ({what} instead of what {vendor} documents)");
                    let advice = format!("{}; nothing of this request was recorded as delivered", elsewhere());
                    stop(reason, Blame::Unclear, Applied::Maybe, advice)
                }
            }
        }
        300..=399 => stop(
            reason,
            Blame::Unclear,
            Applied::Maybe,
            format!(
                "check {address}: it responds with a redirect, which is not followed because it could carry the credentials \
                 elsewhere; use the URL that it redirects to"
            ),
        ),
        401 => stop(reason, Blame::Credentials, Applied::No, api.credentials.to_owned()),
        402 => stop(reason, Blame::Us, Applied::No, api.plan.to_owned()),
        403 => stop(
            reason,
            Blame::Unclear,
            Applied::No,
            format!("{}, and whether a firewall or proxy between here and {vendor} blocks requests", api.credentials),
        ),
        404 | 405 | 410 => stop(
            reason,
            Blame::Unclear,
            Applied::No,
            format!("check {address}: {vendor} accepts no such request at this URL"),
        ),
        406 | 415 | 421 | 426 | 431 => stop(
            reason,
            Blame::Unclear,
            Applied::No,
            format!("check {address}, `gzip`, and any proxy before {vendor}: the way the request was sent is rejected"),
        ),
        451 => stop(
            reason,
            Blame::Unclear,
            Applied::No,
            format!("ask {vendor} or the network's operator: access is denied for legal reasons"),
        ),
        407 => stop(
            reason,
            Blame::Us,
            Applied::No,
            "give the proxy credentials in HTTPS_PROXY or HTTP_PROXY: it asks for authentication".to_owned(),
        ),
        413 => Verdict::TooLarge { reason },
        425 | 429 => Verdict::Retry { reason, after, applied: Applied::No },
        408 => Verdict::Retry { reason, after, applied: Applied::Maybe },
        400..=499 => Verdict::Rejected { reason, applied: Applied::No },
        501 | 505 => stop(
            reason,
            Blame::Unclear,
            Applied::No,
            format!("check {address}: what responds there does not support {vendor}'s protocol"),
        ),
        511 => stop(
            reason,
            Blame::Us,
            Applied::No,
            "log in to this machine's network: it responds instead of the destination".to_owned(),
        ),
        // The other 5xx, and statuses that mean nothing to HTTP.
        _ => Verdict::Retry { reason, after, applied: Applied::Maybe },
    }
}

/// What a vendor says of one element, where it has a result for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::destination) enum ElementStatus {
    /// It was accepted; what the vendor remarked.
    Accepted(Option<String>),
    /// It is rejected for good.
    Rejected(String),
    /// It was not taken for now.
    RetryLater(String),
    /// It was not taken, nor will anything be: a quota.
    Blocked(String),
    /// It was accepted in a way that need not have an effect.
    Unclear(String),
    /// Nothing that the vendor documents.
    Undocumented,
}

/// The verdict on a response with a result for each element, given what it says of them in their order.
pub(in crate::destination) fn classify_per_element(
    response: &Response,
    reason: String,
    of_each: Vec<ElementStatus>,
    api: &DocumentedApi<'_>,
) -> Verdict {
    let (mut verdicts, mut warning, mut foreign) = (Vec::new(), None, Vec::new());
    let (mut later, mut barred): (Option<String>, Option<String>) = (None, None);
    for (at, said) in of_each.into_iter().enumerate() {
        match said {
            ElementStatus::Accepted(remark) => {
                warning = warning.or(remark);
                verdicts.push((at, ElementVerdict::Accepted));
            }
            ElementStatus::Rejected(reason) => verdicts.push((at, ElementVerdict::Rejected { reason })),
            ElementStatus::Unclear(reason) => verdicts.push((at, ElementVerdict::Unclear { reason })),
            ElementStatus::RetryLater(reason) => drop(later.get_or_insert(reason)),
            ElementStatus::Blocked(reason) => drop(barred.get_or_insert(reason)),
            ElementStatus::Undocumented => foreign.push(at),
        }
    }
    let rest = match (barred, later) {
        (None, None) if foreign.is_empty() => Verdict::ACCEPTED,
        // Nothing is known of these: as of an undocumented response.
        (None, None) => {
            classify(response, reason.clone(), &DocumentedApi { body: &|_| Acknowledgement::Undocumented, ..*api })
        }
        (Some(reason), _) => Verdict::stop(reason, api.plan),
        (None, Some(reason)) => Verdict::Retry { reason, after: api.after, applied: Applied::No },
    };
    if matches!(rest, Verdict::Retry { .. } | Verdict::Stop { blame: Blame::Us, .. }) {
        let reason = format!("{reason} (nothing about this group)");
        verdicts.extend(foreign.into_iter().map(|at| (at, ElementVerdict::Unclear { reason: reason.clone() })));
    }
    let whole = rest == Verdict::ACCEPTED;
    let all = |is: &dyn Fn(&ElementVerdict) -> bool| verdicts.iter().all(|(_, verdict)| is(verdict));
    match verdicts.first() {
        None => rest,
        Some(_) if whole && all(&|one| *one == ElementVerdict::Accepted) => Verdict::Accepted { warning },
        // Something that takes nothing at all must look like it, so a rejection of everything is not taken apart here.
        Some((_, ElementVerdict::Rejected { reason }))
            if whole && all(&|one| matches!(one, ElementVerdict::Rejected { .. })) =>
        {
            Verdict::rejected(reason.clone())
        }
        Some(_) => Verdict::PerElement { verdicts, warning, rest: Box::new(rest) },
    }
}

/// What a vendor that documents no body says with a success: nothing, a JSON object without an error, or a word of
/// consent. A page, a sentence, JSON that breaks off are something else's.
pub(in crate::destination) fn undocumented_body(body: &ResponseBody) -> Acknowledgement {
    const WORDS: [&str; 6] = ["ok", "success", "accepted", "true", "1", "created"];
    let word = body.json.as_str().unwrap_or(&body.text).to_ascii_lowercase();
    let plain = body.text.is_empty() || body.json.is_object() || WORDS.contains(&word.as_str());
    Acknowledgement::accepted_if(plain && !body.page && !body.mentions_error())
}

/// What a server of the operator's own says with a success: anything but a page, JSON that breaks off, and what mentions
/// an error.
pub(in crate::destination) fn any_body(body: &ResponseBody) -> Acknowledgement {
    let torn = body.text.starts_with(['{', '[']) && body.json.is_null();
    Acknowledgement::accepted_if(!torn && !body.page && !body.mentions_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, kind: &str, body: &str) -> Response {
        let headers = vec![("content-type".to_owned(), kind.to_owned())];
        Response { status, headers, body: body.as_bytes().to_vec(), ..Response::default() }
    }

    fn verdict(status: u16, kind: &str, body: &str) -> Verdict {
        let word = |body: &ResponseBody| Acknowledgement::accepted_if(body.text == "success");
        let api = DocumentedApi {
            vendor: "Acme",
            statuses: &[200],
            body: &word,
            address: "`base_url`",
            credentials: "check `api_key`",
            plan: "check the plan",
            after: None,
        };
        classify(&response(status, kind, body), format!("HTTP {status}"), &api)
    }

    #[test]
    fn only_the_documented_acknowledgement_is_a_delivery() {
        for kind in ["text/html", "text/plain", "application/json", ""] {
            assert_eq!(verdict(200, kind, " success\n"), Verdict::ACCEPTED, "{kind}");
            for body in ["", "<html>success</html>", "succes", r#"{"error":"no"}"#, "\u{1f}\u{8b}"] {
                let Verdict::Stop { applied, blame, advice, .. } = verdict(200, kind, body) else { panic!("{body}") };
                assert_eq!((applied, blame), (Applied::Maybe, Blame::Unclear), "{body}");
                assert!(advice.starts_with("check `base_url`"), "{advice}");
            }
            assert!(matches!(verdict(202, kind, "success"), Verdict::Stop { applied: Applied::Maybe, .. }));
        }
    }

    #[test]
    fn each_element_has_what_was_said_of_it() {
        let api = DocumentedApi {
            vendor: "Acme",
            statuses: &[200],
            body: &|_| Acknowledgement::Undocumented,
            address: "`base_url`",
            credentials: "check `api_key`",
            plan: "check the plan",
            after: Some(Duration::from_secs(1)),
        };
        let classify = |of_each| {
            classify_per_element(&response(200, "application/json", "{}"), "HTTP 200".to_owned(), of_each, &api)
        };
        let words = |text: &str| text.to_owned();
        let (taken, later) = (ElementStatus::Accepted(None), ElementStatus::RetryLater(words("busy")));
        assert_eq!(
            classify(vec![taken.clone(), ElementStatus::Accepted(Some(words("hm")))]),
            Verdict::Accepted { warning: Some(words("hm")) }
        );
        let retry = Verdict::Retry { reason: words("busy"), after: api.after, applied: Applied::No };
        assert_eq!(classify(vec![later.clone(), later.clone()]), retry);
        let Verdict::PerElement { verdicts, warning: None, rest } =
            classify(vec![taken.clone(), ElementStatus::Rejected(words("no")), later, ElementStatus::Undocumented])
        else {
            panic!()
        };
        let unclear = ElementVerdict::Unclear { reason: words("HTTP 200 (nothing about this group)") };
        assert_eq!(
            verdicts,
            [(0, ElementVerdict::Accepted), (1, ElementVerdict::Rejected { reason: words("no") }), (3, unclear)]
        );
        assert_eq!(*rest, retry);
        let all = classify(vec![ElementStatus::Rejected(words("no")), ElementStatus::Rejected(words("neither"))]);
        assert_eq!(all, Verdict::rejected(words("no")), "halves will tell whether it is about them");
        let barred = classify(vec![ElementStatus::Blocked(words("quota")), ElementStatus::Blocked(words("quota"))]);
        assert!(matches!(barred, Verdict::Stop { blame: Blame::Us, applied: Applied::No, .. }), "{barred:?}");
        for foreign in [classify(vec![ElementStatus::Undocumented]), classify(vec![taken, ElementStatus::Undocumented])]
        {
            let rest = if let Verdict::PerElement { rest, .. } = foreign { *rest } else { foreign };
            assert!(matches!(rest, Verdict::Stop { blame: Blame::Unclear, applied: Applied::Maybe, .. }), "{rest:?}");
        }
    }

    #[test]
    fn every_status_proves_something_or_nothing() {
        for status in 0..=1_000_u16 {
            let seen = match verdict(status, "text/plain", "") {
                Verdict::Accepted { .. } | Verdict::RejectedSome { .. } | Verdict::PerElement { .. } => "delivered",
                Verdict::Rejected { applied: Applied::No, .. } | Verdict::TooLarge { .. } => "no",
                Verdict::Stop { applied, .. } | Verdict::Retry { applied, .. } | Verdict::Rejected { applied, .. } => {
                    if applied == Applied::No {
                        "no"
                    } else {
                        "maybe"
                    }
                }
            };
            let not_applied = match status {
                408 => false,
                400..=499 | 501 | 505 | 511 => true,
                _ => false,
            };
            assert_eq!(seen, if not_applied { "no" } else { "maybe" }, "{status}");
        }
    }

    #[test]
    fn pages_are_told_from_texts() {
        let page = |kind: &str, body: &str| ResponseBody::of(&response(200, kind, body)).page;
        for body in ["<!DOCTYPE HTML><title>x</title>", "\u{feff} <html>", "<!-- x --><HTML lang='en'>", "<h1>Hi</h1>"]
        {
            assert!(page("application/json", body), "{body}");
        }
        for body in ["ok", "<response>ok</response>", "{\"html\":\"<html>\"}", "1 < 2"] {
            assert!(!page("text/plain", body), "{body}");
            assert!(page("Text/HTML; charset=utf-8", body), "{body}");
        }
        assert!(!page("text/html", " \n"), "nothing is no page");
    }

    #[test]
    fn errors_are_heard() {
        let speaks = |body: &str| ResponseBody::of(&response(200, "", body)).mentions_error();
        for body in [
            r#"{"error":"no"}"#,
            r#"{"errors":[1]}"#,
            r#"{"status":"error"}"#,
            r#"{"code":500}"#,
            r#"{"statusCode":403}"#,
            "Error: no",
            "\"error\"",
            "Bad Gateway",
            "Access denied",
        ] {
            let starts = body != "Access denied";
            assert_eq!(speaks(body), starts, "{body}");
        }
        for body in [
            "",
            "OK",
            r#"{"error":null}"#,
            r#"{"errors":[]}"#,
            r#"{"status":"ok","code":200}"#,
            "{}",
            "[]",
            "no errors",
        ] {
            assert!(!speaks(body), "{body}");
        }
    }
}
