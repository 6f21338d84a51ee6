//! What does the body of a request say? It is read once, whole, within bounds of size and time, before anybody looks at it;
//! memory is bounded by [`Limits::body_bytes`](super::Limits) per connection.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use super::limits::Limits;
use super::refused::Refused;

/// How much of a body that is too large is still taken in and dropped: 1 MiB, a moment's work. A client reads the answer
/// only after it has sent its body, and a connection closed before that looks like a network failure to it.
const DROPPED_BYTES_MAX: usize = 1024 * 1024;

/// Reads a body: 413 when it is too large, 408 when the client takes too long, 400 when it breaks off.
pub(super) async fn read(body: Body, limits: &Limits) -> Result<Bytes, Refused> {
    let too_large = || {
        Refused::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than {} bytes", limits.body_bytes),
            "send less: no request of this API needs so much",
        )
        .with(header::CONNECTION, header::HeaderValue::from_static("close"))
    };
    let whole = async {
        let mut chunks = body.into_data_stream();
        let (mut taken, mut dropped) = (Vec::new(), 0);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| Refused::bad("the body broke off", "send it whole"))?;
            if dropped > 0 || taken.len() + chunk.len() > limits.body_bytes {
                dropped += chunk.len().max(1);
            } else {
                taken.extend_from_slice(&chunk);
            }
            if dropped > DROPPED_BYTES_MAX {
                break;
            }
        }
        if dropped > 0 { Err(too_large()) } else { Ok(Bytes::from(taken)) }
    };
    match tokio::time::timeout(limits.body, whole).await {
        Ok(read) => read,
        Err(_) => Err(Refused::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body was not there within {} seconds", limits.body.as_secs_f32()),
            "send it in one go; a `Content-Length` that is too large has this effect too",
        )
        .with(header::CONNECTION, header::HeaderValue::from_static("close"))),
    }
}

/// The media type of a body, without parameters, in lower case.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?;
    let text = value.to_str().unwrap_or("unreadable");
    Some(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// A body of JSON; an empty one without a media type stands for the defaults, so that `curl -X POST` works. Anything else
/// is refused, which keeps forms of other sites out too: they cannot send JSON.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, _: &S) -> Result<JsonBody<T>, Refused> {
        let media_type = media_type(request.headers());
        // The guard has read it already: this takes it out of memory.
        let bytes = axum::body::to_bytes(request.into_body(), usize::MAX)
            .await
            .map_err(|_| Refused::bad("the body broke off", "send it whole"))?;
        match media_type.as_deref() {
            None | Some("application/json") if bytes.is_empty() => return Ok(JsonBody(T::default())),
            Some("application/json") => {}
            _ => {
                return Err(Refused::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "the body is not declared to be JSON",
                    "send JSON with `Content-Type: application/json`, or no body and no content type at all",
                ));
            }
        }
        let advice = "see the schema of the body in /api/v1/openapi.json";
        // serde would take a list for an object too: its items in the order of our fields.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(Refused::bad("the body is not what is expected: it is no JSON object", advice));
        }
        match Json::<T>::from_bytes(&bytes) {
            Ok(Json(value)) => Ok(JsonBody(value)),
            Err(rejection) => {
                let text = rejection.body_text();
                let detail = text.split_once(": ").map_or(text.as_str(), |(_, detail)| detail);
                Err(Refused::bad(format!("the body is not what is expected: {detail}"), advice))
            }
        }
    }
}
