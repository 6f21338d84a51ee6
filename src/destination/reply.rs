//! What vendors' answers have in common: their words, and how long they ask us to wait.

use std::time::Duration;

use chrono::DateTime;

use super::Reply;
use crate::secret::Secret;

/// Longest excerpt of an answer that is kept: enough for any vendor's message, too little for an HTML page to flood a log.
const WORDS_BYTES_MAX: usize = 2_048;
/// Longest wait read from an answer; delivery has its own, shorter cap.
const WAIT_MAX: Duration = Duration::from_secs(86_400);

/// The status and the vendor's words, safe to show: secrets masked (as written and percent-encoded), control characters
/// turned into spaces, cut at 2 KB.
pub(super) fn words(reply: &Reply, secrets: &[&Secret]) -> String {
    let mut text = String::from_utf8_lossy(&reply.body).into_owned();
    // Masked before it is cut: half a key is still half a key.
    for secret in secrets {
        text = secret.mask(&text);
        let encoded: String = form_urlencoded::byte_serialize(secret.expose().as_bytes()).collect();
        text = Secret::new(encoded).mask(&text);
    }
    let text = text.replace(char::is_control, " ");
    let text = text.trim();
    if text.is_empty() {
        return format!("HTTP {}", reply.status);
    }
    if text.len() <= WORDS_BYTES_MAX {
        return format!("HTTP {}: {text}", reply.status);
    }
    let end = (0..=WORDS_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("HTTP {}: {}…", reply.status, &text[..end])
}

/// The answer's `Retry-After`: seconds, or an HTTP date read against the answer's own `Date`, so that neither clock matters.
pub(crate) fn retry_after(reply: &Reply) -> Option<Duration> {
    let value = reply.header("retry-after")?.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return (seconds >= 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(WAIT_MAX).min(WAIT_MAX));
    }
    let at = DateTime::parse_from_rfc2822(value).ok()?;
    let now = DateTime::parse_from_rfc2822(reply.header("date")?.trim()).ok()?;
    Some((at - now).to_std().unwrap_or(Duration::ZERO).min(WAIT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Reply { status: 400, headers, body: body.to_vec() }
    }

    #[test]
    fn waits_are_seconds_or_dates() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        for (value, seconds) in [
            ("30", Some(30.0)),
            (" 1.5 ", Some(1.5)),
            ("0", Some(0.0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60.0)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0.0)),
            ("99999999999999999999", Some(86_400.0)),
            ("-1", None),
            ("NaN", None),
            ("soon", None),
        ] {
            let waits = retry_after(&reply(&[("retry-after", value), date], b""));
            assert_eq!(waits, seconds.map(Duration::from_secs_f64), "{value}");
        }
        assert_eq!(retry_after(&reply(&[("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT")], b"")), None, "no `Date`");
        assert_eq!(retry_after(&reply(&[], b"")), None);
    }

    #[test]
    fn words_hide_secrets_and_end() {
        let secret = Secret::new("s3cr+t key");
        let said = words(&reply(&[], b"bad \x1b[31m s3cr+t key, s3cr%2Bt+key\n"), &[&secret]);
        assert_eq!(said, "HTTP 400: bad  [31m ***, ***");
        let long = "é".repeat(5_000);
        let said = words(&reply(&[], long.as_bytes()), &[&secret]);
        assert!(said.len() < 2_100 && said.ends_with("é…"), "cut at a character");
        assert_eq!(words(&reply(&[], b" \n"), &[&secret]), "HTTP 400");
        assert!(words(&reply(&[], b"\xff\xfe"), &[]).starts_with("HTTP 400: "));
    }
}
