//! Checks of a mapping: against its source's columns, its destination's features, and the other mappings. What a file says
//! on its own is checked while it is read.

mod columns;
mod compare;
mod destination;
mod together;

pub use columns::{
    Described, at_model, check_columns, check_expressions, check_sql, doubtful, first_use, first_use_of_sql,
};
pub use compare::{check_compare, compares_in};
pub use destination::{check_destination, remarked, shapes};
pub use together::{check_after, check_group_types, check_together};
