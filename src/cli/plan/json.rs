//! A plan as JSON: an object per change and request, and a summary last.

use serde_json::{Value, json};

use super::PlanFormatter;
use crate::cli::print_json;
use crate::error::Error;
use crate::mapping::Mapping;
use crate::service::views::{PlanView, PlannedChange, RequestView};
use crate::sync::report::error_json;

pub(super) struct JsonPlan {
    sync: String,
}

impl JsonPlan {
    pub(super) fn of(mapping: &Mapping) -> JsonPlan {
        JsonPlan { sync: mapping.name.clone() }
    }
}

impl PlanFormatter for JsonPlan {
    fn head(&mut self, _: &Mapping) -> std::io::Result<()> {
        Ok(())
    }

    fn change(&mut self, planned: PlannedChange) -> std::io::Result<()> {
        let PlannedChange { key, label, kind, certain, before, change, user, rejection } = planned;
        let sync = &self.sync;
        let mut line = match rejection {
            Some(reason) => json!({"type": "rejected", "sync": sync, "key": key, "reason": reason}),
            None => {
                let before = |name: &String| before.get(name).cloned().unwrap_or(Value::Null);
                let before: serde_json::Map<String, Value> =
                    change.names().map(|name| (name.clone(), before(name))).collect();
                json!({"type": "change", "sync": sync, "key": key, "kind": kind, "certain": certain,
                    "before": before, "change": change})
            }
        };
        if let Some(user) = user {
            line["user"] = json!(user);
        }
        if let Some(label) = label {
            line["label"] = Value::from(label);
        }
        print_json(&line);
        Ok(())
    }

    fn request(&mut self, request: RequestView) -> std::io::Result<()> {
        let RequestView { method, url, headers, body } = request;
        let headers: serde_json::Map<String, Value> =
            headers.into_iter().map(|(name, value)| (name, Value::from(value))).collect();
        print_json(&json!({"type": "request", "sync": self.sync, "method": method, "url": url,
            "headers": headers, "body": body}));
        Ok(())
    }

    fn foot(&mut self, plan: &PlanView, guard: Option<&Error>) -> std::io::Result<()> {
        print_json(&json!({"type": "plan", "sync": plan.sync, "full": plan.full, "comparison": plan.comparison,
            "add": plan.add, "change": plan.change, "remove": plan.remove,
            "unchanged": plan.unchanged, "rejected": plan.rejected, "rejected_unchanged": plan.rejected_unchanged,
            "traits_set": plan.traits_set, "traits_unset": plan.traits_unset, "traits": plan.traits,
            "guard": guard.map(error_json)}));
        Ok(())
    }
}
