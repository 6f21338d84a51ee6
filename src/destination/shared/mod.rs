//! What destinations share: `status` classifies a response, `error_message` is what a vendor says in it, `dedup_id` lets a
//! vendor recognise a change, `plain_json` and `reserved_traits` check what plain JSON and a vendor's names allow, and
//! `settings` are those that several have.

pub(super) mod dedup_id;
pub(super) mod error_message;
pub(super) mod plain_json;
pub(super) mod reserved_traits;
pub mod settings;
pub(super) mod status;
