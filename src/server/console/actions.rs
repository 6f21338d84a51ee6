//! The forms: each runs a command of the service and redirects to the page that shows its effect.

use axum::body::Bytes;
use axum::extract::{Path, RawQuery};
use axum::response::Response;

use super::context::PageContext;
use super::links::{run_path, sync_path, with_query};
use super::params::Params;
use super::{respond, retry};
use crate::service::api::{ServiceError, ServiceResult};
use crate::sync::{GroupKeys, RunOptions};

/// What a run started by the console is recorded to be started by.
const STARTED_BY: &str = "console";

/// The options of a run. Groups come with the path, which can carry every character, or encoded in the form.
pub(super) fn options(form: &Params, query: &Params) -> ServiceResult<RunOptions> {
    let groups = query.all("group").map(str::to_owned).chain(retry::keys(form));
    let mut options = RunOptions {
        accept: form.all("accept").map(str::to_owned).collect(),
        group: GroupKeys::new(groups).map_err(ServiceError::Invalid)?,
        ..RunOptions::default()
    };
    let ticked = RunOptions::FLAGS.iter().filter(|flag| form.flag(flag.name));
    ticked.for_each(|flag| flag.turn_on(&mut options));
    Ok(options)
}

/// `POST /syncs/{sync}/run`.
pub(super) async fn run(context: PageContext, Path(sync): Path<String>, query: RawQuery, form: Bytes) -> Response {
    let started = match options(&Params::read(&form), &Params::of_query(&query)) {
        Ok(options) => context.service.trigger(&sync, options, STARTED_BY).await,
        Err(error) => Err(error),
    };
    match started {
        Ok(run) if run.joined => respond::see_other(&with_query(&run_path(&run.run), &[("joined", "1")])),
        Ok(run) => respond::see_other(&run_path(&run.run)),
        Err(error) => respond::error(&context, error),
    }
}

/// `POST /syncs/{sync}/pause`.
pub(super) async fn pause(context: PageContext, Path(sync): Path<String>) -> Response {
    set_paused(&context, &sync, true).await
}

/// `POST /syncs/{sync}/resume`.
pub(super) async fn resume(context: PageContext, Path(sync): Path<String>) -> Response {
    set_paused(&context, &sync, false).await
}

async fn set_paused(context: &PageContext, sync: &str, paused: bool) -> Response {
    match context.service.pause(sync, paused).await {
        Ok(_) => respond::see_other(&sync_path(sync)),
        Err(error) => respond::error(context, error),
    }
}

/// `POST /runs/{run}/cancel`. A queued run leaves no record, so its form names the sync to go back to.
pub(super) async fn cancel(context: PageContext, Path(run): Path<String>, form: Bytes) -> Response {
    match context.service.cancel(&run).await {
        Ok(()) => match Params::read(&form).one("sync") {
            Some(sync) => respond::see_other(&sync_path(sync)),
            None => respond::see_other(&run_path(&run)),
        },
        Err(error) => respond::error(&context, error),
    }
}
