//! By which id can a receiver tell a repeated change from a new one? A digest of what is said, about whom, and since when:
//! the same over retries and after a crash, another one for the next change, even if that says the same again.

use sha2::{Digest, Sha256};

use crate::model::Change;

/// The identity of a change: the group, the sequence at which the group was last settled, and what is said. Texts are
/// preceded by their length, so that no two of them can be mistaken for others.
pub(super) fn digest(group_type: &str, key: &str, settled_seq: u64, change: &Change) -> [u8; 32] {
    let said = serde_json::to_vec(change).expect("writing JSON values to memory cannot fail");
    let mut hash = Sha256::new();
    for text in [group_type.as_bytes(), key.as_bytes(), &said] {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hash.update(settled_seq.to_be_bytes());
    hash.finalize().into()
}

/// The digest's beginning as a UUID of version 5 (the one for hashes).
pub(super) fn uuid(digest: [u8; 32]) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x50;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn change(value: serde_json::Value) -> Change {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_id_is_stable_and_changes_with_everything_it_stands_for() {
        let said = change(json!({"set": {"a": 1, "b": 2}}));
        let same = change(json!({"set": {"b": 2, "a": 1}}));
        let id = |group_type, key, seq, change: &Change| uuid(digest(group_type, key, seq, change));
        let first = id("company", "acme", 7, &said);
        assert_eq!(first, id("company", "acme", 7, &same), "the order of traits says nothing");
        assert_eq!(first.len(), 36);
        assert_eq!((&first[14..15], "89ab".contains(&first[19..20])), ("5", true), "{first}");
        let others = [
            id("company", "acme", 8, &said),
            id("company", "acm", 7, &said),
            id("companya", "cme", 7, &said),
            id("company", "acme", 7, &change(json!({"set_once": {"a": 1, "b": 2}}))),
            id("company", "acme", 7, &change(json!({"set": {"a": 1, "b": 3}}))),
        ];
        for other in others {
            assert_ne!(first, other);
        }
    }
}
