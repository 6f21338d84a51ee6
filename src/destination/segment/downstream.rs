//! What do the tools behind a vendor take from the traits of each call, so that a change alone does not do?
//!
//! Such a tool keeps no state between two calls: the type of an object, a group's type or name, or the domain by which a
//! company is found must be in every one. Traits marked `always` are. What each tool needs is read from the integrations
//! as their owners publish them (`segmentio/action-destinations`, `rudderlabs/rudder-transformer`).

use crate::destination::{MappingFinding, TraitShape};

/// A tool behind a vendor.
#[derive(Debug)]
pub(super) struct Tool {
    /// Its name in `downstream`.
    pub(super) name: &'static str,
    /// As messages name it.
    label: &'static str,
    /// Traits that each call must have: one of the names of each.
    pub(super) needs: &'static [&'static [&'static str]],
    /// Traits that are named in the tool's settings at the vendor, so that no name is known here.
    needs_named: Option<&'static str>,
    /// What becomes of a call without them.
    otherwise: &'static str,
    /// Names that it gives a meaning of its own.
    pub(super) reserved: &'static [&'static str],
    /// Characters of a group's id.
    pub(super) id_chars_max: Option<usize>,
}

const TOOL: Tool = Tool {
    name: "",
    label: "",
    needs: &[],
    needs_named: None,
    otherwise: "rejects the call",
    reserved: &[],
    id_chars_max: None,
};

/// Every tool that is known to need something.
pub(super) static TOOLS: [Tool; 11] = [
    Tool {
        name: "amplitude",
        label: "Amplitude",
        needs_named: Some("the traits that its settings name as the group's type and value"),
        ..TOOL
    },
    Tool { name: "attio", label: "Attio", needs: &[&["website"]], ..TOOL },
    CUSTOMERIO,
    Tool { name: "freshsales", label: "Freshsales", needs: &[&["name"]], ..TOOL },
    Tool { name: "gainsight", label: "Gainsight", needs: &[&["name"]], ..TOOL },
    Tool {
        name: "hubspot",
        label: "HubSpot",
        needs: &[&["name"], &["website"]],
        otherwise: "finds no company that it did not link before, and makes another one",
        ..TOOL
    },
    Tool { name: "hyperengage", label: "Hyperengage", needs: &[&["name"]], ..TOOL },
    Tool { name: "inleads", label: "Inleads", needs: &[&["name"]], ..TOOL },
    Tool {
        name: "mixpanel",
        label: "Mixpanel",
        needs_named: Some("the trait that its settings name as group key, with the group's id"),
        ..TOOL
    },
    Tool {
        name: "posthog",
        label: "PostHog",
        needs: &[&["groupType"]],
        otherwise: "gets an event without a group type and ignores it",
        ..TOOL
    },
    Tool { name: "salesforce", label: "Salesforce", needs: &[&["name"]], ..TOOL },
];

/// Customer.io's objects, reached directly or through another vendor.
pub(super) const CUSTOMERIO: Tool = Tool {
    name: "customerio",
    label: "Customer.io",
    needs: &[OBJECT_TYPE],
    otherwise: "files the object under type `1`",
    reserved: &["relationship", "_relationship"],
    id_chars_max: Some(150),
    ..TOOL
};

const OBJECT_TYPE: &[&str] = &["objectTypeId", "object_type_id"];

/// The tools of a list like `hubspot, customerio`, or of `none`. Fails with the first that is not known.
pub(super) fn tools(list: &str) -> Result<Vec<&'static Tool>, &str> {
    let names = list.split([',', ' ']).map(str::trim).filter(|name| !name.is_empty() && *name != "none");
    names.map(|name| TOOLS.iter().find(|tool| tool.name == name).ok_or(name)).collect()
}

impl Tool {
    /// Findings about a mapping's traits; `direct`: the tool itself responds, so that it is certain what happens.
    pub(super) fn findings(&self, direct: bool, traits: &[TraitShape<'_>]) -> Vec<MappingFinding> {
        let Tool { label, otherwise, .. } = self;
        let mut found = Vec::new();
        for names in self.needs {
            let Some(mapped) = traits.iter().find(|shape| names.contains(&shape.name)) else {
                let default = if *names == OBJECT_TYPE {
                    "{ const = \"1\", always = true }"
                } else {
                    "{ column = \"…\", always = true }"
                };
                found.push(MappingFinding {
                    about: None,
                    error: false,
                    what: format!(
                        "{label} takes `{}` from the traits of each call, and without it {otherwise}",
                        names[0]
                    ),
                    help: format!("add `{} = {default}`", names[0]),
                });
                continue;
            };
            let is_default = *names == OBJECT_TYPE && mapped.constant.is_some_and(|value| value == "1" || value == 1);
            if !mapped.always && !is_default {
                found.push(MappingFinding {
                    about: Some(mapped.name.to_owned()),
                    error: direct,
                    what: format!(
                        "{label} takes `{}` from the traits of each call: the first change after the first call would go \
                         without it, and {label} {otherwise}",
                        mapped.name
                    ),
                    help: "add `always = true` to the trait: it then travels with every change of its group".to_owned(),
                });
            }
        }
        if let Some(named) = self.needs_named.filter(|_| !traits.iter().any(|shape| shape.always)) {
            found.push(MappingFinding {
                about: None,
                error: false,
                what: format!("{label} takes {named} from each call, and without them {otherwise}"),
                help: "add `always = true` to these traits: they then travel with every change of their group"
                    .to_owned(),
            });
        }
        found.extend(traits.iter().filter(|shape| self.reserved.contains(&shape.name)).map(|shape| MappingFinding {
            about: Some(shape.name.to_owned()),
            error: true,
            what: format!("`{}` is reserved by {label} for the relationship of a person to the object", shape.name),
            help: "rename the trait".to_owned(),
        }));
        found
    }

    /// Why it would not take this group, if so.
    pub(super) fn refuse<'a>(&self, key: &str, mut traits: impl Iterator<Item = &'a String>) -> Result<(), String> {
        let Tool { label, .. } = self;
        if let Some(max) = self.id_chars_max.filter(|max| key.len() > *max && key.chars().count() > *max) {
            return Err(format!(
                "the group's key has more than {max} characters, which {label} does not accept: use a shorter column"
            ));
        }
        match traits.find(|name| self.reserved.contains(&name.as_str())) {
            Some(name) => Err(format!("trait `{name}` has a name that {label} reserves: rename it")),
            None => Ok(()),
        }
    }
}

/// The finding where nothing travels with every change and the tools behind are not configured.
pub(super) fn nothing_always(vendor: &str) -> MappingFinding {
    MappingFinding {
        about: None,
        error: false,
        what: format!(
            "tools behind {vendor} that take a group's name, type or domain from the traits of each call find it in the \
             first one only: afterwards a call has what changed"
        ),
        help: "mark such traits with `always = true`, and name the tools at the destination so that `check` knows what they \
               need: `downstream = \"hubspot\"`, or `\"none\"`"
            .to_owned(),
    }
}
