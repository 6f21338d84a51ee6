//! The content of each page.

use super::fixture::HOSTILE_SYNC;
use super::http::Site;
use super::service::FakeService;
use crate::ledger::RunStatus;
use crate::server::console::links::{segment, sync_path};

/// A page's text, without its tags.
fn text_of(html: &str) -> String {
    let body = &html[html.find("<main").expect("a page has a main part")..];
    let mut out = String::new();
    let mut inside = false;
    for char in body.chars() {
        match char {
            '<' => inside = true,
            '>' => inside = false,
            char if !inside => out.push(char),
            _ => {}
        }
    }
    out
}

#[track_caller]
fn contains(html: &str, all: &[&str]) {
    let text = text_of(html);
    for wanted in all {
        assert!(text.contains(wanted), "`{wanted}` is not in: {text}");
    }
}

async fn run_of(site: &Site, sync: &str, status: RunStatus) -> String {
    use crate::service::api::Service;
    let runs = site.service.runs(Some(sync), None, 100).await.unwrap();
    runs.into_iter().find(|run| run.status == status).unwrap().run
}

#[tokio::test]
async fn the_overview_shows_what_needs_attention_runs_and_is_next() {
    let site = Site::open(FakeService::rich()).await;
    let html = site.get("/").await.body;
    contains(
        &html,
        &[
            "Stopped by a guard 1 h 11 min ago; nothing was sent",
            "480 of 1200 known groups left the model",
            "Failed 29 min ago, the 2nd failure in a row",
            "The next retry is in 9 min",
            "7 groups rejected",
            "Sending",
            "1,733 of 5,120 groups done",
            "48 groups per second, about 1 min 10 s left",
            "queued for 1 min",
            "in 4 min Sun 22 Nov 04:16 Europe/Berlin · 03:16\u{a0}UTC",
            "1,204,331",
            "backing off",
            "usage &lt;b&gt;&amp;&quot;ü",
        ],
    );
    assert!(html.contains(r#"data-refresh="often""#), "a run is under way");
    assert!(html.contains(r#"<progress id="progress-0" max="5120" value="1733">"#));
    let order = ["Needs attention", "Running now", "All syncs"].map(|heading| html.find(heading).unwrap());
    assert!(order.is_sorted());
}

#[tokio::test]
async fn an_empty_daemon_shows_the_next_step() {
    let site = Site::open(FakeService::empty()).await;
    contains(&site.get("/").await.body, &["No syncs yet.", "groupcast init"]);
    contains(&site.get("/runs").await.body, &["No runs yet."]);
    contains(&site.get("/rejected").await.body, &["No rejected groups."]);
    let rich = Site::open(FakeService::rich()).await;
    contains(&rich.get("/syncs/fresh").await.body, &["No runs yet.", "Guards are evaluated by the first run."]);
}

#[tokio::test]
async fn notices_show_configuration_errors_and_the_shutdown_but_not_before_the_login() {
    let site = Site::open(FakeService::rich().with_problems()).await;
    for path in ["/", "/runs", "/syncs/crm", "/nowhere/at/all"] {
        let page = site.get(path).await;
        if page.status == 200 {
            contains(
                &page.body,
                &["is DECIMAL(38,2): add", "mappings/&lt;script&gt;.toml:14:12", "The daemon is shutting down."],
            );
            contains(
                &page.body,
                &["No run starts: the ledger is unavailable.", "ledger &lt;x&gt;/ledger.duckdb: it was moved"],
            );
        }
    }
    contains(&site.get("/syncs/crm").await.body, &["The daemon is shutting down: it starts after the restart."]);
    contains(
        &site.get("/").await.body,
        &[
            "2 syncs in error; the others run.",
            "crm: The mapping has errors; the sync runs with its last good version.",
            "teams&lt;b&gt;: The mapping has errors; the sync does not run.",
            "Did you mean source?",
            "✕ error",
        ],
    );
    let login = site.get("/login?failed=1&next=%2Fruns%3Fbefore%3Dx").await.body;
    assert!(
        !login.contains("arr_cents")
            && !login.contains("ledger.duckdb")
            && !login.contains("stopping")
            && !login.contains("0.1.0")
    );
    assert!(login.contains(r#"name="next" value="/runs?before=x""#) && login.contains("Wrong token."));
    assert!(!site.get("/login?next=//evil.example").await.body.contains("evil"));
}

#[tokio::test]
async fn a_sync_shows_its_mapping_guards_history_and_actions() {
    let site = Site::open(FakeService::rich()).await;
    let html = site.get("/syncs/accounts").await.body;
    contains(
        &html,
        &[
            "Current run",
            "every 45m",
            "Rows per run",
            "Changed and rejected groups per run",
            "Duration per run",
            "updated_at",
            "account_name",
            "arr_cents / 100",
            "set_once",
            "on_missing = keep",
            "12 of 1,200 (1 %)",
            "at most 41 of 1,200",
            "nothing to compare",
            "Full run",
        ],
    );
    assert!(!html.contains("Accept and run"), "its last run was not stopped by a guard");
    let paused = site.get("/syncs/paused").await.body;
    contains(&paused, &["Paused since", "Resume"]);
    assert!(!paused.contains("/pause\""));
    let hostile = site.get(&sync_path(HOSTILE_SYNC)).await.body;
    contains(&hostile, &["Failed in a row", "2 runs", "Next retry"]);
}

#[tokio::test]
async fn a_sync_that_its_warehouse_compares_shows_its_mirror_and_why_it_was_made_anew() {
    let site = Site::open(FakeService::rich()).await;
    let crm = site.get("/syncs/crm").await.body;
    contains(
        &crm,
        &[
            "Rows are comparedin the warehouse",
            "compared in the warehouse; 829 rows left it",
            "groupcast_mirror.groupcast_crm_&lt;b&gt;_a",
            "5,230 keys in 7,412 rows about 296.5 kB",
            "Last rebuilt21 Nov 02:12:00 UTC 25 h ago",
            "the mirror does not hold what it should",
            "3 keys, since 22 Nov 02:01:00 UTC 1 h 11 min ago",
            "the next run compares them in any case",
        ],
    );
    // One whose mirror cannot be made compares locally, and shows why.
    let legacy = site.get("/syncs/legacy").await.body;
    contains(
        &legacy,
        &[
            "compared locally: the mirror could not be made: 400 Bad Request: &lt;img",
            "There is no mirror until it can be made.",
            "none; the next run of the whole model makes it",
        ],
    );
    let list = site.get("/").await.body;
    contains(&list, &["compared in the warehouse, 3 keys of the mirror waiting", "no mirror: compared locally"]);
    // Where rows are compared locally, as ever, nothing is shown about mirrors.
    assert!(!text_of(&site.get("/syncs/accounts").await.body).to_lowercase().contains("mirror"));
}

#[tokio::test]
async fn a_run_of_another_daemon_shows_its_progress_and_where_it_is() {
    let site = Site::open(FakeService::rich().with_run_elsewhere()).await;
    let run = run_of(&site, "fresh", RunStatus::Running).await;
    for path in ["/".to_owned(), "/syncs/fresh".to_owned(), format!("/runs/{run}")] {
        let html = site.get(&path).await.body;
        contains(
            &html,
            &["daemon two&lt;b&gt; (process 7 on web-2)", "300 of 900 groups done", "905 rows, 31 requests"],
        );
        assert!(html.contains(r#"data-refresh="often""#), "{path}");
    }
    contains(&site.get(&format!("/runs/{run}")).await.body, &["Runs at", "Cancel this run"]);
    contains(&site.get("/syncs/fresh").await.body, &["by schedule, at daemon two"]);
}

#[tokio::test]
async fn a_guard_is_accepted_by_ticking_its_figures() {
    let site = Site::open(FakeService::rich()).await;
    let run = run_of(&site, "billing", RunStatus::StoppedByGuard).await;
    for path in ["/syncs/billing".to_owned(), format!("/runs/{}", segment(&run))] {
        let html = site.get(&path).await.body;
        contains(&html, &["Stopped by a guard: nothing was sent", "480 of 1,200 (40 %)", "Accept once and run"]);
        let boxes = html.matches(r#"type="checkbox" name="accept""#).count();
        assert_eq!(boxes, 1, "only the guard that trips: {path}");
        assert!(html.contains(r#"name="accept" value="removed" required"#), "{path}");
    }
    // After a later run there is nothing to accept.
    site.post("/syncs/billing/run", &[("accept", "removed")]).await;
    let html = site.get(&format!("/runs/{}", segment(&run))).await.body;
    assert!(!html.contains("Accept once and run"));
    contains(&html, &["a later run has taken place"]);
}

#[tokio::test]
async fn a_run_shows_counts_that_add_up_and_how_the_sending_went() {
    let site = Site::open(FakeService::rich()).await;
    let run = run_of(&site, "crm", RunStatus::SucceededWithRejections).await;
    let html = site.get(&format!("/runs/{run}")).await.body;
    contains(
        &html,
        &[
            "5,230 rows=4,401 unchanged+812 delivered+14 rejected+3 pending+0 unconfirmed",
            "7 by this run, 7 by earlier runs and not retried, 0 without a valid key",
            "21 to remove=20 delivered+1 rejected+0 pending+0 unconfirmed",
            "Requests per 500 ms",
            "no response",
            "from 21.5 s: ",
            "1.7 MB",
            "1 min 1 s",
            "Warnings from the destination",
            "isn't &quot;valid&quot;",
            "partly rejected",
            "Changes 1 to 25",
            "Compared with the previous run",
            "Median latency",
            "Slowest response",
            "Acknowledged groups by trait",
            "churned_at03116",
            "read 1,221,000 rows: 5,120 to compare",
            "requests pause for 15s 9 times in a row",
            "… 1,234 lines not kept …",
            "Guard readings of this run and of the one before it",
        ],
    );
    assert!(!html.contains("do not add up"));
    let second = site.get(&format!("/runs/{run}?from=100&outcome=delivered")).await.body;
    contains(&second, &["Changes 101 to 120", "acct-000100"]);
    contains(&site.get(&format!("/runs/{run}?outcome=unconfirmed")).await.body, &["No change matches."]);
    let failed = run_of(&site, HOSTILE_SYNC, RunStatus::Failed).await;
    contains(
        &site.get(&format!("/runs/{failed}")).await.body,
        &["Next step: Check the destination's settings", "Run again"],
    );
    let crashed = run_of(&site, HOSTILE_SYNC, RunStatus::Crashed).await;
    contains(&site.get(&format!("/runs/{crashed}")).await.body, &["Find out why the process ended during this run"]);
}

#[tokio::test]
async fn a_guard_has_its_reading_beside_the_previous_one() {
    let site = Site::open(FakeService::rich()).await;
    let run = run_of(&site, "billing", RunStatus::StoppedByGuard).await;
    let html = site.get(&format!("/runs/{run}")).await.body;
    let row = html.split("<code>removed</code>").last().unwrap().split("</tr>").next().unwrap();
    let at = |wanted: &str| row.find(wanted).unwrap_or_else(|| panic!("no `{wanted}`: {row}"));
    let order = ["480 of 1,200 (40 %)", "12 of 1,200 (1 %)", "up to 20 %", "stops the run"].map(at);
    assert!(order.is_sorted(), "{row}");
    // The first run has none before it.
    let first = run_of(&site, "legacy", RunStatus::Succeeded).await;
    contains(&site.get(&format!("/runs/{first}")).await.body, &["Previous run", "12 of 1,200 (1 %)–"]);
}

#[tokio::test]
async fn a_destination_shows_its_limits_and_what_was_measured() {
    let site = Site::open(FakeService::rich()).await;
    let html = site.get("/destinations/amplitude%20eu").await.body;
    contains(
        &html,
        &[
            "95.5 requests per second for each run",
            "up to 8 in 10 min",
            "Measured in the latest 20 runs",
            "Throttled (429)",
            "Server errors (5xx)",
            "95th percentile",
            "Requests by run, newest first",
            "Last error",
        ],
    );
    assert_eq!(site.get("/destinations/none").await.status, 404);
}

#[tokio::test]
async fn a_queued_run_has_a_page_before_it_has_a_record() {
    let site = Site::open(FakeService::rich()).await;
    let html = site.get("/runs/20261122T031100.000Z-beef?joined=1").await.body;
    contains(
        &html,
        &["An equal run was queued already", "reads the whole model", "accepts the guard keys", "Cancel this run"],
    );
    assert!(html.contains("data-refresh"));
}

#[tokio::test]
async fn a_plan_shows_old_and_new_and_what_would_stop_it() {
    let site = Site::open(FakeService::rich()).await;
    let html = site.get("/syncs/billing/plan?full=1").await.body;
    contains(
        &html,
        &[
            "from the whole model",
            "120 to add",
            "1,611 to change",
            "&quot;free&quot;→&quot;pro&quot;",
            "(unconfirmed)→&quot;&lt;script&gt;",
            "(appended to the current value)",
            "the group is deleted",
            "unconfirmed: resent in full",
            "! rejected",
            "A guard would stop this run",
            "480 of 1200 &lt;b&gt;",
            "… and 1,733 more groups. Show up to 200",
            "3 synced groups missing from the model are kept",
        ],
    );
    assert!(html.contains(r#"href="/syncs/billing/plan?show=200&amp;full=1""#));
    assert!(html.contains(r#"<input type="hidden" name="full" value="1">"#), "the run has the same options");
    assert!(html.contains(r#"name="accept" value="removed" required"#) && !html.contains("Run now"));
    contains(&site.get("/syncs/crm/plan?group=acme").await.body, &["for the group acme", "Run now", "Plan again"]);
    let failed = site.get("/syncs/fresh/plan").await;
    assert_eq!(failed.status, 500);
    contains(&failed.body, &["it is locked", "Wait for the job that fills it."]);
}

#[tokio::test]
async fn a_group_shows_every_trait_and_when_and_by_which_run_it_was_sent() {
    let site = Site::open(FakeService::rich()).await;
    let html = site.get("/syncs/crm/groups?key=acme").await.body;
    contains(
        &html,
        &[
            "unconfirmed",
            "the next run resends this group in full",
            "120000",
            "before the recorded history",
            "25 h ago 21 Nov 01:59 UTC",
            "(unconfirmed)",
            "History",
            "churned_at",
        ],
    );
    let rejected = site.get("/syncs/crm/groups?key=nul%00key").await.body;
    contains(&rejected, &["nul\u{fffd}key", "Rejected:", "Retry"]);
    let none = site.get("/syncs/crm/groups?key=unknown").await;
    assert_eq!(none.status, 404);
    contains(&none.body, &["there is no group `unknown`", "Compare the key with the source's"]);
    assert_eq!(site.get("/syncs/crm/groups").await.status, 400);
}

#[tokio::test]
async fn lists_go_back_in_time_page_by_page() {
    let site = Site::open(FakeService::rich()).await;
    let first = site.get("/runs").await.body;
    let older = first.split("href=\"/runs?before=").nth(1).unwrap().split('"').next().unwrap();
    let second = site.get(&format!("/runs?before={older}")).await.body;
    contains(&second, &["Latest runs"]);
    contains(&site.get("/runs?sync=legacy").await.body, &["Runs of legacy", "12"]);
    contains(&site.get("/runs?sync=legacy&before=0").await.body, &["No older runs."]);
    contains(
        &site.get("/rejected?sync=crm").await.body,
        &["7 groups", "must be one of the configured values", "Retry rejected of crm"],
    );
}

#[tokio::test]
async fn what_does_not_exist_has_the_right_status() {
    let site = Site::open(FakeService::rich()).await;
    for path in ["/syncs/none", "/runs/none", "/syncs/none/plan", "/syncs/none/groups?key=a", "/there/is/none"] {
        let page = site.get(path).await;
        assert_eq!(page.status, 404, "{path}");
        contains(&page.body, &["Not found", "Back to the overview"]);
    }
}

#[tokio::test]
async fn assets_may_be_cached_for_ever_because_their_path_changes_with_them() {
    let site = Site::open(FakeService::empty()).await;
    let html = site.get("/").await.body;
    for (kind, name) in [("text/css", "css"), ("text/javascript", "js")] {
        let path = format!("/assets/console.{name}?v=");
        let at = html.find(&path).unwrap();
        let page = site.get(html[at..].split('"').next().unwrap()).await;
        assert!(page.header("content-type").unwrap().starts_with(kind));
        assert!(page.header("cache-control").unwrap().contains("immutable") && page.body.len() > 1_000);
    }
}
