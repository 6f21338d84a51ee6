//! The list of all syncs: search, filters and orders come from the address.

use super::http::Site;
use super::service::FakeService;

/// The paths of the syncs that are listed, in order.
async fn listed(site: &Site, query: &str) -> Vec<String> {
    let html = site.get(&format!("/{query}")).await.body;
    let Some((_, rows)) = html.split_once(r#"<table id="syncs""#) else { return Vec::new() };
    let rows = rows.split(r#"role="rowheader""#).skip(1);
    rows.filter_map(|row| Some(row.split_once("/syncs/")?.1.split('"').next()?.to_owned())).collect()
}

#[tokio::test]
async fn syncs_are_searched_filtered_and_sorted_by_the_address() {
    let site = Site::open(FakeService::rich()).await;
    let all = listed(&site, "").await;
    assert!(all.len() == 7 && all[..3] == ["accounts", "billing", "crm"], "{all:?}");
    assert_eq!(listed(&site, "?q=BILL").await, ["billing"]);
    assert_eq!(listed(&site, "?state=blocked").await, ["billing"]);
    assert_eq!(listed(&site, "?state=paused").await, ["paused"]);
    assert_eq!(listed(&site, "?tag=nightly").await, ["billing"]);
    assert_eq!(listed(&site, "?destination=amplitude+eu").await.len(), 7);
    assert_eq!(listed(&site, "?q=c&state=degraded&sort=rejected").await, ["crm", "paused"]);
    assert_eq!(listed(&site, "?sort=last").await[0], "accounts");
    assert_eq!(listed(&site, "?sort=rejected").await[0], "crm");
    let worst = listed(&site, "?sort=health").await;
    assert!(worst[0].starts_with("usage") && worst[1] == "billing" && worst.last().unwrap() == "legacy", "{worst:?}");
    // An order or a value that does not exist is no error.
    assert_eq!(listed(&site, "?sort=x").await, all);
    for query in ["?q=%3Cb%3Enothing", "?tag=%22%3E", "?state=x"] {
        let html = site.get(&format!("/{query}")).await.body;
        assert!(html.contains("No sync matches.") && html.contains("0 of 7 syncs"), "{query}");
    }
}

#[tokio::test]
async fn a_destination_shows_its_syncs_responses_and_last_error() {
    let site = Site::open(FakeService::rich()).await;
    let html = site.get("/syncs/crm").await.body;
    assert!(html.contains(r#"href="/destinations/amplitude%20eu""#));
    let html = site.get("/destinations/amplitude%20eu").await.body;
    for wanted in
        ["failing", "7 syncs", "by-status", "Bad Request", "of the type amplitude", "/?destination=amplitude+eu"]
    {
        assert!(html.contains(wanted), "{wanted}: {html}");
    }
    let none = site.get("/destinations/none").await;
    assert!(none.status == 404 && none.body.contains("no sync uses a destination `none`"));
}

#[tokio::test]
async fn the_form_shows_what_is_chosen_and_a_sync_its_health_and_tags() {
    let site = Site::open(FakeService::rich()).await;
    let html = site.get("/?q=b%22&state=degraded&sort=groups").await.body;
    for wanted in [r#"value="b&quot;""#, r#"<option value="degraded" selected>"#, r#"<option value="groups" selected>"#]
    {
        assert!(html.contains(wanted), "{wanted}");
    }
    let html = site.get("/").await.body;
    assert!(html.contains(r#"<a class="tag" href="/?tag=nightly">"#), "a tag is a link to its syncs");
    assert!(html.contains("Last and next 24 hours") && html.contains(r#"<table id="day-table""#));
    assert!(html.contains("billing: 1 run, 1 with problems, 1 scheduled"), "{html}");
    for word in ["failing", "blocked", "degraded", "new", "healthy"] {
        assert!(html.contains(&format!("</span> {word}</span>")), "{word}");
    }
}
