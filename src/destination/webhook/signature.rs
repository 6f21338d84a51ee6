//! The signature, by which a receiver knows that a request is ours and fresh: an HMAC-SHA256 over the time and the body.
//!
//! `v1=` + hex(HMAC-SHA256(key = the secret's bytes, message = timestamp + `.` + the body's bytes as sent)), where the
//! timestamp is the text of its header, seconds since 1970. The time is signed too, so an old request cannot be passed
//! off as new; `v1` names the recipe, so that another one can follow.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::secret::Secret;

/// The signature header's value.
pub(super) fn signature(secret: &Secret, timestamp: &str, body: &[u8]) -> String {
    let mut mac =
        <Hmac<Sha256> as KeyInit>::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes keys of any length");
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    format!("v1={}", hex::encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector in docs/destinations.md, computed with
    /// `printf '1700000000.{"changes":[]}' | openssl dgst -sha256 -hmac whsec-test-0123456789`.
    #[test]
    fn the_documented_vector() {
        let secret = Secret::new("whsec-test-0123456789");
        assert_eq!(
            signature(&secret, "1700000000", br#"{"changes":[]}"#),
            "v1=91ab098b3515ebff27184a2cd0407c77f008c80de0471f5fbd3d9b0940fe81eb"
        );
        assert_ne!(
            signature(&secret, "1700000001", br#"{"changes":[]}"#),
            signature(&secret, "1700000000", br#"{"changes":[]}"#)
        );
    }
}
