//! What happens when a button is pressed? An order to the service, then a redirect to where its effect shows.

use axum::body::Bytes;
use axum::extract::{Path, RawQuery};
use axum::response::Response;

use super::visit::{Params, Visit, see_other};
use super::words::{run_path, sync_path, with_query};
use crate::sync::RunOptions;

/// Who gives the orders of this console, as runs record it.
const BY: &str = "console";

/// What is asked of a run. A group comes with the address, where it survives whatever characters it has.
pub(super) fn options(form: &Params, query: &Params) -> RunOptions {
    RunOptions {
        full: form.flag("full"),
        accept: form.all("accept").map(str::to_owned).collect(),
        retry_rejected: form.flag("retry_rejected"),
        group: query.one("group").map(str::to_owned),
        limit: None,
    }
}

/// `POST /syncs/{sync}/run`.
pub(super) async fn run(visit: Visit, Path(sync): Path<String>, query: RawQuery, form: Bytes) -> Response {
    let options = options(&Params::read(&form), &Params::of_query(&query));
    match visit.service.trigger(&sync, options, BY).await {
        Ok(accepted) if accepted.joined => see_other(&with_query(&run_path(&accepted.run), &[("joined", "1")])),
        Ok(accepted) => see_other(&run_path(&accepted.run)),
        Err(refusal) => visit.refuse(refusal),
    }
}

/// `POST /syncs/{sync}/pause`.
pub(super) async fn pause(visit: Visit, Path(sync): Path<String>) -> Response {
    set_paused(&visit, &sync, true).await
}

/// `POST /syncs/{sync}/resume`.
pub(super) async fn resume(visit: Visit, Path(sync): Path<String>) -> Response {
    set_paused(&visit, &sync, false).await
}

async fn set_paused(visit: &Visit, sync: &str, paused: bool) -> Response {
    match visit.service.pause(sync, paused).await {
        Ok(_) => see_other(&sync_path(sync)),
        Err(refusal) => visit.refuse(refusal),
    }
}

/// `POST /runs/{run}/cancel`. One that waited leaves no record, so its form names the sync to go back to.
pub(super) async fn cancel(visit: Visit, Path(run): Path<String>, form: Bytes) -> Response {
    match visit.service.cancel(&run).await {
        Ok(()) => match Params::read(&form).one("waited_for") {
            Some(sync) => see_other(&sync_path(sync)),
            None => see_other(&run_path(&run)),
        },
        Err(refusal) => visit.refuse(refusal),
    }
}
