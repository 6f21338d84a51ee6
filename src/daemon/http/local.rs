//! What the socket beside the ledger serves beyond the API: who listens there, and plans of any size, line by line.
//!
//! [`Hello`] lets a command see that it reached the daemon of its own ledger and config folder before it asks for anything.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Json, routing};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::api::Named;
use super::auth::Gate;
use super::body::{self, JsonBody};
use super::query::Query;
use super::refused::Refused;
use crate::daemon::desk::{Desk, PlanUnderWay, Refusal};
use crate::error::Error;
use crate::ledger::place::FileId;
use crate::sync::report::error_json;
use crate::view::{Ask, PlanView, PlannedView};

/// The path of [`Hello`].
pub const HELLO: &str = "/local/v1/hello";
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

/// A line of a plan that is told line by line. The last one is a plan or an error; without it the answer is not whole.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanLine {
    /// A group that a run would speak about.
    Change(Box<PlannedView>),
    /// The whole, without its changes.
    Plan(Box<PlanView>),
    /// Why there is no plan, as the API tells errors.
    Error(Value),
}

struct Local {
    desk: Arc<dyn Desk>,
    hello: Hello,
}

/// The routes that only the socket has.
pub(super) fn routes(desk: Arc<dyn Desk>, hello: Hello) -> Router {
    Router::new()
        .route(HELLO, routing::get(say_hello))
        .route("/local/v1/syncs/{sync}/plan", routing::post(plan))
        .with_state(Arc::new(Local { desk, hello }))
}

/// Reads a body within the limits before a handler sees it, as the guard of the TCP server does.
pub(super) async fn whole_body(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let (parts, raw) = request.into_parts();
    match body::read(raw, &gate.limits).await {
        Ok(bytes) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Err(refused) => refused.into_response(),
    }
}

async fn say_hello(State(local): State<Arc<Local>>, uri: Uri) -> Result<Json<Hello>, Refused> {
    Query::read(&uri, &[])?;
    // Looked at now: a folder that is switched by a symbolic link stays the same one to whoever reads it by its path.
    let folder_id = FileId::of(&local.hello.folder).ok();
    Ok(Json(Hello { folder_id, ..local.hello.clone() }))
}

async fn plan(
    State(local): State<Arc<Local>>,
    uri: Uri,
    Named(sync): Named<String>,
    JsonBody(ask): JsonBody<Ask>,
) -> Result<Response, Refused> {
    let query = Query::read(&uri, &["show"])?;
    let show = query.number("show", u64::MAX, 0..=u64::MAX)?;
    let show = usize::try_from(show).unwrap_or(usize::MAX);
    let under_way = local.desk.plan_stream(&sync, ask, show).await?;
    let lines = stream::unfold(Some(under_way), next_lines);
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

async fn next_lines(under_way: Option<PlanUnderWay>) -> Option<(Result<Bytes, Error>, Option<PlanUnderWay>)> {
    let PlanUnderWay { mut changes, plan } = under_way?;
    let mut found = Vec::new();
    changes.recv_many(&mut found, LINES_AT_ONCE).await;
    if found.is_empty() {
        let last = match plan.await {
            Ok(plan) => PlanLine::Plan(Box::new(plan)),
            Err(
                Refusal::NotFound(error)
                | Refusal::Invalid(error)
                | Refusal::Conflict(error)
                | Refusal::Busy(error)
                | Refusal::Failed(error),
            ) => PlanLine::Error(error_json(&error)),
        };
        return Some((Ok(lines([last])), None));
    }
    let changes_found = lines(found.into_iter().map(|change| PlanLine::Change(Box::new(change))));
    Some((Ok(changes_found), Some(PlanUnderWay { changes, plan })))
}

fn lines(lines: impl IntoIterator<Item = PlanLine>) -> Bytes {
    let mut text = Vec::new();
    for line in lines {
        // Nothing in it has keys that are not texts, which is all that can go wrong.
        drop(serde_json::to_writer(&mut text, &line));
        text.push(b'\n');
    }
    text.into()
}
