//! An exchange: a request and its response as they may be kept and shown, with secrets masked and long texts cut.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{NoResponse, Request, Response};
use crate::secret::{self, Secret};

/// Bytes that are kept of a request's body. A change of one group is a few kilobytes.
pub const REQUEST_BODY_BYTES_MAX: usize = 64 * 1024;
/// Bytes that are kept of a response's body: error messages are a few hundred, a result for each group a few thousand.
pub const RESPONSE_BODY_BYTES_MAX: usize = 16 * 1024;
/// Bytes that are kept of what a request carried of one group, where it carried several.
pub const PART_BYTES_MAX: usize = 16 * 1024;
/// Headers that are kept of a request or a response, and bytes of each value.
const HEADERS_MAX: usize = 50;
const HEADER_BYTES_MAX: usize = 1_024;
/// Headers of responses whose values open a session.
const SESSION_HEADERS: [&str; 2] = ["set-cookie", "set-cookie2"];
/// Values of headers that a destination masks are looked for elsewhere as well, unless they are so short that they are words.
const VALUE_BYTES_MIN: usize = 12;

/// A text of which the end may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Excerpt {
    /// Its beginning.
    pub text: String,
    /// How many bytes follow that are not kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes_left_out: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Excerpt {
    /// The first `bytes_max` bytes of a body, masked; `more` bytes of it are not here.
    fn of(body: &[u8], bytes_max: usize, more: u64, secrets: &[&Secret]) -> Excerpt {
        let text = String::from_utf8_lossy(&body[..cut_at(body, bytes_max)]);
        let bytes_left_out = body.len().saturating_sub(bytes_max) as u64 + more;
        Excerpt { text: masked(&text, secrets), bytes_left_out }
    }
}

/// Where to cut a body so that at most `bytes_max` bytes are left, and no letter of UTF-8 is cut in two.
fn cut_at(body: &[u8], bytes_max: usize) -> usize {
    if body.len() <= bytes_max {
        return body.len();
    }
    let continues = |at: &usize| body.get(*at).is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000);
    // A letter has at most four bytes.
    (bytes_max.saturating_sub(3)..=bytes_max).rev().find(|at| !continues(at)).unwrap_or(bytes_max)
}

/// A header of a request or a response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HttpHeader {
    /// Its name, in lower case.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A request as it was sent, masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SentRequest {
    /// The HTTP method.
    pub method: String,
    /// The whole address.
    pub url: String,
    /// The headers.
    pub headers: Vec<HttpHeader>,
    /// The body before compression.
    pub body: Excerpt,
}

/// A response as it came, masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ReceivedResponse {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<HttpHeader>,
    /// The body, decompressed.
    pub body: Excerpt,
}

/// A request, and the response or why it is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Exchange {
    /// When the last attempt was made.
    pub sent_at: DateTime<Utc>,
    /// How long that took, in milliseconds.
    pub took_ms: u64,
    /// How often the request was sent.
    pub attempts: u32,
    /// The last attempt.
    pub request: SentRequest,
    /// Its response.
    pub response: Option<ReceivedResponse>,
    /// Why there is no response.
    pub no_response: Option<String>,
}

/// The last attempt at a request and what came back, as they are held in memory until it is known what of them is kept. The
/// request is as its destination [masks](crate::secret) it and its body is cut; the response is as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct RawExchange {
    at: DateTime<Utc>,
    took: Duration,
    attempts: u32,
    request: Request,
    body_left_out: u64,
    result: Result<Response, NoResponse>,
    /// What to look for in every text.
    secrets: Vec<Secret>,
}

impl std::fmt::Debug for RawExchange {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:?}", self.request)
    }
}

impl RawExchange {
    /// Of an attempt at `request`, number `attempts`, that began at `at`. `masked` is the request with its secrets masked
    /// where they belong; `secrets` are looked for everywhere else.
    pub fn new(
        (request, mut masked): (&Request, Request),
        mut secrets: Vec<Secret>,
        (at, took, attempts): (DateTime<Utc>, Duration, u32),
        result: Result<Response, NoResponse>,
    ) -> RawExchange {
        // What is masked in a header (a signature, an encoded key) may come back in the response.
        let hidden = request.headers.iter().filter(|header| !masked.headers.contains(header));
        let long = hidden.map(|(_, value)| value.as_str()).filter(|value| value.len() >= VALUE_BYTES_MIN);
        secrets.extend(long.flat_map(|value| [Some(value), value.rsplit(' ').next()]).flatten().map(Secret::new));
        let whole = masked.body.len();
        masked.body.truncate(cut_at(&masked.body, REQUEST_BODY_BYTES_MAX));
        masked.body.shrink_to_fit();
        let body_left_out = (whole - masked.body.len()) as u64;
        RawExchange { at, took, attempts, request: masked, body_left_out, result, secrets }
    }

    /// As it may be kept. Takes milliseconds for a long body: every text is searched for secrets in all their forms.
    pub fn masked(&self) -> Exchange {
        let secrets: Vec<&Secret> = self.secrets.iter().collect();
        let request = &self.request;
        let response = self.result.as_ref().ok().map(|response| ReceivedResponse {
            status: response.status,
            headers: headers(response.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())), &secrets),
            body: Excerpt::of(
                &response.body,
                RESPONSE_BODY_BYTES_MAX,
                // How much longer it was is not known: it was not read.
                u64::from(response.truncated),
                &secrets,
            ),
        });
        Exchange {
            sent_at: self.at,
            took_ms: u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            attempts: self.attempts,
            request: SentRequest {
                method: request.method.to_owned(),
                url: masked(&request.url, &secrets),
                headers: headers(request.headers.iter().map(|(name, value)| (*name, value.as_str())), &secrets),
                body: Excerpt::of(&request.body, REQUEST_BODY_BYTES_MAX, self.body_left_out, &secrets),
            },
            response,
            no_response: self.result.as_ref().err().map(|missing| masked(&missing.what, &secrets)),
        }
    }

    /// The beginning of a part of its request's body, as it may be kept.
    pub fn masked_part(&self, part: &[u8]) -> Excerpt {
        Excerpt::of(part, PART_BYTES_MAX, 0, &self.secrets.iter().collect::<Vec<_>>())
    }
}

fn masked(text: &str, secrets: &[&Secret]) -> String {
    secret::mask_credentials(&secret::mask(text, secrets))
}

fn headers<'a>(all: impl Iterator<Item = (&'a str, &'a str)>, secrets: &[&Secret]) -> Vec<HttpHeader> {
    all.take(HEADERS_MAX)
        .map(|(name, value)| {
            let opens_session = SESSION_HEADERS.iter().any(|header| name.eq_ignore_ascii_case(header));
            let value = match opens_session || name.to_ascii_lowercase().ends_with("authorization") {
                true if value.contains("***") => value.to_owned(),
                true => "***".to_owned(),
                false => {
                    let end = cut_at(value.as_bytes(), HEADER_BYTES_MAX);
                    let cut = if end < value.len() { "…" } else { "" };
                    masked(&format!("{}{cut}", value.get(..end).unwrap_or_default()), secrets)
                }
            };
            HttpHeader { name: name.to_owned(), value }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(request: Request, masked: Request, secrets: &[&str], result: Result<Response, NoResponse>) -> Exchange {
        let secrets = secrets.iter().map(|text| Secret::new(*text)).collect();
        let attempt = (DateTime::UNIX_EPOCH, Duration::from_millis(35), 2);
        RawExchange::new((&request, masked), secrets, attempt, result).masked()
    }

    fn post(body: &[u8], headers: &[(&'static str, &str)]) -> Request {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Request { method: "POST", body: body.to_vec(), headers, ..Request::get("http://host/path".to_owned()) }
    }

    #[test]
    fn secrets_are_masked_wherever_they_come_back() {
        let key = "k3y/7&1d+\"2c";
        let request = post(b"x", &[("authorization", "Basic azN5LzcmMWQrIjJjOg=="), ("x-signature", "v1=0123456789")]);
        let mut masked = request.clone();
        masked.headers[0].1 = "***".to_owned();
        masked.headers[1].1 = "***".to_owned();
        let json = serde_json::to_string(key).unwrap();
        let html = key.replace('&', "&amp;").replace('"', "&quot;");
        let form: String = form_urlencoded::byte_serialize(key.as_bytes()).collect();
        let body = format!("{json} {html} {form} azN5LzcmMWQrIjJjOg== v1=0123456789 Authorization: Token abcdefgh");
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let headers = vec![header("set-cookie", "sid=1"), header("x-echo", key), header("x-plain", "fine")];
        let response = Response { status: 401, headers, body: body.into_bytes(), truncated: false };
        let exchange = exchange(request, masked, &[key], Ok(response));
        let headers: Vec<&str> = exchange.request.headers.iter().map(|header| header.value.as_str()).collect();
        assert_eq!(headers, ["***", "***"]);
        let response = exchange.response.unwrap();
        assert_eq!(response.body.text, "\"***\" *** *** *** *** Authorization: Token ***");
        let values: Vec<&str> = response.headers.iter().map(|header| header.value.as_str()).collect();
        assert_eq!(values, ["***", "***", "fine"]);
        assert_eq!((exchange.attempts, exchange.took_ms), (2, 35));
    }

    #[test]
    fn long_bodies_are_cut_at_a_letter_and_say_so() {
        let body = format!("a{}", "é".repeat(REQUEST_BODY_BYTES_MAX));
        let request = post(body.as_bytes(), &[]);
        let response = Response { status: 500, body: vec![b'x'; 20_000], truncated: true, ..Response::default() };
        let exchange = exchange(request.clone(), request, &[], Ok(response));
        let sent = exchange.request.body;
        assert_eq!(sent.text.len() as u64 + sent.bytes_left_out, body.len() as u64);
        assert!(sent.text.len() >= REQUEST_BODY_BYTES_MAX - 1 && sent.text.ends_with('é'), "no half letter");
        let received = exchange.response.unwrap().body;
        assert_eq!(received.text.len(), RESPONSE_BODY_BYTES_MAX);
        assert_eq!(received.bytes_left_out, 20_000 - RESPONSE_BODY_BYTES_MAX as u64 + 1);
    }

    #[test]
    fn a_key_that_is_cut_in_two_is_masked() {
        let mut body = vec![b'x'; REQUEST_BODY_BYTES_MAX - 6];
        body.extend_from_slice(b"phc_abcdefghijk");
        let request = post(&body, &[]);
        let missing = NoResponse { applied: super::super::Applied::No, what: "no phc_abcdefghijk".to_owned() };
        let exchange = exchange(request.clone(), request, &["phc_abcdefghijk"], Err(missing));
        assert!(exchange.request.body.text.ends_with("xx***"));
        assert_eq!(exchange.no_response.as_deref(), Some("no ***"));
        assert_eq!(exchange.response, None);
    }
}
