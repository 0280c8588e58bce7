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

/// Whether code names the module: as `module::`, in a path or in a group of imports.
fn names(code: &str, module: &str) -> bool {
    let part_of_a_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(&format!("{module}::")).any(|(at, _)| !code[..at].ends_with(part_of_a_word))
}

/// No file whose path begins with `scope`, but those in `except`, names the module.
fn never(module: &str, scope: &str, except: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    let mut in_scope = 0;
    for (path, code) in found {
        let path = path.strip_prefix(&root).expect("a path below src");
        let path = path.to_str().expect("text").replace('\\', "/");
        if path.starts_with(scope) && !except.contains(&path.as_str()) {
            in_scope += 1;
            assert!(!names(&code, module), "{path} must not name {module}");
        }
    }
    assert!(in_scope > 0, "nothing is in {scope}: has it moved?");
}

/// Where an engine's types may be seen.
const ENGINE: [&str; 15] = [
    "server/log/sqlite.rs",
    "server/log/sqlite/batch.rs",
    "server/log/sqlite/check.rs",
    "server/log/sqlite/file.rs",
    "server/log/sqlite/health.rs",
    "server/log/sqlite/idempotency.rs",
    "server/log/sqlite/migrate.rs",
    "server/log/sqlite/migrate/verify.rs",
    "server/log/sqlite/read.rs",
    "server/log/sqlite/retention.rs",
    "server/log/sqlite/schema.rs",
    "server/log/sqlite/scrub.rs",
    "server/log/sqlite/space.rs",
    "server/log/sqlite/wal.rs",
    "server/log/sqlite/write.rs",
];

/// Where an engine counts.
const ENGINE_METRICS: [&str; 3] =
    ["server/log/sqlite.rs", "server/log/sqlite/metrics.rs", "server/log/sqlite/write.rs"];

#[test]
fn directions() {
    const WEB_SYS: [&str; 3] =
        ["app/browser.rs", "app/subscription.rs", "browser/wasm-streams/lib.rs"];
    never("web_sys", "", &WEB_SYS);
    for server in ["axum", "tokio", "server"] {
        never(server, "app", &[]);
        never(server, "feed.rs", &[]);
        never(server, "message.rs", &[]);
        never(server, "problem.rs", &[]);
    }
    let pages = ["server/pages.rs", "server/pages/forms.rs", "server/pages/sign_in.rs"];
    never("app", "server", &pages);
    never("leptos", "server", &[&pages[..], &["server/site.rs"]].concat());
    never("feed", "server", &[]);
    for other in ["axum", "hub", "events", "frame", "request"] {
        never(other, "server/log", &[]);
    }
    // An engine has metrics of its own.
    never("metrics", "server/log", &ENGINE_METRICS);
    // Who is watched, or listened to, does not know that it is counted.
    for counting in ["metrics", "request"] {
        never(counting, "server/hub", &[]);
    }
    let counting = ["server/metrics.rs", "server/metrics/numbers.rs", "server/log.rs"];
    never("prometheus_client", "server", &[&counting[..], &ENGINE_METRICS].concat());
    never("rusqlite", "server", &ENGINE);
    never("crate", "message.rs", &[]);
    never("app", "feed.rs", &[]);
    never("leptos", "feed.rs", &[]);
}

#[test]
fn an_import_in_a_group_is_seen() {
    assert!(names("use crate::{\n    app::{self, Visit},\n};", "app"));
    assert!(names("use super::config::Config;", "config"));
    assert!(!names("let router = my_app::run(app);", "app"));
}

#[test]
fn configuration_stays_at_the_edge() {
    let edge = [
        "main.rs",
        "server.rs",
        "server/access.rs",
        "server/config.rs",
        "server/config/access.rs",
        "server/config/limits.rs",
        "server/config/tls.rs",
        "server/config/token.rs",
        "server/config/values.rs",
        "server/counter.rs",
        "server/headers.rs",
        "server/host.rs",
        "server/listen.rs",
        "server/limits.rs",
        "server/router.rs",
        "server/streams.rs",
        "server/telemetry.rs",
        "server/pages.rs",
        "server/site.rs",
    ];
    never("config", "", &edge);
}

/// The split between server and browser is two lines in `lib.rs`.
#[test]
fn the_cfg_budget() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    for (path, code) in found {
        let budget = if path.ends_with("src/lib.rs") { 2 } else { 0 };
        assert_eq!(code.matches("cfg(feature").count(), budget, "{}", path.display());
        assert!(!code.contains("cfg(target"), "{}", path.display());
    }
}
