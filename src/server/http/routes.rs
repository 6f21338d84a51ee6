//! The routes of the API: one table of paths, each with its handler and its entry in the [OpenAPI document](super::openapi).

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{self, MethodRouter};

use super::handlers::{
    self, ApiState, CancelledRun, ChangesQuery, EmptyBody, FindGroupQuery, GroupQuery, GroupRequestsQuery,
    RejectedQuery, RunsQuery, ShowQuery, SyncRejectedQuery, SyncsQuery,
};
use super::limits::{HttpLimits, PLANS};
use super::openapi::{self, Operation};
use super::run_request::{PlanQuery, StartRunRequest};
use crate::service::api::{About, EnqueuedRun, Service};
use crate::service::views::{
    ChangeView, DaemonView, DestinationView, GroupRequestView, GroupView, PlanView, RejectedView, RunDetail, RunView,
    SyncActivity, SyncDetail, SyncView,
};
use crate::sync::options::PlanFile;
use crate::sync::plan_file::SealedPlan;

/// One path and method.
pub(super) struct ApiRoute {
    /// As in the document: `GET`.
    pub(super) method: &'static str,
    /// As the router writes it: `{*key}` matches slashes too.
    pub(super) path: &'static str,
    pub(super) operation: Operation,
    handler: MethodRouter<Arc<ApiState>>,
}

/// Every route of the API.
pub(super) fn table() -> Vec<ApiRoute> {
    let get = |path, handler, operation| ApiRoute { method: "GET", path, operation, handler };
    let post = |path, handler, operation| ApiRoute { method: "POST", path, operation, handler };
    let list_syncs = Operation::new("listSyncs", "List all syncs, by name")
        .query::<SyncsQuery>()
        .returns::<Vec<SyncView>>(200, "The syncs.");
    let plan_sync = Operation::new("plan", "Show what a run would do now")
        .describe(
            "Reads the source and writes nothing. May take minutes; aborted after ten. As many plans are made at a time as \
             runs; when 16 more wait, further ones get 503.",
        )
        .query::<PlanQuery>()
        .returns::<PlanView>(200, "The plan.")
        .errors(&[409, 502]);
    let start_run = Operation::new("startRun", "Start a run, or show what it would do")
        .describe(
            "A run that cannot start yet is queued: one per sync, and an equal request joins it. With `dry_run` nothing is \
             written, and `show` limits the changes in the response; without it `show` is an error.",
        )
        .query::<ShowQuery>()
        .body::<StartRunRequest>()
        .returns::<PlanView>(200, "The plan, with `dry_run`.")
        .returns::<EnqueuedRun>(202, "The run was queued; the header `Location` has its path.")
        .errors(&[409, 502]);
    vec![
        get(
            "/healthz",
            routing::get(handlers::health),
            Operation::new("health", "Check that the process is alive").public().returns_text("`ok`"),
        ),
        get(
            "/readyz",
            routing::get(handlers::readiness),
            Operation::new("readiness", "Check that the daemon can do its work").public().returns_text("`ok`"),
        ),
        get(
            "/metrics",
            routing::get(handlers::metrics),
            Operation::new("metrics", "Metrics in Prometheus' text format").returns_text("The metrics."),
        ),
        get(
            "/api/v1/openapi.json",
            routing::get(handlers::document),
            Operation::new("openapi", "This document")
                .returns::<serde_json::Map<String, serde_json::Value>>(200, "This document."),
        ),
        get(
            "/api/v1/about",
            routing::get(handlers::about),
            Operation::new("about", "Version, start, config and load of the daemon")
                .returns::<About>(200, "The daemon."),
        ),
        get("/api/v1/syncs", routing::get(handlers::syncs), list_syncs),
        get(
            "/api/v1/syncs/{sync}",
            routing::get(handlers::sync),
            Operation::new("getSync", "One sync with its mapping, guards and latest runs")
                .returns::<SyncDetail>(200, "The sync."),
        ),
        post(
            PLANS,
            routing::post(handlers::accept_plan),
            Operation::new("acceptPlan", "Keep a plan for runs to follow")
                .describe(
                    "What `groupcast run --plan FILE --url URL` sends first: the hashes of a plan's changes. The result is the \
                     value of `plan` in the body that starts a run of one of its syncs, beside the plan's own options. A daemon \
                     keeps the latest sixteen.",
                )
                .body::<SealedPlan>()
                .returns::<PlanFile>(201, "The plan is kept.")
                .errors(&[409]),
        ),
        get("/api/v1/syncs/{sync}/plan", routing::get(handlers::plan), plan_sync),
        post(
            "/api/v1/syncs/{sync}/pause",
            routing::post(handlers::pause::<true>),
            Operation::new("pauseSync", "Pause a sync")
                .describe("Neither its schedule nor retries start it until it is resumed, also after a restart.")
                .body::<EmptyBody>()
                .returns::<SyncActivity>(200, "The sync is paused.")
                .errors(&[409]),
        ),
        post(
            "/api/v1/syncs/{sync}/resume",
            routing::post(handlers::pause::<false>),
            Operation::new("resumeSync", "Resume a sync")
                .body::<EmptyBody>()
                .returns::<SyncActivity>(200, "The sync is not paused.")
                .errors(&[409]),
        ),
        get(
            "/api/v1/syncs/{sync}/runs",
            routing::get(handlers::sync_runs),
            Operation::new("listSyncRuns", "List the runs of a sync, newest first")
                .query::<RunsQuery>()
                .returns::<Vec<RunView>>(200, "The runs."),
        ),
        post("/api/v1/syncs/{sync}/runs", routing::post(handlers::start_run_of), start_run),
        get(
            "/api/v1/syncs/{sync}/rejected",
            routing::get(handlers::sync_rejected),
            Operation::new("listSyncRejected", "List the rejected groups of a sync, by key")
                .query::<SyncRejectedQuery>()
                .returns::<Vec<RejectedView>>(200, "The groups."),
        ),
        get(
            "/api/v1/syncs/{sync}/groups",
            routing::get(handlers::group_by_query),
            Operation::new("findGroup", "One group, with its key in the query")
                .describe("For keys that a path or a proxy changes: `.`, `..`, `a//b`.")
                .query::<FindGroupQuery>()
                .returns::<GroupView>(200, "The group."),
        ),
        get(
            "/api/v1/syncs/{sync}/groups/{*key}",
            routing::get(handlers::group),
            Operation::new("getGroup", "One group: its traits and its history")
                .query::<GroupQuery>()
                .returns::<GroupView>(200, "The group."),
        ),
        get(
            "/api/v1/syncs/{sync}/requests",
            routing::get(handlers::group_requests),
            Operation::new("listGroupRequests", "List the last requests of a group, in the order they were sent")
                .describe(
                    "With their responses, secrets masked. Kept of groups that were not delivered, and of those that a run \
                     was for alone; empty where none is kept.",
                )
                .query::<GroupRequestsQuery>()
                .returns::<Vec<GroupRequestView>>(200, "The requests."),
        ),
        get(
            "/api/v1/destinations/{destination}",
            routing::get(handlers::destination),
            Operation::new("getDestination", "One destination: its limits, and how it responded to the latest runs")
                .returns::<DestinationView>(200, "The destination."),
        ),
        get(
            "/api/v1/runs",
            routing::get(handlers::runs),
            Operation::new("listRuns", "List the runs of all syncs, newest first")
                .query::<RunsQuery>()
                .returns::<Vec<RunView>>(200, "The runs.")
                .errors(&[404]),
        ),
        get(
            "/api/v1/runs/{run}",
            routing::get(handlers::run),
            Operation::new("getRun", "One run with all its details").returns::<RunDetail>(200, "The run."),
        ),
        get(
            "/api/v1/runs/{run}/groups",
            routing::get(handlers::run_changes),
            Operation::new("listRunChanges", "List the changes of a run, in the order they were sent")
                .query::<ChangesQuery>()
                .returns::<Vec<ChangeView>>(200, "The changes."),
        ),
        post(
            "/api/v1/runs/{run}/cancel",
            routing::post(handlers::cancel),
            Operation::new("cancelRun", "Cancel a run")
                .describe(
                    "A queued run is removed from the queue. A running one stops after the requests in flight; cancelled \
                     again, it aborts those too.",
                )
                .body::<EmptyBody>()
                .returns::<CancelledRun>(202, "The run was removed from the queue, or is stopping.")
                .errors(&[409]),
        ),
        get(
            "/api/v1/daemons",
            routing::get(handlers::daemons),
            Operation::new("listDaemons", "List the daemons that use the same ledger, by name")
                .describe("Empty where the ledger is a file, which one process uses.")
                .returns::<Vec<DaemonView>>(200, "The daemons."),
        ),
        post(
            "/api/v1/daemons/{daemon}/drain",
            routing::post(handlers::drain_named),
            Operation::new("drainDaemon", "Drain a daemon")
                .describe("It starts no more runs, and ends with those it has. Other daemons keep its schedules.")
                .body::<EmptyBody>()
                .returns::<DaemonView>(202, "The daemon drains.")
                .errors(&[409]),
        ),
        post(
            "/api/v1/drain",
            routing::post(handlers::drain),
            Operation::new("drain", "Drain this daemon")
                .body::<EmptyBody>()
                .returns::<DaemonView>(202, "The daemon drains.")
                .errors(&[409]),
        ),
        get(
            "/api/v1/rejected",
            routing::get(handlers::rejected),
            Operation::new("listRejected", "List the rejected groups of all syncs, by sync and key")
                .query::<RejectedQuery>()
                .returns::<Vec<RejectedView>>(200, "The groups."),
        ),
    ]
}

/// The API, without authentication.
pub(super) fn router(service: Arc<dyn Service>, limits: &HttpLimits) -> Router {
    // Everything else under /api is not found here, rather than by a page.
    let not_found = || async { StatusCode::NOT_FOUND };
    let start = Router::new().route("/api", routing::any(not_found)).route("/api/{*rest}", routing::any(not_found));
    let table = table();
    let document = openapi::document(table.iter().map(|route| (route.path, route.method, &route.operation)));
    let state = ApiState { service, limits: *limits, document: document.to_string().into() };
    table
        .into_iter()
        .fold(start, |router, ApiRoute { path, handler, .. }| router.route(path, handler))
        .with_state(Arc::new(state))
}
