//! The daemon's faces over HTTP: the API and the console.

pub mod console;
pub mod http;
