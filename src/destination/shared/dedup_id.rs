//! The id by which a vendor recognises a change that it received before.
//!
//! It follows from the change, its group, where the group was before, and the run that sends it: every retry within a run
//! carries it, and no other change does.
//!
//! It deliberately does not outlive the run, although a rerun after a crash could then be recognised too. Two runs may lose
//! their responses one after the other, the first having sent A and the second B; a third that sends A again must not be
//! taken for the first, or the vendor keeps B and the ledger believes A. What a rerun sends twice sets the same values
//! twice; what accumulates is rejected instead of being sent again.

use sha2::{Digest, Sha256};

use crate::destination::AddressedChange;
use crate::model::{Change, PlainDocument};

/// A digest of one part of a change, `change`, that is addressed to a group of `group_type`.
pub(in crate::destination) fn digest(group_type: &str, addressed: &AddressedChange, change: &Change) -> [u8; 32] {
    of_content(group_type, addressed, &serde_json::to_vec(change).expect("writing JSON values to memory cannot fail"))
}

/// The digest of a change that only sets plain values.
pub(in crate::destination) fn of_plain(
    group_type: &str,
    addressed: &AddressedChange,
    document: &PlainDocument,
) -> [u8; 32] {
    of_content(group_type, addressed, format!("{{\"set\":{}}}", document.text).as_bytes())
}

fn of_content(group_type: &str, addressed: &AddressedChange, content: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    // Each text with its length before it, so that no two lists of texts are the same bytes.
    let key = addressed.key.as_bytes();
    let (seq, run) = (addressed.settled_seq.to_be_bytes(), addressed.at.timestamp_micros().to_be_bytes());
    for text in [b"groupcast 1".as_slice(), group_type.as_bytes(), key, &seq, &run, content] {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}

/// The digest's first half as a UUID (version 5: derived from a name).
pub(in crate::destination) fn uuid(digest: [u8; 32]) -> String {
    let half = std::array::from_fn(|at| digest[at]);
    uuid::Builder::from_sha1_bytes(half).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use serde_json::json;

    use super::*;

    fn change(value: serde_json::Value) -> Change {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_same_change_has_one_id_and_any_other_another() {
        let in_run = |run, kind: &str, key: &str, seq, said| {
            let at = DateTime::UNIX_EPOCH + TimeDelta::microseconds(run);
            let addressed = AddressedChange { key: key.to_owned(), settled_seq: seq, at, ..AddressedChange::default() };
            uuid(digest(kind, &addressed, &change(said)))
        };
        let id = |kind: &str, key: &str, seq, said| in_run(0, kind, key, seq, said);
        let first = id("company", "acme", 7, json!({"set": {"a": 1, "b": 2}}));
        assert_eq!(first, id("company", "acme", 7, json!({"set": {"b": 2, "a": 1}})), "names have one order");
        let others = [
            in_run(1, "company", "acme", 7, json!({"set": {"a": 1, "b": 2}})),
            id("account", "acme", 7, json!({"set": {"a": 1, "b": 2}})),
            id("company", "acmf", 7, json!({"set": {"a": 1, "b": 2}})),
            id("companya", "cme", 7, json!({"set": {"a": 1, "b": 2}})),
            id("company", "acme", 8, json!({"set": {"a": 1, "b": 2}})),
            id("company", "acme", 7, json!({"set": {"a": "1", "b": 2}})),
            id("company", "acme", 7, json!({"set_once": {"a": 1, "b": 2}})),
            id("company", "acme", 7, json!({"set": {"a": 1}, "unset": ["b"]})),
        ];
        for (at, other) in others.iter().enumerate() {
            assert!(*other != first && !others[..at].contains(other), "{at}");
        }
    }

    #[test]
    fn an_id_is_a_uuid_of_version_5() {
        assert_eq!(uuid([0xff; 32]), "ffffffff-ffff-5fff-bfff-ffffffffffff");
        assert_eq!(uuid([0; 32]), "00000000-0000-5000-8000-000000000000");
    }
}
