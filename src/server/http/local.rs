//! What the socket beside the ledger serves beyond the API: who listens there, plans of any size, line by line, and the
//! upkeep of the ledger.
//!
//! [`Hello`] lets a command see that it reached the daemon of its own ledger and config folder before it asks for anything.

use std::path::PathBuf;
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
use serde_json::Value;

use super::auth::AuthState;
use super::body::{self, JsonBody};
use super::error::ApiError;
use super::query::{Bounded, NoQuery, Query};
use super::routes::PathParams;
use crate::error::Error;
use crate::io::file_id::FileId;
use crate::ledger::BackupSummary;
use crate::service::api::{EnqueuedRun, ResultStream, Service};
use crate::sync::report::error_json;
use crate::sync::{BY_COMMAND_LINE, RunOptions};

/// The path of [`Hello`].
pub const HELLO: &str = "/local/v1/hello";
/// The path at which a copy of the ledger is asked for.
pub const BACKUP: &str = "/local/v1/ledger/backup";
/// Changes of a plan that are written at once.
const LINES_AT_ONCE: usize = 64;

/// Who listens on the socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The program's version.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// The API's address as this machine reaches it.
    pub url: String,
    /// The ledger's file, as it was opened.
    pub ledger: FileId,
    /// The config folder.
    pub folder: PathBuf,
    /// What is at that path now; none when there is nothing.
    #[serde(default)]
    pub folder_id: Option<FileId>,
}

/// A line of an answer that is told line by line. The last one is an end or an error; without it the answer is not whole.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line<Item, End> {
    /// One of what is told.
    Item(Item),
    /// The result.
    End(End),
    /// Why there is none, as the API tells errors.
    Error(Value),
}

/// What a reset is about.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reset {
    /// One group; without it, all.
    pub group: Option<String>,
    /// Whether the ledger forgets what is known, instead of having everything sent again.
    pub forget: bool,
}

/// What is asked for at [`BACKUP`].
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    /// The file to make, by its whole path: the daemon's working directory is not the caller's.
    pub file: PathBuf,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PlanLinesQuery {
    /// How many changes to write; all without it.
    show: Option<u64>,
    requests: Bounded<0, 1, 0>,
}

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
    match body::read(raw, &state.limits).await {
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

/// As the API does, but on record as what it is: a command.
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
    JsonBody(asked): JsonBody<BackupRequest>,
) -> Result<Json<BackupSummary>, ApiError> {
    if !asked.file.is_absolute() {
        return Err(ApiError::bad("`file` is not a whole path", "begin it with `/`"));
    }
    Ok(Json(local.service.backup(&asked.file).await?))
}

async fn plan(
    State(local): State<Arc<Local>>,
    Query(query): Query<PlanLinesQuery>,
    PathParams(sync): PathParams<String>,
    JsonBody(options): JsonBody<RunOptions>,
) -> Result<Response, ApiError> {
    let requests = query.requests.0 == 1;
    let show = query.show.and_then(|show| usize::try_from(show).ok()).unwrap_or(usize::MAX);
    Ok(line_by_line(local.service.plan_stream(&sync, options, show, requests).await?))
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
    JsonBody(asked): JsonBody<Reset>,
) -> Result<Json<u64>, ApiError> {
    Ok(Json(local.service.reset(&sync, asked.group.as_deref(), asked.forget).await?))
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

/// An answer without a limit to its size, written as what it tells is found.
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
            Err(refused) => Line::Error(error_json(&refused.into_error())),
        };
        return Some((Ok(lines([last])), None));
    }
    let found = lines(found.into_iter().map(Line::<Item, End>::Item));
    Some((Ok(found), Some(ResultStream { items, end })))
}

fn lines(lines: impl IntoIterator<Item = impl Serialize>) -> Bytes {
    let mut text = Vec::new();
    for line in lines {
        // EmptyBody in it has keys that are not texts, which is all that can go wrong.
        drop(serde_json::to_writer(&mut text, &line));
        text.push(b'\n');
    }
    text.into()
}
