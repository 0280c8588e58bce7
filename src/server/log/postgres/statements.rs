//! The statements of the writer, and those that the sweep shares with it.

use tokio_postgres::{Error, Statement};

use super::{read::STREAM_COLUMNS, session::Session};

/// The channel of the notifications.
pub(super) const CHANNEL: &str = "tidings";

/// The statements of the writer.
pub(super) struct Statements {
    pub(super) lock_streams: Statement,
    pub(super) now: Statement,
    pub(super) lock_store: Statement,
    pub(super) existing: Statement,
    pub(super) keys: Statement,
    pub(super) insert_streams: Statement,
    pub(super) insert_messages: Statement,
    pub(super) update_streams: Statement,
    pub(super) delete_stream: Statement,
    pub(super) update_store: Statement,
    pub(super) insert_keys: Statement,
    pub(super) trim: Statement,
    pub(super) trim_keys: Statement,
    pub(super) record_group: Statement,
    pub(super) notify: Statement,
}

/// The time of the database in Unix milliseconds: one clock for all servers.
/// And whether commits wait for a standby, which can change at any time.
pub(super) const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint, \
                              current_setting('synchronous_standby_names') <> ''";

/// Removes the oldest messages of streams that exceed a limit: at most `most` of each. The limits are
/// exceeded by the messages before a message and itself, so that the first ones that do not are kept.
///
/// By `ctid`, so that no plan scans the whole table: messages are never updated, and the streams are
/// locked. Rows up to `trimmed` may still be in the index until they are vacuumed.
pub(super) const TRIM: &str = "
    WITH due AS (SELECT * FROM unnest($1::bigint[], $2::bigint[]) AS due (stream, most)),
    oldest AS (
        SELECT exceeding.ctid FROM due CROSS JOIN LATERAL (
            SELECT m.ctid, m.millis < $5 OR s.count - m.n + 1 > $3
                           OR s.bytes - m.total + m.size > $4 AS exceeds
            FROM (SELECT * FROM tidings.streams WHERE stream = due.stream OFFSET 0) s
            CROSS JOIN LATERAL (
                SELECT ctid, millis, octet_length(data) AS size, row_number() OVER w AS n,
                       sum(octet_length(data)) OVER w AS total
                FROM (SELECT ctid, seq, millis, data FROM tidings.messages
                      WHERE stream = s.stream AND seq > s.trimmed
                      ORDER BY seq LIMIT due.most) first
                WINDOW w AS (ORDER BY seq)
            ) m
        ) exceeding WHERE exceeding.exceeds
    ),
    removed AS (
        DELETE FROM tidings.messages WHERE ctid = ANY (ARRAY(SELECT ctid FROM oldest))
        RETURNING stream, seq, millis, octet_length(data) AS size
    )
    UPDATE tidings.streams s
    SET count = s.count - r.count, bytes = s.bytes - r.bytes, trimmed = r.seq,
        trimmed_millis = r.millis
    FROM (SELECT stream, count(*) AS count, sum(size) AS bytes, max(seq) AS seq,
                 max(millis) AS millis FROM removed GROUP BY stream) r
    WHERE s.stream = r.stream";

/// Removes the oldest idempotency keys of streams: `most` of each.
pub(super) const TRIM_KEYS: &str = "
    WITH due AS (SELECT * FROM unnest($1::bigint[], $2::bigint[]) AS due (stream, most)),
    removed AS (
        DELETE FROM tidings.keys WHERE name IN (
            SELECT k.name FROM due CROSS JOIN LATERAL (
                SELECT name FROM tidings.keys WHERE stream = due.stream ORDER BY seq LIMIT due.most
            ) k
        ) RETURNING stream
    )
    UPDATE tidings.streams s SET keys = greatest(s.keys - r.count, 0)
    FROM (SELECT stream, count(*) AS count FROM removed GROUP BY stream) r
    WHERE s.stream = r.stream";

/// Records the number of the group, by which a later session knows whether it was stored.
pub(super) const RECORD_GROUP: &str = "
    INSERT INTO tidings.servers VALUES ($1, $2)
    ON CONFLICT (server) DO UPDATE SET group_number = excluded.group_number";

impl Statements {
    pub(super) async fn prepare(session: &Session) -> Result<Self, Error> {
        let lock_streams = format!(
            "SELECT name, {STREAM_COLUMNS} FROM tidings.streams WHERE name = ANY($1) ORDER BY name \
             FOR NO KEY UPDATE"
        );
        let insert_streams = format!(
            "INSERT INTO tidings.streams (name, {STREAM_COLUMNS}) \
             SELECT name, stream, stream, base, seq, millis, base, NULL, count, bytes, keys, NULL \
             FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], \
                         $6::bigint[], $7::bigint[], $8::bigint[]) \
                  AS new (name, stream, base, seq, millis, count, bytes, keys)"
        );
        let statements = [
            lock_streams.as_str(),
            NOW,
            "SELECT generation, sequence, streams FROM tidings.store FOR UPDATE",
            "SELECT name FROM tidings.streams WHERE name = ANY($1)",
            "SELECT name, seq, millis, digest, used FROM tidings.keys WHERE name = ANY($1)",
            &insert_streams,
            "INSERT INTO tidings.messages \
                 SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[])",
            "UPDATE tidings.streams s SET seq = n.seq, millis = n.millis, count = n.count, \
                     bytes = n.bytes, keys = n.keys, closing = n.closing \
                 FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], \
                             $6::bigint[], $7::bytea[]) \
                      AS n (stream, seq, millis, count, bytes, keys, closing) \
                 WHERE s.stream = n.stream",
            "WITH deleted AS (DELETE FROM tidings.streams WHERE stream = $1 RETURNING stream) \
                 INSERT INTO tidings.garbage SELECT stream FROM deleted",
            "UPDATE tidings.store SET generation = $1, sequence = $2, streams = $3",
            // A key that has expired is used again.
            "INSERT INTO tidings.keys SELECT * FROM unnest($1::bytea[], $2::bigint[], \
                     $3::bigint[], $4::bigint[], $5::bytea[], $6::bigint[]) \
                 ON CONFLICT (name) DO UPDATE SET stream = excluded.stream, seq = excluded.seq, \
                     millis = excluded.millis, digest = excluded.digest, used = excluded.used",
            TRIM,
            TRIM_KEYS,
            RECORD_GROUP,
            "SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload",
        ];
        let [
            lock_streams,
            now,
            lock_store,
            existing,
            keys,
            insert_streams,
            insert_messages,
            update_streams,
            delete_stream,
            update_store,
            insert_keys,
            trim,
            trim_keys,
            record_group,
            notify,
        ] = session.prepare(statements).await?;
        Ok(Self {
            lock_streams,
            now,
            lock_store,
            existing,
            keys,
            insert_streams,
            insert_messages,
            update_streams,
            delete_stream,
            update_store,
            insert_keys,
            trim,
            trim_keys,
            record_group,
            notify,
        })
    }
}
