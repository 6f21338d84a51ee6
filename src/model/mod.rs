//! The product's vocabulary: cells, documents, and the difference between two documents. Pure: no IO, no clock.

pub mod cell;
pub mod delta;
pub mod document;
pub mod members;
pub mod number;
pub mod plain;
pub mod setting;
mod spelling;

pub use cell::{Cell, ColumnType};
pub use delta::{After, Change, Delta, Known, OnNull, Op, Rules, TraitRule, delta};
pub use document::{Document, Traits};
pub use plain::PlainDocument;
