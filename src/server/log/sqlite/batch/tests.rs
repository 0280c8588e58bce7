use super::*;
use crate::server::log::{
    RetentionLimits,
    sqlite::file::{Location, StoreLock},
};

const LIMITS: RetentionLimits = RetentionLimits {
    messages: 10,
    age: std::time::Duration::from_secs(1000),
    bytes: 1000,
    streams: 10,
    keys: 10,
    all_keys: 20,
};

fn store() -> (StoreLock, Connection) {
    let (location, lock) = Location::lock(None).expect("a store");
    (lock, location.open_to_write().expect("a connection").connection)
}

fn news() -> StreamName {
    "news".parse().expect("a name")
}

/// Appends a message, and does something `more` in the same transaction.
fn append<T>(
    connection: &mut Connection,
    more: impl FnOnce(&mut WriteBatch<'_>) -> T,
) -> (Result<Appended, AppendError>, T, Committed) {
    let totals = Totals::of(connection).expect("readable");
    let mut batch = WriteBatch::begin(connection, LIMITS, 1, totals).expect("a transaction");
    let data = vec![MessageText::new(b"text".to_vec(), 10).expect("data")];
    let appended = batch.append(news(), data, None).expect("no failure");
    let more = more(&mut batch);
    (appended, more, batch.commit().expect("stored"))
}

/// Also where a later change of the transaction has undone an earlier one.
#[test]
fn committed_changes_are_recognized_as_stored() {
    let (_lock, mut connection) = store();
    let delete = |batch: &mut WriteBatch<'_>| batch.delete(news()).expect("no failure");
    let (appended, deleted, committed) = append(&mut connection, delete);
    assert!(appended.is_ok() && deleted.is_ok());
    assert_eq!(committed.changes.len(), 2);
    assert_eq!(are_stored(&connection, &committed.changes), Ok(true));
    let (_, (), again) = append(&mut connection, |_| ());
    assert_eq!(are_stored(&connection, &again.changes), Ok(true));
    connection.execute("DELETE FROM streams", []).expect("undone");
    assert_eq!(are_stored(&connection, &again.changes), Ok(false));
}

#[test]
fn a_stream_without_row_keys_left_refuses_appends_and_can_be_ended() {
    let (_lock, mut connection) = store();
    append(&mut connection, |_| ()).0.expect("appended");
    let last = "UPDATE streams SET seq = base + ?1";
    connection.execute(last, [MAX_OFFSET.cast_signed()]).expect("stored");
    let (refused, ended, _) = append(&mut connection, |batch| {
        let text = MessageText::new(b"bye".to_vec(), 10).expect("data");
        batch.end(news(), text).expect("no failure")
    });
    assert_eq!(refused, Err(AppendError::Unavailable(SEQUENCES_EXHAUSTED.into())));
    assert!(ended.is_ok(), "it can be ended");
}

/// Half of a page may form a whole one, over an old page that had the other half.
#[test]
fn only_a_page_that_cannot_have_been_written_is_certainly_not_stored() {
    for (code, new, reuses_wal) in [
        (ffi::SQLITE_FULL, true, true),
        (ffi::SQLITE_IOERR_WRITE, true, false),
        (ffi::SQLITE_IOERR_FSYNC, false, false),
    ] {
        let error = Error::SqliteFailure(ffi::Error::new(code), None);
        assert_eq!(is_certainly_not_stored(&error, false), new, "{error}");
        assert_eq!(is_certainly_not_stored(&error, true), reuses_wal, "{error}");
    }
}
