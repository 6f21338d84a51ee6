//! Rejected groups by error message, searched, retried one by one, and as files.

use serde_json::Value;

use super::fixture::HOSTILE_KEYS;
use super::html::forms;
use super::http::Site;
use super::service::FakeService;
use crate::server::console::links::group_path;

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
