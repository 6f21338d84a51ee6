//! The sessions of browsers that have logged in, and the tokens that tie their forms to them.
//!
//! A session is a random id in a cookie and an entry in this table. It ends after twelve hours, at the log-out, or with the
//! process. Nothing about it is written to disk, so neither a restart nor a restored file brings back a session that was
//! logged out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::error::{Error, Kind, Result};
use crate::io;

/// How long a session lasts: a working day.
pub(super) const SESSION_SECONDS: i64 = 12 * 3_600;

/// Sessions at a time: 1,024 × about 100 bytes are 100 KiB. Only a holder of the token can create one; beyond that, the one
/// closest to its expiry ends.
const SESSIONS_MAX: usize = 1_024;

/// Creates sessions and finds them again.
pub(super) struct SessionStore {
    /// Ids and form tokens are made with it, so they cannot be guessed.
    key: [u8; 32],
    created: AtomicU64,
    /// When each session expires, by the MAC of its id: the time a lookup takes reveals nothing about ids.
    expiries: Mutex<BTreeMap<[u8; 32], DateTime<Utc>>>,
}

impl SessionStore {
    /// Fails when the system provides no random bytes.
    pub(super) fn new() -> Result<SessionStore> {
        let key = io::secret_bytes().map_err(|error| {
            Error::new(Kind::Bug, "failed to read random bytes from the system")
                .advise("run the daemon where the system call `getrandom` is allowed")
                .because(error)
        })?;
        Ok(SessionStore { key, created: AtomicU64::new(0), expiries: Mutex::default() })
    }

    /// Creates a session; returns its id, which is the cookie's value.
    pub(super) fn create(&self, now: DateTime<Utc>) -> String {
        let number = self.created.fetch_add(1, Ordering::Relaxed);
        let id = URL_SAFE_NO_PAD.encode(self.mac("id", &number.to_string()));
        let mut expiries = self.expiries.lock();
        expiries.retain(|_, expiry| *expiry > now);
        if expiries.len() >= SESSIONS_MAX
            && let Some(first) = expiries.iter().min_by_key(|(_, expiry)| **expiry).map(|(id, _)| *id)
        {
            expiries.remove(&first);
        }
        expiries.insert(self.mac("session", &id), now + TimeDelta::seconds(SESSION_SECONDS));
        id
    }

    /// Whether a session has this id and has not ended.
    pub(super) fn is_valid(&self, id: &str, now: DateTime<Utc>) -> bool {
        self.expiries.lock().get(&self.mac("session", id)).is_some_and(|expiry| *expiry > now)
    }

    /// Ends a session.
    pub(super) fn end(&self, id: &str) {
        self.expiries.lock().remove(&self.mac("session", id));
    }

    /// The token that forms of this session carry.
    pub(super) fn csrf(&self, id: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.mac("csrf", id))
    }

    /// Whether this is the token of the session's forms.
    pub(super) fn csrf_matches(&self, id: &str, csrf: &str) -> bool {
        self.csrf(id).as_bytes().ct_eq(csrf.as_bytes()).into()
    }

    /// The purpose is part of the input, so that a value made for one purpose cannot serve another.
    fn mac(&self, purpose: &str, text: &str) -> [u8; 32] {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(purpose.as_bytes());
        mac.update(b"\n");
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    #[test]
    fn a_session_is_valid_until_it_expires_and_only_in_this_process() {
        let sessions = SessionStore::new().unwrap();
        let id = sessions.create(now());
        assert!(id.len() == 43 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{id}");
        assert_ne!(sessions.create(now()), id);
        let last = now() + TimeDelta::seconds(SESSION_SECONDS - 1);
        assert!(sessions.is_valid(&id, last));
        assert!(!sessions.is_valid(&id, last + TimeDelta::seconds(1)));
        assert!(!SessionStore::new().unwrap().is_valid(&id, now()), "a restart ends every session");
        for forged in ["", ".", "=", &id[1..], &id.to_lowercase(), &sessions.csrf(&id)] {
            assert!(!sessions.is_valid(forged, now()), "{forged}");
        }
    }

    #[test]
    fn logging_out_ends_one_session_and_memory_is_bounded() {
        let sessions = SessionStore::new().unwrap();
        let (first, second) = (sessions.create(now()), sessions.create(now()));
        sessions.end(&first);
        assert!(!sessions.is_valid(&first, now()) && sessions.is_valid(&second, now()));
        let later: Vec<String> = (1..3_000).map(|second| sessions.create(now() + TimeDelta::seconds(second))).collect();
        assert_eq!(sessions.expiries.lock().len(), SESSIONS_MAX);
        assert!(!sessions.is_valid(&second, now()) && sessions.is_valid(later.last().unwrap(), now()));
    }

    #[test]
    fn forms_are_bound_to_their_session_and_to_the_process() {
        let (one, two) = (SessionStore::new().unwrap(), SessionStore::new().unwrap());
        assert!(one.csrf_matches("local", &one.csrf("local")));
        for other in [one.csrf("other"), two.csrf("local"), String::new()] {
            assert!(!one.csrf_matches("local", &other), "{other}");
        }
    }
}
