//! Checks a mapping against what its destination can carry out.

use crate::destination::{Features, MappingFinding, TraitShape, UserRule};
use crate::mapping::diagnostic::{Diagnostic, listed};
use crate::mapping::file::MappingFile;
use crate::mapping::reader::shown;
use crate::mapping::sections::policy::{OnMissing, OnRemovedTrait};
use crate::mapping::sections::traits::{Field, Trait, trait_path};
use crate::model::OnNull;

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
    let policies = listed(features.on_null.iter().map(|policy| policy.name()));
    for mapped in &mapping.traits {
        let path = trait_path(&mapped.name);
        if !features.ops.contains(&mapped.op) {
            let what = format!("{destination} does not support `op = \"{}\"`", mapped.op.name());
            let alternatives = listed(features.ops.iter().map(|op| op.name()));
            found.push(error(&format!("{path}.op"), what).help(format!("use {alternatives}")));
        }
        if mapped.op.accumulates() && features.ops.contains(&mapped.op) {
            let what = format!(
                "`op = \"{}\"` cannot be retried safely: after a lost response the group is excluded until you decide",
                mapped.op.name()
            );
            let help = "prefer `set` where nothing else writes this trait; `groupcast rejected` lists such groups";
            let at = file.at(&format!("{path}.op"));
            found.push(Diagnostic::warning(&mapping.file, &at, what).help(help));
        }
        if let Some(on_null) = mapped.on_null.filter(|on_null| !features.on_null.contains(on_null)) {
            let what = format!("{destination} does not support `on_null = \"{}\"`", on_null.name());
            found.push(error(&format!("{path}.on_null"), what).help(format!("use {policies}")));
        }
        if !features.objects && is_object(&mapped.value) {
            let what = format!("{destination} does not accept objects as values of traits");
            found.push(error(&path, what).help("map each member as a trait of its own"));
        }
    }
    match (features.user, &mapping.user) {
        (UserRule::Required | UserRule::RequiredKnown, None) => found.push(
            error("user", format!("{destination} needs a user in every group call, and the mapping has no `[user]`"))
                .help("add `[user]` with `id = \"account:{key}\"`, or `id = { column = \"owner_id\" }` for a real one"),
        ),
        (UserRule::RequiredKnown, Some(user)) if user.anonymous => {
            let what = format!("{destination} has no anonymous users, and needs a user in every group call");
            found.push(error("user", what).help("write `id = …` instead of `anonymous_id = …`"));
        }
        (UserRule::Never, Some(_)) => {
            let what = format!("{destination} does not accept a user with a group: `[user]` has no effect");
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
    let falls_back = |mapped: &&Trait| mapped.on_null.is_none() && !matches!(mapped.value, Field::Const(_));
    if let Some(first) = mapping.traits.iter().find(falls_back)
        && !features.on_null.contains(&mapping.policy.on_null)
    {
        let what = format!("{destination} does not support `on_null = \"{}\"`", mapping.policy.on_null.name());
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
    fn shape(mapped: &Trait) -> TraitShape<'_> {
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
