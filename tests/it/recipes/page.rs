//! The code blocks of a page.

use std::{fs, path::Path};

/// A code block.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// Page, heading, and place below that heading: `publish: cron 1`.
    pub(super) key: String,
    /// What the fence says: `sh`, `python`, ….
    pub(super) language: String,
    pub(super) text: String,
}

/// The blocks of both pages.
pub(super) fn blocks() -> Vec<Block> {
    ["publish", "read"].into_iter().flat_map(blocks_of).collect()
}

/// The block with this key.
pub(super) fn block(key: &str) -> Block {
    blocks().into_iter().find(|block| block.key == key).unwrap_or_else(|| panic!("no {key:?}"))
}

fn blocks_of(page: &str) -> Vec<Block> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/{page}.md"));
    let text = fs::read_to_string(path).expect("a page");
    let (mut blocks, mut heading, mut place) = (Vec::new(), "", 0);
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            place += 1;
            let inside = lines.by_ref().take_while(|line| *line != "```");
            let text = inside.flat_map(|line| [line, "\n"]).collect();
            let key = format!("{page}: {heading} {place}");
            blocks.push(Block { key, language: language.to_owned(), text });
        } else if line.starts_with('#') {
            (heading, place) = (line.trim_start_matches(['#', ' ']), 0);
        }
    }
    blocks
}
