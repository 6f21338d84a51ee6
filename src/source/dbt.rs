//! dbt's artifacts: where a model's table is, from `manifest.json`, and how its last build went, from `run_results.json`.
//!
//! dbt writes both into its target folder. Only the fields that are needed are read, so that any version of dbt that has
//! them will do (tried: dbt 1.10 with dbt-duckdb, whose manifest has version 12).

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use crate::io::files;
use crate::mapping::DbtModel;
use crate::mapping::diagnostic::{did_you_mean, listed_all};

/// The target folder's usual name.
pub const TARGET_FOLDER: &str = "target";
/// The manifest's name in the target folder.
const MANIFEST: &str = "manifest.json";
/// The results' name.
const RESULTS: &str = "run_results.json";
/// Largest file read: a manifest of ten thousand models has some hundred megabytes.
const BYTES_MAX: u64 = 1 << 30;

/// dbt's target folder, read when a mapping first asks for a model.
pub struct Target<'a> {
    folder: PathBuf,
    note: &'a dyn Fn(&Path),
    manifest: OnceCell<Result<Manifest, String>>,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    nodes: BTreeMap<String, Node>,
    #[serde(default)]
    sources: BTreeMap<String, Node>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    project_name: Option<String>,
}

#[derive(Deserialize)]
struct Node {
    #[serde(default)]
    resource_type: String,
    #[serde(default)]
    package_name: String,
    name: String,
    source_name: Option<String>,
    database: Option<String>,
    schema: Option<String>,
    alias: Option<String>,
    identifier: Option<String>,
    version: Option<Value>,
    latest_version: Option<Value>,
    attached_node: Option<String>,
    #[serde(default)]
    config: NodeConfig,
    #[serde(default)]
    depends_on: DependsOn,
}

#[derive(Default, Deserialize)]
struct NodeConfig {
    materialized: Option<String>,
}

#[derive(Default, Deserialize)]
struct DependsOn {
    #[serde(default)]
    nodes: Vec<String>,
}

impl<'a> Target<'a> {
    /// The target folder at this path. Nothing is read before the first question; `note` gets what is read then.
    pub fn new(folder: PathBuf, note: &'a dyn Fn(&Path)) -> Target<'a> {
        Target { folder, note, manifest: OnceCell::new() }
    }

    /// The model that `written` means: a name (`dim_accounts`, `package.dim_accounts`), or what dbt's SQL says
    /// (`ref('dim_accounts', v=2)`, `source('raw', 'accounts')`). The error is a fragment, `message: help`.
    pub fn resolve(&self, written: &str) -> Result<DbtModel, String> {
        let reference = Reference::parse(written)?;
        let manifest = self.manifest.get_or_init(|| self.read()).as_ref().map_err(Clone::clone)?;
        let (id, node) = manifest.find(&reference)?;
        if node.config.materialized.as_deref() == Some("ephemeral") {
            return Err(format!(
                "names the model `{}`, which is ephemeral and has no table: let dbt materialize it as a view or a table",
                node.name
            ));
        }
        let table = node.alias.as_ref().or(node.identifier.as_ref()).unwrap_or(&node.name);
        let parts = [node.database.as_ref(), node.schema.as_ref(), Some(table)];
        let about =
            |test: &Node| test.attached_node.as_deref() == Some(id) || test.depends_on.nodes.iter().any(|on| on == id);
        let tests = manifest.nodes.iter().filter(|(_, node)| node.resource_type == "test" && about(node));
        Ok(DbtModel {
            id: id.to_owned(),
            name: node.name.clone(),
            reference: reference.written(node),
            table: parts.into_iter().flatten().filter(|part| !part.is_empty()).cloned().collect(),
            tests: tests.map(|(id, _)| id.clone()).collect(),
            results: self.folder.join(RESULTS),
        })
    }

    fn read(&self) -> Result<Manifest, String> {
        let path = self.folder.join(MANIFEST);
        (self.note)(&path);
        let bytes = files::read(&path, BYTES_MAX).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => format!(
                "needs dbt's manifest, and there is no {}: run `dbt parse`, or set `target_folder` under [dbt] in groupcast.toml",
                path.display()
            ),
            _ => format!("needs dbt's manifest, and {} cannot be read: {error}", path.display()),
        })?;
        serde_json::from_slice(&bytes)
            .map_err(|error| format!("needs dbt's manifest, and {} cannot be read as one: {error}", path.display()))
    }
}

impl Manifest {
    fn find(&self, reference: &Reference) -> Result<(&str, &Node), String> {
        let nodes = match reference {
            Reference::Source { .. } => &self.sources,
            Reference::Model { .. } => &self.nodes,
        };
        let mut found: Vec<(&str, &Node)> =
            nodes.iter().filter(|(_, node)| reference.means(node)).map(|(id, node)| (id.as_str(), node)).collect();
        if found.len() > 1
            && let Some(project) = &self.metadata.project_name
        {
            let own: Vec<_> = found.iter().copied().filter(|(_, node)| node.package_name == *project).collect();
            if !own.is_empty() {
                found = own;
            }
        }
        if found.len() > 1 {
            let latest: Vec<_> = found
                .iter()
                .copied()
                .filter(|(_, node)| node.version.is_some() && node.version == node.latest_version)
                .collect();
            if !latest.is_empty() {
                found = latest;
            }
        }
        match found.as_slice() {
            [one] => Ok(*one),
            [] => {
                let names = || nodes.values().filter(|node| node.is_relation()).map(|node| node.name.as_str());
                let help = match did_you_mean(reference.name(), names()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => "run `dbt parse` if it is new".to_owned(),
                };
                Err(format!("names `{}`, which dbt's manifest does not have: {help}", reference.name()))
            }
            several => {
                let packages = listed_all(several.iter().map(|(_, node)| node.package_name.as_str()));
                let name = reference.name();
                Err(format!(
                    "names `{name}`, of which there are several: write the package before it, one of {packages}"
                ))
            }
        }
    }
}

impl Node {
    fn is_relation(&self) -> bool {
        ["model", "seed", "snapshot", "source"].contains(&self.resource_type.as_str())
    }
}

/// What a mapping means, before it is looked up.
enum Reference {
    Model { package: Option<String>, name: String, version: Option<String> },
    Source { source: String, table: String },
}

impl Reference {
    fn parse(written: &str) -> Result<Reference, String> {
        let odd = || "is no dbt model: write its name, like `dim_accounts`, or `ref('dim_accounts')`".to_owned();
        let text = written.trim().trim_start_matches("{{").trim_end_matches("}}").trim();
        let (function, inside) = match text.split_once('(') {
            None => {
                let is_name =
                    !text.is_empty() && text.chars().all(|letter| letter.is_alphanumeric() || "_.-".contains(letter));
                if !is_name {
                    return Err(odd());
                }
                let (package, name) = match text.split_once('.') {
                    Some((package, name)) => (Some(package.to_owned()), name.to_owned()),
                    None => (None, text.to_owned()),
                };
                return Ok(Reference::Model { package, name, version: None });
            }
            Some((function, rest)) => (function.trim(), rest.trim_end().strip_suffix(')').ok_or_else(odd)?),
        };
        let (mut names, mut version) = (Vec::new(), None);
        for argument in inside.split(',').map(str::trim) {
            let value = |text: &str| text.trim().trim_matches(['\'', '"']).to_owned();
            match argument.split_once('=') {
                Some((key, text)) if ["v", "version"].contains(&key.trim()) => version = Some(value(text)),
                Some(_) => return Err(odd()),
                None => names.push(value(argument)),
            }
        }
        match (function, names.as_slice()) {
            ("ref", [name]) => Ok(Reference::Model { package: None, name: name.clone(), version }),
            ("ref", [package, name]) => {
                Ok(Reference::Model { package: Some(package.clone()), name: name.clone(), version })
            }
            ("source", [source, table]) => Ok(Reference::Source { source: source.clone(), table: table.clone() }),
            _ => Err(odd()),
        }
    }

    fn name(&self) -> &str {
        match self {
            Reference::Model { name, .. } | Reference::Source { table: name, .. } => name,
        }
    }

    fn means(&self, node: &Node) -> bool {
        match self {
            Reference::Model { package, name, version } => {
                // A version is a number or a text.
                let version_of = |node: &Node| match &node.version {
                    Some(Value::String(text)) => Some(text.clone()),
                    version => version.as_ref().map(Value::to_string),
                };
                let of_version = |wanted: &String| version_of(node).as_ref() == Some(wanted);
                node.is_relation()
                    && node.name == *name
                    && package.as_ref().is_none_or(|package| node.package_name == *package)
                    && version.as_ref().is_none_or(of_version)
            }
            Reference::Source { source, table } => node.source_name.as_ref() == Some(source) && node.name == *table,
        }
    }

    /// As dbt's files write it.
    fn written(&self, node: &Node) -> String {
        match self {
            Reference::Model { version: Some(version), .. } => format!("ref('{}', v={version})", node.name),
            Reference::Model { package: Some(package), .. } => format!("ref('{package}', '{}')", node.name),
            Reference::Model { .. } => format!("ref('{}')", node.name),
            Reference::Source { source, table } => format!("source('{source}', '{table}')"),
        }
    }
}

/// How the last command of dbt went for one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DbtState {
    /// When dbt wrote it.
    pub at: DateTime<Utc>,
    /// What went wrong, if anything did: `model`, `test`, and dbt's word for it.
    pub problem: Option<String>,
}

#[derive(Deserialize)]
struct Results {
    metadata: ResultsMetadata,
    #[serde(default)]
    results: Vec<ResultOfNode>,
}

#[derive(Deserialize)]
struct ResultsMetadata {
    generated_at: DateTime<Utc>,
}

#[derive(Deserialize)]
struct ResultOfNode {
    unique_id: String,
    status: String,
}

/// How the last command of dbt went for this model. The error says why that is not known.
pub fn state(model: &DbtModel) -> Result<DbtState, String> {
    let shown = |path: &Path| path.display().to_string();
    let bytes = files::read(&model.results, BYTES_MAX).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("dbt has left no {}", shown(&model.results)),
        _ => format!("{} cannot be read: {error}", shown(&model.results)),
    })?;
    let results: Results = serde_json::from_slice(&bytes)
        .map_err(|error| format!("{} is no result of dbt's: {error}", shown(&model.results)))?;
    let of_model = |result: &&ResultOfNode| result.unique_id == model.id || model.tests.contains(&result.unique_id);
    let bad = results
        .results
        .iter()
        .filter(of_model)
        .find(|result| !["success", "pass", "warn", "partial success", "no-op"].contains(&result.status.as_str()));
    let problem = bad.map(|result| match result.unique_id == model.id {
        true => format!("the model `{}` ended with `{}`", model.name, result.status),
        false => {
            let test = result.unique_id.split('.').nth(2).unwrap_or(&result.unique_id);
            format!("its test `{test}` ended with `{}`", result.status)
        }
    });
    Ok(DbtState { at: results.metadata.generated_at, problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST_TEXT: &str = r#"{
      "metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json", "project_name": "shop"},
      "nodes": {
        "model.shop.dim_accounts": {"resource_type": "model", "package_name": "shop", "name": "dim_accounts",
          "database": "prod", "schema": "analytics", "alias": "accounts_v1", "config": {"materialized": "table"}},
        "model.other.dim_accounts": {"resource_type": "model", "package_name": "other", "name": "dim_accounts",
          "database": "prod", "schema": "other", "alias": "dim_accounts", "config": {"materialized": "view"}},
        "model.shop.plans.v1": {"resource_type": "model", "package_name": "shop", "name": "plans", "version": 1,
          "latest_version": 2, "database": "prod", "schema": "analytics", "alias": "plans_v1", "config": {}},
        "model.shop.plans.v2": {"resource_type": "model", "package_name": "shop", "name": "plans", "version": 2,
          "latest_version": 2, "database": "prod", "schema": "analytics", "alias": "plans_v2", "config": {}},
        "model.shop.staging": {"resource_type": "model", "package_name": "shop", "name": "staging", "database": "prod",
          "schema": "analytics", "alias": "staging", "config": {"materialized": "ephemeral"}},
        "seed.shop.regions": {"resource_type": "seed", "package_name": "shop", "name": "regions", "database": null,
          "schema": "seeds", "alias": "regions", "config": {"materialized": "seed"}},
        "test.shop.not_null_dim_accounts_id.1": {"resource_type": "test", "package_name": "shop", "name": "not_null",
          "attached_node": "model.shop.dim_accounts", "depends_on": {"nodes": ["model.shop.dim_accounts"]}}
      },
      "sources": {
        "source.shop.raw.accounts": {"resource_type": "source", "package_name": "shop", "name": "accounts",
          "source_name": "raw", "database": "lake", "schema": "raw", "identifier": "accounts_raw"}
      }
    }"#;

    fn folder(results: Option<&str>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(MANIFEST), MANIFEST_TEXT).unwrap();
        if let Some(results) = results {
            let text =
                format!("{{\"metadata\": {{\"generated_at\": \"2026-11-27T01:02:03.5Z\"}}, \"results\": [{results}]}}");
            std::fs::write(folder.path().join(RESULTS), text).unwrap();
        }
        folder
    }

    #[test]
    fn a_reference_means_the_table_that_dbt_builds() {
        let folder = folder(None);
        let target = Target::new(folder.path().to_path_buf(), &|_| {});
        for (written, table) in [
            ("dim_accounts", "prod.analytics.accounts_v1"),
            ("{{ ref('dim_accounts') }}", "prod.analytics.accounts_v1"),
            ("other.dim_accounts", "prod.other.dim_accounts"),
            ("ref('other', 'dim_accounts')", "prod.other.dim_accounts"),
            ("plans", "prod.analytics.plans_v2"),
            ("ref(\"plans\", v=1)", "prod.analytics.plans_v1"),
            ("regions", "seeds.regions"),
            ("source('raw', 'accounts')", "lake.raw.accounts_raw"),
        ] {
            assert_eq!(target.resolve(written).map(|model| model.table.join(".")), Ok(table.to_owned()), "{written}");
        }
        for (written, error) in [
            ("dim_acounts", "did you mean `dim_accounts`?"),
            ("staging", "ephemeral"),
            ("select 1", "is no dbt model"),
            ("ref('a', 'b', 'c')", "is no dbt model"),
            ("source('raw', 'nothing')", "does not have"),
        ] {
            let found = target.resolve(written).unwrap_err();
            assert!(found.contains(error), "{written}: {found}");
        }
        assert_eq!(target.resolve("dim_accounts").unwrap().tests, ["test.shop.not_null_dim_accounts_id.1"]);
    }

    #[test]
    fn a_folder_without_a_manifest_says_what_to_run() {
        let folder = tempfile::tempdir().unwrap();
        let error = Target::new(folder.path().to_path_buf(), &|_| {}).resolve("dim_accounts").unwrap_err();
        assert!(error.contains("run `dbt parse`"), "{error}");
    }

    #[test]
    fn the_last_command_of_dbt_says_whether_the_model_was_built() {
        let of = |results: &str| {
            let folder = folder(Some(results));
            let model = Target::new(folder.path().to_path_buf(), &|_| {}).resolve("dim_accounts").unwrap();
            state(&model).unwrap()
        };
        let result = |id: &str, status: &str| format!("{{\"unique_id\": \"{id}\", \"status\": \"{status}\"}}");
        let good = of(&result("model.shop.dim_accounts", "success"));
        assert_eq!(good.problem, None);
        let skipped = of(&result("model.shop.dim_accounts", "skipped"));
        assert_eq!(skipped.problem.as_deref(), Some("the model `dim_accounts` ended with `skipped`"));
        let failed = of(&result("test.shop.not_null_dim_accounts_id.1", "fail"));
        assert_eq!(failed.problem.as_deref(), Some("its test `not_null_dim_accounts_id` ended with `fail`"));
        let other = of(&result("model.shop.plans.v2", "error"));
        assert_eq!(other.problem, None);
        let folder = folder(None);
        let model = Target::new(folder.path().to_path_buf(), &|_| {}).resolve("dim_accounts").unwrap();
        assert!(state(&model).unwrap_err().contains("dbt has left no"));
    }
}
