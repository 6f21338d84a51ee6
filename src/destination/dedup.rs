//! Under which id does a vendor recognise a change that it is told again? One that follows from what is said alone, so that
//! a repetition carries it too, whoever makes it and when.

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::model::Change;

#[derive(Serialize)]
struct Said<'a>(&'a str, &'a str, u64, &'a Change);

/// What tells one change, or part of one, from every other: the group, the state it starts from, and what it says. The
/// change is canonical JSON by construction, so equal changes are equal bytes.
pub(super) fn digest(group_type: &str, key: &str, settled_seq: u64, change: &Change) -> [u8; 32] {
    let said = serde_json::to_vec(&Said(group_type, key, settled_seq, change));
    Sha256::digest(said.expect("a change of JSON values always serializes")).into()
}

/// A digest as a UUID, of the version that stands for names that were hashed (5).
pub(super) fn uuid(digest: [u8; 32]) -> String {
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x50;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeSet;

    #[test]
    fn an_id_follows_from_what_is_said_and_from_nothing_else() {
        let of = |group_type: &str, key: &str, seq, change| {
            uuid(digest(group_type, key, seq, &serde_json::from_value(change).unwrap()))
        };
        let said = json!({"set": {"a": {"y": 1, "x": 2}}, "unset": ["b"]});
        let id = of("company", "acme", 7, said.clone());
        assert_eq!(id, of("company", "acme", 7, json!({"unset": ["b"], "set": {"a": {"x": 2, "y": 1}}})));
        assert_eq!((id.len(), &id[14..15]), (36, "5"), "{id}");
        assert!("89ab".contains(&id[19..20]), "{id}");
        let others = [
            of("company", "acme", 8, said.clone()),
            of("company", "acm", 7, said.clone()),
            of("companya", "cme", 7, said.clone()),
            of("company", "acme", 7, json!({"set": {"a": {"y": 1, "x": 2}}})),
            of("company", "acme", 7, json!({"set_once": {"a": {"y": 1, "x": 2}}, "unset": ["b"]})),
            of("company", "acme", 7, json!({"set": {"a": {"y": 1, "x": "2"}}, "unset": ["b"]})),
            id,
        ];
        assert_eq!(others.iter().collect::<BTreeSet<_>>().len(), others.len());
    }
}
