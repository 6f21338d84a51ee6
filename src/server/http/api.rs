//! Which paths does the API have, and what does each ask of the daemon? One table; `openapi.json` describes the same
//! routes and a test holds the two together.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::body::JsonBody;
use super::finish::too_slow;
use super::limits::Limits;
use super::query::Query;
use super::refused::Refused;
use crate::ledger::ChangeOutcome;
use crate::service::api::{About, EnqueuedRun, SCHEDULED_TIMES, Service};
use crate::service::views::{
    Activity, GroupView, PlanView, RejectedView, RunDetail, RunView, SaidView, SyncDetail, SyncView,
};
use crate::sync::RunOptions;

/// Most items in one answer. A run's line is about a kilobyte with its traits, so an answer stays near a megabyte.
const COUNT_MAX: u64 = 1_000;

/// Items in an answer that was not asked for a number: a screenful of runs and changes, a few of groups.
const RUNS: u64 = 20;
const GROUPS: u64 = 100;
const HISTORY: u64 = 20;
const CHANGES: u64 = 20;

/// The outcomes a run's groups can be asked for by.
pub(super) const OUTCOMES: [ChangeOutcome; 6] = [
    ChangeOutcome::Delivered,
    ChangeOutcome::Rejected,
    ChangeOutcome::PartlyRejected,
    ChangeOutcome::NotSent,
    ChangeOutcome::Unknown,
    ChangeOutcome::Adopted,
];

/// Who is noted as having started a run.
const BY: &str = "api";

/// What the handlers need.
struct Api {
    service: Arc<dyn Service>,
    limits: Limits,
}

type Asked = State<Arc<Api>>;
type Told<T> = Result<Json<T>, Refused>;

/// One path and method.
pub(super) struct Route {
    /// As in the document: `GET`.
    #[cfg_attr(not(test), expect(dead_code, reason = "the handler knows it; the test of openapi.json asks"))]
    pub(super) method: &'static str,
    /// As the router wants it: `{*key}` takes slashes too.
    pub(super) path: &'static str,
    handler: MethodRouter<Arc<Api>>,
}

/// Every route of this module.
pub(super) fn table() -> Vec<Route> {
    let get = |path, handler| Route { method: "GET", path, handler };
    let post = |path, handler| Route { method: "POST", path, handler };
    vec![
        get("/healthz", routing::get(healthz)),
        get("/readyz", routing::get(readyz)),
        get("/metrics", routing::get(metrics)),
        get("/api/v1/openapi.json", routing::get(openapi)),
        get("/api/v1/about", routing::get(about)),
        get("/api/v1/syncs", routing::get(syncs)),
        get("/api/v1/syncs/{sync}", routing::get(sync)),
        get("/api/v1/syncs/{sync}/plan", routing::get(plan)),
        post("/api/v1/syncs/{sync}/pause", routing::post(pause::<true>)),
        post("/api/v1/syncs/{sync}/resume", routing::post(pause::<false>)),
        get("/api/v1/syncs/{sync}/runs", routing::get(sync_runs)),
        post("/api/v1/syncs/{sync}/runs", routing::post(trigger)),
        get("/api/v1/syncs/{sync}/rejected", routing::get(sync_rejected)),
        get("/api/v1/syncs/{sync}/groups", routing::get(group_by_query)),
        get("/api/v1/syncs/{sync}/groups/{*key}", routing::get(group)),
        get("/api/v1/runs", routing::get(runs)),
        get("/api/v1/runs/{run}", routing::get(run)),
        get("/api/v1/runs/{run}/groups", routing::get(said)),
        post("/api/v1/runs/{run}/cancel", routing::post(cancel)),
        get("/api/v1/rejected", routing::get(rejected)),
    ]
}

/// The API, without its guard.
pub(super) fn routes(service: Arc<dyn Service>, limits: &Limits) -> Router {
    // Whatever else is asked for under /api is answered here, not by a page.
    let nothing = || async { StatusCode::NOT_FOUND };
    let start = Router::new().route("/api", routing::any(nothing)).route("/api/{*rest}", routing::any(nothing));
    table()
        .into_iter()
        .fold(start, |router, Route { path, handler, .. }| router.route(path, handler))
        .with_state(Arc::new(Api { service, limits: *limits }))
}

/// Names in a path, percent-decoded.
pub(super) struct Named<T>(pub(super) T);

impl<T: serde::de::DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Named<T>, Refused> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(names)) => Ok(Named(names)),
            Err(_) => Err(Refused::bad("a name in the path is not UTF-8", "percent-encode the bytes of UTF-8 text")),
        }
    }
}

/// A run request: what [`RunOptions`] has, and whether a plan is wanted instead. One type for the reader of the body, so
/// that unknown and repeated keys are named where they stand; serde cannot flatten that.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RunRequest {
    full: bool,
    accept: BTreeSet<String>,
    retry_rejected: bool,
    group: Option<String>,
    limit: Option<u64>,
    dry_run: bool,
}

impl RunRequest {
    fn options(self) -> RunOptions {
        let RunRequest { full, accept, retry_rejected, group, limit, dry_run: _ } = self;
        RunOptions { full, accept, retry_rejected, group, limit }
    }
}

/// The body of an order that has nothing to say.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Nothing {}

/// A run that was told to stop.
#[derive(Serialize)]
struct Cancelled {
    run: String,
}

async fn healthz(uri: Uri) -> Result<&'static str, Refused> {
    Query::read(&uri, &[])?;
    Ok("ok\n")
}

async fn readyz(State(api): Asked, uri: Uri) -> Result<&'static str, Refused> {
    Query::read(&uri, &[])?;
    match api.service.ready().await {
        Ok(()) => Ok("ok\n"),
        Err(refused) => Err(Refused::failed(StatusCode::SERVICE_UNAVAILABLE, refused.into_error())),
    }
}

async fn metrics(State(api): Asked, uri: Uri) -> Result<Response, Refused> {
    Query::read(&uri, &[])?;
    let text = api.service.metrics().await?;
    let content_type = crate::service::api::METRICS_CONTENT_TYPE;
    Ok(([(header::CONTENT_TYPE, content_type)], text).into_response())
}

async fn openapi(uri: Uri) -> Result<Response, Refused> {
    Query::read(&uri, &[])?;
    Ok(([(header::CONTENT_TYPE, "application/json")], include_str!("openapi.json")).into_response())
}

async fn about(State(api): Asked, uri: Uri) -> Told<About> {
    Query::read(&uri, &[])?;
    Ok(Json(api.service.about()))
}

async fn syncs(State(api): Asked, uri: Uri) -> Told<Vec<SyncView>> {
    let query = Query::read(&uri, &["fires"])?;
    Ok(Json(api.service.syncs(query.number("fires", SCHEDULED_TIMES as u64, 0..=COUNT_MAX)? as usize).await?))
}

async fn sync(State(api): Asked, uri: Uri, Named(sync): Named<String>) -> Told<SyncDetail> {
    Query::read(&uri, &[])?;
    Ok(Json(api.service.sync(&sync).await?))
}

async fn plan(State(api): Asked, uri: Uri, Named(sync): Named<String>) -> Told<PlanView> {
    let query = Query::read(&uri, &["show", "full", "group"])?;
    let options = RunOptions {
        full: query.flag("full")?,
        group: query.text("group").map(str::to_owned),
        ..RunOptions::default()
    };
    Ok(Json(api.service.plan(&sync, options, show(&query)?).await?))
}

/// How many changes of a plan are told; none is allowed, the figures are told anyway.
fn show(query: &Query) -> Result<usize, Refused> {
    Ok(query.number("show", CHANGES, 0..=COUNT_MAX)? as usize)
}

async fn trigger(
    State(api): Asked,
    uri: Uri,
    Named(sync): Named<String>,
    JsonBody(request): JsonBody<RunRequest>,
) -> Result<Response, Refused> {
    if request.dry_run {
        let query = Query::read(&uri, &["show"])?;
        let plan: PlanView = api.service.plan(&sync, request.options(), show(&query)?).await?;
        return Ok(Json(plan).into_response());
    }
    Query::read(&uri, &[])?;
    // The path may take as long as a plan does; this part of it must not.
    let accepted = tokio::time::timeout(api.limits.answer, api.service.trigger(&sync, request.options(), BY));
    let accepted: EnqueuedRun = accepted.await.map_err(|_| too_slow(api.limits.answer))??;
    let location = HeaderValue::from_str(&format!("/api/v1/runs/{}", accepted.run));
    let mut response = (StatusCode::ACCEPTED, Json(accepted)).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Pauses or resumes.
async fn pause<const PAUSED: bool>(
    State(api): Asked,
    uri: Uri,
    Named(sync): Named<String>,
    JsonBody(Nothing {}): JsonBody<Nothing>,
) -> Told<Activity> {
    Query::read(&uri, &[])?;
    Ok(Json(api.service.pause(&sync, PAUSED).await?))
}

async fn sync_runs(State(api): Asked, uri: Uri, Named(sync): Named<String>) -> Told<Vec<RunView>> {
    let query = Query::read(&uri, &["before", "count"])?;
    let count = query.number("count", RUNS, 1..=COUNT_MAX)?;
    Ok(Json(api.service.runs(Some(&sync), query.text("before"), count).await?))
}

async fn runs(State(api): Asked, uri: Uri) -> Told<Vec<RunView>> {
    let query = Query::read(&uri, &["before", "count"])?;
    let count = query.number("count", RUNS, 1..=COUNT_MAX)?;
    Ok(Json(api.service.runs(None, query.text("before"), count).await?))
}

async fn sync_rejected(State(api): Asked, uri: Uri, Named(sync): Named<String>) -> Told<Vec<RejectedView>> {
    let query = Query::read(&uri, &["after", "count"])?;
    let count = query.number("count", GROUPS, 1..=COUNT_MAX)?;
    Ok(Json(api.service.rejected(Some(&sync), query.text("after"), count).await?))
}

async fn rejected(State(api): Asked, uri: Uri) -> Told<Vec<RejectedView>> {
    let count = Query::read(&uri, &["count"])?.number("count", GROUPS, 1..=COUNT_MAX)?;
    Ok(Json(api.service.rejected(None, None, count).await?))
}

async fn group(State(api): Asked, uri: Uri, Named((sync, key)): Named<(String, String)>) -> Told<GroupView> {
    let query = Query::read(&uri, &["before", "count"])?;
    let count = query.number("count", HISTORY, 1..=COUNT_MAX)?;
    Ok(Json(api.service.group(&sync, &key, before(&query)?, count).await?))
}

/// For keys that do not survive in a path: `.`, `..`, those that proxies rewrite.
async fn group_by_query(State(api): Asked, uri: Uri, Named(sync): Named<String>) -> Told<GroupView> {
    let query = Query::read(&uri, &["key", "before", "count"])?;
    let count = query.number("count", HISTORY, 1..=COUNT_MAX)?;
    let Some(key) = query.text("key").filter(|key| !key.is_empty()) else {
        return Err(Refused::bad("`key` is missing in the query", "name the group: `?key=ID`"));
    };
    Ok(Json(api.service.group(&sync, key, before(&query)?, count).await?))
}

/// The line of a group's history before which lines are wanted; none for the latest.
fn before(query: &Query) -> Result<Option<u64>, Refused> {
    // The ledger counts with signed numbers.
    query.text("before").map(|_| query.number("before", 0, 0..=i64::MAX as u64)).transpose()
}

async fn run(State(api): Asked, uri: Uri, Named(run): Named<String>) -> Told<RunDetail> {
    Query::read(&uri, &[])?;
    Ok(Json(api.service.run(&run).await?))
}

async fn said(State(api): Asked, uri: Uri, Named(run): Named<String>) -> Told<Vec<SaidView>> {
    let query = Query::read(&uri, &["outcome", "from", "count"])?;
    let outcome = query.word("outcome", &OUTCOMES.map(ChangeOutcome::name))?;
    // The ledger counts with signed numbers.
    let from = query.number("from", 0, 0..=i64::MAX as u64)?;
    let count = query.number("count", GROUPS, 1..=COUNT_MAX)?;
    Ok(Json(api.service.run_changes(&run, outcome, from, count).await?))
}

async fn cancel(
    State(api): Asked,
    uri: Uri,
    Named(run): Named<String>,
    JsonBody(Nothing {}): JsonBody<Nothing>,
) -> Result<Response, Refused> {
    Query::read(&uri, &[])?;
    api.service.cancel(&run).await?;
    Ok((StatusCode::ACCEPTED, Json(Cancelled { run })).into_response())
}
