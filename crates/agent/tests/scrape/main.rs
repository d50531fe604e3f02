//! Scraping over real sockets, by configurations as people write them.

mod discovery;
mod life;
mod requests;
mod sharing;
mod support;
