//! What a driver's Arrow types mean. Only a description is read this way; the rows come in the physical forms that the
//! warehouse casts to ([`super::dialects`]).

use duckdb::arrow::datatypes::{DataType, Field};

use super::dialects::{Form, Warehouse};
use crate::model::ColumnType;
use crate::model::cell::As;
use crate::source::staging::batch::Physical;

/// A column of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) kind: ColumnType,
    pub(super) form: Form,
    /// The warehouse's name of the type where the driver has it, otherwise a plain one.
    pub(super) declared: String,
}

impl Meaning {
    /// What holds its values.
    pub(super) fn physical(&self) -> Physical {
        match self.form {
            Form::Bool => Physical::Bool,
            Form::Double => Physical::Double,
            Form::Int | Form::Date | Form::Timestamp | Form::TimestampTz => Physical::Int,
            Form::Time if self.kind == ColumnType::Time => Physical::Int,
            Form::Text | Form::Spelled | Form::Decimal(_) | Form::Time | Form::Bytes | Form::Json => Physical::Text,
        }
    }

    /// The meaning of a column as the driver describes it.
    pub(super) fn of(field: &Field, dialect: &Warehouse) -> Meaning {
        let named = vendor_type(field);
        let (kind, form) = match named.as_deref().and_then(by_name) {
            Some(found) => found,
            None => by_arrow(field.data_type(), dialect),
        };
        let declared = named.unwrap_or_else(|| plain_name(field.data_type()));
        Meaning { kind, form, declared }
    }
}

/// The warehouse's own name of a type, in lower case, where the driver passes it on.
fn vendor_type(field: &Field) -> Option<String> {
    const KEYS: [&str; 5] =
        ["ADBC:postgresql:typname", "logicalType", "ADBC:bigquery:type", "Type", "ARROW:extension:name"];
    let metadata = field.metadata();
    let name = KEYS.iter().find_map(|key| metadata.get(key)).filter(|name| name.as_str() != "arrow.opaque")?;
    Some(name.rsplit('.').next().unwrap_or(name).to_ascii_lowercase())
}

/// Types whose Arrow form does not show what they are.
fn by_name(name: &str) -> Option<(ColumnType, Form)> {
    Some(match name {
        "json" | "jsonb" | "variant" | "object" | "array" | "super" => (ColumnType::Json, Form::Json),
        "uuid" => (ColumnType::Uuid, Form::Spelled),
        "numeric" | "bignumeric" | "decimal" => (ColumnType::Decimal, Form::Spelled),
        "money" | "interval" | "geography" | "geometry" | "inet" | "cidr" | "timetz" => {
            (ColumnType::Other, Form::Spelled)
        }
        // An enum or a padded text.
        "bpchar" | "citext" => (ColumnType::Text, Form::Spelled),
        _ => return None,
    })
}

fn by_arrow(of: &DataType, dialect: &Warehouse) -> (ColumnType, Form) {
    match of {
        DataType::Boolean => (ColumnType::Bool, Form::Bool),
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32 => (ColumnType::Int, Form::Int),
        DataType::UInt64 => (ColumnType::Written(As::Integer), Form::Spelled),
        DataType::Float16 | DataType::Float32 => (ColumnType::Float32, Form::Double),
        DataType::Float64 => (ColumnType::Float64, Form::Double),
        // Every whole number of some warehouses is a decimal of 38 digits, whatever it holds.
        DataType::Decimal32(_, 0)
        | DataType::Decimal64(_, 0)
        | DataType::Decimal128(_, 0)
        | DataType::Decimal256(_, 0) => (ColumnType::Written(As::Integer), Form::Spelled),
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => (ColumnType::Decimal, Form::Decimal(*scale)),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => (ColumnType::Text, Form::Text),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            (ColumnType::Bytes, Form::Bytes)
        }
        DataType::Date32 | DataType::Date64 => (ColumnType::Date, Form::Date),
        DataType::Time32(_) | DataType::Time64(_) if dialect.spells_times() => (ColumnType::Text, Form::Spelled),
        DataType::Time32(_) | DataType::Time64(_) => (ColumnType::Time, Form::Time),
        DataType::Timestamp(_, None) => (ColumnType::Timestamp, Form::Timestamp),
        DataType::Timestamp(_, Some(_)) => (ColumnType::Timestamp, Form::TimestampTz),
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::FixedSizeList(..)
        | DataType::Struct(_)
        | DataType::Map(..) => (ColumnType::Json, Form::Json),
        DataType::Dictionary(_, values) => match by_arrow(values, dialect) {
            // An enum's labels are its text.
            (ColumnType::Text, _) => (ColumnType::Text, Form::Spelled),
            other => other,
        },
        DataType::RunEndEncoded(_, values) => by_arrow(values.data_type(), dialect),
        _ => (ColumnType::Other, Form::Spelled),
    }
}

/// A type's name for people, where the driver has no better one.
fn plain_name(of: &DataType) -> String {
    match of {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "binary".to_owned(),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            format!("decimal({precision},{scale})")
        }
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            format!("decimal({precision},{scale})")
        }
        DataType::Timestamp(_, None) => "timestamp".to_owned(),
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone".to_owned(),
        DataType::Date32 | DataType::Date64 => "date".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "time".to_owned(),
        DataType::List(item) | DataType::LargeList(item) => format!("{}[]", plain_name(item.data_type())),
        DataType::Struct(_) => "struct".to_owned(),
        DataType::Map(..) => "map".to_owned(),
        DataType::Dictionary(_, values) => plain_name(values),
        other => other.to_string().to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::dialects::named;
    use super::*;
    use duckdb::arrow::datatypes::TimeUnit;

    fn meaning(of: DataType, metadata: &[(&str, &str)]) -> Meaning {
        let metadata: std::collections::HashMap<String, String> =
            metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Meaning::of(&Field::new("a", of, true).with_metadata(metadata), named("snowflake").unwrap())
    }

    #[test]
    fn a_drivers_own_words_come_before_its_arrow_type() {
        let numeric = meaning(DataType::Utf8, &[("ADBC:postgresql:typname", "numeric")]);
        assert_eq!(
            (numeric.kind, numeric.form, numeric.declared.as_str()),
            (ColumnType::Decimal, Form::Spelled, "numeric")
        );
        let variant = meaning(DataType::Utf8, &[("logicalType", "VARIANT")]);
        assert_eq!((variant.kind, variant.form), (ColumnType::Json, Form::Json));
        let uuid = meaning(DataType::FixedSizeBinary(16), &[("ARROW:extension:name", "arrow.uuid")]);
        assert_eq!((uuid.kind, uuid.form), (ColumnType::Uuid, Form::Spelled));
        let fixed = meaning(DataType::Decimal128(38, 0), &[("logicalType", "FIXED")]);
        assert_eq!((fixed.kind, fixed.declared.as_str()), (ColumnType::Written(As::Integer), "fixed"));
    }

    #[test]
    fn every_meaning_has_a_physical_form_that_fits_it() {
        for (of, physical) in [
            (DataType::Boolean, Physical::Bool),
            (DataType::UInt32, Physical::Int),
            (DataType::UInt64, Physical::Text),
            (DataType::Decimal128(10, 2), Physical::Text),
            (DataType::Float32, Physical::Double),
            (DataType::Utf8View, Physical::Text),
            (DataType::Date32, Physical::Int),
            (DataType::Time64(TimeUnit::Microsecond), Physical::Int),
            (DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), Physical::Int),
            (DataType::new_list(DataType::Int32, true), Physical::Text),
            (DataType::Null, Physical::Text),
        ] {
            assert_eq!(meaning(of.clone(), &[]).physical(), physical, "{of}");
        }
    }
}
