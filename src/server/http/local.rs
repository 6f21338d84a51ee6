//! What the socket beside the ledger serves beyond the API ([`wire`](crate::service::wire)): the process behind it, streamed
//! plans and exports of any size, and the commands of the ledger.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Json, routing};
use futures_util::stream;
use serde::{Deserialize, Serialize};

use super::auth::AuthState;
use super::body::{self, JsonBody};
use super::error::ApiError;
use super::query::{Bounded, NoQuery, PathParams, Query};
use crate::error::Error;
use crate::io::file_id::FileId;
use crate::ledger::BackupSummary;
use crate::service::api::{EnqueuedRun, ResultStream, Service};
use crate::service::views::{OrphanedSync, PlanRequest};
use crate::service::wire::{
    BACKUP, BackupRequest, DROP, DropRequest, HELLO, Hello, Line, ORPHANED, RENAME, RenameRequest, ResetRequest,
};
use crate::sync::{BY_COMMAND_LINE, RunOptions};

/// Items that are written in one piece.
const LINES_AT_ONCE: usize = 64;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct VerifyQuery {
    repair: Bounded<0, 1, 0>,
}

struct Local {
    service: Arc<dyn Service>,
    hello: Hello,
}

/// The routes that only the socket has.
pub(super) fn routes(service: Arc<dyn Service>, hello: Hello) -> Router {
    Router::new()
        .route(HELLO, routing::get(say_hello))
        .route(BACKUP, routing::post(backup))
        .route(ORPHANED, routing::get(orphaned))
        .route(RENAME, routing::post(rename))
        .route(DROP, routing::post(drop_sync))
        .route("/local/v1/syncs/{sync}/runs", routing::post(trigger))
        .route("/local/v1/syncs/{sync}/plan", routing::post(plan))
        .route("/local/v1/syncs/{sync}/export", routing::post(export))
        .route("/local/v1/syncs/{sync}/reset", routing::post(reset))
        .route("/local/v1/syncs/{sync}/adopt", routing::post(adopt))
        .route("/local/v1/syncs/{sync}/verify", routing::post(verify))
        .with_state(Arc::new(Local { service, hello }))
}

/// Reads a body within the limits before a handler sees it, as the guard of the TCP server does.
pub(super) async fn whole_body(State(state): State<Arc<AuthState>>, request: Request, next: Next) -> Response {
    let (parts, raw) = request.into_parts();
    match body::read(raw, state.limits.of_body(parts.uri.path())).await {
        Ok(bytes) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Err(refused) => refused.into_response(),
    }
}

async fn say_hello(
    State(local): State<Arc<Local>>,
    Query(NoQuery {}): Query<NoQuery>,
) -> Result<Json<Hello>, ApiError> {
    // Looked at now: a folder that is switched by a symbolic link stays the same one to whoever reads it by its path.
    let folder_id = FileId::of(&local.hello.folder).ok();
    Ok(Json(Hello { folder_id, ..local.hello.clone() }))
}

/// As the API does, but on record as a run of the command line.
async fn trigger(
    State(local): State<Arc<Local>>,
    Query(NoQuery {}): Query<NoQuery>,
    PathParams(sync): PathParams<String>,
    JsonBody(options): JsonBody<RunOptions>,
) -> Result<Json<EnqueuedRun>, ApiError> {
    Ok(Json(local.service.trigger(&sync, options, BY_COMMAND_LINE).await?))
}

async fn backup(
    State(local): State<Arc<Local>>,
    Query(NoQuery {}): Query<NoQuery>,
    JsonBody(request): JsonBody<BackupRequest>,
) -> Result<Json<BackupSummary>, ApiError> {
    if !request.file.is_absolute() {
        return Err(ApiError::bad("`file` is not an absolute path", "begin it with `/`"));
    }
    Ok(Json(local.service.backup(&request.file).await?))
}

async fn orphaned(
    State(local): State<Arc<Local>>,
    Query(NoQuery {}): Query<NoQuery>,
) -> Result<Json<Vec<OrphanedSync>>, ApiError> {
    Ok(Json(local.service.orphaned_syncs().await?))
}

async fn rename(
    State(local): State<Arc<Local>>,
    Query(NoQuery {}): Query<NoQuery>,
    JsonBody(request): JsonBody<RenameRequest>,
) -> Result<Json<u64>, ApiError> {
    Ok(Json(local.service.rename(&request.from, &request.to).await?))
}

async fn drop_sync(
    State(local): State<Arc<Local>>,
    Query(NoQuery {}): Query<NoQuery>,
    JsonBody(request): JsonBody<DropRequest>,
) -> Result<Json<u64>, ApiError> {
    Ok(Json(local.service.drop_sync(&request.sync).await?))
}

async fn plan(
    State(local): State<Arc<Local>>,
    Query(NoQuery {}): Query<NoQuery>,
    PathParams(sync): PathParams<String>,
    JsonBody(request): JsonBody<PlanRequest>,
) -> Result<Response, ApiError> {
    Ok(line_by_line(local.service.plan_stream(&sync, request).await?))
}

async fn export(
    State(local): State<Arc<Local>>,
    Query(NoQuery {}): Query<NoQuery>,
    PathParams(sync): PathParams<String>,
) -> Result<Response, ApiError> {
    Ok(line_by_line(local.service.export(&sync).await?))
}

async fn reset(
    State(local): State<Arc<Local>>,
    Query(NoQuery {}): Query<NoQuery>,
    PathParams(sync): PathParams<String>,
    JsonBody(request): JsonBody<ResetRequest>,
) -> Result<Json<u64>, ApiError> {
    Ok(Json(local.service.reset(&sync, request.group.as_deref(), request.forget).await?))
}

async fn adopt(
    State(local): State<Arc<Local>>,
    Query(NoQuery {}): Query<NoQuery>,
    PathParams(sync): PathParams<String>,
) -> Result<Response, ApiError> {
    Ok(line_by_line(local.service.adopt(&sync).await?))
}

async fn verify(
    State(local): State<Arc<Local>>,
    Query(query): Query<VerifyQuery>,
    PathParams(sync): PathParams<String>,
) -> Result<Response, ApiError> {
    let repair = query.repair.0 == 1;
    Ok(line_by_line(local.service.verify(&sync, repair).await?))
}

/// A response without a limit to its size, written as its items are found.
fn line_by_line<Item, End>(under_way: ResultStream<Item, End>) -> Response
where
    Item: Serialize + Send + 'static,
    End: Serialize + Send + 'static,
{
    let lines = stream::unfold(Some(under_way), next_lines);
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

type NextLines<Item, End> = Option<(Result<Bytes, Error>, Option<ResultStream<Item, End>>)>;

async fn next_lines<Item: Serialize, End: Serialize>(
    under_way: Option<ResultStream<Item, End>>,
) -> NextLines<Item, End> {
    let ResultStream { mut items, end } = under_way?;
    let mut found = Vec::new();
    items.recv_many(&mut found, LINES_AT_ONCE).await;
    if found.is_empty() {
        let last: Line<Item, End> = match end.await {
            Ok(end) => Line::End(end),
            Err(refused) => Line::Error(refused.into_json()),
        };
        return Some((Ok(lines([last])), None));
    }
    let found = lines(found.into_iter().map(Line::<Item, End>::Item));
    Some((Ok(found), Some(ResultStream { items, end })))
}

fn lines(lines: impl IntoIterator<Item = impl Serialize>) -> Bytes {
    let mut text = Vec::new();
    for line in lines {
        // Nothing in it has keys that are not texts, which is all that can go wrong.
        drop(serde_json::to_writer(&mut text, &line));
        text.push(b'\n');
    }
    text.into()
}
