//! The recipes of `docs/publish.md` and `docs/read.md`: each code block is taken from the text of the page
//! and run against a real server. Programs that are not there, such as docker, are stubs on the PATH.

#![cfg(target_os = "linux")]

mod page;
mod publish;
mod read;
mod rust;
mod sandbox;

use std::collections::BTreeSet;

#[test]
fn every_block_of_the_pages_is_run() {
    let of_pages = page::blocks().into_iter().map(|block| block.key);
    let of_pages: BTreeSet<String> = of_pages.collect();
    let of_tests = publish::tested().chain(read::tested()).map(str::to_owned);
    let of_tests: BTreeSet<String> = of_tests.collect();
    let not_run: Vec<_> = of_pages.difference(&of_tests).collect();
    let gone: Vec<_> = of_tests.difference(&of_pages).collect();
    assert!(not_run.is_empty(), "not run by a test of publish.rs or read.rs: {not_run:?}");
    assert!(gone.is_empty(), "on neither page: {gone:?}");
}
