//! The schema of the database, and its version.

use anyhow::{bail, ensure};
use tokio_postgres::Client;

/// The version of the schema.
pub(super) const VERSION: i32 = 1;
/// The version of an unfinished copy.
pub(super) const UNFINISHED_VERSION: i32 = -VERSION;
/// The oldest supported version of `PostgreSQL`, as `server_version_num`.
const MIN_POSTGRES: i32 = 140_000;

/// The advisory lock of a server that creates or migrates the schema. Advisory locks are numbers that
/// all programs of a database share: ours begin with "Tidi".
const SCHEMA_LOCK: i64 = 0x5469_6469_0000_0001;
/// The advisory lock of the server that sweeps.
pub(super) const SWEEP_LOCK: i64 = 0x5469_6469_0000_0002;
/// The advisory lock of `tidings copy`, which excludes servers.
pub(super) const COPY_LOCK: i64 = 0x5469_6469_0000_0003;

/// A released schema is never changed: a new schema needs a new version and a migration.
const SCHEMA: &str = r#"
    -- The stream's row is updated by each transaction that writes to it: half of each page is left
    -- free, so that the new row is in the same page and no index changes.
    CREATE TABLE tidings.streams (
        -- The key of its messages and idempotency keys. Never assigned twice.
        stream         bigint PRIMARY KEY,
        name           text COLLATE "C" NOT NULL UNIQUE,
        -- Assigned from the same numbers. It changes when a failover has lost messages.
        generation     bigint NOT NULL,
        -- The sequence before the first one.
        base           bigint NOT NULL,
        -- The id of the newest message, or of the end.
        seq            bigint NOT NULL,
        millis         bigint NOT NULL,
        -- The id of the newest trimmed message. Without one the sequence is the base, and
        -- milliseconds are null.
        trimmed        bigint NOT NULL,
        trimmed_millis bigint,
        -- Numbers of messages, bytes of their text, idempotency keys.
        count          bigint NOT NULL,
        bytes          bigint NOT NULL,
        keys           bigint NOT NULL,
        -- The closing text, once the stream has ended. Not `text`, which cannot hold NUL.
        closing        bytea
    ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
    CREATE TABLE tidings.messages (
        stream bigint NOT NULL,
        -- Without gaps within a stream.
        seq    bigint NOT NULL,
        millis bigint NOT NULL,
        data   bytea NOT NULL,
        PRIMARY KEY (stream, seq)
    );
    -- Idempotency keys.
    CREATE TABLE tidings.keys (
        -- Hash of the number of the stream and the text of the key.
        name   bytea PRIMARY KEY,
        stream bigint NOT NULL,
        -- The id of the last message that was appended with it.
        seq    bigint NOT NULL,
        millis bigint NOT NULL,
        -- Hash of the messages.
        digest bytea NOT NULL,
        -- When it was used, by the clock of the database.
        used   bigint NOT NULL
    );
    CREATE INDEX keys_by_age ON tidings.keys (used);
    CREATE INDEX keys_by_stream ON tidings.keys (stream, seq);
    -- Streams that were deleted, until their messages and keys are.
    CREATE TABLE tidings.garbage (stream bigint PRIMARY KEY);
    -- The last transaction of each server, to know whether it was stored.
    CREATE TABLE tidings.servers (
        server       bigint PRIMARY KEY,
        group_number bigint NOT NULL
    ) WITH (fillfactor = 50);
    -- The watchers of each server, which it reports every few seconds.
    CREATE TABLE tidings.watchers (
        server   bigint PRIMARY KEY,
        seen_at  timestamptz NOT NULL,
        names    text[] NOT NULL,
        watchers bigint[] NOT NULL
    ) WITH (fillfactor = 50);
    -- One row.
    CREATE TABLE tidings.store (
        version    integer NOT NULL,
        -- The generation that was assigned last.
        generation bigint NOT NULL,
        -- The greatest sequence of any stream that was deleted.
        sequence   bigint NOT NULL,
        -- Number of streams.
        streams    bigint NOT NULL
    );
"#;

/// Creates the schema in a database that has none, and checks the version of one that has. Safe when
/// several servers start at once.
///
/// # Errors
/// When the database is too old, belongs to a newer Tidings, is being copied or is an unfinished copy, or
/// the role lacks rights.
pub(super) async fn prepare(client: &mut Client) -> anyhow::Result<()> {
    let version: String = client.query_one("SHOW server_version_num", &[]).await?.try_get(0)?;
    let version: i32 = version.parse()?;
    ensure!(
        version >= MIN_POSTGRES,
        "the database is PostgreSQL {}; Tidings needs {} or newer",
        version / 10_000,
        MIN_POSTGRES / 10_000
    );
    let tx = client.transaction().await?;
    tx.execute("SELECT pg_advisory_xact_lock($1)", &[&SCHEMA_LOCK]).await?;
    let lock = "SELECT pg_try_advisory_xact_lock_shared($1)";
    let is_locked: bool = tx.query_one(lock, &[&COPY_LOCK]).await?.try_get(0)?;
    ensure!(is_locked, "`tidings copy` uses the database; start again when it has finished");
    let found = tx
        .query_one(
            "SELECT to_regclass('tidings.store') IS NOT NULL, \
             to_regnamespace('tidings') IS NOT NULL",
            &[],
        )
        .await?;
    if found.try_get(0)? {
        let version: i32 =
            tx.query_one("SELECT version FROM tidings.store", &[]).await?.try_get(0)?;
        ensure!(
            version >= 0,
            "the database holds an unfinished copy: finish it with the same `tidings copy`, or drop it \
             (DROP SCHEMA tidings CASCADE)"
        );
        if version > VERSION {
            bail!(
                "the database was written by a newer Tidings (schema {version}); run that one, or \
                 restore a copy from before the upgrade"
            );
        }
        ensure!(version == VERSION, "it has a schema that no Tidings has written ({version})");
        return Ok(());
    }
    // A role without the right to create a schema can use one that was created for it.
    if !found.try_get::<_, bool>(1)? {
        tx.batch_execute("CREATE SCHEMA tidings").await?;
    }
    tx.batch_execute(SCHEMA).await?;
    tx.execute("INSERT INTO tidings.store VALUES ($1, 0, 0, 0)", &[&VERSION]).await?;
    tx.commit().await?;
    Ok(())
}
