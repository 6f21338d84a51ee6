//! The style sheet and the script, compiled in.

use std::sync::OnceLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("console.css");
const SCRIPT: &str = include_str!("console.js");

/// The icon: the logo in a colour that is visible on light and dark tabs.
pub(super) const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 22 22' \
    fill='%234f7cf0'%3E%3Crect x='1' y='3' width='8' height='3' rx='1'/%3E%3Crect x='1' y='9.5' width='8' height='3' \
    rx='1'/%3E%3Crect x='1' y='16' width='8' height='3' rx='1'/%3E%3Ccircle cx='16.5' cy='6' r='3'/%3E%3Ccircle \
    cx='16.5' cy='16' r='3'/%3E%3C/svg%3E";

/// An address that changes with the content, so that a browser may cache it for ever.
fn versioned(path: &str, content: &str) -> String {
    let digest = Sha256::digest(content.as_bytes());
    format!("{path}?v={}", URL_SAFE_NO_PAD.encode(&digest[..6]))
}

/// The path of the style sheet.
pub(super) fn style_path() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| versioned("/assets/console.css", STYLE))
}

/// The path of the script.
pub(super) fn script_path() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| versioned("/assets/console.js", SCRIPT))
}

/// The style sheet.
pub(super) async fn style() -> Response {
    cached("text/css; charset=utf-8", STYLE)
}

/// The script.
pub(super) async fn script() -> Response {
    cached("text/javascript; charset=utf-8", SCRIPT)
}

fn cached(kind: &'static str, content: &'static str) -> Response {
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
    (headers, content).into_response()
}
