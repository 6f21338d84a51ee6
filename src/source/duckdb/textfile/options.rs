//! How text files are written, as far as the source's settings tell.

use super::decode::Encoding;

/// What the source says of its text files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Options {
    pub(crate) encoding: Option<Encoding>,
    pub(crate) delimiter: Option<u8>,
    pub(crate) quote: Option<u8>,
    pub(crate) decimal_comma: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { encoding: None, delimiter: None, quote: Some(b'"'), decimal_comma: false }
    }
}
