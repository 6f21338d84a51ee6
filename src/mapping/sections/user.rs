//! `[user]`: the user that group calls name, for destinations that want one.

use toml::de::DeValue;

use super::traits::Expr;
use crate::mapping::reader::{Report, Section, sql_text};

/// The keys of the section.
pub(crate) const KEYS: [&str; 2] = ["id", "anonymous_id"];

/// The user that group calls are made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Whether it is an anonymous id rather than a known user's.
    pub anonymous: bool,
    /// Where it comes from.
    pub from: UserFrom,
}

/// Where a user's id comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserFrom {
    /// Texts with the group's key between each two of them: `account:{key}` is `["account:", ""]`, a constant one text.
    Template(Vec<String>),
    /// A column or an SQL expression.
    Expr(Expr),
}

/// Reads `[user]`: `id` or `anonymous_id`, a template or a column.
pub(crate) fn read(section: &Section<'_>, report: &mut Report<'_>) -> Option<User> {
    section.expect_keys(&KEYS, report);
    let (entry, anonymous) = match (section.get("id"), section.get("anonymous_id")) {
        (Some(entry), None) => (entry, false),
        (None, Some(entry)) => (entry, true),
        (Some(_), Some(second)) => {
            let message = "`[user]` has both `id` and `anonymous_id`";
            report.push(report.error(&second.key_at, message).help("keep one of them"));
            return None;
        }
        (None, None) => {
            let missing = report.error(&section.at, "`[user]` has no `id`");
            let help = "write `id = \"account:{key}\"`, or `id = { column = \"owner_id\" }`";
            report.push_missing("user.id", missing.help(help));
            return None;
        }
    };
    let DeValue::Table(table) = entry.value else {
        let text = entry.text(report)?;
        let from = entry.noted(user_template(text), report)?;
        return Some(User { anonymous, from: UserFrom::Template(from) });
    };
    let described = Section { table, at: entry.at.clone() };
    described.expect_keys(&["column", "sql"], report);
    let expr = match (described.get("column"), described.get("sql")) {
        (Some(column), None) => Expr::Column(column.name(report)?),
        (None, Some(sql)) => Expr::Sql(sql_text(&sql, report)?),
        _ => {
            let message = format!("`{}` needs either `column` or `sql`", entry.key);
            report.push(report.error(&entry.at, message));
            return None;
        }
    };
    Some(User { anonymous, from: UserFrom::Expr(expr) })
}

/// The texts around each `{key}`; `{{` and `}}` stand for braces.
fn user_template(text: &str) -> Result<Vec<String>, String> {
    let wrong =
        |what: &str| Err(format!("is not a template: {what}; write `account:{{key}}`, braces as `{{{{` and `}}}}`"));
    let (mut texts, mut rest) = (vec![String::new()], text);
    while let Some(at) = rest.find(['{', '}']) {
        let (before, brace) = rest.split_at(at);
        let current = texts.len() - 1;
        texts[current].push_str(before);
        rest = if let Some(after) = brace.strip_prefix("{key}") {
            texts.push(String::new());
            after
        } else if let Some(after) = brace.strip_prefix("{{").or_else(|| brace.strip_prefix("}}")) {
            texts[current].push_str(&brace[..1]);
            after
        } else if brace.starts_with('}') {
            return wrong("a `}` without its `{`");
        } else {
            return wrong("only `{key}` can be in braces, columns are named by `{ column = … }`");
        };
    }
    let current = texts.len() - 1;
    texts[current].push_str(rest);
    Ok(texts)
}
