//! Settings that several destinations have.

use serde::Deserialize;

use crate::error::{Error, Kind, Result};

/// What happens to a string that is longer than the destination stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LongStrings {
    /// The group is rejected, and the reason names the trait.
    #[default]
    Reject,
    /// Its beginning is sent, as much of it as the destination stores.
    Truncate,
}

/// A configured `base_url` without its trailing slash. Fails ([`Kind::Config`]) when it is no plain http(s) address: one
/// with credentials, a query or a fragment would put secrets into addresses, which are logged.
pub(in crate::destination) fn base_url(text: &str) -> Result<String> {
    let wrong = |what: &str| {
        Error::new(Kind::Config, format!("`base_url` {what}"))
            .advise("write it like `https://proxy.example.com/amplitude`, without credentials, query or fragment")
    };
    let url = url::Url::parse(text).map_err(|_| wrong("is not a valid URL"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("is not an http or https URL"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("contains more than a host and a path"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_hold_a_host_and_a_path() {
        assert_eq!(base_url("http://127.0.0.1:8321/").unwrap(), "http://127.0.0.1:8321");
        assert_eq!(base_url("https://proxy.example.com/a/b").unwrap(), "https://proxy.example.com/a/b");
        for text in
            ["", "api.amplitude.com", "file:/etc/passwd", "ftp://a", "https://u:p@a", "https://a?k=v", "https://a#f"]
        {
            let error = base_url(text).unwrap_err();
            assert_eq!(error.kind(), Kind::Config, "{text}");
            assert!(!error.to_string().contains("u:p"), "no secret in the text");
        }
    }
}
