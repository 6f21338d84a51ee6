//! The error message of a response: what a vendor says in it, safe to show.

use crate::destination::shared::status;
use crate::io::http::Response;
use crate::secret::{self, Secret};

/// Longest excerpt of a response that is kept: enough for any vendor's message, too little for an HTML page to flood a log.
const WORDS_BYTES_MAX: usize = 2_048;

/// Most of a response that is read for its error message.
const READ_BYTES_MAX: usize = 16 * 1_024;
/// Characters of a page of HTML that are kept.
const PAGE_CHARS_MAX: usize = 300;

/// The status and the vendor's error message, safe to show: secrets masked (in whatever form they came back, see
/// [`secret::mask`]), a page of HTML as its text, control characters turned into spaces, cut at 2 KB.
pub(in crate::destination) fn error_message(response: &Response, secrets: &[&Secret]) -> String {
    let text = String::from_utf8_lossy(&response.body[..response.body.len().min(READ_BYTES_MAX)]).into_owned();
    // Masked before it is cut: half a key is still half a key.
    let mut text = secret::mask_credentials(&secret::mask(&text, secrets));
    if status::is_page(response) {
        text = page_text(&text);
    }
    let text = text.replace(char::is_control, " ");
    let text = text.trim();
    if text.is_empty() {
        return format!("HTTP {}", response.status);
    }
    if text.len() <= WORDS_BYTES_MAX {
        return format!("HTTP {}: {text}", response.status);
    }
    let end = (0..=WORDS_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("HTTP {}: {}…", response.status, &text[..end])
}

/// What a page of HTML says to a reader, shortened.
fn page_text(html: &str) -> String {
    let lower = html.to_ascii_lowercase();
    let mut text = String::new();
    let mut at = 0;
    while let Some(open) = html[at..].find('<').map(|open| at + open) {
        text.push_str(&html[at..open]);
        text.push(' ');
        // Scripts and styles are not for readers.
        let silent = ["script", "style"].iter().find(|name| lower[open + 1..].starts_with(**name));
        let end = match silent {
            Some(name) => lower[open..].find(&format!("</{name}")).map(|close| open + close + 2),
            None => Some(open),
        };
        let close = end.and_then(|end| html[end..].find('>').map(|close| end + close + 1));
        at = close.unwrap_or(html.len());
    }
    text.push_str(&html[at..]);
    let mut short: Vec<&str> = Vec::new();
    let mut left = PAGE_CHARS_MAX;
    for word in text.split_whitespace() {
        let length = word.chars().count() + 1;
        if length > left {
            short.push("…");
            break;
        }
        left -= length;
        short.push(word);
    }
    short.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(headers: &[(&str, &str)], body: &[u8]) -> Response {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Response { status: 400, headers, body: body.to_vec(), ..Response::default() }
    }

    #[test]
    fn words_hide_secrets_and_end() {
        let secret = Secret::new("s3cr+t key");
        let said = error_message(&response(&[], b"bad \x1b[31m s3cr+t key, s3cr%2Bt+key\n"), &[&secret]);
        assert_eq!(said, "HTTP 400: bad  [31m ***, ***");
        let long = "é".repeat(5_000);
        let said = error_message(&response(&[], long.as_bytes()), &[&secret]);
        assert!(said.len() < 2_100 && said.ends_with("é…"), "cut at a character");
        assert_eq!(error_message(&response(&[], b" \n"), &[&secret]), "HTTP 400");
        let html = b"<!DOCTYPE html><html><head><title>403 Forbidden</title><style>b{}</style></head>\
            <body><script>if (1<2) {}</script><h1>Request\nblocked.</h1> s3cr+t key</body></html>";
        assert_eq!(error_message(&response(&[], html), &[&secret]), "HTTP 400: 403 Forbidden Request blocked. ***");
        assert!(error_message(&response(&[], format!("<html>{}", "word ".repeat(500)).as_bytes()), &[]).len() < 400);
        let proxy = b"<html>Proxy-Authorization: Basic dXNlcjpwYXNz</html>";
        assert_eq!(error_message(&response(&[], proxy), &[]), "HTTP 400: Proxy-Authorization: Basic ***");
        assert!(error_message(&response(&[], b"\xff\xfe"), &[]).starts_with("HTTP 400: "));
    }
}
