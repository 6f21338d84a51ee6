//! The last requests of a group, as `groupcast group --requests` shows them.

use std::io::Write;

use super::screen::{self, BOLD, DIM, REMOVE, paint, plural, thousands, when};
use crate::error::Result;
use crate::service::views::{Excerpt, Exchange, GroupRequestView, HttpHeader};

/// Shows the requests, in the order they were sent. `changed_by` is the run of the group's latest change.
pub(super) fn show(requests: &[GroupRequestView], changed_by: Option<&str>) -> Result<()> {
    super::text::written(write(&mut screen::stdout(), requests, changed_by))
}

fn write(out: &mut impl Write, requests: &[GroupRequestView], changed_by: Option<&str>) -> std::io::Result<()> {
    let Some(last) = requests.last() else {
        writeln!(out, "\n{}", paint(BOLD, "No request is kept of this group"))?;
        return writeln!(
            out,
            "They are kept of groups that were sent and not delivered, and of a group that a\n\
             run is for alone (`groupcast run SYNC --group KEY`), for as long as\n\
             `state.requests_retention` says."
        );
    };
    for (at, kept) in requests.iter().enumerate() {
        let title = match requests.len() {
            1 => "Last request".to_owned(),
            count => format!("Request {} of {count}", at + 1),
        };
        let outcome = kept.outcome.name().replace('_', " ");
        writeln!(out, "\n{}  {}  {outcome}  {}", paint(BOLD, title), when(kept.at), paint(DIM, &kept.run))?;
        write_exchange(out, kept)?;
    }
    if changed_by.is_some_and(|run| run != last.run) {
        writeln!(out, "\n{}", paint(DIM, "The requests of later changes, which were delivered, are not kept."))?;
    }
    Ok(())
}

fn write_exchange(
    out: &mut impl Write,
    GroupRequestView { groups, part, exchange, .. }: &GroupRequestView,
) -> std::io::Result<()> {
    let Exchange { took_ms, attempts, request, response, no_response, .. } = exchange;
    let took = match attempts {
        1 => format!("took {} ms", thousands(*took_ms)),
        _ => format!("sent {attempts} times; the last took {} ms", thousands(*took_ms)),
    };
    let carried = if *groups > 1 { format!("; it carried {}", plural(*groups, "group")) } else { String::new() };
    writeln!(out, "{}", paint(DIM, format!("{took}{carried}")))?;
    writeln!(out, "\n{} {}", paint(BOLD, &request.method), request.url)?;
    write_message(out, &request.headers, &request.body)?;
    if let Some(part) = part {
        writeln!(out, "\n{}", paint(BOLD, "Part about this group"))?;
        write_body(out, part)?;
    }
    match response {
        Some(response) => {
            writeln!(out, "\n{}", paint(BOLD, format!("HTTP {}", response.status)))?;
            write_message(out, &response.headers, &response.body)
        }
        None => {
            let why = no_response.as_deref().unwrap_or("no response");
            writeln!(out, "\n{} {why}", paint(REMOVE, "no response:"))
        }
    }
}

fn write_message(out: &mut impl Write, headers: &[HttpHeader], body: &Excerpt) -> std::io::Result<()> {
    for HttpHeader { name, value } in headers {
        writeln!(out, "{}", paint(DIM, format!("{name}: {value}")))?;
    }
    if body.text.is_empty() && body.bytes_left_out == 0 {
        return Ok(());
    }
    writeln!(out)?;
    write_body(out, body)
}

fn write_body(out: &mut impl Write, body: &Excerpt) -> std::io::Result<()> {
    writeln!(out, "{}", body.text.trim_end_matches('\n'))?;
    if body.bytes_left_out > 0 {
        let more = format!("… and {} that are not kept", plural(body.bytes_left_out, "more byte"));
        writeln!(out, "{}", paint(DIM, more))?;
    }
    Ok(())
}
