//! The forms reach the service with their options, and errors are shown.

use super::http::Site;
use super::service::FakeService;

#[tokio::test]
async fn a_run_starts_with_every_option_that_was_ticked() {
    let site = Site::open(FakeService::rich()).await;
    let fields = [("csrf", "x"), ("full", "1"), ("retry_rejected", "on"), ("accept", "removed"), ("accept", "keys")];
    let response = site.post("/syncs/billing/run", &fields).await;
    assert_eq!(response.status, 303);
    assert!(response.header("location").unwrap().starts_with("/runs/2026"));
    let wanted = r#"console: run billing {"full":true,"accept":["keys","removed"],"retry_rejected":true,"group":null,"limit":null}"#;
    assert_eq!(site.service.orders(), [wanted]);
    let joined = site.post("/syncs/crm/run", &[]).await;
    assert_eq!(joined.header("location"), Some("/runs/20261122T031100.000Z-beef?joined=1"));
}

#[tokio::test]
async fn pausing_resuming_and_cancelling_lead_to_where_their_effect_shows() {
    let site = Site::open(FakeService::rich()).await;
    for (path, fields, location) in [
        ("/syncs/billing/pause", vec![], "/syncs/billing"),
        ("/syncs/billing/resume", vec![], "/syncs/billing"),
        ("/runs/20261122T031100.000Z-beef/cancel", vec![("sync", "crm")], "/syncs/crm"),
        ("/runs/20261122T031100.000Z-0063/cancel", vec![], "/runs/20261122T031100.000Z-0063"),
    ] {
        let response = site.post(path, &fields).await;
        assert_eq!((response.status, response.header("location")), (303, Some(location)), "{path}: {}", response.body);
    }
    let stopping = site.get("/runs/20261122T031100.000Z-0063").await.body;
    assert!(stopping.contains("Abort requests in flight"));
}

#[tokio::test]
async fn errors_have_their_status_and_their_advice() {
    let site = Site::open(FakeService::rich()).await;
    let unknown = site.post("/syncs/billing/run", &[("accept", "<b>")]).await;
    assert_eq!(unknown.status, 400);
    assert!(
        unknown.body.contains("there is no guard `&lt;b&gt;`") && unknown.body.contains("Name one of keys, empty.")
    );
    assert_eq!(site.post("/syncs/none/run", &[]).await.status, 404);
    assert_eq!(site.post("/syncs/none/pause", &[]).await.status, 404);
    let ended = site.get("/runs?sync=legacy").await.body;
    let run = ended.split("href=\"/runs/").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(site.post(&format!("/runs/{run}/cancel"), &[]).await.status, 409);
    assert_eq!(site.get("/syncs/billing/run").await.status, 405, "a link never starts a run");
}
