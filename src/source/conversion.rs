//! Conversion templates: what the dialects share that give the SQL of [`Dialect::conversion`](crate::mapping::dialect::Dialect::conversion).

/// A declared type in lower case and without its precision: `timestamp(3) with time zone`. An array keeps its whole name.
pub(super) fn base(declared: &str) -> String {
    let plain = declared.to_ascii_lowercase();
    match (plain.split_once('('), plain.rsplit_once(')')) {
        (Some((before, _)), Some((_, after))) if !plain.ends_with(']') => format!("{before}{after}"),
        _ => plain,
    }
}

/// A template with `column` (as written in SQL) for each `{}`. A `'{}'` is SQL, and comes behind all of them.
pub(super) fn fill(template: &str, column: &str) -> String {
    template.replacen("{}", column, template.matches("{}").count() - template.matches("'{}'").count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precisions_are_left_out_and_columns_filled_in() {
        for (declared, expected) in [
            ("timestamp(3) without time zone", "timestamp without time zone"),
            ("DECIMAL(10,2)", "decimal"),
            ("DECIMAL(10,2)[]", "decimal(10,2)[]"),
            ("STRUCT(a DECIMAL(10,2))", "struct"),
            ("text", "text"),
        ] {
            assert_eq!(base(declared), expected);
        }
        assert_eq!(fill("json_build_array({}[0], {}[1])", "a"), "json_build_array(a[0], a[1])");
        assert_eq!(fill("{} #>> '{}'", "\"A\""), "\"A\" #>> '{}'");
    }
}
