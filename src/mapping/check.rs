//! Does a mapping fit the columns of its source, the features of its destination, and the other mappings? Pure: the
//! caller brings the columns. What a file says on its own is checked while it is read, in [`super::file`].

use std::collections::{BTreeMap, BTreeSet};

use super::diagnostic::{Diagnostic, Lines, did_you_mean, listed, listed_all};
use super::dialect::Dialect;
use super::file::{MappingFile, trait_path};
use super::reader::{join, shown};
use super::remedy;
use super::{At, Expr, Field, OnMissing, OnRemovedTrait, UserFrom, When};
use crate::destination::{Features, MappingFinding, TraitShape, UserRule};
use crate::model::cell::As;
use crate::model::{ColumnType, OnNull};

/// A column, or an SQL expression, as the source describes it.
#[derive(Debug, Clone, Copy)]
pub struct Described<'a> {
    /// The column's name; ignored for expressions.
    pub name: &'a str,
    /// What its values mean.
    pub kind: &'a ColumnType,
    /// The source's own name of the type.
    pub declared: &'a str,
    /// Where the source's user may not read it: the statement that lets it.
    pub denied: Option<&'a str>,
}

const AS: [(As, &str); 8] = [
    (As::String, "string"),
    (As::Number, "number"),
    (As::Integer, "integer"),
    (As::Boolean, "boolean"),
    (As::Date, "date"),
    (As::Timestamp, "timestamp"),
    (As::Json, "json"),
    (As::List, "list"),
];

fn as_name(wanted: As) -> &'static str {
    AS.iter().find(|(declared, _)| *declared == wanted).map_or("string", |(_, name)| name)
}

/// Checks key, cursor and every plain column against the columns the model yields.
pub fn check_columns(file: &MappingFile, columns: &[Described<'_>], dialect: &dyn Dialect) -> Vec<Diagnostic> {
    let mapping = &file.mapping;
    let mut found = Vec::new();
    match resolve(file, &file.at("group.key"), &mapping.key, columns) {
        Err(missing) => found.push(missing),
        Ok(key) if !key.kind.can_be_key() => {
            let what = format!("column `{}` is {}, which cannot be a group's key", shown(key.name), key.declared);
            found.push(
                Diagnostic::error(&mapping.file, &file.at("group.key"), what)
                    .help("a key is text, a whole number, a decimal or a UUID: cast it to text in the model's `sql`"),
            );
        }
        Ok(_) => {}
    }
    if let Some(incremental) = &mapping.incremental {
        let at = file.at("incremental.cursor");
        match resolve(file, &at, &incremental.cursor, columns) {
            Err(missing) => found.push(missing),
            Ok(cursor) if !cursor.kind.can_be_cursor() => {
                let what = format!("column `{}` is {}, which cannot be a cursor", shown(cursor.name), cursor.declared);
                found.push(
                    Diagnostic::error(&mapping.file, &at, what)
                        .help("a cursor is a timestamp, a date or a whole number that grows when a row changes"),
                );
            }
            Ok(_) => {}
        }
    }
    if let Some(super::User { from: UserFrom::Expr(Expr::Column(name)), .. }) = &mapping.user {
        found.extend(resolve(file, &file.at("user"), name, columns).err());
    }
    each_value(file, &mut |path, expr, declared| {
        let Expr::Column(name) = expr else { return };
        match resolve(file, &column_place(file, path), name, columns) {
            Err(missing) => found.push(missing),
            Ok(column) => {
                let subject = format!("column `{}`", shown(name));
                found.extend(check_type(file, path, &subject, column, declared, dialect));
            }
        }
    });
    found
}

/// Checks the types of SQL expressions. `expressions` and `described` are the projection's columns and what the source
/// says of them, in the same order.
pub fn check_expressions(
    file: &MappingFile,
    expressions: &[Expr],
    described: &[Described<'_>],
    dialect: &dyn Dialect,
) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    each_value(file, &mut |path, expr, declared| {
        let Expr::Sql(_) = expr else { return };
        let position = expressions.iter().position(|other| other == expr);
        if let Some(column) = position.and_then(|position| described.get(position)) {
            found.extend(check_type(file, path, "this expression", column, declared, dialect));
        }
    });
    found
}

/// The values whose types leave open whether they can become what is declared: path, expression, declared type. `kind_of`
/// says what the source says of an expression.
pub fn doubtful(file: &MappingFile, kind_of: &dyn Fn(&Expr) -> Option<ColumnType>) -> Vec<(String, Expr, As)> {
    let mut found = Vec::new();
    each_value(file, &mut |path, expr, declared| {
        let open = match (kind_of(expr), declared) {
            (Some(ColumnType::Text | ColumnType::Written(_) | ColumnType::CommaText), Some(declared)) => {
                declared != As::String
            }
            (Some(ColumnType::Json), Some(declared)) => !matches!(declared, As::String | As::Json),
            _ => false,
        };
        if let (true, Some(declared)) = (open, declared) {
            found.push((path.to_owned(), expr.clone(), declared));
        }
    });
    found
}

/// Where a column is used: by the key and by traits, or only by traits that declare no type.
pub fn uses(file: &MappingFile, name: &str, untyped: bool) -> Vec<At> {
    let mut found = Vec::new();
    if !untyped && file.mapping.key == name {
        found.push(file.at("group.key"));
    }
    each_value(file, &mut |path, expr, declared| {
        if *expr == Expr::Column(name.to_owned()) && (!untyped || declared.is_none()) {
            found.push(column_place(file, path));
        }
    });
    found
}

/// Calls `visit` with the dotted path, expression and declared type of every value that is read from the source.
fn each_value(file: &MappingFile, visit: &mut dyn FnMut(&str, &Expr, Option<As>)) {
    fn walk(field: &Field, path: &str, visit: &mut dyn FnMut(&str, &Expr, Option<As>)) {
        match field {
            Field::Column { expr, declared } => visit(path, expr, *declared),
            Field::Const(_) => {}
            Field::Object(members) => members.iter().for_each(|(name, member)| walk(member, &join(path, name), visit)),
        }
    }
    for mapped in &file.mapping.traits {
        walk(&mapped.value, &trait_path(&mapped.name), visit);
    }
}

/// Where a value names its column.
fn column_place(file: &MappingFile, path: &str) -> At {
    At { path: path.to_owned(), ..file.at(&format!("{path}.column")) }
}

fn resolve<'a, 'c>(
    file: &MappingFile,
    at: &At,
    name: &str,
    columns: &'c [Described<'a>],
) -> Result<&'c Described<'a>, Diagnostic> {
    if let Some(column) = columns.iter().find(|column| column.name == name) {
        return match column.denied {
            None => Ok(column),
            Some(grant) => {
                let what = format!("the source's user may not read column `{}`", shown(name));
                Err(Diagnostic::error(&file.mapping.file, at, what).help(format!("grant it: `{grant}`")))
            }
        };
    }
    let names = || columns.iter().map(|column| column.name);
    let missing =
        Diagnostic::error(&file.mapping.file, at, format!("the model has no column `{}`", shown(name))).missing();
    Err(match did_you_mean(name, names()) {
        Some(meant) if meant.to_lowercase() == name.to_lowercase() => missing.help(format!(
            "there is `{meant}`: write it exactly so, capitals matter (PostgreSQL folds unquoted names to lower case)"
        )),
        Some(meant) => missing.help(format!("did you mean `{meant}`?")),
        None if columns.is_empty() => missing.help("the model yields no columns at all"),
        None => missing.help(format!("it has {}", listed_all(names()))),
    })
}

/// How a column is written in SQL; of an expression only that it stands there.
fn as_sql(subject: &str, name: &str, dialect: &dyn Dialect) -> String {
    if !subject.starts_with("column") {
        return "(…)".to_owned();
    }
    let bare = name.starts_with(|letter: char| letter.is_ascii_lowercase() || letter == '_')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if bare { name.to_owned() } else { dialect.identifier(name) }
}

fn check_type(
    file: &MappingFile,
    path: &str,
    subject: &str,
    column: &Described<'_>,
    declared: Option<As>,
    dialect: &dyn Dialect,
) -> Option<Diagnostic> {
    let name = &file.mapping.file;
    match declared {
        None if *column.kind == ColumnType::Other && !remedy::is_plain(column.declared) => {
            let what = format!(
                "{subject} is {}, which is sent as the server's own text of it (`$1,234.50`, `(a,b)`, `[1,5)`)",
                column.declared
            );
            let found = Diagnostic::warning(name, &file.at(path), what);
            let better = [As::Number, As::Json].into_iter().find_map(|wanted| {
                let sql = remedy::sql(column.declared, &as_sql(subject, column.name, dialect), wanted)?;
                Some(format!("`{sql}` in SQL gives {}", if wanted == As::Number { "a number" } else { "JSON" }))
            });
            Some(found.maybe_help(better).help("write `as = \"string\"` where the text is meant"))
        }
        None if column.kind.default_as().is_some() => None,
        None => {
            let what = format!("{subject} is {}; say how to send it", column.declared);
            let described = ["column", "sql"].iter().any(|key| file.places.contains_key(&format!("{path}.{key}")));
            let at = At { path: path.to_owned(), ..file.at(path) };
            let help = if described {
                "add `as = \"number\"` or `as = \"string\"`".to_owned()
            } else {
                format!("write `{{ column = {:?}, as = \"number\" }}`, or `as = \"string\"`", column.name)
            };
            Some(Diagnostic::error(name, &at, what).help(help))
        }
        Some(wanted) if remedy::fits(column.kind, column.declared, wanted) => None,
        Some(wanted) => {
            let what = format!("{subject} is {}, which cannot become `{}`", column.declared, as_name(wanted));
            let possible = AS
                .iter()
                .filter(|(other, _)| remedy::fits(column.kind, column.declared, *other))
                .map(|(_, name)| *name);
            let at = At { path: path.to_owned(), ..file.at(&format!("{path}.as")) };
            let found = Diagnostic::error(name, &at, what).help(format!("it can become {}", listed(possible)));
            let sql = remedy::sql(column.declared, &as_sql(subject, column.name, dialect), wanted);
            Some(found.maybe_help(sql.map(|sql| format!("or write `sql = …` with `{sql}`"))))
        }
    }
}

/// Checks operators, policies, the user and objects against what the destination can carry out, and adds what it
/// remarks about the traits itself. `destination` is its type.
pub fn check_destination(
    file: &MappingFile,
    features: &Features,
    remarks: Vec<MappingFinding>,
    destination: &str,
) -> Vec<Diagnostic> {
    let mapping = &file.mapping;
    let error = |path: &str, what: String| Diagnostic::error(&mapping.file, &file.at(path), what);
    let mut found = Vec::new();
    let policies = listed(features.on_null.iter().map(|policy| on_null_name(*policy)));
    for mapped in &mapping.traits {
        let path = trait_path(&mapped.name);
        if !features.ops.contains(&mapped.op) {
            let what = format!("{destination} does not support `op = \"{}\"`", mapped.op.name());
            let alternatives = listed(features.ops.iter().map(|op| op.name()));
            found.push(error(&format!("{path}.op"), what).help(format!("use {alternatives}")));
        }
        if mapped.op.accumulates() && features.ops.contains(&mapped.op) {
            let what = format!(
                "`op = \"{}\"` cannot be repeated: after a lost answer the group is held until you decide",
                mapped.op.name()
            );
            let help = "prefer `set` where nobody else writes this trait; `groupcast rejected` shows held groups";
            let at = file.at(&format!("{path}.op"));
            found.push(Diagnostic::warning(&mapping.file, &at, what).help(help));
        }
        if let Some(on_null) = mapped.on_null.filter(|on_null| !features.on_null.contains(on_null)) {
            let what = format!("{destination} does not support `on_null = \"{}\"`", on_null_name(on_null));
            found.push(error(&format!("{path}.on_null"), what).help(format!("use {policies}")));
        }
        if !features.objects && is_object(&mapped.value) {
            let what = format!("{destination} does not take objects as values of traits");
            found.push(error(&path, what).help("map each member as a trait of its own"));
        }
    }
    match (features.user, &mapping.user) {
        (UserRule::Required | UserRule::RequiredKnown, None) => found.push(
            error("user", format!("{destination} names a user in every group call, and the mapping has no `[user]`"))
                .help("add `[user]` with `id = \"account:{key}\"`, or `id = { column = \"owner_id\" }` for a real one"),
        ),
        (UserRule::RequiredKnown, Some(user)) if user.anonymous => {
            let what = format!("{destination} knows no anonymous users, and every group call names a user");
            found.push(error("user", what).help("write `id = …` instead of `anonymous_id = …`"));
        }
        (UserRule::Never, Some(_)) => {
            let what = format!("{destination} takes no user with a group: `[user]` says nothing here");
            found.push(Diagnostic::warning(&mapping.file, &file.at("user"), what).help("remove it"));
        }
        _ => {}
    }
    for remark in remarks {
        let at = remark.about.map_or_else(|| file.at("traits"), |name| file.at(&trait_path(&name)));
        let diagnostic = match remark.error {
            true => Diagnostic::error(&mapping.file, &at, remark.what),
            false => Diagnostic::warning(&mapping.file, &at, remark.what),
        };
        found.push(diagnostic.help(remark.help));
    }
    // A constant is never null, so a policy that only constants could fall back on harms nobody.
    let falls_back = |mapped: &&super::Trait| mapped.on_null.is_none() && !matches!(mapped.value, Field::Const(_));
    if let Some(first) = mapping.traits.iter().find(falls_back)
        && !features.on_null.contains(&mapping.policy.on_null)
    {
        let what = format!("{destination} does not support `on_null = \"{}\"`", on_null_name(mapping.policy.on_null));
        let diagnostic = if file.places.contains_key("policy.on_null") {
            error("policy.on_null", what)
        } else {
            error("policy.on_null", format!("{what}, the default, which `{}` relies on", shown(&first.name)))
        };
        found.push(diagnostic.help(format!("set `on_null` in `[policy]` to {policies}")));
    }
    let can_unset = features.on_null.contains(&OnNull::Unset);
    match mapping.policy.on_missing {
        OnMissing::Delete if !features.delete => {
            found.push(error("policy.on_missing", format!("{destination} cannot delete groups")).help(if can_unset {
                "use `unset` or `keep`"
            } else {
                "use `keep`"
            }))
        }
        OnMissing::Unset if !can_unset => {
            found.push(error("policy.on_missing", format!("{destination} cannot unset traits")).help("use `keep`"));
        }
        OnMissing::Keep | OnMissing::Unset | OnMissing::Delete => {}
    }
    if mapping.policy.on_removed_trait == OnRemovedTrait::Unset && !can_unset {
        found.push(error("policy.on_removed_trait", format!("{destination} cannot unset traits")).help("use `keep`"));
    }
    found
}

/// Whether this mapping's group type is one too many for its destination, counted in the order of the mappings.
pub fn check_group_types(file: &MappingFile, all: &[MappingFile], most: usize) -> Option<Diagnostic> {
    let mapping = &file.mapping;
    let mut types: Vec<&str> = Vec::new();
    for other in all.iter().map(|file| &file.mapping) {
        if other.enabled && other.destination == mapping.destination && !types.contains(&other.group_type.as_str()) {
            types.push(&other.group_type);
        }
    }
    let position = types.iter().position(|known| *known == mapping.group_type)?;
    (mapping.enabled && position >= most).then(|| {
        let what = format!(
            "`{}` is group type number {} of destination {}, which takes {most}",
            shown(&mapping.group_type),
            position + 1,
            mapping.destination
        );
        Diagnostic::error(&mapping.file, &file.at("group.type"), what)
            .help("what is sent about any more would be dropped: use fewer types, or another project")
    })
}

/// A remark that only the destination itself could make, at the line it is about.
pub fn remarked(file: &MappingFile, remark: MappingFinding) -> Diagnostic {
    let at = remark.about.map_or_else(|| file.at("destination"), |name| file.at(&trait_path(&name)));
    let diagnostic = match remark.error {
        true => Diagnostic::error(&file.mapping.file, &at, remark.what),
        false => Diagnostic::warning(&file.mapping.file, &at, remark.what),
    };
    diagnostic.help(remark.help)
}

/// The traits as a destination looks at them.
pub fn shapes(file: &MappingFile) -> Vec<TraitShape<'_>> {
    fn shape(mapped: &super::Trait) -> TraitShape<'_> {
        let bare = TraitShape {
            name: &mapped.name,
            op: mapped.op,
            declared: None,
            constant: None,
            members: None,
            always: mapped.always,
        };
        match &mapped.value {
            Field::Column { declared, .. } => TraitShape { declared: *declared, ..bare },
            Field::Const(value) => {
                let members = value.as_object().map(|object| object.keys().map(String::as_str).collect());
                TraitShape { constant: Some(value), members, ..bare }
            }
            Field::Object(members) => {
                TraitShape { members: Some(members.iter().map(|(name, _)| name.as_str()).collect()), ..bare }
            }
        }
    }
    file.mapping.traits.iter().map(shape).collect()
}

fn is_object(field: &Field) -> bool {
    matches!(field, Field::Object(_) | Field::Const(serde_json::Value::Object(_)))
}

fn on_null_name(on_null: OnNull) -> &'static str {
    match on_null {
        OnNull::Unset => "unset",
        OnNull::Null => "null",
        OnNull::Skip => "skip",
    }
}

/// Checks mappings against each other: two enabled ones that write one trait of one group type at one destination would
/// overwrite each other for ever; two whose names differ only in capitals are one file on some systems.
pub fn check_together(files: &[MappingFile]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut names: BTreeMap<String, &MappingFile> = BTreeMap::new();
    let mut writers: BTreeMap<(&str, &str, &str), (&MappingFile, &super::Trait)> = BTreeMap::new();
    let mut lines: BTreeMap<&str, Lines> = BTreeMap::new();
    for file in files {
        let mapping = &file.mapping;
        if let Some(first) = names.get(&mapping.name.to_lowercase()) {
            let what = format!("sync `{}` and `{}` differ only in capitals", mapping.name, first.mapping.name);
            found.push(Diagnostic::error(&mapping.file, &At::default(), what).help("rename one of the files"));
        } else {
            names.insert(mapping.name.to_lowercase(), file);
        }
        if !mapping.enabled {
            continue;
        }
        for mapped in &mapping.traits {
            let written = (mapping.destination.as_str(), mapping.group_type.as_str(), mapped.name.as_str());
            match writers.get(&written) {
                None => {
                    writers.insert(written, (file, mapped));
                }
                Some((first, theirs)) => {
                    let lines = lines.entry(&first.mapping.name).or_insert_with(|| Lines::of(&first.text));
                    let line = lines.line(theirs.at.span.start);
                    let what = format!(
                        "trait `{}` of `{}` at `{}` is also written by {}:{line}",
                        shown(&mapped.name),
                        shown(&mapping.group_type),
                        shown(&mapping.destination),
                        first.mapping.file
                    );
                    found.push(
                        Diagnostic::error(&mapping.file, &mapped.at, what)
                            .help("remove the trait from one mapping, or disable one with `enabled = false`"),
                    );
                }
            }
        }
    }
    found
}

/// Checks that `after` names another sync, and that no syncs wait for each other. `files` are all mappings there are but
/// those of the `others`, which could not be read.
pub fn check_after(files: &[MappingFile], others: &BTreeSet<String>) -> Vec<Diagnostic> {
    let by_name: BTreeMap<&str, &MappingFile> = files.iter().map(|file| (file.mapping.name.as_str(), file)).collect();
    let mut found = Vec::new();
    let mut in_cycles: Vec<&str> = Vec::new();
    for file in files {
        let Some(followed) = followed(file) else { continue };
        let (name, at) = (file.mapping.name.as_str(), file.at("schedule.after"));
        let Some(other) = by_name.get(followed) else {
            if others.contains(followed) {
                continue;
            }
            let help = match did_you_mean(followed, by_name.keys().copied().filter(|known| *known != name)) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("there is {}", listed(by_name.keys().copied())),
            };
            let what = format!("no sync is called `{}`", shown(followed));
            found.push(Diagnostic::error(&file.mapping.file, &at, what).help(help));
            continue;
        };
        let mut way = vec![name];
        let mut next = Some(followed);
        while let Some(step) = next.filter(|step| !way.contains(step)) {
            way.push(step);
            next = by_name.get(step).and_then(|file| self::followed(file));
        }
        // Who merely leads into a circle is not a part of it; each circle is told once.
        if next == Some(name) {
            if !in_cycles.contains(&name) {
                in_cycles.extend(&way);
                way.push(name);
                let way: Vec<String> = way.iter().map(|name| format!("`{name}`")).collect();
                let what = format!("sync `{name}` waits for itself: {}", way.join(" after "));
                let help = "give one of them a `cron` or `every` instead";
                found.push(Diagnostic::error(&file.mapping.file, &at, what).help(help));
            }
        } else if file.mapping.enabled && !other.mapping.enabled {
            let what = format!("sync `{followed}` is disabled, so this one never runs by itself");
            found.push(Diagnostic::warning(&file.mapping.file, &at, what).help("enable it, or disable both"));
        }
    }
    found
}

/// The sync whose runs this one follows.
fn followed(file: &MappingFile) -> Option<&str> {
    match &file.mapping.schedule.as_ref()?.when {
        When::After(other) => Some(other),
        When::Cron(_) | When::Every(_) => None,
    }
}
