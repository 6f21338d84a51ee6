//! The handlers of the API: each reads its parameters, calls the service, and returns its result as JSON.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body::JsonBody;
use super::error::{ApiError, ApiResult};
use super::limits::HttpLimits;
use super::middleware::timed_out;
use super::query::{Bounded, NoQuery, PathParams, Query};
use super::run_request::{PlanQuery, ShownChanges, StartRunRequest};
use crate::ledger::ChangeOutcome;
use crate::service::api::{About, METRICS_CONTENT_TYPE, SCHEDULED_TIMES, Service};
use crate::service::views::{
    ChangeView, DaemonView, DestinationView, GroupRequestView, GroupView, PlanRequest, PlanView, RejectedView,
    RunDetail, RunView, SyncActivity, SyncDetail, SyncView,
};
use crate::sync::plan_file::SealedPlan;

/// Most items in one response. A run is about a kilobyte of JSON, so a response stays near a megabyte.
const ITEMS_MAX: u64 = 1_000;

/// The ledger counts with signed numbers.
const POSITION_MAX: u64 = i64::MAX as u64;

/// What a run started by these routes is recorded to be started by.
const STARTED_BY: &str = "api";

/// What the handlers need.
pub(super) struct ApiState {
    pub(super) service: Arc<dyn Service>,
    pub(super) limits: HttpLimits,
    pub(super) document: Bytes,
}

pub(super) type HttpApi = State<Arc<ApiState>>;

/// A body without keys.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct EmptyBody {}

/// A run that was cancelled.
#[derive(Serialize, JsonSchema)]
pub(super) struct CancelledRun {
    /// The run's id.
    run: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
pub(super) struct SyncsQuery {
    /// How many scheduled times to list of each sync.
    next: Bounded<0, ITEMS_MAX, { SCHEDULED_TIMES as u64 }>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ShowQuery {
    /// How many changes to list, 20 by default; only with `dry_run`.
    show: Option<ShownChanges>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RunsQuery {
    /// List only runs before this one, for the next page.
    before: Option<String>,
    /// How many runs to list at most.
    count: Bounded<1, ITEMS_MAX, 20>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SyncRejectedQuery {
    /// List only groups whose key is greater than this one, for the next page.
    after: Option<String>,
    /// How many groups to list at most.
    count: Bounded<1, ITEMS_MAX, 100>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RejectedQuery {
    /// How many groups to list of each sync at most.
    count: Bounded<1, ITEMS_MAX, 100>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct GroupQuery {
    /// List only changes before the one with this `seq`, for the next page.
    before: Option<Bounded<0, POSITION_MAX, 0>>,
    /// How many changes of the group's history to list at most.
    count: Bounded<1, ITEMS_MAX, 20>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FindGroupQuery {
    /// The group's key.
    key: String,
    /// List only changes before the one with this `seq`, for the next page.
    #[serde(default)]
    before: Option<Bounded<0, POSITION_MAX, 0>>,
    /// How many changes of the group's history to list at most.
    #[serde(default)]
    count: Bounded<1, ITEMS_MAX, 20>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupRequestsQuery {
    /// The group's key.
    key: String,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ChangesQuery {
    /// List only changes with this outcome.
    outcome: Option<ChangeOutcome>,
    /// The position of the first change to list.
    from: Bounded<0, POSITION_MAX, 0>,
    /// How many changes to list at most.
    count: Bounded<1, ITEMS_MAX, 100>,
}

pub(super) async fn health(Query(NoQuery {}): Query<NoQuery>) -> &'static str {
    "ok\n"
}

pub(super) async fn readiness(
    State(api): HttpApi,
    Query(NoQuery {}): Query<NoQuery>,
) -> Result<&'static str, ApiError> {
    match api.service.ready().await {
        Ok(()) => Ok("ok\n"),
        Err(error) => Err(ApiError::failed(StatusCode::SERVICE_UNAVAILABLE, error.into_error())),
    }
}

pub(super) async fn metrics(State(api): HttpApi, Query(NoQuery {}): Query<NoQuery>) -> Result<Response, ApiError> {
    let text = api.service.metrics().await?;
    Ok(([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], text).into_response())
}

pub(super) async fn document(State(api): HttpApi, Query(NoQuery {}): Query<NoQuery>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], api.document.clone()).into_response()
}

pub(super) async fn about(State(api): HttpApi, Query(NoQuery {}): Query<NoQuery>) -> ApiResult<About> {
    Ok(Json(api.service.about().await?))
}

pub(super) async fn syncs(State(api): HttpApi, Query(query): Query<SyncsQuery>) -> ApiResult<Vec<SyncView>> {
    Ok(Json(api.service.syncs(query.next.0 as usize).await?))
}

pub(super) async fn sync(
    State(api): HttpApi,
    PathParams(sync): PathParams<String>,
    Query(NoQuery {}): Query<NoQuery>,
) -> ApiResult<SyncDetail> {
    Ok(Json(api.service.sync(&sync).await?))
}

pub(super) async fn destination(
    State(api): HttpApi,
    PathParams(destination): PathParams<String>,
    Query(NoQuery {}): Query<NoQuery>,
) -> ApiResult<DestinationView> {
    Ok(Json(api.service.destination(&destination).await?))
}

pub(super) async fn plan(
    State(api): HttpApi,
    PathParams(sync): PathParams<String>,
    Query(query): Query<PlanQuery>,
) -> ApiResult<PlanView> {
    let show: ShownChanges = query.extra.unwrap_or_default();
    Ok(Json(api.service.plan(&sync, PlanRequest::showing(query.options, show.0 as usize)).await?))
}

pub(super) async fn accept_plan(
    State(api): HttpApi,
    Query(NoQuery {}): Query<NoQuery>,
    JsonBody(plan): JsonBody<SealedPlan>,
) -> Result<Response, ApiError> {
    Ok((StatusCode::CREATED, Json(api.service.accept_plan(plan).await?)).into_response())
}

pub(super) async fn start_run_of(
    State(api): HttpApi,
    PathParams(sync): PathParams<String>,
    Query(query): Query<ShowQuery>,
    JsonBody(request): JsonBody<StartRunRequest>,
) -> Result<Response, ApiError> {
    if request.extra.unwrap_or_default() {
        let show = query.show.unwrap_or_default().0 as usize;
        return Ok(Json(api.service.plan(&sync, PlanRequest::showing(request.options, show)).await?).into_response());
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
pub(super) async fn pause<const PAUSED: bool>(
    State(api): HttpApi,
    PathParams(sync): PathParams<String>,
    Query(NoQuery {}): Query<NoQuery>,
    JsonBody(EmptyBody {}): JsonBody<EmptyBody>,
) -> ApiResult<SyncActivity> {
    Ok(Json(api.service.pause(&sync, PAUSED).await?))
}

pub(super) async fn sync_runs(
    State(api): HttpApi,
    PathParams(sync): PathParams<String>,
    Query(query): Query<RunsQuery>,
) -> ApiResult<Vec<RunView>> {
    Ok(Json(api.service.runs(Some(&sync), query.before.as_deref(), query.count.0).await?))
}

pub(super) async fn runs(State(api): HttpApi, Query(query): Query<RunsQuery>) -> ApiResult<Vec<RunView>> {
    Ok(Json(api.service.runs(None, query.before.as_deref(), query.count.0).await?))
}

pub(super) async fn sync_rejected(
    State(api): HttpApi,
    PathParams(sync): PathParams<String>,
    Query(query): Query<SyncRejectedQuery>,
) -> ApiResult<Vec<RejectedView>> {
    Ok(Json(api.service.rejected(Some(&sync), query.after.as_deref(), query.count.0).await?))
}

pub(super) async fn rejected(State(api): HttpApi, Query(query): Query<RejectedQuery>) -> ApiResult<Vec<RejectedView>> {
    Ok(Json(api.service.rejected(None, None, query.count.0).await?))
}

pub(super) async fn group(
    State(api): HttpApi,
    PathParams((sync, key)): PathParams<(String, String)>,
    Query(query): Query<GroupQuery>,
) -> ApiResult<GroupView> {
    let before = query.before.map(|before| before.0);
    Ok(Json(api.service.group(&sync, &key, before, query.count.0).await?))
}

pub(super) async fn group_by_query(
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

pub(super) async fn group_requests(
    State(api): HttpApi,
    PathParams(sync): PathParams<String>,
    Query(query): Query<GroupRequestsQuery>,
) -> ApiResult<Vec<GroupRequestView>> {
    if query.key.is_empty() {
        return Err(ApiError::bad("`key` is empty", "name the group: `?key=KEY`"));
    }
    Ok(Json(api.service.requests(&sync, &query.key).await?))
}

pub(super) async fn run(
    State(api): HttpApi,
    PathParams(run): PathParams<String>,
    Query(NoQuery {}): Query<NoQuery>,
) -> ApiResult<RunDetail> {
    Ok(Json(api.service.run(&run).await?))
}

pub(super) async fn run_changes(
    State(api): HttpApi,
    PathParams(run): PathParams<String>,
    Query(query): Query<ChangesQuery>,
) -> ApiResult<Vec<ChangeView>> {
    let outcome = query.outcome.map(ChangeOutcome::name);
    Ok(Json(api.service.run_changes(&run, outcome, query.from.0, query.count.0).await?))
}

pub(super) async fn daemons(State(api): HttpApi, Query(NoQuery {}): Query<NoQuery>) -> ApiResult<Vec<DaemonView>> {
    Ok(Json(api.service.daemons().await?))
}

pub(super) async fn drain(
    State(api): HttpApi,
    Query(NoQuery {}): Query<NoQuery>,
    JsonBody(EmptyBody {}): JsonBody<EmptyBody>,
) -> Result<Response, ApiError> {
    Ok((StatusCode::ACCEPTED, Json(api.service.drain(None).await?)).into_response())
}

pub(super) async fn drain_named(
    State(api): HttpApi,
    PathParams(daemon): PathParams<String>,
    Query(NoQuery {}): Query<NoQuery>,
    JsonBody(EmptyBody {}): JsonBody<EmptyBody>,
) -> Result<Response, ApiError> {
    Ok((StatusCode::ACCEPTED, Json(api.service.drain(Some(&daemon)).await?)).into_response())
}

pub(super) async fn cancel(
    State(api): HttpApi,
    PathParams(run): PathParams<String>,
    Query(NoQuery {}): Query<NoQuery>,
    JsonBody(EmptyBody {}): JsonBody<EmptyBody>,
) -> Result<Response, ApiError> {
    api.service.cancel(&run).await?;
    Ok((StatusCode::ACCEPTED, Json(CancelledRun { run })).into_response())
}
