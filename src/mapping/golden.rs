//! One golden mapping and a small patch per mistake: what is reported, and where.

use proptest::prelude::*;

use super::check::{Described, check_after, check_columns, check_destination, check_expressions, check_together};
use super::diagnostic::{Diagnostic, Severity, position};
use super::dialect::Dialect;
use super::file::{Context, MappingFile, Names, parse};
use super::sections::model::Lookup;
use super::{
    Expr, Field, From, Guards, OnDuplicate, OnMissing, OnRemovedTrait, Policy, Schedule, User, UserFrom, When, compile,
    fingerprint,
};
use crate::destination::{Features, UserRule};
use crate::model::cell::As;
use crate::model::{ColumnType, OnNull, Op};

/// The SQL standard's dialect.
struct Standard;

impl Dialect for Standard {}

const GOLDEN: &str = r#"source = "warehouse"
destination = "amplitude"
enabled = true
schedule = { cron = "0 2 * * *", timezone = "Europe/Berlin" }

[model]
table = "analytics.dim_accounts"
where = "is_customer"

[group]
type = "company"
key = "account_id"

[traits]
name = "account_name"
arr = { column = "arr_cents", sql = "arr_cents / 100", as = "number" }
renewal = { column = "renewal_date", as = "date", on_null = "skip" }
address = { city = "billing_city", country = { column = "billing_country", as = "string" } }
synced_by = { const = "groupcast" }
first_plan = { column = "plan", op = "set_once" }

[policy]
on_null = "unset"
on_missing = "keep"
on_removed_trait = "unset"
on_duplicate = "skip"

[guards]
empty = false
rows_dropped_max = 0.25
changed_max = "40%"
groups_min = 5

[incremental]
cursor = "updated_at"
lookback = "30m"
full_every = "2d"
"#;

fn resolve(path: &str) -> Result<String, String> {
    match path {
        "models/accounts.sql" => Ok("\u{feff}select *\r\nfrom accounts;\r\n".to_owned()),
        "models/two.sql" => Ok("select 1; select 2".to_owned()),
        _ => Err("no such file".to_owned()),
    }
}

fn read(text: &str) -> (Option<MappingFile>, Vec<Diagnostic>) {
    let names =
        Names { sources: vec!["warehouse".to_owned(), "lake".to_owned()], destinations: vec!["amplitude".to_owned()] };
    let (policy, guards) = (Policy::default(), Guards::default());
    let lookup = Lookup { sql_file: &resolve, dbt: &|_| Err("is no dbt model".to_owned()) };
    let context = Context { names: Some(&names), policy: &policy, guards: &guards, lookup: &lookup };
    parse("accounts", "mappings/accounts.toml", text, &context)
}

fn golden(changes: &[(&str, &str)]) -> String {
    let mut text = GOLDEN.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "the golden mapping has no {from:?}");
        text = text.replacen(from, to, 1);
    }
    text
}

fn sound(changes: &[(&str, &str)]) -> MappingFile {
    let (file, found) = read(&golden(changes));
    file.unwrap_or_else(|| panic!("{found:#?}"))
}

/// `line:column path: message (help; help)`, one per problem.
fn rendered(text: &str, found: &[Diagnostic]) -> String {
    let line = |found: &Diagnostic| {
        let (line, column) = position(text, found.span.start);
        let warning = if found.severity == Severity::Warning { "warning " } else { "" };
        format!("{warning}{line}:{column} {}: {} ({})", found.path, found.message, found.help.join("; "))
    };
    found.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_golden_mapping_means_what_it_says() {
    let MappingFile { mapping, .. } = sound(&[]);
    assert_eq!((mapping.name.as_str(), mapping.enabled), ("accounts", true));
    let schedule = mapping.schedule.unwrap();
    assert_eq!(schedule.when, When::Cron("0 2 * * *".to_owned()));
    assert_eq!(schedule.timezone, crate::time_zone::Zone::named("Europe/Berlin"));
    assert_eq!(mapping.model.from, From::Table(vec!["analytics".to_owned(), "dim_accounts".to_owned()]));
    assert_eq!(mapping.model.filter.as_deref(), Some("is_customer"));
    assert_eq!((mapping.group_type.as_str(), mapping.key.as_str()), ("company", "account_id"));
    let names: Vec<&str> = mapping.traits.iter().map(|mapped| mapped.name.as_str()).collect();
    assert_eq!(names, ["name", "arr", "renewal", "address", "synced_by", "first_plan"], "in the file's order");
    let column = |name: &str| Field::Column { expr: Expr::Column(name.to_owned()), declared: None };
    assert_eq!(mapping.traits[0].value, column("account_name"));
    let sql = Expr::Sql("arr_cents / 100".to_owned());
    assert_eq!(mapping.traits[1].value, Field::Column { expr: sql, declared: Some(As::Number) });
    assert_eq!(mapping.traits[2].on_null, Some(OnNull::Skip));
    let Field::Object(members) = &mapping.traits[3].value else { panic!("an object") };
    assert_eq!(members[0], ("city".to_owned(), column("billing_city")));
    assert_eq!(members[1].0, "country");
    assert_eq!(mapping.traits[4].value, Field::Const("groupcast".into()));
    assert_eq!(mapping.traits[5].op, Op::SetOnce);
    assert_eq!(mapping.policy.on_missing, OnMissing::Keep);
    assert_eq!(mapping.policy.on_removed_trait, OnRemovedTrait::Unset);
    assert_eq!(mapping.policy.on_duplicate, OnDuplicate::Skip);
    let expected =
        Guards { empty: false, rows_dropped_max: 0.25, changed_max: 0.4, groups_min: 5, ..Guards::default() };
    assert_eq!(mapping.guards, expected);
    let incremental = mapping.incremental.unwrap();
    assert_eq!((incremental.lookback.as_secs(), incremental.full_every.as_secs()), (1_800, 172_800));
}

#[test]
fn other_ways_to_say_it() {
    // Byte order mark, Windows line ends, dotted keys and sections for objects.
    let windows = format!("\u{feff}{}", GOLDEN.replace('\n', "\r\n"));
    assert_eq!(read(&windows).0.unwrap().mapping.traits.len(), 6);
    let dotted = sound(&[(
        "address = { city = \"billing_city\", country = { column = \"billing_country\", as = \"string\" } }",
        "address.city = \"billing_city\"\naddress.country = { column = \"billing_country\", as = \"string\" }",
    )]);
    let section = sound(&[
        ("address = { city = \"billing_city\", country = { column = \"billing_country\", as = \"string\" } }\n", ""),
        (
            "[policy]",
            "[traits.address]\ncity = \"billing_city\"\ncountry = { column = \"billing_country\", as = \"string\" }\n[policy]",
        ),
    ]);
    let plain = fingerprint(&sound(&[]).mapping);
    assert_eq!(fingerprint(&dotted.mapping), plain);
    assert_eq!(fingerprint(&section.mapping), plain);
    // Who means an object with a member that looks like a slip can say so.
    let odd = sound(&[(
        "name = \"account_name\"",
        "name = { cost = { column = \"a\" } }\nprice = { cost = 'a', tax = 'b' }",
    )]);
    assert!(matches!(odd.mapping.traits[0].value, Field::Object(_)));
    assert!(matches!(odd.mapping.traits[1].value, Field::Object(_)));
    let table = "table = \"analytics.dim_accounts\"";
    for (written, expected) in [
        ("table = 'a'", From::Table(vec!["a".to_owned()])),
        (
            "table = '\"My DB\".\"a.b\".\"c\"\"d\"'",
            From::Table(vec!["My DB".to_owned(), "a.b".to_owned(), "c\"d".to_owned()]),
        ),
        ("sql = 'select 1;'", From::Query("select 1".to_owned())),
        ("file = 'models/accounts.sql'", From::Query("select *\nfrom accounts".to_owned())),
    ] {
        assert_eq!(sound(&[(table, written)]).mapping.model.from, expected, "{written}");
    }
    for (written, expected) in [
        ("1", "1"),
        ("0xff", "255"),
        ("1_000.50", "1000.5"),
        ("true", "true"),
        ("2026-01-02", "\"2026-01-02\""),
        ("[1, 'a', { b = 2 }]", "[1,\"a\",{\"b\":2}]"),
        ("-9223372036854775808", "-9223372036854775808"),
    ] {
        let file = sound(&[("\"groupcast\"", written)]);
        assert_eq!(file.mapping.traits[4].value, Field::Const(serde_json::from_str(expected).unwrap()), "{written}");
    }
}

#[test]
fn a_user_is_a_template_or_a_column() {
    let user = |written: &str| {
        let text = format!("[user]\n{written}\n\n[policy]");
        sound(&[("[policy]", text.as_str())]).mapping.user.unwrap()
    };
    let texts = |texts: &[&str]| UserFrom::Template(texts.iter().map(|text| (*text).to_owned()).collect());
    for (written, expected) in [
        ("id = 'account:{key}'", texts(&["account:", ""])),
        ("id = '{key}/{key}'", texts(&["", "/", ""])),
        ("id = 'ops@example.com'", texts(&["ops@example.com"])),
        ("id = '{{{key}}}'", texts(&["{", "}"])),
        ("id = { column = 'owner' }", UserFrom::Expr(Expr::Column("owner".to_owned()))),
        ("id = { sql = 'lower(owner)' }", UserFrom::Expr(Expr::Sql("lower(owner)".to_owned()))),
    ] {
        assert_eq!(user(written), User { anonymous: false, from: expected }, "{written}");
    }
    assert!(user("anonymous_id = '{key}'").anonymous);
}

#[test]
fn each_mistake_is_told_at_its_place() {
    let schedule = "schedule = { cron = \"0 2 * * *\", timezone = \"Europe/Berlin\" }";
    let table = "table = \"analytics.dim_accounts\"";
    let name = "name = \"account_name\"";
    let constant = "synced_by = { const = \"groupcast\" }";
    let mut wrong = Vec::new();
    for (from, to, expected) in [
        ("source = ", "sorce = ", "1:1 sorce: unknown key `sorce` (did you mean `source`?)"),
        (
            "enabled = true",
            "on_null = \"skip\"",
            "3:1 on_null: unknown key `on_null` (`on_null` belongs in `[policy]`)",
        ),
        ("enabled = true", "zzz = 1", "3:1 zzz: unknown key `zzz` (known here: `source`"),
        ("\"warehouse\"", "\"warehose\"", "1:10 source: source `warehose` not found (did you mean `warehouse`?)"),
        ("\"warehouse\"", "\"nope\"", "(groupcast.toml defines `warehouse` and `lake`)"),
        ("\"amplitude\"", "\"mixpanel\"", "2:15 destination: destination `mixpanel` not found"),
        ("source = \"warehouse\"", "source = 1", "1:10 source: `source` must be a string, not an integer ()"),
        ("enabled = true", "enabled = \"yes\"", "3:11 enabled: `enabled` must be true or false, not a string"),
        (schedule, "schedule = 'nightly'", "4:12 schedule: `schedule` is not a cron expression (write minute, hour"),
        (schedule, "schedule = {}", "4:12 schedule: `schedule` has no `cron`, `every` or `after`"),
        (schedule, "schedule = { crn = '@daily' }", "4:14 schedule.crn: unknown key `crn` (did you mean `cron`?)"),
        (
            schedule,
            "schedule = { cron = '@daily', every = '1h' }",
            "4:39 schedule.every: `schedule` has both `cron` and `every`",
        ),
        (schedule, "schedule = { every = '59s' }", "4:22 schedule.every: `every` is shorter than a minute"),
        (schedule, "schedule = { every = 45 }", "`every` is a duration without a unit"),
        (
            schedule,
            "schedule = { every = '1h', jitter = '30m' }",
            "4:37 schedule.jitter: `jitter` is too long for runs",
        ),
        (schedule, "schedule = { after = 'a', jitter = '30m' }", "`jitter` has no effect beside `after`"),
        (schedule, "schedule = { every = '1h', timezone = 'UTC' }", "`timezone` is of no use without `cron`"),
        (schedule, "schedule = { every = '1h', catch_up = 'all' }", "`catch_up` must be `once` or `skip`"),
        (schedule, "schedule = { every = '1h', overlap = 'que' }", "`overlap` must be `skip` or `queue`"),
        ("\"Europe/Berlin\"", "\"Berlin\"", "`timezone` is not a time zone (did you mean `Europe/Berlin`?)"),
        (schedule, "schedule = 5", "must be a cron expression or a table"),
        ("\"Europe/Berlin\"", "\"\"", "schedule.timezone: `timezone` is empty"),
        (table, "", "6:1 model: the model has no `table`, `sql`, `file` or `dbt`"),
        (
            table,
            "table = 'a'\nsql = 'select 1'",
            "8:1 model.sql: the model has both `table` and `sql` (keep one of them)",
        ),
        (table, "table = 'a..b'", "7:9 model.table: `table` is not a table's name (a part of it is empty)"),
        (table, "table = 'a b'", "(quote odd names"),
        (table, "table = '\"a'", "never closed"),
        (table, "table = 'a.b.c.d'", "more than three parts"),
        (table, "sql = ' ; '", "`sql` contains an SQL text that is empty"),
        (table, "sql = 'select 1; select 2'", "`sql` contains more than one SQL statement"),
        (table, "file = 'none.sql'", "7:8 model.file: no such file"),
        (table, "file = 'models/two.sql'", "`models/two.sql` contains more than one SQL statement"),
        ("\"is_customer\"", "\"where a\"", "8:9 model.where: `where` repeats the word WHERE"),
        ("\"is_customer\"", "\"a) or (b\"", "`where` contains a `)` without its `(`"),
        ("type = \"company\"\n", "", "10:1 group: `[group]` has no `type`"),
        ("key = \"account_id\"", "key = \"\"", "12:7 group.key: `key` is empty"),
        (
            "key = \"account_id\"",
            "key = \"id\"\nlabel = 'nme'",
            "13:9 group.label: trait `nme` not found (did you mean `name`?)",
        ),
        ("key = \"account_id\"", "key = \"id\"\nlabel = 'x'", "trait `x` not found (`label` names one of the traits: "),
        ("[group]", "[gruop]", "unknown key `gruop` (did you mean `group`?)"),
        (
            name,
            "name = 5",
            "15:8 traits.name: `name` must be a column's name (a string) or a table, not an integer (to send the same value",
        ),
        (name, "name = ''", "`name` is empty"),
        (name, "\"\" = 'a'", "15:1 traits.\"\": the name of this trait is empty"),
        (name, "\"a\\u0000\" = 'a'", "control character"),
        (
            name,
            "name = { colum = 'a' }",
            "15:10 traits.name.colum: unknown key `colum` (did you mean `column`?; if an object",
        ),
        (name, "name = { column = 'a', onnull = 'skip' }", "unknown key `onnull` (did you mean `on_null`?)"),
        (name, "name = { column = 'a', city = 'b' }", "unknown key `city` (`column` makes this table one value"),
        (
            name,
            "name = { as = 'string' }",
            "15:8 traits.name: trait `name` has no source (set `column`, `sql` or `const`)",
        ),
        (name, "name = {}", "an object without members"),
        (name, "name = { a = { column = 'b', op = 'set' } }", "`op` belongs to the whole trait"),
        (name, "name = { column = 'a', as = 'nubmer' }", "15:29 traits.name.as: `as` must be `string`, `number`"),
        (name, "name = { column = 'a', as = 'nubmer' }", "(did you mean `number`?)"),
        (name, "name = { column = 'a', op = 'unset' }", "`op = \"unset\"` is not supported (a trait is unset when"),
        (
            name,
            "name = { column = 'a', op = 'sett' }",
            "`op` must be `set`, `set_once`, `add`, `append` or `prepend`, not `sett` (did you mean `set`?)",
        ),
        (name, "name = { column = 'a', on_null = 'nul' }", "(did you mean `null`?)"),
        (name, "name = { sql = \"'a\" }", "never closed"),
        (constant, "a = { const = 1, column = 'b' }", "a constant together with `column`"),
        (constant, "a = { const = 1, on_null = 'skip' }", "a constant is never null"),
        (constant, "a = { const = nan }", "JSON has no number `nan`"),
        (constant, "a = { const = [inf] }", "JSON has no number `inf`"),
        (constant, "a = { const = 9223372036854775808 }", "of more than 64 bits (send it as text"),
        (
            "on_missing = \"keep\"",
            "on_missing = \"drop\"",
            "24:14 policy.on_missing: `on_missing` must be `keep`, `unset` or `delete`, not `drop`",
        ),
        (
            "0.25",
            "25",
            "30:20 guards.rows_dropped_max: `rows_dropped_max` is a share from 0 to 1 (for 25 % write `\"25%\"`)",
        ),
        ("\"40%\"", "\"140%\"", "`changed_max` is not a share"),
        ("groups_min = 5", "groups_min = -1", "`groups_min` must be at least 0"),
        ("cursor = \"updated_at\"", "", "`[incremental]` has no `cursor`"),
        ("[policy]", "[user]\nid = \"{column}\"\n[policy]", "`id` is not a template (only `{key}` can be in braces"),
        ("[policy]", "[user]\nid = \"a}b\"\n[policy]", "`id` is not a template (a `}` without its `{`;"),
        ("[policy]", "[user]\n[policy]", "`[user]` has no `id` (write `id = \"account:{key}\"`"),
        ("[policy]", "[user]\nid = 7\n[policy]", "`id` must be a string"),
        ("[policy]", "[user]\nid = 'a'\nanonymous_id = 'b'\n[policy]", "has both `id` and `anonymous_id`"),
        ("[policy]", "[user]\nid = { colum = 'a' }\n[policy]", "unknown key `colum` (did you mean `column`?)"),
        ("\"30m\"", "30", "`lookback` is a duration without a unit (write the unit: `\"30s\"`"),
        ("\"30m\"", "\"half an hour\"", "`lookback` is not a duration (write a whole number and"),
        ("\"2d\"", "\"0s\"", "`full_every` must be more than nothing"),
    ] {
        let text = golden(&[(from, to)]);
        let (file, found) = read(&text);
        let shown = rendered(&text, &found);
        if !shown.contains(expected) || file.is_some() {
            wrong.push(format!("{to}\n  expected {expected}\n  shown {shown}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let (_, found) = read("[traits]\nsource = \"warehouse\"\n");
    assert!(rendered("", &found).contains("there is one in `[traits]`: move it above the first `[section]`"));
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = golden(&[
        ("\"warehouse\"", "\"warehose\""),
        ("enabled = true", "enabeld = true"),
        ("as = \"number\"", "as = \"money\""),
        ("\"skip\"", "\"skp\""),
        ("\"2d\"", "2"),
    ]);
    insta::assert_snapshot!(rendered(&text, &read(&text).1), @r#"
    3:1 enabeld: unknown key `enabeld` (did you mean `enabled`?)
    1:10 source: source `warehose` not found (did you mean `warehouse`?)
    16:61 traits.arr.as: `as` must be `string`, `number`, `integer`, `boolean`, `date`, `timestamp`, `json` or `list`, not `money` ()
    17:61 traits.renewal.on_null: `on_null` must be `unset`, `null` or `skip`, not `skp` (did you mean `skip`?)
    37:14 incremental.full_every: `full_every` is a duration without a unit (write the unit: `"2s"`, `"2m"`, `"2h"` or `"2d"`)
    "#);
}

#[test]
fn broken_toml_hides_neither_other_broken_lines_nor_real_mistakes() {
    let text = golden(&[
        ("destination = \"amplitude\"", "destination = amplitude"),
        ("on_missing = \"keep\"", "on_missing = \"drop\""),
        ("empty = false", "empty = = false"),
    ]);
    insta::assert_snapshot!(rendered(&text, &read(&text).1), @r#"
    2:15 : not valid TOML: string values must be quoted, expected literal string (put the value in quotation marks: `key = "value"`)
    29:9 : not valid TOML: extra `=` ()
    24:14 policy.on_missing: `on_missing` must be `keep`, `unset` or `delete`, not `drop` ()
    "#);
}

#[test]
fn the_fingerprint_follows_what_shapes_documents() {
    let plain = fingerprint(&sound(&[]).mapping);
    assert_eq!(
        plain, "b32b8879999140215e55d033ecd9f3ab",
        "a new recipe makes every row a candidate once: is that meant?"
    );
    for (from, to) in [
        ("enabled = true", "enabled = false"),
        ("0 2 * * *", "0 3 * * *"),
        ("\"warehouse\"", "\"lake\""),
        ("changed_max = \"40%\"", "changed_max = 0.9"),
        ("on_missing = \"keep\"", "on_missing = \"unset\""),
        ("lookback = \"30m\"", "lookback = \"1h\""),
        (
            "name = \"account_name\"\narr = { column = \"arr_cents\", sql = \"arr_cents / 100\", as = \"number\" }",
            "arr = { sql = \"arr_cents / 100\", as = \"number\" }\nname = \"account_name\"",
        ),
        ("on_null = \"unset\"\non_missing", "on_missing"),
    ] {
        assert_eq!(fingerprint(&sound(&[(from, to)]).mapping), plain, "{to}");
    }
    let mut seen = std::collections::BTreeSet::from([plain]);
    for (from, to) in [
        ("analytics.dim_accounts", "dim_accounts"),
        ("table = \"analytics.dim_accounts\"", "sql = \"select * from analytics.dim_accounts\""),
        ("is_customer", "not is_customer"),
        ("where = \"is_customer\"\n", ""),
        ("\"company\"", "\"account\""),
        ("\"account_id\"", "\"id\""),
        ("name = \"account_name\"", "title = \"account_name\""),
        ("name = \"account_name\"", "name = \"account_title\""),
        ("name = \"account_name\"", "name = { sql = \"account_name\" }"),
        ("as = \"number\"", "as = \"integer\""),
        ("op = \"set_once\"", "op = \"set\""),
        ("on_null = \"skip\"", "on_null = \"null\""),
        ("on_null = \"unset\"", "on_null = \"null\""),
        ("on_removed_trait = \"unset\"", "on_removed_trait = \"keep\""),
        ("\"groupcast\"", "\"someone\""),
        ("city = ", "town = "),
    ] {
        assert!(seen.insert(fingerprint(&sound(&[(from, to)]).mapping)), "{to}");
    }
}

fn column<'a>(name: &'a str, kind: &'a ColumnType, declared: &'a str) -> Described<'a> {
    Described { name, kind, declared, denied: None }
}

const TEXT: ColumnType = ColumnType::Text;
const DECIMAL: ColumnType = ColumnType::Decimal;

fn columns() -> Vec<Described<'static>> {
    vec![
        column("account_id", &ColumnType::Int, "bigint"),
        column("account_name", &TEXT, "text"),
        column("arr_cents", &DECIMAL, "DECIMAL(38,2)"),
        column("renewal_date", &ColumnType::Date, "date"),
        column("billing_city", &TEXT, "text"),
        column("billing_country", &TEXT, "text"),
        column("plan", &TEXT, "text"),
        column("updated_at", &ColumnType::Timestamp, "timestamptz"),
    ]
}

#[test]
fn columns_are_checked_where_they_are_named() {
    assert_eq!(check_columns(&sound(&[]), &columns(), &Standard), []);
    let mut wrong = Vec::new();
    for (from, to, expected) in [
        (
            "\"account_id\"",
            "\"acount_id\"",
            "12:7 group.key: the model has no column `acount_id` (did you mean `account_id`?)",
        ),
        ("\"account_id\"", "\"Account_ID\"", "(there is `account_id`: write it exactly so, capitals matter"),
        (
            "\"account_id\"",
            "\"updated_at\"",
            "12:7 group.key: column `updated_at` is timestamptz, which cannot be a group's key",
        ),
        (
            "\"account_name\"",
            "\"zzz\"",
            "15:8 traits.name: the model has no column `zzz` (it has `account_id`, `account_name`",
        ),
        ("\"plan\"", "\"pln\"", "20:25 traits.first_plan: the model has no column `pln` (did you mean `plan`?)"),
        ("\"billing_city\"", "\"city\"", "18:20 traits.address.city: the model has no column `city`"),
        (
            "\"account_name\"",
            "\"arr_cents\"",
            "15:8 traits.name: column `arr_cents` is DECIMAL(38,2): add `as = \"number\"` or `as = \"string\"` (write `{ column = \"arr_cents\", as = \"number\" }`)",
        ),
        (
            "{ column = \"plan\",",
            "{ column = \"arr_cents\",",
            "20:14 traits.first_plan: column `arr_cents` is DECIMAL(38,2): add `as = \"number\"` or `as = \"string\"`",
        ),
        (
            "as = \"date\"",
            "as = \"boolean\"",
            "17:43 traits.renewal: column `renewal_date` is date, which cannot become `boolean` (it can become `string`, `date`, `timestamp` or `json`)",
        ),
        ("\"updated_at\"", "\"updated\"", "35:10 incremental.cursor: the model has no column `updated`"),
        ("\"updated_at\"", "\"plan\"", "column `plan` is text, which cannot be a cursor"),
    ] {
        let text = golden(&[(from, to)]);
        let shown = rendered(&text, &check_columns(&sound(&[(from, to)]), &columns(), &Standard));
        if !shown.contains(expected) || shown.lines().count() != 1 {
            wrong.push(format!("{to}\n  expected {expected}\n  shown {shown}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(
        check_columns(&sound(&[]), &[], &Standard).len(),
        7,
        "every missing column is named; an expression's are not"
    );
}

#[test]
fn expressions_are_checked_with_the_types_the_engine_gives_them() {
    let changes = [(", as = \"number\" }", " }")];
    let (text, file) = (golden(&changes), sound(&changes));
    let expressions = compile::projection(&file.mapping, None).columns;
    let described: Vec<Described<'_>> = expressions.iter().map(|_| column("x", &DECIMAL, "numeric")).collect();
    assert_eq!(
        rendered(&text, &check_expressions(&file, &expressions, &described, &Standard)),
        "16:7 traits.arr: this expression is numeric: add `as = \"number\"` or `as = \"string\"` ()"
    );
    let (file, bytes) = (sound(&[]), ColumnType::Bytes);
    let described: Vec<Described<'_>> = expressions.iter().map(|_| column("x", &bytes, "bytea")).collect();
    assert!(
        rendered(GOLDEN, &check_expressions(&file, &expressions, &described, &Standard))
            .starts_with("16:61 traits.arr: this expression is bytea, which cannot become `number`")
    );
}

#[test]
fn destinations_say_what_they_cannot_do() {
    let all = Features {
        ops: &[Op::Set, Op::SetOnce],
        on_null: &[OnNull::Unset, OnNull::Null, OnNull::Skip],
        delete: false,
        exact_numbers: true,
        objects: true,
        gzip: true,
        user: UserRule::Never,
    };
    assert_eq!(check_destination(&sound(&[]), &all, Vec::new(), "somewhere"), []);
    let none = Features { ops: &[Op::Set], on_null: &[OnNull::Null], objects: false, ..all };
    let changes = [("on_missing = \"keep\"", "on_missing = \"delete\"")];
    let text = golden(&changes);
    insta::assert_snapshot!(rendered(&text, &check_destination(&sound(&changes), &none, Vec::new(), "somewhere")), @r#"
    17:61 traits.renewal.on_null: somewhere does not support `on_null = "skip"` (use `null`)
    18:11 traits.address: somewhere does not accept objects as values of traits (map each member as a trait of its own)
    20:38 traits.first_plan.op: somewhere does not support `op = "set_once"` (use `set`)
    23:11 policy.on_null: somewhere does not support `on_null = "unset"` (set `on_null` in `[policy]` to `null`)
    24:14 policy.on_missing: somewhere cannot delete groups (use `keep`)
    25:20 policy.on_removed_trait: somewhere cannot unset traits (use `keep`)
    "#);
    let changes = [("on_null = \"unset\"\non_missing = \"keep\"", "on_missing = \"unset\"")];
    let text = golden(&changes);
    let shown = rendered(&text, &check_destination(&sound(&changes), &none, Vec::new(), "somewhere"));
    assert!(shown.contains("the default, which `name` relies on"), "{shown}");
    assert!(shown.contains("23:14 policy.on_missing: somewhere cannot unset traits (use `keep`)"), "{shown}");
}

#[test]
fn destinations_say_whether_they_want_a_user() {
    let features = |user| Features {
        ops: Op::ALL,
        on_null: &[OnNull::Unset, OnNull::Null, OnNull::Skip],
        delete: true,
        exact_numbers: true,
        objects: true,
        gzip: true,
        user,
    };
    let known = "[user]\nid = 'account:{key}'\n\n[policy]";
    let anonymous = "[user]\nanonymous_id = '{key}'\n\n[policy]";
    for (rule, none, with_known, with_anonymous) in [
        (UserRule::Required, Some("has no `[user]`"), None, None),
        (UserRule::RequiredKnown, Some("has no `[user]`"), None, Some("has no anonymous users")),
        (UserRule::Optional, None, None, None),
        (
            UserRule::Never,
            None,
            Some("does not accept a user with a group"),
            Some("does not accept a user with a group"),
        ),
    ] {
        for (section, expected) in [("[policy]", none), (known, with_known), (anonymous, with_anonymous)] {
            let found = check_destination(&sound(&[("[policy]", section)]), &features(rule), Vec::new(), "somewhere");
            let whats: Vec<&str> = found.iter().map(|one| one.message.as_str()).collect();
            match expected {
                None => assert!(whats.is_empty(), "{rule:?} {section}: {whats:?}"),
                Some(text) => assert!(whats.len() == 1 && whats[0].contains(text), "{rule:?} {section}: {whats:?}"),
            }
        }
    }
}

#[test]
fn two_mappings_do_not_write_one_trait() {
    let first = sound(&[]);
    let mut second = sound(&[("name = \"account_name\"", "title = \"account_name\"")]);
    second.mapping.name = "Accounts".to_owned();
    second.mapping.file = "mappings/Accounts.toml".to_owned();
    let shown_all = rendered(&second.text, &check_together(&[first.clone(), second.clone()]));
    assert!(shown_all.contains("sync `Accounts` and `accounts` differ only in capitals"), "{shown_all}");
    let expected =
        "16:7 traits.arr: trait `arr` of `company` at `amplitude` is also written by mappings/accounts.toml:16";
    assert!(shown_all.contains(expected), "{shown_all}");
    assert_eq!(shown_all.lines().count(), 6, "{shown_all}");
    second.mapping.name = "other".to_owned();
    for change in [
        |file: &mut MappingFile| file.mapping.enabled = false,
        |file: &mut MappingFile| file.mapping.destination = "elsewhere".to_owned(),
        |file: &mut MappingFile| file.mapping.group_type = "account".to_owned(),
    ] {
        let mut changed = second.clone();
        change(&mut changed);
        assert_eq!(check_together(&[first.clone(), changed]), []);
    }
}

#[test]
fn schedules_follow_known_syncs_and_never_each_other() {
    let named = |name: &str, after: &str| {
        let schedule = format!("schedule = {{ after = \"{after}\" }}");
        let mut file = sound(&[("schedule = { cron = \"0 2 * * *\", timezone = \"Europe/Berlin\" }", &schedule)]);
        (file.mapping.name, file.mapping.file) = (name.to_owned(), format!("mappings/{name}.toml"));
        file
    };
    let plain = sound(&[]);
    let chain = [plain.clone(), named("second", "accounts"), named("third", "second")];
    let none = std::collections::BTreeSet::new();
    assert_eq!(check_after(&chain, &none), []);
    let text = &chain[1].text;
    for (files, expected) in [
        (vec![plain.clone(), named("b", "acounts")], "4:22 schedule.after: sync `acounts` not found (did you mean"),
        (vec![named("b", "b")], "4:22 schedule.after: sync `b` waits for itself"),
        (
            vec![named("b", "c"), named("c", "b")],
            "4:22 schedule.after: sync `b` waits for itself: `b` after `c` after `b`",
        ),
        (vec![named("a", "b"), named("b", "c"), named("c", "b")], "`b` after `c` after `b`"),
    ] {
        let found = check_after(&files, &none);
        assert!(found.iter().all(|found| found.severity == Severity::Error), "{found:?}");
        assert!(rendered(text, &found).contains(expected), "{}", rendered(text, &found));
        assert_eq!(found.len(), 1, "{}", rendered(text, &found));
    }
    let mut off = plain;
    off.mapping.enabled = false;
    let found = check_after(&[off.clone(), named("b", "accounts")], &none);
    assert!(rendered(text, &found).starts_with("warning 4:22"), "{found:?}");
    let mut both_off = named("b", "accounts");
    both_off.mapping.enabled = false;
    assert_eq!(check_after(&[off, both_off], &none), []);
}

#[test]
fn a_schedule_holds_what_was_written() {
    let from = "schedule = { cron = \"0 2 * * *\", timezone = \"Europe/Berlin\" }";
    let read = |to: &str| sound(&[(from, to)]).mapping.schedule.unwrap();
    let minutes = |minutes: u64| std::time::Duration::from_secs(minutes * 60);
    let plain = Schedule {
        when: When::Cron("@daily".to_owned()),
        timezone: None,
        jitter: minutes(0),
        catch_up: super::CatchUp::Once,
        overlap: super::Overlap::Skip,
    };
    assert_eq!(read("schedule = '@daily'"), plain);
    assert_eq!(read("schedule = { cron = '@daily', catch_up = 'once', overlap = 'skip', jitter = '0s' }"), plain);
    let every = read("schedule = { every = '45m', jitter = '5m', catch_up = 'skip', overlap = 'queue' }");
    assert_eq!((every.when, every.jitter), (When::Every(minutes(45)), minutes(5)));
    assert_eq!((every.catch_up, every.overlap), (super::CatchUp::Skip, super::Overlap::Queue));
}

fn spans_fit(text: &str) {
    let stripped = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (file, found) = read(text);
    assert_eq!(file.is_none(), found.iter().any(|found| found.severity == Severity::Error));
    for found in found {
        assert!(stripped.get(found.span.clone()).is_some(), "{found:?}");
        assert!(!found.message.contains('\n'), "{found:?}");
    }
}

proptest! {
    #[test]
    fn any_text_is_answered(text in ".{0,200}", lines in "([a-z\"'=\\[\\]{}.,#\n 0-9é\\\\]|source|\\[traits\\]|\\[\\[model\\]\\]|= \"){0,60}") {
        spans_fit(&text);
        spans_fit(&lines);
    }

    #[test]
    fn any_cut_or_slip_in_a_real_mapping_is_answered(at in 0..GOLDEN.len(), length in 0..40_usize, put in "[\"'={}\\[\\]\n.a#é,]{0,3}") {
        let (before, after) = GOLDEN.split_at(at);
        spans_fit(before);
        spans_fit(&format!("{before}{put}{}", after.get(length..).unwrap_or("")));
    }
}

/// Each of five thousand traits names a column that the model lacks: to search a similar name for each would compare every
/// one with every other.
#[test]
fn thousands_of_mistakes_are_reported_briefly_each() {
    const COUNT: usize = 5_000;
    let traits: String = (0..COUNT).map(|at| format!("trait_{at:05} = \"wanted_column_{at:05}\"\n")).collect();
    let (before, _) = GOLDEN.split_once("[traits]").unwrap();
    let (mapping, found) = read(&format!("{before}[traits]\n{traits}"));
    let file = mapping.unwrap_or_else(|| panic!("{found:?}"));
    let names: Vec<String> = (0..COUNT).map(|at| format!("existing_name_{at:05}")).collect();
    let columns: Vec<Described<'_>> = names.iter().map(|name| column(name, &TEXT, "text")).collect();
    let found = check_columns(&file, &columns, &Standard);
    assert!(found.len() > COUNT, "{}", found.len());
    // What is written about each does not grow with the columns there are.
    let written: usize = found.iter().map(|found| found.message.len() + found.help.concat().len()).sum();
    assert!(written < COUNT * 500, "{written} bytes");
}
