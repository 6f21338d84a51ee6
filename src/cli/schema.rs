//! `groupcast schema`: the JSON Schemas of our TOML files.

use std::io::Write;

use super::args::{Cli, Schema, SchemaOf};
use super::output_schema;
use super::screen::{self, ADD, paint};
use crate::config::json_schema::{self, FOLDER};
use crate::error::{Error, Kind};
use crate::service::open::Failure;

pub(super) fn schema(cli: &Cli, options: &Schema) -> Result<u8, Failure> {
    if !options.write {
        let (_, schema) = match options.of {
            SchemaOf::Project => json_schema::project(),
            SchemaOf::Mapping => json_schema::mapping(),
            SchemaOf::Test => json_schema::test(),
            SchemaOf::Output => ("output.schema.json", output_schema::schema()),
        };
        screen::unless_closed(writeln!(std::io::stdout().lock(), "{schema:#}"))?;
        return Ok(0);
    }
    let written = write(&cli.folder)?;
    if cli.json {
        super::print_json(&serde_json::json!({ "written": written }));
    } else {
        for path in written {
            writeln!(screen::stdout(), "{} {path}", paint(ADD, "+"))?;
        }
    }
    Ok(0)
}

/// Writes the schemas into a config folder; returns their paths.
pub(super) fn write(folder: &std::path::Path) -> Result<Vec<String>, Error> {
    let folder = folder.join(FOLDER);
    let mut written = Vec::new();
    for (name, schema) in [json_schema::project(), json_schema::mapping(), json_schema::test()] {
        let path = folder.join(name);
        let done = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, format!("{schema:#}\n")));
        done.map_err(|error| {
            Error::new(Kind::Config, format!("failed to write {}", path.display()))
                .advise("look at the folder's permissions and at the free space")
                .because(error)
        })?;
        written.push(path.display().to_string());
    }
    Ok(written)
}
