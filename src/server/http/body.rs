//! Request bodies: read once, whole, within limits of size and time, before a handler sees them. Memory is bounded by
//! [`HttpLimits::body_bytes`](super::limits::HttpLimits::body_bytes) per connection, and one plan.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use super::error::ApiError;
use super::limits::BodyLimits;

/// How much of a body that is too large is still read and dropped: 1 MiB takes milliseconds. A client reads the response only
/// after it has sent its body, and a connection closed before that looks like a network failure to it.
const DROPPED_BYTES_MAX: usize = 1024 * 1024;

/// Reads a body: 413 when it is too large, 408 when the client takes too long, 400 when it breaks off.
pub(super) async fn read(body: Body, limits: BodyLimits) -> Result<Bytes, ApiError> {
    let too_large = || {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than {} bytes", limits.bytes),
            "send less: no request of this API needs as much, and a plan can be split by its syncs",
        )
        .with(header::CONNECTION, header::HeaderValue::from_static("close"))
    };
    let whole = async {
        let mut chunks = body.into_data_stream();
        let (mut read, mut dropped) = (Vec::new(), 0);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| {
                ApiError::bad("the body ended early", "send as many bytes as `Content-Length` declares")
            })?;
            if dropped > 0 || read.len() + chunk.len() > limits.bytes {
                dropped += chunk.len().max(1);
            } else {
                read.extend_from_slice(&chunk);
            }
            if dropped > DROPPED_BYTES_MAX {
                break;
            }
        }
        if dropped > 0 { Err(too_large()) } else { Ok(Bytes::from(read)) }
    };
    match tokio::time::timeout(limits.time, whole).await {
        Ok(read) => read,
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body did not arrive within {} seconds", limits.time.as_secs_f32()),
            "send it without a pause, and check that `Content-Length` is not larger than the body",
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

/// A JSON body; an empty one without a media type means the defaults, so that `curl -X POST` works. Everything else is
/// rejected, which keeps out forms of other sites too: they cannot send JSON.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<JsonBody<T>, ApiError> {
        let media_type = media_type(request.headers());
        // Authentication has read it already: this takes it out of memory.
        let bytes = axum::body::to_bytes(request.into_body(), usize::MAX)
            .await
            .map_err(|_| ApiError::bad("the body ended early", "send as many bytes as `Content-Length` declares"))?;
        match media_type.as_deref() {
            None | Some("application/json") if bytes.is_empty() => return Ok(JsonBody(T::default())),
            Some("application/json") => {}
            _ => {
                return Err(ApiError::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "`Content-Type` is not `application/json`",
                    "send JSON with `Content-Type: application/json`, or neither a body nor a content type",
                ));
            }
        }
        let advice = "see the schema of the body in /api/v1/openapi.json";
        // serde would read a list as an object too: its items in the order of the fields.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(ApiError::bad("invalid body: not a JSON object", advice));
        }
        match Json::<T>::from_bytes(&bytes) {
            Ok(Json(value)) => Ok(JsonBody(value)),
            Err(rejection) => {
                let text = rejection.body_text();
                let detail = text.split_once(": ").map_or(text.as_str(), |(_, detail)| detail);
                Err(ApiError::bad(format!("invalid body: {detail}"), advice))
            }
        }
    }
}

/// The only value of a form's field; none if it is absent or ambiguous.
pub(super) fn form_field(form: &[u8], name: &str) -> Option<String> {
    let mut values = form_urlencoded::parse(form).filter(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    values.next().filter(|_| values.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_occurs_twice_has_no_value() {
        assert_eq!(form_field(b"token=a%20b&x=1", "token").as_deref(), Some("a b"));
        assert_eq!(form_field(b"token=a&token=b", "token"), None);
        assert_eq!(form_field(b"", "token"), None);
    }
}
