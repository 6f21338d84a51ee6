//! Does every page say what it should, with hostile texts in every place, and does every link and button lead somewhere?

mod browser;
mod fixture;
mod html;
mod http;
mod orders;
mod pages;
mod safety;
mod service;
