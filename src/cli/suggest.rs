//! Suggestions for commands and options of other tools: `validate`, `apply`, `--dry-run`.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// What other tools call it, and what it is here.
const COMMANDS: [(&str, &str); 12] = [
    ("apply", "run"),
    ("sync", "run"),
    ("push", "run"),
    ("validate", "check"),
    ("lint", "check"),
    ("format", "fmt"),
    ("diff", "plan"),
    ("preview", "plan"),
    ("list", "status"),
    ("history", "runs"),
    ("start", "daemon"),
    ("serve", "daemon"),
];

/// The same of options.
const OPTIONS: [(&str, &str); 3] = [("--dry-run", "plan"), ("--dryrun", "plan"), ("--full-refresh", "run --full")];

/// Adds a suggestion to a usage error.
pub(super) fn improve(mut error: clap::Error) -> clap::Error {
    let given = |kind: ContextKind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.split('=').next().unwrap_or_default().to_owned(),
        _ => String::new(),
    };
    let (known, given): (&[(&str, &str)], String) = match error.kind() {
        ErrorKind::InvalidSubcommand => (&COMMANDS, given(ContextKind::InvalidSubcommand)),
        ErrorKind::UnknownArgument => (&OPTIONS, given(ContextKind::InvalidArg)),
        _ => return error,
    };
    if let Some((_, ours)) = known.iter().find(|(theirs, _)| *theirs == given) {
        error.remove(ContextKind::SuggestedSubcommand);
        error.remove(ContextKind::SuggestedArg);
        let text = format!("did you mean `groupcast {ours}`?");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![text.into()]));
    }
    error
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::args::Cli;
    use super::*;

    #[test]
    fn commands_of_other_tools_are_suggested_in_ours() {
        for (typed, meant) in [
            (vec!["groupcast", "validate"], "did you mean `groupcast check`?"),
            (vec!["groupcast", "apply"], "did you mean `groupcast run`?"),
            (vec!["groupcast", "run", "--dry-run"], "did you mean `groupcast plan`?"),
            (vec!["groupcast", "run", "accounts", "--dry-run=true"], "did you mean `groupcast plan`?"),
            (vec!["groupcast", "stauts"], "'status'"),
        ] {
            let error = improve(Cli::try_parse_from(&typed).unwrap_err());
            assert!(error.to_string().contains(meant), "{typed:?}: {error}");
            assert_eq!(error.exit_code(), 2);
        }
        for (_, ours) in COMMANDS {
            assert!(Cli::try_parse_from(["groupcast", ours]).is_ok(), "{ours}");
        }
    }
}
