//! The rule for success: the status of a response, and a value in its body where the operator configures one.

use serde_json::Value;

use super::WebhookSettings;
use crate::error::{Error, Kind, Result};
use crate::io::http::Response;

/// The operator's rule.
pub(super) struct Success {
    /// Whether the operator named statuses, so that the status alone decides.
    named: bool,
    /// The statuses that count; every 2xx when there are none.
    statuses: Vec<u16>,
    /// A place in the body, and what must be there.
    value: Option<(String, Value)>,
}

impl Success {
    /// Reads the rule. Errors ([`Kind::Config`]): it can never be met, or half of it is missing.
    pub(super) fn new(settings: &WebhookSettings) -> Result<Success> {
        let text = settings.success.as_deref().unwrap_or("2xx").trim().to_lowercase();
        let statuses = if text == "2xx" {
            Vec::new()
        } else {
            // Nothing but a 2xx may count: a redirect or an error page that passes for success would lose every change.
            let read = |part: &str| part.trim().parse().ok().filter(|status| (200..300).contains(status));
            text.split(',').map(read).collect::<Option<Vec<u16>>>().ok_or_else(|| {
                Error::new(Kind::Config, "`success` is neither `2xx` nor a list of such statuses")
                    .advise("write `success = \"2xx\"` or `success = \"200, 202\"`")
            })?
        };
        let value = match (&settings.success_pointer, &settings.success_equals) {
            (None, None) => None,
            (Some(pointer), Some(expected)) if pointer.starts_with('/') => {
                // `true`, `1` and `"ok"` are JSON; a bare word is meant as a text.
                let expected = serde_json::from_str(expected).unwrap_or_else(|_| Value::from(expected.as_str()));
                Some((pointer.clone(), expected))
            }
            (Some(_), Some(_)) => {
                return Err(Error::new(Kind::Config, "`success_pointer` is not a JSON pointer")
                    .advise("write it like `/status` or `/result/ok`"));
            }
            (Some(_), None) | (None, Some(_)) => {
                return Err(Error::new(Kind::Config, "`success_pointer` and `success_equals` go together")
                    .advise("write both, like `success_pointer = \"/ok\"` and `success_equals = \"true\"`"));
            }
        };
        Ok(Success { named: settings.success.is_some(), statuses, value })
    }

    /// Whether a page of HTML may be a success: only where the operator's rule goes by the status alone. Otherwise it is a
    /// login page or an error page far more often than a receiver.
    pub(super) fn takes_a_page(&self) -> bool {
        self.named
    }

    /// Why a response with a 2xx is not a success; nothing when it is.
    pub(super) fn failure(&self, response: &Response) -> Option<Failure> {
        if !self.statuses.is_empty() && !self.statuses.contains(&response.status) {
            return Some(Failure { rule: format!("{} is not in `success`", response.status), said: false });
        }
        let (pointer, expected) = self.value.as_ref()?;
        let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let found = body.pointer(pointer);
        let rule = || format!("`{pointer}` in the response is not {expected}");
        (found != Some(expected)).then(|| Failure { rule: rule(), said: found.is_some() })
    }
}

/// Why a response is no success.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The part of the rule that it does not meet.
    pub(super) rule: String,
    /// Whether the body has another value at the rule's place: then the receiver did not accept the changes. Otherwise the
    /// outcome is unclear.
    pub(super) said: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(success: Option<&str>, pointer: Option<&str>, equals: Option<&str>) -> Result<Success> {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let settings = WebhookSettings {
            success: text(success),
            success_pointer: text(pointer),
            success_equals: text(equals),
            ..WebhookSettings::default()
        };
        Success::new(&settings)
    }

    fn response(status: u16, body: &str) -> Response {
        Response { status, body: body.as_bytes().to_vec(), ..Response::default() }
    }

    #[test]
    fn statuses_and_values_decide() {
        assert_eq!(rule(None, None, None).unwrap().failure(&response(204, "")), None);
        let listed = rule(Some("200, 202"), None, None).unwrap();
        assert_eq!(listed.failure(&response(202, "")), None);
        assert_eq!(listed.failure(&response(207, "")).unwrap().rule, "207 is not in `success`");
        for (equals, body, success) in [
            ("true", r#"{"result":{"ok":true}}"#, true),
            ("true", r#"{"result":{"ok":false}}"#, false),
            ("true", r#"{"result":{"ok":"true"}}"#, false),
            ("true", r#"{"result":{}}"#, false),
            ("true", "ok", false),
            ("true", "", false),
            ("fine", r#"{"result":{"ok":"fine"}}"#, true),
            ("1", r#"{"result":{"ok":1}}"#, true),
        ] {
            let rule = rule(None, Some("/result/ok"), Some(equals)).unwrap();
            assert_eq!(rule.failure(&response(200, body)).is_none(), success, "{equals} {body}");
        }
    }

    #[test]
    fn rules_that_cannot_be_met_are_refused() {
        for (success, pointer, equals) in [
            (Some("404"), None, None),
            (Some(""), None, None),
            (Some("200,"), None, None),
            (Some("ok"), None, None),
            (None, Some("/ok"), None),
            (None, None, Some("true")),
            (None, Some("ok"), Some("true")),
        ] {
            assert_eq!(rule(success, pointer, equals).err().unwrap().kind(), Kind::Config, "{success:?}");
        }
    }
}
