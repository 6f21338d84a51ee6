//! Typed parameters of paths and queries. Nothing is guessed: an unknown key of a query, a repeated one, or a value out of
//! bounds is an error that names the key.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use super::error::ApiError;

/// The parameters in a path, percent-decoded.
pub(super) struct PathParams<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathParams<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<PathParams<T>, ApiError> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(params)) => Ok(PathParams(params)),
            Err(_) => Err(ApiError::bad("a name in the path is not UTF-8", "percent-encode the bytes of UTF-8 text")),
        }
    }
}

/// The query string, read by axum's extractor of the same name, with our error response.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Query<T>, ApiError> {
        let text = parts.uri.query().unwrap_or_default();
        // Bytes that are not UTF-8 would be replaced silently; no key or run has the replacement character.
        let broken = form_urlencoded::parse(text.as_bytes()).find(|(_, value)| value.contains('\u{fffd}'));
        if let Some((key, _)) = broken {
            let what = format!("invalid query: `{key}` is not UTF-8");
            return Err(ApiError::bad(what, "percent-encode the bytes of UTF-8 text"));
        }
        match axum::extract::Query::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(query)) => Ok(Query(query)),
            Err(rejection) => {
                let text = rejection.body_text();
                let detail = text.split_once(": ").map_or(text.as_str(), |(_, detail)| detail);
                let advice = "see the parameters of this path in /api/v1/openapi.json";
                Err(ApiError::bad(format!("invalid query: {detail}"), advice))
            }
        }
    }
}

/// The query of a path that has no parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NoQuery {}

/// A whole number between two bounds, with a default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounded<const MIN: u64, const MAX: u64, const DEFAULT: u64>(pub(super) u64);

impl<const MIN: u64, const MAX: u64, const DEFAULT: u64> Default for Bounded<MIN, MAX, DEFAULT> {
    fn default() -> Self {
        Bounded(DEFAULT)
    }
}

impl<'de, const MIN: u64, const MAX: u64, const DEFAULT: u64> Deserialize<'de> for Bounded<MIN, MAX, DEFAULT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // `parse` accepts a plus sign too.
        let number = text.parse().ok().filter(|_| text.starts_with(|char: char| char.is_ascii_digit()));
        let number = number.filter(|number| (MIN..=MAX).contains(number));
        number.map(Bounded).ok_or_else(|| D::Error::custom(format!("expected a whole number from {MIN} to {MAX}")))
    }
}

impl<const MIN: u64, const MAX: u64, const DEFAULT: u64> JsonSchema for Bounded<MIN, MAX, DEFAULT> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Bounded_{MIN}_{MAX}_{DEFAULT}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": MIN, "maximum": MAX, "default": DEFAULT})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Example {
        count: Bounded<1, 1_000, 20>,
        before: Option<String>,
        full: bool,
    }

    impl Default for Example {
        fn default() -> Example {
            Example { count: Bounded(20), before: None, full: false }
        }
    }

    async fn read(query: &str) -> Result<Example, ApiError> {
        let request = axum::http::Request::builder().uri(format!("/api/v1/runs{query}")).body(()).unwrap();
        let (mut parts, ()) = request.into_parts();
        Query::from_request_parts(&mut parts, &()).await.map(|Query(example)| example)
    }

    #[tokio::test]
    async fn queries_are_read_strictly() {
        for query in ["?x=1", "?count=1&count=2", "?before=%ff", "?count", "?Count=1", "?=1", "?full=1", "?full"] {
            assert!(read(query).await.is_err(), "{query}");
        }
        for count in ["0", "1001", "-1", "%2B1", "+1", "1.0", "", "ten", "99999999999999999999999", "0x10"] {
            assert!(read(&format!("?count={count}")).await.is_err(), "{count}");
        }
        let expected = Example { count: Bounded(7), before: Some("a/b c".to_owned()), full: true };
        assert_eq!(read("?before=a%2Fb+c&count=7&full=true").await.unwrap(), expected);
        for query in ["", "?"] {
            assert_eq!(read(query).await.unwrap(), Example::default(), "{query}");
        }
    }
}
