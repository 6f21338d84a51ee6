//! `groupcast rejected`: rejected groups with their error messages.

use std::io::Write;
use std::sync::Arc;

use serde_json::json;

use super::args::Cli;
use super::print_json;
use super::screen::{self, when};
use super::service::{self, Access};
use super::table::Table;
use super::text::{after_key, shown_key};
use crate::service::api::ServiceError;
use crate::service::open::{self, Failure};
use crate::service::views::words::one_line;

pub(super) async fn rejected(cli: &Cli, selected: Option<&str>, number: u64) -> Result<u8, Failure> {
    let project = Arc::new(super::read_project(cli)?);
    let syncs: Vec<&str> = match selected {
        Some(sync) => {
            open::exists(&project, sync)?;
            vec![sync]
        }
        None => project.names(),
    };
    let opened = service::open(cli, &project, Access::Read).await?;
    let mut table = Table::new(&["sync", "group", "since", "reason"]).spare(&["since"]).wraps("reason");
    let mut all = Vec::new();
    for sync in syncs {
        let groups = match opened.service.rejected(Some(sync), None, number).await {
            // A daemon may not have reloaded a mapping that is new in the folder.
            Err(ServiceError::NotFound(_)) if selected.is_none() => continue,
            groups => groups?,
        };
        for group in groups {
            if !cli.json {
                table.add_row([
                    group.sync.clone(),
                    format!("{}{}", shown_key(&group.key), after_key(group.label.as_deref())),
                    when(group.at),
                    one_line(&group.reason).into_owned(),
                ]);
            }
            all.push(group);
        }
    }
    if cli.json {
        print_json(&json!({ "rejected": all }));
        return Ok(0);
    }
    let mut out = screen::stdout();
    if table.is_empty() {
        writeln!(out, "no rejected groups")?;
    } else {
        table.write(&mut out, screen::width())?;
        writeln!(
            out,
            "\nA rejected group is sent again when its row changes, or with `groupcast run --retry-rejected`."
        )?;
    }
    Ok(0)
}
