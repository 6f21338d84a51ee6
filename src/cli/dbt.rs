//! `groupcast dbt`: what dbt may know of the syncs.

use std::io::Write;

use serde_json::{Value, json};

use super::args::{Cli, DbtCommand};
use super::{print_json, screen, show_warnings};
use crate::config::Project;
use crate::service::open::Failure;

pub(super) fn dbt(cli: &Cli, command: &DbtCommand) -> Result<u8, Failure> {
    let DbtCommand::Exposures { owner, email } = command;
    let project = super::read_project(cli)?;
    show_warnings(cli, &project);
    let exposures = exposures(&project, owner, email.as_deref());
    if exposures.is_empty() && !cli.json {
        screen::print_warning(
            "no mapping names a model of dbt's",
            "write `dbt = \"dim_accounts\"` under [model] instead of `table`",
        );
    }
    if cli.json {
        print_json(&json!({ "exposures": exposures }));
    } else {
        screen::stdout().write_all(yaml(&exposures).as_bytes())?;
    }
    Ok(0)
}

/// What dbt's files call an exposure, one for each mapping that names a model.
fn exposures(project: &Project, owner: &str, email: Option<&str>) -> Vec<Value> {
    let one = |file: &crate::mapping::MappingFile| {
        let mapping = &file.mapping;
        let model = mapping.dbt.as_ref()?;
        let traits: Vec<&str> = mapping.traits.iter().map(|mapped| mapped.name.as_str()).collect();
        let kind =
            project.settings.destinations.get(&mapping.destination).map_or("", |settings| settings.kind.as_str());
        let mut owner = json!({ "name": owner });
        if let Some(email) = email {
            owner["email"] = email.into();
        }
        Some(json!({
            "name": format!("groupcast_{}", plain(&mapping.name)),
            "label": format!("{} → {}", mapping.name, mapping.destination),
            "type": "application",
            "maturity": "high",
            "description": format!(
                "Groups of type {} at {} ({kind}), kept equal to this model: {}.",
                mapping.group_type,
                mapping.destination,
                traits.join(", ")
            ),
            "depends_on": [model.reference],
            "owner": owner,
        }))
    };
    project.mappings.iter().filter_map(one).collect()
}

/// A name of letters, digits and underscores: dbt takes no other.
fn plain(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect()
}

/// The file that dbt reads. Texts are written as JSON writes them, which YAML reads.
fn yaml(exposures: &[Value]) -> String {
    let mut out = "version: 2\n\nexposures:".to_owned();
    if exposures.is_empty() {
        return out + " []\n";
    }
    out.push('\n');
    for exposure in exposures {
        let mut lead = "  - ";
        for (key, value) in exposure.as_object().into_iter().flatten() {
            out.push_str(&format!("{lead}{key}: {value}\n"));
            lead = "    ";
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposures_are_a_file_that_dbt_reads() {
        let exposure = json!({"name": "groupcast_a", "depends_on": ["ref('a')"], "owner": {"name": "Data \"team\""}});
        assert_eq!(
            yaml(&[exposure]),
            "version: 2\n\nexposures:\n  - depends_on: [\"ref('a')\"]\n    name: \"groupcast_a\"\n    owner: {\"name\":\"Data \\\"team\\\"\"}\n"
        );
        assert_eq!(yaml(&[]), "version: 2\n\nexposures: []\n");
        assert_eq!(plain("ac-counts.v2"), "ac_counts_v2");
    }
}
