use super::*;
use crate::server::log::sqlite::read::signed;

/// A store of the first release in a folder of its own, and its migrated copy.
fn copied() -> (tempfile::TempDir, PathBuf, Connection, Copied) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tidings.db");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for suffix in ["", "-wal"] {
        let fixture = fixtures.join(format!("schema-1-killed.db{suffix}"));
        fs::copy(fixture, sibling(&path, suffix)).expect("copied");
    }
    let old = open(&path).expect("a database");
    let copied = copy(&old, &path).expect("a copy");
    (folder, path, old, copied)
}

#[test]
fn every_difference_in_a_copy_is_detected() {
    let (_folder, _path, old, Copied { copy, .. }) = copied();
    let mut new = open(&copy).expect("a database");
    verify(&old, &new).expect("the same");
    let one_slot = 1_i64 << OFFSET_BITS;
    for change in [
        "UPDATE streams SET name = name || 'x' WHERE slot = 2",
        "UPDATE streams SET closing = closing || 'x' WHERE closing IS NOT NULL",
        "UPDATE streams SET closing = 'x' WHERE closing IS NULL",
        "UPDATE streams SET seq = seq + 1 WHERE slot = 1",
        "UPDATE streams SET trimmed = trimmed + 1 WHERE slot = 1",
        "UPDATE streams SET generation = generation + 100 WHERE slot = 1",
        "UPDATE streams SET base = 1 WHERE slot = 1",
        "UPDATE streams SET count = count + 1 WHERE slot = 1",
        "UPDATE streams SET bytes = bytes + 1 WHERE slot = 1",
        "UPDATE streams SET keys = keys + 1 WHERE slot = 1",
        "DELETE FROM streams WHERE slot = 1",
        "UPDATE messages SET data = data || 'x' WHERE key = (SELECT max(key) FROM messages)",
        "UPDATE messages SET millis = 1 WHERE key = (SELECT min(key) FROM messages)",
        "DELETE FROM messages WHERE key = (SELECT max(key) FROM messages)",
        "UPDATE keys SET name = x'00' WHERE key = (SELECT max(key) FROM keys)",
        "UPDATE keys SET digest = x'00' WHERE key = (SELECT max(key) FROM keys)",
        "UPDATE keys SET used = used + 1 WHERE key = (SELECT max(key) FROM keys)",
        "UPDATE keys SET millis = millis + 1 WHERE key = (SELECT max(key) FROM keys)",
        "DELETE FROM keys WHERE key = (SELECT max(key) FROM keys)",
        &format!("UPDATE keys SET key = key + {one_slot} WHERE key = (SELECT max(key) FROM keys)"),
        &format!("UPDATE messages SET key = key - {one_slot} WHERE key >> {OFFSET_BITS} = 2"),
    ] {
        let changed = new.transaction().expect("a transaction");
        assert!(changed.execute(change, []).expect("changed") > 0, "{change}");
        verify(&old, &changed).expect_err(change);
        changed.rollback().expect("undone");
    }
    verify(&old, &new).expect("the same");
}

#[test]
fn a_migration_requires_enough_disk_space() {
    const MEGABYTE: u64 = 1_000_000;
    let (_folder, path, old, Copied { copy, .. }) = copied();
    let before = needed_bytes(&old, &path).expect("a number");
    assert!(before >= fs::metadata(copy).expect("a file").len());
    old.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(())).expect("set");
    let closing = "UPDATE streams SET closing = hex(zeroblob(?1)) \
                   WHERE life = (SELECT max(life) FROM streams)";
    old.execute(closing, [signed(MEGABYTE / 2)]).expect("stored");
    let ahead = needed_bytes(&old, &path).expect("a number");
    assert!(ahead >= before + 2 * MEGABYTE, "it is moved into the old file, then copied");
    old.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("moved");
    let moved = needed_bytes(&old, &path).expect("a number");
    assert!(
        before + MEGABYTE <= moved && moved <= ahead - MEGABYTE / 2,
        "{before} {moved} {ahead}"
    );

    ensure_space(moved, moved).expect("room");
    let refused = ensure_space(moved - 1, moved).expect_err("no room").to_string();
    assert!(refused.contains("make room") && refused.contains(&moved.to_string()), "{refused}");
}
