//! Tests of the console: the content of every page, hostile texts in every place, every link and every button.

mod actions;
mod browser;
mod events;
mod fixture;
mod html;
mod http;
mod overview;
mod pages;
mod rejected;
mod safety;
mod service;
