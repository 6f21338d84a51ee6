//! The tables and views of a source, for a person who chooses one.

/// A table or view that this user can read, or a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableListing {
    /// Its name, as a mapping's `table` has it.
    pub name: String,
    /// Its rows, as far as the source knows without counting them.
    pub rows: Option<u64>,
    /// Whether it is a view.
    pub is_view: bool,
}

impl TableListing {
    /// Of a relation with these parts of a name, of which a schema that is meant anyway is left out.
    pub(super) fn of_parts(parts: &[&str], rows: Option<u64>, is_view: bool) -> TableListing {
        let name = parts.iter().map(|part| written(part)).collect::<Vec<_>>().join(".");
        TableListing { name, rows, is_view }
    }
}

/// A part of a name, in quotation marks where a mapping needs them.
fn written(part: &str) -> String {
    let plain = !part.is_empty() && part.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
    if plain { part.to_owned() } else { format!("\"{}\"", part.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::sections::model::table_name;

    #[test]
    fn a_mapping_reads_the_names_back() {
        for parts in [&["analytics", "dim_accounts"] as &[&str], &["My Schema", "a.b"], &["x\"y"], &["Größe"]] {
            let listed = TableListing::of_parts(parts, None, false);
            assert_eq!(table_name(&listed.name).unwrap(), parts, "{}", listed.name);
        }
        assert_eq!(TableListing::of_parts(&["main", "t"], None, true).name, "main.t");
    }
}
