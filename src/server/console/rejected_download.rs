//! The rejected groups as a file: all that match, page by page, so that memory holds one page whatever their number.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::RawQuery;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::SecondsFormat;
use futures_util::stream;

use super::context::PageContext;
use super::error_messages::RejectedFilter;
use super::params::Params;
use super::respond;
use crate::error::Error;
use crate::service::api::{Service, ServiceError, ServiceResult};
use crate::service::views::RejectedView;

/// Groups read at a time.
const PAGE: u64 = 500;

/// How the groups are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FileFormat {
    Csv,
    Json,
}

/// The groups that are still to be read.
struct Download {
    service: Arc<dyn Service>,
    filter: RejectedFilter,
    format: FileFormat,
    /// The syncs not read to their ends.
    syncs: VecDeque<String>,
    /// The last group that was read of the first sync.
    after: Option<String>,
    written: u64,
    begun: bool,
    ended: bool,
}

/// `GET /rejected.csv`, with the query of the page.
pub(super) async fn csv(context: PageContext, query: RawQuery) -> Response {
    file(&context, &query, FileFormat::Csv).await
}

/// `GET /rejected.json`, with the query of the page.
pub(super) async fn json(context: PageContext, query: RawQuery) -> Response {
    file(&context, &query, FileFormat::Json).await
}

async fn file(context: &PageContext, query: &RawQuery, format: FileFormat) -> Response {
    let filter = RejectedFilter::of(&Params::of_query(query));
    let syncs = match syncs(context, &filter).await {
        Ok(syncs) => syncs,
        Err(error) => return respond::error(context, error),
    };
    let named: String = filter.sync.iter().flat_map(|sync| sync.chars()).filter(char::is_ascii_alphanumeric).collect();
    let (content_type, extension) = match format {
        FileFormat::Csv => ("text/csv; charset=utf-8", "csv"),
        FileFormat::Json => ("application/json", "json"),
    };
    let disposition = format!("attachment; filename=\"rejected-{named}.{extension}\"").replace("-.", ".");
    let service = Arc::clone(&context.service);
    let download = Download { service, filter, format, syncs, after: None, written: 0, begun: false, ended: false };
    // An error in the middle ends the connection, so that half a file does not look like a whole one.
    let body = Body::from_stream(stream::try_unfold(download, |download| download.next()));
    let headers = [(header::CONTENT_TYPE, content_type.to_owned()), (header::CONTENT_DISPOSITION, disposition)];
    (StatusCode::OK, headers, body).into_response()
}

async fn syncs(context: &PageContext, filter: &RejectedFilter) -> ServiceResult<VecDeque<String>> {
    match &filter.sync {
        Some(sync) => Ok([context.service.sync(sync).await?.sync.sync].into()),
        None => Ok(context.service.syncs(0).await?.into_iter().map(|sync| sync.sync).collect()),
    }
}

impl Download {
    /// The next piece of the file.
    async fn next(mut self) -> Result<Option<(String, Download)>, Error> {
        if self.ended {
            return Ok(None);
        }
        let head = if self.format == FileFormat::Csv { "sync,key,at,error_message,payload\r\n" } else { "" };
        let mut out = if self.begun { String::new() } else { head.to_owned() };
        self.begun = true;
        let Some(sync) = self.syncs.front() else {
            if self.format == FileFormat::Json {
                out.push_str(if self.written == 0 { "[]\n" } else { "\n]\n" });
            }
            self.ended = true;
            return Ok(Some((out, self)));
        };
        let page = self.service.rejected(Some(sync), self.after.as_deref(), PAGE).await;
        let groups = page.map_err(ServiceError::into_error)?;
        for group in groups.iter().filter(|group| self.filter.matches(group)) {
            match self.format {
                FileFormat::Csv => out.push_str(&csv_line(group)),
                FileFormat::Json => {
                    out.push_str(if self.written == 0 { "[\n" } else { ",\n" });
                    out.push_str(&serde_json::to_string(group).unwrap_or_default());
                }
            }
            self.written += 1;
        }
        self.after = groups.last().map(|group| group.key.clone());
        if (groups.len() as u64) < PAGE {
            self.syncs.pop_front();
            self.after = None;
        }
        Ok(Some((out, self)))
    }
}

fn csv_line(group: &RejectedView) -> String {
    let payload = serde_json::to_string(&group.document).unwrap_or_default();
    let at = group.at.to_rfc3339_opts(SecondsFormat::Millis, true);
    let cells = [&group.sync, &group.key, &at, &group.reason, &payload].map(|text| csv_cell(text));
    format!("{}\r\n", cells.join(","))
}

/// A cell. A spreadsheet would execute a text that begins like a formula, so an apostrophe makes it a text.
fn csv_cell(text: &str) -> String {
    let formula = text.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠'])
        || text.starts_with(['\t', '\r', '\n']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    match text.contains(['"', ',', '\n', '\r', ';']) || text.trim() != text {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_a_text_and_never_a_formula() {
        for (text, cell) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"a\"", "\"say \"\"a\"\"\""),
            ("line\r\nbreak", "\"line\r\nbreak\""),
            ("=HYPERLINK(\"x\")", "\"'=HYPERLINK(\"\"x\"\")\""),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("  =1", "'  =1"),
            ("\t=1", "'\t=1"),
            ("＝1", "'＝1"),
            ("a=b", "a=b"),
        ] {
            assert_eq!(csv_cell(text), cell, "{text:?}");
        }
    }
}
