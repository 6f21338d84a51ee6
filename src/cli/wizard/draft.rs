//! What the wizard writes: settings with references, and the secrets behind them for `.env`. Pure.

use crate::model::setting::{Setting, SettingType};

/// A section of `groupcast.toml`: a source or a destination.
#[derive(Debug, Clone, Default)]
pub(super) struct SectionDraft {
    /// `sources` or `destinations`.
    pub(super) section: &'static str,
    pub(super) name: String,
    pub(super) kind: &'static str,
    /// Its settings, values in TOML.
    pub(super) settings: Vec<(String, String)>,
}

impl SectionDraft {
    /// The variable for a secret of it: `WAREHOUSE_URL`.
    pub(super) fn variable(&self, setting: &str) -> String {
        let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' };
        format!("{}_{setting}", self.name).chars().map(plain).collect()
    }

    /// Has a setting refer to a variable.
    pub(super) fn refer(&mut self, setting: &str, variable: &str) {
        self.settings.push((setting.to_owned(), toml_text(&format!("${{{variable}}}"))));
    }

    /// Gives a setting a value that is no secret.
    pub(super) fn set(&mut self, setting: &Setting, value: &str) {
        let bare = match setting.of {
            SettingType::Boolean => value.parse::<bool>().is_ok(),
            SettingType::Integer(..) => value.parse::<i64>().is_ok(),
            SettingType::Rate => value.parse::<f64>().is_ok_and(f64::is_finite),
            SettingType::Names | SettingType::Table => format!("x = {value}").parse::<toml::Table>().is_ok(),
            _ => false,
        };
        let value = if bare { value.to_owned() } else { toml_text(value) };
        self.settings.push((setting.name.to_owned(), value));
    }

    fn text(&self) -> String {
        let mut text = format!("[{}.{}]\ntype = {}\n", self.section, toml_key(&self.name), toml_text(self.kind));
        for (name, value) in &self.settings {
            text.push_str(&format!("{name} = {value}\n"));
        }
        text
    }
}

/// The text of `groupcast.toml`.
pub(super) fn settings(sections: &[&SectionDraft]) -> String {
    let head = "# Groupcast's settings. Secrets are in `.env` or in the environment, and referred to as ${NAME}.\n\
                # The synced state is in state/ledger.duckdb: keep it, and back it up (`groupcast ledger backup`).\n";
    sections.iter().fold(head.to_owned(), |text, section| format!("{text}\n{}", section.text()))
}

/// The text of `.env` with these variables behind what it has; none of those that it has already.
pub(super) fn dotenv(before: &str, variables: &[(String, String)]) -> String {
    let mut text = before.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for (name, value) in variables {
        text.push_str(&format!("{name}={}\n", quoted(value)));
    }
    text
}

/// A value of `.env`, as it is.
fn quoted(value: &str) -> String {
    if value.contains('\'') {
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
        format!("\"{escaped}\"")
    } else {
        format!("'{value}'")
    }
}

fn toml_text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn toml_key(name: &str) -> String {
    let bare = name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_".contains(letter));
    if bare { name.to_owned() } else { toml_text(name) }
}

/// The settings of a type that a newcomer is asked for: those it cannot do without, and those that say where it is.
pub(super) fn asked(settings: &'static [Setting]) -> impl Iterator<Item = &'static Setting> {
    const ALSO: [&str; 4] = ["path", "region", "preset", "uri"];
    settings.iter().filter(|setting| setting.required || ALSO.contains(&setting.name))
}

/// Tables as a person looks for one: first those whose names speak of accounts.
pub(super) fn by_relevance(name: &str) -> (usize, String) {
    const WORDS: [&str; 9] =
        ["account", "compan", "customer", "workspace", "organi", "tenant", "team", "client", "group"];
    let lower = name.to_lowercase();
    (usize::from(!WORDS.iter().any(|word| lower.contains(word))), lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_references_and_values_are_toml() {
        let mut source =
            SectionDraft { section: "sources", name: "my-lake".to_owned(), kind: "postgres", settings: Vec::new() };
        source.refer("url", &source.variable("url"));
        source.set(&Setting::optional("ca_file", SettingType::Path), "C:\\ca \"x\".pem");
        source.set(&Setting::optional("read_timeout", SettingType::Integer(1, 9)), "5");
        let text = settings(&[&source]);
        let parsed: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"));
        let lake = &parsed["sources"]["my-lake"];
        assert_eq!(lake["url"].as_str(), Some("${MY_LAKE_URL}"));
        assert_eq!(lake["ca_file"].as_str(), Some("C:\\ca \"x\".pem"));
        assert_eq!(lake["read_timeout"].as_integer(), Some(5));
    }

    #[test]
    fn secrets_are_written_as_they_are() {
        let variables = ["plain", "with 'one'", "$x ${Y} \"z\" \\ 'q'", "a#b"];
        let variables: Vec<(String, String)> =
            variables.iter().enumerate().map(|(at, value)| (format!("V{at}"), (*value).to_owned())).collect();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".env"), dotenv("OLD=1", &variables)).unwrap();
        let text = "[daemon]\nlisten = '127.0.0.1:1'\n[destinations.f]\ntype = 'file'\n".to_owned();
        for (name, value) in &variables {
            let text = format!("{text}path = '${{{name}}}x'\n");
            let settings = crate::config::load::draft(&folder.path().into(), &text, [], []).unwrap();
            let parsed: toml::Table = settings.destinations["f"].parse().unwrap();
            assert!(parsed["path"].as_str().unwrap().ends_with(&format!("{value}x")), "{value}: {parsed}");
        }
    }

    #[test]
    fn tables_that_speak_of_accounts_come_first() {
        let mut names = ["events", "dim_Accounts", "crm.companies", "a"];
        names.sort_by_key(|name| by_relevance(name));
        assert_eq!(names, ["crm.companies", "dim_Accounts", "a", "events"]);
    }
}
