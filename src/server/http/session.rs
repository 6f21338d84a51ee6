//! How is a browser known again, and its forms told from those of other sites? By values only this daemon can make:
//! HMAC-SHA256 with a key derived from the token, or without a token with a key of this process.
//!
//! A session's cookie is `EXPIRY.ID.MAC`: seconds since 1970, 32 hex digits, 64 hex digits. Nothing is kept about it, so
//! sessions outlive a restart and end with the token. Those that were logged out are remembered until they expire.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::error::{Error, Kind, Result};
use crate::io;
use crate::secret::Secret;

/// How long a session lasts: a working day.
pub(super) const SESSION_SECONDS: i64 = 12 * 3_600;

/// Logged-out sessions remembered: 1,024 × about 50 bytes are 50 KiB. Only somebody with the token can make one; beyond
/// that the one closest to its expiry is forgotten.
const ENDED_MAX: usize = 1_024;

/// A session of a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Its id.
    pub(super) id: String,
    expires: i64,
}

/// Opens sessions and knows them again.
pub(super) struct Sessions {
    /// Signs; the same after a restart when there is a token.
    key: [u8; 32],
    /// Makes ids nobody can guess.
    unguessable: [u8; 32],
    opened: AtomicU64,
    ended: Mutex<BTreeMap<String, i64>>,
}

impl Sessions {
    /// Fails when the system yields no unguessable bytes.
    pub(super) fn new(token: Option<&Secret>) -> Result<Sessions> {
        let unguessable = io::secret_bytes().map_err(|error| {
            Error::new(Kind::Bug, "failed to read unguessable bytes from /dev/urandom")
                .advise("run the daemon where /dev/urandom can be read")
                .because(error)
        })?;
        let key = match token {
            Some(token) => mac(token.expose().as_bytes(), "sessions", ""),
            None => mac(&unguessable, "sessions", ""),
        };
        Ok(Sessions { key, unguessable, opened: AtomicU64::new(0), ended: Mutex::default() })
    }

    /// The cookie value of a new session.
    pub(super) fn open(&self, now: DateTime<Utc>) -> String {
        let number = self.opened.fetch_add(1, Ordering::Relaxed).to_string();
        let id = hex(&mac(&self.unguessable, "id", &number)[..16]);
        let signed = format!("{}.{id}", now.timestamp() + SESSION_SECONDS);
        let mac = hex(&mac(&self.key, "session", &signed));
        format!("{signed}.{mac}")
    }

    /// The session of a cookie value; none if we did not make it, it expired, or it was logged out.
    pub(super) fn find(&self, cookie: &str, now: DateTime<Utc>) -> Option<Found> {
        let (signed, shown) = cookie.rsplit_once('.')?;
        let expected = hex(&mac(&self.key, "session", signed));
        if !bool::from(expected.as_bytes().ct_eq(shown.as_bytes())) {
            return None;
        }
        let (expires, id) = signed.split_once('.')?;
        let found = Found { id: id.to_owned(), expires: expires.parse().ok()? };
        let ended = self.ended.lock();
        (found.expires > now.timestamp() && !ended.contains_key(&found.id)).then_some(found)
    }

    /// Ends a session.
    pub(super) fn end(&self, session: Found, now: DateTime<Utc>) {
        let mut ended = self.ended.lock();
        ended.retain(|_, expires| *expires > now.timestamp());
        ended.insert(session.id, session.expires);
        if ended.len() > ENDED_MAX
            && let Some(first) = ended.iter().min_by_key(|(_, expires)| **expires).map(|(id, _)| id.clone())
        {
            ended.remove(&first);
        }
    }

    /// What forms of this session carry.
    pub(super) fn csrf(&self, session: &str) -> String {
        hex(&mac(&self.key, "csrf", session))
    }

    /// Whether a form carries it.
    pub(super) fn csrf_fits(&self, session: &str, shown: &str) -> bool {
        self.csrf(session).as_bytes().ct_eq(shown.as_bytes()).into()
    }
}

/// The purpose is part of what is signed, so that a value for one cannot pass for the other.
fn mac(key: &[u8], purpose: &str, text: &str) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(b"groupcast ");
    mac.update(purpose.as_bytes());
    mac.update(b"\n");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    #[test]
    fn a_session_is_known_until_it_expires_and_only_with_the_same_token() {
        let token = Secret::new("0123456789abcdef");
        let sessions = Sessions::new(Some(&token)).unwrap();
        let cookie = sessions.open(now());
        let found = sessions.find(&cookie, now()).unwrap();
        assert_eq!(found.id.len(), 32);
        assert_ne!(sessions.open(now()), cookie);
        let last = now() + TimeDelta::seconds(SESSION_SECONDS - 1);
        assert!(sessions.find(&cookie, last).is_some());
        assert!(sessions.find(&cookie, last + TimeDelta::seconds(1)).is_none());
        let restarted = Sessions::new(Some(&token)).unwrap();
        assert_eq!(restarted.find(&cookie, now()), Some(found));
        let other = Sessions::new(Some(&Secret::new("fedcba9876543210"))).unwrap();
        assert!(other.find(&cookie, now()).is_none());
    }

    #[test]
    fn a_cookie_we_did_not_make_is_nobodys() {
        let sessions = Sessions::new(Some(&Secret::new("0123456789abcdef"))).unwrap();
        let cookie = sessions.open(now());
        let (signed, mac) = cookie.rsplit_once('.').unwrap();
        let (expires, id) = signed.split_once('.').unwrap();
        for forged in [
            String::new(),
            ".".to_owned(),
            "..".to_owned(),
            signed.to_owned(),
            format!("{signed}."),
            format!("9{expires}.{id}.{mac}"),
            format!("{expires}.{}.{mac}", "0".repeat(32)),
            format!("{signed}.{}", mac.to_uppercase()),
            format!("{signed}.{}", sessions.csrf(signed)),
        ] {
            assert!(sessions.find(&forged, now()).is_none(), "{forged}");
        }
    }

    #[test]
    fn logging_out_ends_a_session_and_memory_is_bounded() {
        let sessions = Sessions::new(Some(&Secret::new("0123456789abcdef"))).unwrap();
        let (first, second) = (sessions.open(now()), sessions.open(now()));
        sessions.end(sessions.find(&first, now()).unwrap(), now());
        assert!(sessions.find(&first, now()).is_none());
        assert!(sessions.find(&second, now()).is_some());
        for number in 0..3_000_i64 {
            sessions.end(Found { id: number.to_string(), expires: now().timestamp() + number }, now());
        }
        assert_eq!(sessions.ended.lock().len(), ENDED_MAX);
    }

    #[test]
    fn forms_are_bound_to_their_session_and_to_the_process_without_a_token() {
        let (one, two) = (Sessions::new(None).unwrap(), Sessions::new(None).unwrap());
        assert!(one.csrf_fits("local", &one.csrf("local")));
        assert!(!one.csrf_fits("local", &one.csrf("other")));
        assert!(!one.csrf_fits("local", &two.csrf("local")));
        assert!(!one.csrf_fits("local", ""));
    }
}
