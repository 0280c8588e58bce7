//! What must never import what (see the map in `lib.rs`).

use std::{
    fs,
    path::{Path, PathBuf},
};

fn sources(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("text");
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            found.push((path, code.collect::<Vec<_>>().join("\n")));
        }
    }
}

/// No file that `scope` begins the path of, but those in `except`, has `word` in its code.
fn never(word: &str, scope: &str, except: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    let mut in_scope = 0;
    for (path, code) in found {
        let path = path.strip_prefix(&root).expect("a path below src");
        let path = path.to_str().expect("text").replace('\\', "/");
        if path.starts_with(scope) && !except.contains(&path.as_str()) {
            in_scope += 1;
            assert!(!code.contains(word), "{path} must not mention {word}");
        }
    }
    assert!(in_scope > 0, "nothing is in {scope}: has it moved?");
}

#[test]
fn directions() {
    never("web_sys", "", &["app/subscription.rs"]);
    for server in ["axum", "tokio", "crate::server", "super::server"] {
        never(server, "app", &[]);
        never(server, "feed.rs", &[]);
        never(server, "message.rs", &[]);
        never(server, "problem.rs", &[]);
    }
    never("crate::app", "server", &["server/router.rs"]);
    never("leptos", "server", &["server/router.rs", "server/site.rs"]);
    never("crate::feed", "server", &[]);
    never("crate::", "message.rs", &[]);
    never("crate::app", "feed.rs", &[]);
    never("leptos", "feed.rs", &[]);
}

#[test]
fn configuration_stays_at_the_edge() {
    never("config::Config", "app", &[]);
    for pure in ["server/frame.rs", "server/events.rs", "server/clock.rs", "server/health.rs"] {
        never("super::config", pure, &[]);
    }
}

/// The split between server and browser is two lines in `lib.rs`.
#[test]
fn the_cfg_budget() {
    never("cfg(feature", "", &["lib.rs"]);
    never("cfg(target", "", &[]);
    let library = include_str!("../../src/lib.rs");
    assert_eq!(library.matches("#[cfg(feature").count(), 2);
}
