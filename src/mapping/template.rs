//! The template of a table's first mapping: a pure generator for `groupcast init`: every choice it
//! makes is written in the file with its reason, so that editing is deleting and uncommenting.

use crate::model::ColumnType;
use crate::model::cell::As;

/// A column of the table, as its source describes it.
#[derive(Debug, Clone, Copy)]
pub struct ColumnShape<'a> {
    /// Its name.
    pub name: &'a str,
    /// What its values mean.
    pub kind: &'a ColumnType,
    /// The source's own name of the type.
    pub declared: &'a str,
    /// Whether the source says it is never null.
    pub not_null: bool,
}

/// What a person chose, where nothing is to be guessed.
#[derive(Debug, Clone, Copy, Default)]
pub struct MappingChoices<'a> {
    /// The group type at the destination.
    pub group_type: Option<&'a str>,
    /// The column with the group's id.
    pub key: Option<&'a str>,
    /// The column that people call the group by; empty for none.
    pub label: Option<&'a str>,
}

/// The guesses about a table, as a person is asked about them.
pub fn guess<'a>(table: &str, columns: &'a [ColumnShape<'a>]) -> MappingChoices<'a> {
    let key = key(columns, table).map(|(column, _)| column.name);
    let sent = columns.iter().filter(|column| key != Some(column.name) && choice(column).sent);
    MappingChoices {
        group_type: Some(group_type(&words(table)).0),
        key,
        label: label(sent, table).map(|column| column.name),
    }
}

/// The text of a mapping file for `table`, valid TOML whatever the names hold. `table` is written as in SQL. The destination
/// needs the traits `always` in every call.
pub fn mapping(
    source: &str,
    destination: &str,
    table: &str,
    columns: &[ColumnShape<'_>],
    always: &[&str],
    choices: MappingChoices<'_>,
) -> String {
    let mut out = String::new();
    let mut line = |text: &str| {
        out.push_str(text);
        out.push('\n');
    };
    line(&format!("# Keeps the groups of {} equal to {}.", comment(destination), comment(table)));
    line("# Check it with `groupcast check --connect`, see what it would send with `groupcast plan`.");
    line("");
    line(&format!("source = {}", string(source)));
    line(&format!("destination = {}", string(destination)));
    line("# schedule = { cron = \"0 2 * * *\", timezone = \"UTC\" }   # when `groupcast daemon` runs it");
    line("");
    line("[model]");
    line(&format!("table = {}", string(table)));
    line("# where = \"is_customer\"   # only some of the rows, in the source's SQL");
    line("");

    let words = words(table);
    let chosen = match choices.key {
        Some(key) => {
            columns.iter().find(|column| column.name == key).map(|column| (column, "the group's id".to_owned()))
        }
        None => key(columns, table),
    };
    let (kind, why) = choices.group_type.map_or_else(|| group_type(&words), |kind| (kind, "your choice"));
    line("[group]");
    line(&format!("type = {}   # {why}; it must be a group type the destination knows", string(kind)));
    match &chosen {
        Some((column, why)) => line(&format!("key = {}   # {why}", string(column.name))),
        None => line("key = \"id\"   # the table has no columns; name the one that contains the group's id"),
    }
    let mapped: Vec<(&ColumnShape<'_>, Choice)> = columns
        .iter()
        .filter(|column| chosen.as_ref().is_none_or(|(key, _)| key.name != column.name))
        .map(|column| (column, choice(column)))
        .collect();
    let mut sent = mapped.iter().filter(|(_, choice)| choice.sent).map(|(column, _)| *column);
    let label = match choices.label {
        Some(name) => sent.find(|column| column.name == name),
        None => label(sent, table),
    };
    if let Some(label) = label {
        line(&format!("label = {}   # the trait that plans and the console show beside the id", string(label.name)));
    }
    line("");

    line("[traits]   # trait = column");
    let plain = |name: &str| name.to_lowercase().replace('_', "");
    let is_needed = |name: &str| always.iter().any(|needed| plain(needed) == plain(name));
    for (column, choice) in &mapped {
        line(&trait_line(column, choice, is_needed(column.name)));
    }
    for (name, value, why) in CONSTANTS {
        if always.contains(&name) && !mapped.iter().any(|(column, _)| plain(column.name) == plain(name)) {
            line(&format!("{name} = {{ const = \"{value}\", always = true }}   # {why}"));
        }
    }
    if !mapped.iter().any(|(_, choice)| choice.sent) {
        line("synced_by = { const = \"groupcast\" }   # a mapping needs at least one trait; replace this one");
    }
    line("");

    line("[policy]   # the defaults; uncomment to change");
    line("# on_null = \"unset\"          # unset | null | skip: a column turned null");
    line("# on_missing = \"keep\"        # keep | unset | delete: the group left the table");
    line("# on_removed_trait = \"keep\"  # keep | unset: the trait left this file");
    line("# on_duplicate = \"fail\"      # fail | skip: two rows have one key");

    let touched = columns.iter().filter(|column| is_touch_time(column) && column.kind.can_be_cursor());
    // A loader's own time moves for every row at every load; the application's time is the better cursor.
    if let Some(cursor) = touched.min_by_key(|column| is_loader_time(column.name)) {
        line("");
        line(
            "# Reads only rows that changed since the last run. Worth it when a full read is dear; needs a column that",
        );
        line("# grows whenever a row changes. A full read every `full_every` finds groups that left the table.");
        line("# [incremental]");
        line(&format!("# cursor = {}", string(cursor.name)));
        line("# lookback = \"1h\"       # for rows committed late");
        line("# full_every = \"24h\"");
    }
    out
}

/// Traits that destinations need and that no table has.
const CONSTANTS: [(&str, &str, &str); 2] = [
    ("objectTypeId", "1", "the type of the object; without it the type is `1`"),
    ("groupType", "company", "the group type; without it the call has no effect"),
];

/// What becomes of a column.
struct Choice {
    /// Whether it is sent, or stands there as a comment.
    sent: bool,
    /// The declared JSON type, where one is written.
    declared: Option<&'static str>,
    why: String,
}

fn choice(column: &ColumnShape<'_>) -> Choice {
    let sent = |declared, why: &str| Choice { sent: true, declared, why: why.to_owned() };
    let held_back = |declared, why: &str| Choice { sent: false, declared, why: format!("not sent: {why}") };
    let words = words(column.name);
    let has = |wanted: &[&str]| words.iter().any(|word| wanted.contains(&word.as_str()));
    let (declared, why) = match column.kind {
        ColumnType::Decimal => match precision(column.declared) {
            Some(digits) if digits <= 15 => {
                (Some("number"), "at most 15 digits, which every vendor's numbers can represent")
            }
            Some(_) => (Some("string"), "may have more than 15 digits; `as = \"number\"` if the vendor may round them"),
            None => (Some("string"), "no limit of digits; `as = \"number\"` if the vendor may round them"),
        },
        ColumnType::HugeInt => (Some("string"), "more than 64 bits, which no vendor's numbers can represent"),
        ColumnType::Date => (Some("date"), "sent as YYYY-MM-DD"),
        ColumnType::Timestamp | ColumnType::TimestampNs => (Some("timestamp"), "sent as RFC 3339 in UTC"),
        ColumnType::Json => (Some("json"), "not every vendor takes nested values"),
        ColumnType::List(_) => (Some("list"), "not every vendor takes lists"),
        ColumnType::Bytes => (None, "binary data"),
        ColumnType::Interval => (None, "sent as an ISO 8601 duration, a string"),
        ColumnType::Other => (None, "sent as the source's own text"),
        ColumnType::Time => (None, "sent as a string"),
        ColumnType::Bool
        | ColumnType::Int
        | ColumnType::Float32
        | ColumnType::Float64
        | ColumnType::Text
        | ColumnType::Uuid
        | ColumnType::CommaText
        | ColumnType::Written(As::Json | As::List | As::String) => (None, ""),
        // What the file holds today decides nothing for tomorrow.
        ColumnType::Written(As::Number | As::Integer) => (Some("number"), "a number in every row"),
        ColumnType::Written(As::Boolean) => (Some("boolean"), "true or false in every row"),
        ColumnType::Written(As::Date) => (Some("date"), "sent as YYYY-MM-DD"),
        ColumnType::Written(As::Timestamp) => (Some("timestamp"), "sent as RFC 3339 in UTC"),
    };
    if has(&["password", "passwd", "pwd", "secret", "token", "tokens", "credential", "credentials", "apikey"])
        || words.windows(2).any(|pair| pair == ["api", "key"] || pair == ["private", "key"])
    {
        held_back(declared, "looks like a credential")
    } else if has(&["email", "emails", "mail", "phone", "mobile", "fax", "ip", "ssn", "iban", "birthday", "dob"]) {
        held_back(declared, "looks like personal data")
    } else if *column.kind == ColumnType::Bytes {
        held_back(declared, why)
    } else if is_touch_time(column) {
        held_back(declared, "moves whenever the row is touched, so every touch would be sent")
    } else {
        sent(declared, why)
    }
}

fn trait_line(column: &ColumnShape<'_>, choice: &Choice, always: bool) -> String {
    let name = bare_or_quoted(column.name);
    let more = if always { ", always = true" } else { "" };
    let value = match choice.declared {
        Some(declared) => format!("{{ column = {}, as = \"{declared}\"{more} }}", string(column.name)),
        None if always => format!("{{ column = {}{more} }}", string(column.name)),
        None => string(column.name),
    };
    let mark = if choice.sent { "" } else { "# " };
    let why = if choice.why.is_empty() { String::new() } else { format!("; {}", choice.why) };
    format!("{mark}{name} = {value}   # {}{why}", comment(column.declared))
}

/// The column that holds the group's id, and why we think so.
fn key<'a>(columns: &'a [ColumnShape<'a>], table: &str) -> Option<(&'a ColumnShape<'a>, String)> {
    let subject = singular(words(table).last().map_or("", String::as_str));
    let mut names = vec!["id".to_owned(), format!("{subject}_id")];
    names.extend(
        ["account_id", "company_id", "workspace_id", "org_id", "organization_id", "organisation_id", "team_id"]
            .map(str::to_owned),
    );
    let usable = || columns.iter().filter(|column| column.kind.can_be_key());
    for name in &names {
        if let Some(column) = usable().find(|column| column.name.eq_ignore_ascii_case(name)) {
            return Some((column, "the group's id, by its name".to_owned()));
        }
    }
    let looks_unique = |column: &&ColumnShape<'_>| {
        let words = words(column.name);
        *column.kind == ColumnType::Uuid
            || words.last().is_some_and(|word| ["id", "key", "uuid", "guid", "slug"].contains(&word.as_str()))
    };
    let guess = usable().filter(|column| column.not_null).find(looks_unique).or_else(|| usable().find(looks_unique));
    if let Some(column) = guess {
        return Some((column, "a guess: it looks like an id; it must be unique and never null".to_owned()));
    }
    let first = usable().next().or(columns.first())?;
    Some((first, "a guess: no column looks like an id; name the one that is unique and never null".to_owned()))
}

/// The column that people call the group by.
fn label<'a>(columns: impl Iterator<Item = &'a ColumnShape<'a>> + Clone, table: &str) -> Option<&'a ColumnShape<'a>> {
    let subject = singular(words(table).last().map_or("", String::as_str));
    let names = ["name".to_owned(), format!("{subject}_name")].into_iter();
    let mut names = names.chain(["account_name", "company_name", "display_name", "title", "domain"].map(str::to_owned));
    names.find_map(|name| {
        let is_it = |column: &&ColumnShape<'_>| {
            let is_text = matches!(column.kind, ColumnType::Text | ColumnType::CommaText);
            is_text && words(column.name).join("_") == name
        };
        columns.clone().find(is_it)
    })
}

fn group_type(words: &[String]) -> (&'static str, &'static str) {
    for word in words {
        match singular(word).as_str() {
            "workspace" => return ("workspace", "after the table's name"),
            "team" => return ("team", "after the table's name"),
            "organization" | "organisation" | "org" => return ("organization", "after the table's name"),
            _ => {}
        }
    }
    ("account", "a guess")
}

/// Whether a column says when its row was last written, rather than something about the group.
fn is_touch_time(column: &ColumnShape<'_>) -> bool {
    let name = column.name.to_lowercase();
    let names = [
        "updated_at",
        "updated",
        "updated_on",
        "update_time",
        "updatedat",
        "last_updated",
        "last_updated_at",
        "modified_at",
        "modified",
        "modified_on",
        "last_modified",
        "last_modified_at",
        "lastmodifieddate",
        "changed_at",
        "systemmodstamp",
    ];
    names.contains(&name.as_str()) || is_loader_time(&name)
}

/// Columns that loaders and dbt add.
fn is_loader_time(name: &str) -> bool {
    let name = name.to_lowercase();
    ["dbt_updated_at", "dbt_loaded_at", "loaded_at", "synced_at", "ingested_at"].contains(&name.as_str())
        || ["_fivetran_", "_airbyte_", "_dlt_", "_sdc_", "_etl_", "_loaded_at"].iter().any(|own| name.starts_with(own))
}

/// The digits of `DECIMAL(18,2)` or `numeric(18,2)`.
fn precision(declared: &str) -> Option<u32> {
    let (_, arguments) = declared.split_once('(')?;
    arguments.split([',', ')']).next()?.trim().parse().ok()
}

/// The words of a name in snake_case, camelCase or kebab-case, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut lower_before = false;
    for letter in name.chars() {
        let boundary = !letter.is_alphanumeric() || letter.is_uppercase() && lower_before;
        if boundary && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if letter.is_alphanumeric() {
            words.last_mut().expect("it starts with one word").extend(letter.to_lowercase());
        }
        lower_before = letter.is_lowercase() || letter.is_ascii_digit();
    }
    words.retain(|word| !word.is_empty());
    words
}

fn singular(word: &str) -> String {
    match word.strip_suffix("ies") {
        Some(stem) => format!("{stem}y"),
        None => word.strip_suffix('s').unwrap_or(word).to_owned(),
    }
}

/// A TOML basic string.
fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            letter if letter.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(letter))),
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

fn bare_or_quoted(key: &str) -> String {
    let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if bare { key.to_owned() } else { string(key) }
}

/// Text that is safe within a comment, and short: an enum's type may have a thousand labels.
fn comment(text: &str) -> String {
    const CHARACTERS_MAX: usize = 60;
    let mut out: String = text.chars().take(CHARACTERS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(CHARACTERS_MAX).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape<'a>(name: &'a str, kind: &'a ColumnType, declared: &'a str) -> ColumnShape<'a> {
        ColumnShape { name, kind, declared, not_null: false }
    }

    fn mapping(source: &str, destination: &str, table: &str, columns: &[ColumnShape<'_>], always: &[&str]) -> String {
        super::mapping(source, destination, table, columns, always, MappingChoices::default())
    }

    #[test]
    fn what_a_person_chose_is_not_guessed() {
        let columns = texts(&["id", "code", "name", "title"]);
        let guessed = guess("crm.teams", &columns);
        assert_eq!((guessed.group_type, guessed.key, guessed.label), (Some("team"), Some("id"), Some("name")));
        let choices = MappingChoices { group_type: Some("club"), key: Some("code"), label: Some("title") };
        let text = super::mapping("w", "a", "crm.teams", &columns, &[], choices);
        let group = parsed(&text)["group"].clone();
        assert_eq!(
            group.as_table().unwrap().values().filter_map(toml::Value::as_str).collect::<Vec<_>>(),
            ["code", "title", "club"]
        );
        let none = MappingChoices { label: Some(""), ..choices };
        assert!(!super::mapping("w", "a", "crm.teams", &columns, &[], none).contains("label"));
    }

    fn parsed(text: &str) -> toml::Table {
        toml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    fn texts<'a>(names: &[&'a str]) -> Vec<ColumnShape<'a>> {
        names.iter().map(|name| shape(name, &ColumnType::Text, "VARCHAR")).collect()
    }

    #[test]
    fn a_table_becomes_a_mapping_with_every_choice_explained() {
        let list = ColumnType::List(Box::new(ColumnType::Text));
        let columns = [
            shape("account_id", &ColumnType::Text, "VARCHAR"),
            shape("name", &ColumnType::Text, "VARCHAR"),
            shape("arr", &ColumnType::Decimal, "DECIMAL(12,2)"),
            shape("lifetime", &ColumnType::Decimal, "numeric"),
            shape("wide", &ColumnType::Decimal, "DECIMAL(38,10)"),
            shape("serial", &ColumnType::HugeInt, "HUGEINT"),
            shape("renewal", &ColumnType::Date, "DATE"),
            shape("created_at", &ColumnType::Timestamp, "TIMESTAMP"),
            shape("settings", &ColumnType::Json, "JSON"),
            shape("tags", &list, "VARCHAR[]"),
            shape("logo", &ColumnType::Bytes, "BLOB"),
            shape("billing_email", &ColumnType::Text, "VARCHAR"),
            shape("lastLoginIp", &ColumnType::Text, "VARCHAR"),
            shape("api_key", &ColumnType::Text, "VARCHAR"),
            shape("description", &ColumnType::Text, "VARCHAR"),
            shape("_fivetran_synced", &ColumnType::Timestamp, "TIMESTAMP"),
            shape("updated_at", &ColumnType::Timestamp, "TIMESTAMP"),
        ];
        let text = mapping("warehouse", "amplitude", "analytics.dim_accounts", &columns, &[]);
        let expected = r##"# Keeps the groups of amplitude equal to analytics.dim_accounts.
# Check it with `groupcast check --connect`, see what it would send with `groupcast plan`.

source = "warehouse"
destination = "amplitude"
# schedule = { cron = "0 2 * * *", timezone = "UTC" }   # when `groupcast daemon` runs it

[model]
table = "analytics.dim_accounts"
# where = "is_customer"   # only some of the rows, in the source's SQL

[group]
type = "account"   # a guess; it must be a group type the destination knows
key = "account_id"   # the group's id, by its name
label = "name"   # the trait that plans and the console show beside the id

[traits]   # trait = column
name = "name"   # VARCHAR
arr = { column = "arr", as = "number" }   # DECIMAL(12,2); at most 15 digits, which every vendor's numbers can represent
lifetime = { column = "lifetime", as = "string" }   # numeric; no limit of digits; `as = "number"` if the vendor may round them
wide = { column = "wide", as = "string" }   # DECIMAL(38,10); may have more than 15 digits; `as = "number"` if the vendor may round them
serial = { column = "serial", as = "string" }   # HUGEINT; more than 64 bits, which no vendor's numbers can represent
renewal = { column = "renewal", as = "date" }   # DATE; sent as YYYY-MM-DD
created_at = { column = "created_at", as = "timestamp" }   # TIMESTAMP; sent as RFC 3339 in UTC
settings = { column = "settings", as = "json" }   # JSON; not every vendor takes nested values
tags = { column = "tags", as = "list" }   # VARCHAR[]; not every vendor takes lists
# logo = "logo"   # BLOB; not sent: binary data
# billing_email = "billing_email"   # VARCHAR; not sent: looks like personal data
# lastLoginIp = "lastLoginIp"   # VARCHAR; not sent: looks like personal data
# api_key = "api_key"   # VARCHAR; not sent: looks like a credential
description = "description"   # VARCHAR
# _fivetran_synced = { column = "_fivetran_synced", as = "timestamp" }   # TIMESTAMP; not sent: moves whenever the row is touched, so every touch would be sent
# updated_at = { column = "updated_at", as = "timestamp" }   # TIMESTAMP; not sent: moves whenever the row is touched, so every touch would be sent

[policy]   # the defaults; uncomment to change
# on_null = "unset"          # unset | null | skip: a column turned null
# on_missing = "keep"        # keep | unset | delete: the group left the table
# on_removed_trait = "keep"  # keep | unset: the trait left this file
# on_duplicate = "fail"      # fail | skip: two rows have one key

# Reads only rows that changed since the last run. Worth it when a full read is dear; needs a column that
# grows whenever a row changes. A full read every `full_every` finds groups that left the table.
# [incremental]
# cursor = "updated_at"
# lookback = "1h"       # for rows committed late
# full_every = "24h"
"##;
        assert_eq!(text, expected);
        let traits = parsed(&text);
        assert_eq!(traits["traits"].as_table().unwrap().len(), 10);
    }

    #[test]
    fn the_suggested_increments_are_valid_once_uncommented() {
        let updated = ColumnType::Timestamp;
        let columns = [shape("id", &ColumnType::Int, "BIGINT"), shape("updated_at", &updated, "TIMESTAMP")];
        let text = mapping("warehouse", "amplitude", "accounts", &columns, &[]);
        let (before, block) = text.split_once("# [incremental]").unwrap();
        let uncommented = format!("{before}[incremental]{}", block.replace("\n# ", "\n"));
        assert_eq!(parsed(&uncommented)["incremental"]["cursor"].as_str(), Some("updated_at"));
        assert!(!mapping("w", "a", "accounts", &columns[..1], &[]).contains("[incremental]"));
    }

    #[test]
    fn the_key_is_found_by_name_then_by_looks_then_guessed() {
        let key_of = |table: &str, columns: &[ColumnShape<'_>]| {
            parsed(&mapping("w", "a", table, columns, &[]))["group"]["key"].as_str().unwrap().to_owned()
        };
        assert_eq!(key_of("accounts", &texts(&["name", "account_id", "id"])), "id");
        assert_eq!(key_of("dim_companies", &texts(&["account_id", "company_id"])), "company_id");
        assert_eq!(key_of("rollup", &texts(&["name", "Org_Id"])), "Org_Id");
        let mut looks = texts(&["name", "crm_id", "billing_id"]);
        looks[2].not_null = true;
        assert_eq!(key_of("rollup", &looks), "billing_id");
        assert_eq!(key_of("rollup", &texts(&["name", "crm_id"])), "crm_id");
        assert_eq!(key_of("rollup", &texts(&["name", "city"])), "name");
        let float = [shape("id", &ColumnType::Float64, "DOUBLE"), shape("name", &ColumnType::Text, "VARCHAR")];
        assert_eq!(key_of("accounts", &float), "name");
        assert!(mapping("w", "a", "rollup", &texts(&["name"]), &[]).contains("a guess"));
        assert_eq!(key_of("rollup", &[]), "id");
    }

    #[test]
    fn the_group_type_follows_the_table() {
        for (table, expected) in [
            ("analytics.dim_accounts", "account"),
            ("workspaces", "workspace"),
            ("public.\"TeamStats\"", "team"),
            ("dim_organizations", "organization"),
            ("orgs", "organization"),
            ("orders", "account"),
        ] {
            let text = mapping("w", "a", table, &texts(&["id", "name"]), &[]);
            assert_eq!(parsed(&text)["group"]["type"].as_str(), Some(expected), "{table}");
        }
    }

    #[test]
    fn any_name_gives_valid_toml() {
        let names = ["id", "a b", "q\"x", "new\nline", "tab\t", "Größe", "a.b", "back\\slash", "#", "", "\u{1}"];
        let mut columns = texts(&names);
        columns[1].declared = "ENUM('a\nb', 'c')";
        let text = mapping("ware\"house\n", "amp\nlitude", "main.\"odd\n\"\"name\"", &columns, &[]);
        let parsed = parsed(&text);
        assert_eq!(parsed["source"].as_str(), Some("ware\"house\n"));
        assert_eq!(parsed["model"]["table"].as_str(), Some("main.\"odd\n\"\"name\""));
        let traits = parsed["traits"].as_table().unwrap();
        for name in &names[1..] {
            assert_eq!(traits[*name].as_str(), Some(*name));
        }
    }

    #[test]
    fn what_the_destination_needs_in_every_call_travels_with_every_change() {
        let columns = texts(&["id", "name", "Website", "plan"]);
        let text = mapping("w", "s", "accounts", &columns, &["name", "website", "objectTypeId"]);
        let traits = &parsed(&text)["traits"];
        for name in ["name", "Website"] {
            assert_eq!((&traits[name]["column"], &traits[name]["always"]), (&name.into(), &true.into()), "{text}");
        }
        assert_eq!((&traits["plan"], &traits["objectTypeId"]["const"]), (&"plan".into(), &"1".into()), "{text}");
        let there = mapping("w", "s", "accounts", &texts(&["id", "object_type_id"]), &["objectTypeId"]);
        assert!(there.contains("object_type_id = { column = \"object_type_id\", always = true }"), "{there}");
        assert!(!there.contains("objectTypeId"), "{there}");
    }

    #[test]
    fn a_table_with_nothing_to_send_still_gives_a_mapping() {
        let text = mapping("w", "a", "accounts", &texts(&["id", "email"]), &[]);
        assert_eq!(parsed(&text)["traits"]["synced_by"]["const"].as_str(), Some("groupcast"));
    }
}
