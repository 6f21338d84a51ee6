//! Rejected groups by error message, searched, retried one by one, and as files.

use std::collections::BTreeSet;

use serde_json::Value;

use super::fixture::HOSTILE_KEYS;
use super::html::{forms, tags};
use super::http::Site;
use super::service::FakeService;
use crate::server::console::links::group_path;
use crate::sync::{GroupKeys, RunOptions};

#[tokio::test]
async fn groups_are_shown_by_error_message_and_searched() {
    let site = Site::open(FakeService::rich()).await;
    let html = site.get("/rejected").await.body;
    assert!(html.contains("7 groups, 2 error messages"), "{html}");
    assert_eq!(html.matches("<article").count(), 2);
    let html = site.get("/rejected?q=ACME").await.body;
    assert!(html.contains("1 group, 1 error message") && html.contains("Show all"));
    let html = site.get("/rejected?sync=crm&q=industry").await.body;
    assert!(html.contains("3 groups, 1 error message"));
    assert!(site.get("/rejected?q=%3Cnothing").await.body.contains("No rejected group matches."));
    // Each group can be retried alone.
    let retry = forms(&html).into_iter().find(|form| form.post && form.action.contains("/run?group=")).unwrap();
    let fields: Vec<(&str, &str)> = retry.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(site.post(&retry.action, &fields).await.status, 303);
    let order = site.service.orders().pop().unwrap();
    assert!(order.contains("\"retry_rejected\":true") && order.contains("\"group\":"), "{order}");
}

/// The hidden fields of the form of a page that posts to this path, with these among them.
fn fields_of(html: &str, action: &str, wanted: (&str, &str)) -> Vec<(String, String)> {
    let has =
        |fields: &[(String, String)]| fields.iter().any(|(name, value)| (name.as_str(), value.as_str()) == wanted);
    let form = forms(html).into_iter().find(|form| form.post && form.action == action && has(&form.fields));
    form.unwrap_or_else(|| panic!("no form for {action} with {wanted:?}")).fields
}

fn pairs(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[tokio::test]
async fn a_selection_is_confirmed_and_its_run_has_exactly_these_groups_whatever_characters_they_have() {
    let site = Site::open(FakeService::rich()).await;
    let html = site.get("/rejected?sync=crm").await.body;
    let boxes: Vec<String> = tags(&html)
        .into_iter()
        .filter(|tag| tag.get("type") == Some("checkbox"))
        .map(|tag| tag.get("value").unwrap().to_owned())
        .collect();
    assert_eq!(boxes.len(), HOSTILE_KEYS.len() + 1);
    // What the boxes belong to asks nothing yet.
    let retry = "/syncs/crm/retry";
    let mut fields = fields_of(&html, retry, ("of", "selected"));
    assert_eq!(site.post(retry, &pairs(&fields)).await.status, 400, "nothing is selected");
    fields.extend(boxes.iter().map(|value| ("key".to_owned(), value.clone())));
    let confirm = site.post(retry, &pairs(&fields)).await;
    assert_eq!(confirm.status, 200);
    assert!(confirm.body.contains("Retry 7 groups") && site.service.orders().is_empty(), "{}", confirm.body);
    let run = fields_of(&confirm.body, "/syncs/crm/run", ("retry_rejected", "1"));
    assert_eq!(site.post("/syncs/crm/run", &pairs(&run)).await.status, 303);
    let orders = site.service.orders();
    let options = orders[0].strip_prefix("console: run crm ").unwrap();
    let options: RunOptions = serde_json::from_str(options).unwrap();
    let keys: BTreeSet<&str> = HOSTILE_KEYS.iter().copied().chain(["acme"]).collect();
    assert_eq!(options.group.unwrap().iter().collect::<BTreeSet<&str>>(), keys);
    assert!(options.retry_rejected);
}

#[tokio::test]
async fn all_with_a_message_and_all_of_a_sync_are_confirmed_with_their_number() {
    let site = Site::open(FakeService::rich()).await;
    let html = site.get("/rejected").await.body;
    let retry = "/syncs/crm/retry";
    let confirm = site.post(retry, &pairs(&fields_of(&html, retry, ("of", "matching")))).await.body;
    assert!(confirm.contains("Retry 4 groups of"), "{confirm}");
    assert_eq!(fields_of(&confirm, "/syncs/crm/run", ("retry_rejected", "1")).len(), 2 + 4, "csrf, option, keys");
    let confirm = site.post(retry, &pairs(&fields_of(&html, retry, ("of", "all")))).await.body;
    assert!(confirm.contains("Retry 7 rejected groups of") && confirm.contains("reads the whole model"), "{confirm}");
    let searched = site.get("/rejected?sync=crm&q=ACME").await.body;
    let confirm = site.post(retry, &pairs(&fields_of(&searched, retry, ("q", "ACME")))).await.body;
    assert!(confirm.contains("Retry 1 group of"), "{confirm}");
    assert_eq!(site.post("/syncs/none/retry", &[("of", "all")]).await.status, 404);
    let none = site.post("/syncs/crm/retry", &[("of", "matching"), ("q", "<nothing")]).await;
    assert!(none.status == 400 && none.body.contains("no group is selected"), "{}", none.body);
    let many: Vec<String> = (0..=GroupKeys::MAX).map(|at| at.to_string()).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|key| ("key", key.as_str())).chain([("of", "selected")]).collect();
    let many = site.post("/syncs/crm/retry", &many).await;
    assert!(many.status == 400 && many.body.contains("1,001 groups are more than"), "{}", many.body);
}

#[tokio::test]
async fn each_group_leads_to_its_last_request() {
    let site = Site::open(FakeService::rich()).await;
    assert!(site.get("/rejected").await.body.contains("/syncs/crm/groups?key=acme#requests"));
    let html = site.get(&group_path("crm", HOSTILE_KEYS[0])).await.body;
    for text in
        ["Last requests", "3 attempts, the last took 1.2 s", "carried 1,000 groups", "HTTP 400", "authorization: ***"]
    {
        assert!(html.contains(text), "{text} is not in {html}");
    }
    assert!(
        html.contains("12,345 more bytes")
            && html.contains("more characters")
            && html.contains("Part about this group")
    );
    assert!(html.contains("No response: no response within 30 s") && !html.contains("<script>alert"), "{html}");
    assert!(!site.get(&group_path("crm", "acme")).await.body.contains("Last request"));
}

#[tokio::test]
async fn files_have_every_group_that_matches() {
    let site = Site::open(FakeService::rich()).await;
    let json = site.get("/rejected.json?sync=crm").await;
    assert_eq!(json.header("content-disposition"), Some("attachment; filename=\"rejected-crm.json\""));
    let groups: Vec<Value> = serde_json::from_str(&json.text()).unwrap();
    let keys: Vec<&str> = groups.iter().map(|group| group["key"].as_str().unwrap()).collect();
    assert_eq!(keys.len(), HOSTILE_KEYS.len() + 1);
    assert!(HOSTILE_KEYS.iter().all(|key| keys.contains(key)), "{keys:?}");
    let csv = site.get("/rejected.csv?q=acme").await;
    assert!(csv.header("content-type").unwrap().starts_with("text/csv"));
    let text = csv.text();
    assert!(text.starts_with("sync,key,at,error_message,payload\r\ncrm,acme,2026-11-22T02:02:00.000Z,"), "{text}");
    assert_eq!(text.matches("\r\n").count(), 2);
    assert_eq!(site.get("/rejected.json?q=%3Cnothing").await.text(), "[]\n");
    assert_eq!(site.get("/rejected.xls").await.status, 404);
    assert_eq!(site.get("/rejected.csv?sync=none").await.status, 404);
}
