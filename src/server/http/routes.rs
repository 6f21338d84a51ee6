//! The routes of the API: one table of paths, each with its handler and its entry in the [OpenAPI document](super::openapi).

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};
use axum::{Json, Router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body::JsonBody;
use super::error::{ApiError, ApiResult};
use super::limits::HttpLimits;
use super::middleware::timed_out;
use super::openapi::{self, Operation};
use super::query::{Bounded, NoQuery, Query};
use super::run_request::{PlanQuery, ShownChanges, StartRunRequest};
use crate::ledger::ChangeOutcome;
use crate::service::api::{About, EnqueuedRun, METRICS_CONTENT_TYPE, SCHEDULED_TIMES, Service};
use crate::service::views::{
    ChangeView, GroupView, PlanView, RejectedView, RunDetail, RunView, SyncActivity, SyncDetail, SyncView,
};

/// Most items in one response. A run is about a kilobyte of JSON, so a response stays near a megabyte.
const ITEMS_MAX: u64 = 1_000;

/// The ledger counts with signed numbers.
const POSITION_MAX: u64 = i64::MAX as u64;

/// What a run started by these routes is recorded to be started by.
const STARTED_BY: &str = "api";

/// What the handlers need.
struct ApiState {
    service: Arc<dyn Service>,
    limits: HttpLimits,
    document: Bytes,
}

type HttpApi = State<Arc<ApiState>>;

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
            routing::get(health),
            Operation::new("health", "Check that the process is alive").public().returns_text("`ok`"),
        ),
        get(
            "/readyz",
            routing::get(readiness),
            Operation::new("readiness", "Check that the daemon can do its work").public().returns_text("`ok`"),
        ),
        get(
            "/metrics",
            routing::get(metrics),
            Operation::new("metrics", "Metrics in Prometheus' text format").returns_text("The metrics."),
        ),
        get(
            "/api/v1/openapi.json",
            routing::get(document),
            Operation::new("openapi", "This document")
                .returns::<serde_json::Map<String, serde_json::Value>>(200, "This document."),
        ),
        get(
            "/api/v1/about",
            routing::get(about),
            Operation::new("about", "Version, start, config and load of the daemon")
                .returns::<About>(200, "The daemon."),
        ),
        get("/api/v1/syncs", routing::get(syncs), list_syncs),
        get(
            "/api/v1/syncs/{sync}",
            routing::get(sync),
            Operation::new("getSync", "One sync with its mapping, guards and latest runs")
                .returns::<SyncDetail>(200, "The sync."),
        ),
        get("/api/v1/syncs/{sync}/plan", routing::get(plan), plan_sync),
        post(
            "/api/v1/syncs/{sync}/pause",
            routing::post(pause::<true>),
            Operation::new("pauseSync", "Pause a sync")
                .describe("Neither its schedule nor retries start it until it is resumed, also after a restart.")
                .body::<EmptyBody>()
                .returns::<SyncActivity>(200, "The sync is paused.")
                .errors(&[409]),
        ),
        post(
            "/api/v1/syncs/{sync}/resume",
            routing::post(pause::<false>),
            Operation::new("resumeSync", "Resume a sync")
                .body::<EmptyBody>()
                .returns::<SyncActivity>(200, "The sync is not paused.")
                .errors(&[409]),
        ),
        get(
            "/api/v1/syncs/{sync}/runs",
            routing::get(sync_runs),
            Operation::new("listSyncRuns", "List the runs of a sync, newest first")
                .query::<RunsQuery>()
                .returns::<Vec<RunView>>(200, "The runs."),
        ),
        post("/api/v1/syncs/{sync}/runs", routing::post(start_run_of), start_run),
        get(
            "/api/v1/syncs/{sync}/rejected",
            routing::get(sync_rejected),
            Operation::new("listSyncRejected", "List the rejected groups of a sync, by key")
                .query::<SyncRejectedQuery>()
                .returns::<Vec<RejectedView>>(200, "The groups."),
        ),
        get(
            "/api/v1/syncs/{sync}/groups",
            routing::get(group_by_query),
            Operation::new("findGroup", "One group, with its key in the query")
                .describe("For keys that a path or a proxy changes: `.`, `..`, `a//b`.")
                .query::<FindGroupQuery>()
                .returns::<GroupView>(200, "The group."),
        ),
        get(
            "/api/v1/syncs/{sync}/groups/{*key}",
            routing::get(group),
            Operation::new("getGroup", "One group: its traits and its history")
                .query::<GroupQuery>()
                .returns::<GroupView>(200, "The group."),
        ),
        get(
            "/api/v1/runs",
            routing::get(runs),
            Operation::new("listRuns", "List the runs of all syncs, newest first")
                .query::<RunsQuery>()
                .returns::<Vec<RunView>>(200, "The runs.")
                .errors(&[404]),
        ),
        get(
            "/api/v1/runs/{run}",
            routing::get(run),
            Operation::new("getRun", "One run with all its details").returns::<RunDetail>(200, "The run."),
        ),
        get(
            "/api/v1/runs/{run}/groups",
            routing::get(run_changes),
            Operation::new("listRunChanges", "List the changes of a run, in the order they were sent")
                .query::<ChangesQuery>()
                .returns::<Vec<ChangeView>>(200, "The changes."),
        ),
        post(
            "/api/v1/runs/{run}/cancel",
            routing::post(cancel),
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
            "/api/v1/rejected",
            routing::get(rejected),
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

/// The parameters in a path, percent-decoded.
pub(super) struct PathParams<T>(pub(super) T);

impl<T: serde::de::DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathParams<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<PathParams<T>, ApiError> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(params)) => Ok(PathParams(params)),
            Err(_) => Err(ApiError::bad("a name in the path is not UTF-8", "percent-encode the bytes of UTF-8 text")),
        }
    }
}

/// A body without keys.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct EmptyBody {}

/// A run that was cancelled.
#[derive(Serialize, JsonSchema)]
struct CancelledRun {
    /// The run's id.
    run: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct SyncsQuery {
    /// How many scheduled times to list of each sync.
    next: Bounded<0, ITEMS_MAX, { SCHEDULED_TIMES as u64 }>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ShowQuery {
    /// How many changes to list, 20 by default; only with `dry_run`.
    show: Option<ShownChanges>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RunsQuery {
    /// List only runs before this one, for the next page.
    before: Option<String>,
    /// How many runs to list at most.
    count: Bounded<1, ITEMS_MAX, 20>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct SyncRejectedQuery {
    /// List only groups whose key is greater than this one, for the next page.
    after: Option<String>,
    /// How many groups to list at most.
    count: Bounded<1, ITEMS_MAX, 100>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RejectedQuery {
    /// How many groups to list of each sync at most.
    count: Bounded<1, ITEMS_MAX, 100>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct GroupQuery {
    /// List only changes before the one with this `seq`, for the next page.
    before: Option<Bounded<0, POSITION_MAX, 0>>,
    /// How many changes of the group's history to list at most.
    count: Bounded<1, ITEMS_MAX, 20>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FindGroupQuery {
    /// The group's key.
    key: String,
    /// List only changes before the one with this `seq`, for the next page.
    #[serde(default)]
    before: Option<Bounded<0, POSITION_MAX, 0>>,
    /// How many changes of the group's history to list at most.
    #[serde(default)]
    count: Bounded<1, ITEMS_MAX, 20>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ChangesQuery {
    /// List only changes with this outcome.
    outcome: Option<ChangeOutcome>,
    /// The position of the first change to list.
    from: Bounded<0, POSITION_MAX, 0>,
    /// How many changes to list at most.
    count: Bounded<1, ITEMS_MAX, 100>,
}

async fn health(Query(NoQuery {}): Query<NoQuery>) -> &'static str {
    "ok\n"
}

async fn readiness(State(api): HttpApi, Query(NoQuery {}): Query<NoQuery>) -> Result<&'static str, ApiError> {
    match api.service.ready().await {
        Ok(()) => Ok("ok\n"),
        Err(error) => Err(ApiError::failed(StatusCode::SERVICE_UNAVAILABLE, error.into_error())),
    }
}

async fn metrics(State(api): HttpApi, Query(NoQuery {}): Query<NoQuery>) -> Result<Response, ApiError> {
    let text = api.service.metrics().await?;
    Ok(([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], text).into_response())
}

async fn document(State(api): HttpApi, Query(NoQuery {}): Query<NoQuery>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], api.document.clone()).into_response()
}

async fn about(State(api): HttpApi, Query(NoQuery {}): Query<NoQuery>) -> ApiResult<About> {
    Ok(Json(api.service.about().await?))
}

async fn syncs(State(api): HttpApi, Query(query): Query<SyncsQuery>) -> ApiResult<Vec<SyncView>> {
    Ok(Json(api.service.syncs(query.next.0 as usize).await?))
}

async fn sync(
    State(api): HttpApi,
    PathParams(sync): PathParams<String>,
    Query(NoQuery {}): Query<NoQuery>,
) -> ApiResult<SyncDetail> {
    Ok(Json(api.service.sync(&sync).await?))
}

async fn plan(
    State(api): HttpApi,
    PathParams(sync): PathParams<String>,
    Query(query): Query<PlanQuery>,
) -> ApiResult<PlanView> {
    let show: ShownChanges = query.extra.unwrap_or_default();
    Ok(Json(api.service.plan(&sync, query.options, show.0 as usize).await?))
}

async fn start_run_of(
    State(api): HttpApi,
    PathParams(sync): PathParams<String>,
    Query(query): Query<ShowQuery>,
    JsonBody(request): JsonBody<StartRunRequest>,
) -> Result<Response, ApiError> {
    if request.extra.unwrap_or_default() {
        let show = query.show.unwrap_or_default().0 as usize;
        return Ok(Json(api.service.plan(&sync, request.options, show).await?).into_response());
    }
    if query.show.is_some() {
        return Err(ApiError::bad("`show` applies to a dry run only", "add `\"dry_run\": true` or omit `show`"));
    }
    // The path may take as long as a plan does; this part of it must not.
    let enqueued = tokio::time::timeout(api.limits.response, api.service.trigger(&sync, request.options, STARTED_BY));
    let enqueued = enqueued.await.map_err(|_| timed_out(api.limits.response))??;
    let location = HeaderValue::from_str(&format!("/api/v1/runs/{}", enqueued.run));
    let mut response = (StatusCode::ACCEPTED, Json(enqueued)).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Pauses or resumes a sync.
async fn pause<const PAUSED: bool>(
    State(api): HttpApi,
    PathParams(sync): PathParams<String>,
    Query(NoQuery {}): Query<NoQuery>,
    JsonBody(EmptyBody {}): JsonBody<EmptyBody>,
) -> ApiResult<SyncActivity> {
    Ok(Json(api.service.pause(&sync, PAUSED).await?))
}

async fn sync_runs(
    State(api): HttpApi,
    PathParams(sync): PathParams<String>,
    Query(query): Query<RunsQuery>,
) -> ApiResult<Vec<RunView>> {
    Ok(Json(api.service.runs(Some(&sync), query.before.as_deref(), query.count.0).await?))
}

async fn runs(State(api): HttpApi, Query(query): Query<RunsQuery>) -> ApiResult<Vec<RunView>> {
    Ok(Json(api.service.runs(None, query.before.as_deref(), query.count.0).await?))
}

async fn sync_rejected(
    State(api): HttpApi,
    PathParams(sync): PathParams<String>,
    Query(query): Query<SyncRejectedQuery>,
) -> ApiResult<Vec<RejectedView>> {
    Ok(Json(api.service.rejected(Some(&sync), query.after.as_deref(), query.count.0).await?))
}

async fn rejected(State(api): HttpApi, Query(query): Query<RejectedQuery>) -> ApiResult<Vec<RejectedView>> {
    Ok(Json(api.service.rejected(None, None, query.count.0).await?))
}

async fn group(
    State(api): HttpApi,
    PathParams((sync, key)): PathParams<(String, String)>,
    Query(query): Query<GroupQuery>,
) -> ApiResult<GroupView> {
    let before = query.before.map(|before| before.0);
    Ok(Json(api.service.group(&sync, &key, before, query.count.0).await?))
}

async fn group_by_query(
    State(api): HttpApi,
    PathParams(sync): PathParams<String>,
    Query(query): Query<FindGroupQuery>,
) -> ApiResult<GroupView> {
    if query.key.is_empty() {
        return Err(ApiError::bad("`key` is empty", "name the group: `?key=KEY`"));
    }
    let before = query.before.map(|before| before.0);
    Ok(Json(api.service.group(&sync, &query.key, before, query.count.0).await?))
}

async fn run(
    State(api): HttpApi,
    PathParams(run): PathParams<String>,
    Query(NoQuery {}): Query<NoQuery>,
) -> ApiResult<RunDetail> {
    Ok(Json(api.service.run(&run).await?))
}

async fn run_changes(
    State(api): HttpApi,
    PathParams(run): PathParams<String>,
    Query(query): Query<ChangesQuery>,
) -> ApiResult<Vec<ChangeView>> {
    let outcome = query.outcome.map(ChangeOutcome::name);
    Ok(Json(api.service.run_changes(&run, outcome, query.from.0, query.count.0).await?))
}

async fn cancel(
    State(api): HttpApi,
    PathParams(run): PathParams<String>,
    Query(NoQuery {}): Query<NoQuery>,
    JsonBody(EmptyBody {}): JsonBody<EmptyBody>,
) -> Result<Response, ApiError> {
    api.service.cancel(&run).await?;
    Ok((StatusCode::ACCEPTED, Json(CancelledRun { run })).into_response())
}
