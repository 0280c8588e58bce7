//! Retention: a sweep removes old messages and keys in small steps. Each append removes what then
//! exceeds the limits of its stream.
//!
//! One server at a time sweeps, by an advisory lock that a transaction holds.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_postgres::{Client, Error, Transaction};

use super::{
    pool::Readers,
    read::signed,
    schema::{COPY_LOCK, SWEEP_LOCK},
    statements::{CHANNEL, NOW, TRIM},
};
use crate::server::log::{KEY_LIFETIME, RetentionLimits};

/// How often the sweep begins.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);
/// How soon after a deletion it begins, so that it handles several deletions at once.
const DELETE_DELAY: Duration = Duration::from_millis(200);
/// How long a step may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
/// The most streams, messages of a stream, and keys that a step removes.
const STREAMS_PER_STEP: i64 = 20;
const MESSAGES_PER_STEP: i64 = 1000;
const KEYS_PER_STEP: i64 = 1000;

/// Sweeps at intervals, and soon after this server has deleted a stream.
pub(super) async fn sweep(readers: Readers, limits: RetentionLimits, deleted: Arc<Notify>) {
    loop {
        if timeout(SWEEP_INTERVAL, deleted.notified()).await.is_ok() {
            sleep(DELETE_DELAY).await;
        }
        while step(&readers, limits).await {}
    }
}

/// Does one step; returns whether there is more to do.
async fn step(readers: &Readers, limits: RetentionLimits) -> bool {
    let Ok(mut session) = readers.get().await else { return false };
    match timeout(STEP_TIMEOUT, transactions(session.client_mut(), limits)).await {
        Ok(Ok(more)) => more,
        Ok(Err(error)) => {
            tracing::warn!(
                error = super::options::describe(&error),
                "old messages are not removed"
            );
            false
        }
        Err(_) => {
            tracing::warn!("old messages are not removed: the database does not answer");
            drop(deadpool::managed::Object::take(session));
            false
        }
    }
}

async fn transactions(client: &mut Client, limits: RetentionLimits) -> Result<bool, Error> {
    let more = trim(client, limits).await?;
    // A transaction of its own: the locks of the streams are not kept meanwhile.
    let tx = client.transaction().await?;
    if !may_sweep(&tx).await? {
        return Ok(false);
    }
    let garbage = remove_garbage(&tx).await?;
    forget_servers(&tx).await?;
    tx.commit().await?;
    Ok(more || garbage)
}

/// Whether no other server sweeps, and the store is not copied, until the transaction ends.
async fn may_sweep(tx: &Transaction<'_>) -> Result<bool, Error> {
    // A transaction that is lost gives up its locks.
    tx.batch_execute(
        "SET LOCAL idle_in_transaction_session_timeout = 5000; SET LOCAL statement_timeout = 25000",
    )
    .await?;
    let lock = "SELECT pg_try_advisory_xact_lock($1) AND pg_try_advisory_xact_lock_shared($2)";
    tx.query_one(lock, &[&SWEEP_LOCK, &COPY_LOCK]).await?.try_get(0)
}

/// Removes what exceeds the limits from some streams; returns whether there may be more.
async fn trim(client: &mut Client, limits: RetentionLimits) -> Result<bool, Error> {
    let tx = client.transaction().await?;
    if !may_sweep(&tx).await? {
        return Ok(false);
    }
    let now: i64 = tx.query_one(NOW, &[]).await?.try_get(0)?;
    let before =
        |age: Duration| now.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    let (cutoff, idle_since) = (before(limits.age), before(limits.age.max(KEY_LIFETIME)));
    let keys_until = keys_until(&tx, before(KEY_LIFETIME), limits).await?;

    // In the order of their names, as in `batch`; those that a writer holds are left for later.
    let due = tx
        .query(
            "SELECT stream, name FROM tidings.streams WHERE stream IN (
                 SELECT stream FROM tidings.streams s
                 WHERE count > $1 OR bytes > $2 OR keys > $3
                    OR (SELECT millis FROM tidings.messages m
                        WHERE m.stream = s.stream AND seq > s.trimmed ORDER BY seq LIMIT 1) < $4
                    OR (count = 0 AND millis < $5)
                    OR stream IN (SELECT stream FROM tidings.keys WHERE used <= $6
                                  ORDER BY used LIMIT $7)
                 LIMIT $8
             ) ORDER BY name FOR NO KEY UPDATE SKIP LOCKED",
            &[
                &signed(limits.messages),
                &signed(limits.bytes),
                &signed(limits.keys),
                &cutoff,
                &idle_since,
                &keys_until,
                &KEYS_PER_STEP,
                &STREAMS_PER_STEP,
            ],
        )
        .await?;
    let streams: Vec<i64> = due.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let most = vec![MESSAGES_PER_STEP; streams.len()];
    let limits_of_stream = (signed(limits.messages), signed(limits.bytes));
    tx.execute(TRIM, &[&streams, &most, &limits_of_stream.0, &limits_of_stream.1, &cutoff]).await?;
    remove_keys(&tx, &streams, keys_until, limits).await?;
    delete_idle(&tx, &streams, idle_since).await?;
    tx.commit().await?;
    Ok(!streams.is_empty())
}

/// Keys that were used until this time are removed: those that have expired, and the oldest where all
/// streams together have too many.
async fn keys_until(
    tx: &Transaction<'_>,
    expired: i64,
    limits: RetentionLimits,
) -> Result<i64, Error> {
    let select = "SELECT coalesce(sum(keys), 0)::bigint FROM tidings.streams";
    let total: i64 = tx.query_one(select, &[]).await?.try_get(0)?;
    let surplus = total.saturating_sub(signed(limits.all_keys)).min(KEYS_PER_STEP);
    if surplus <= 0 {
        return Ok(expired);
    }
    let select = "SELECT used FROM tidings.keys ORDER BY used OFFSET $1 LIMIT 1";
    let oldest = tx.query_opt(select, &[&(surplus - 1)]).await?;
    Ok(oldest.map_or(Ok(expired), |row| row.try_get(0))?.max(expired))
}

/// Removes keys of locked streams, and counts the rest.
async fn remove_keys(
    tx: &Transaction<'_>,
    streams: &[i64],
    until: i64,
    limits: RetentionLimits,
) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM tidings.keys WHERE name IN (
             SELECT name FROM tidings.keys WHERE stream = ANY($1) AND used <= $2 LIMIT $3)",
        &[&streams, &until, &KEYS_PER_STEP],
    )
    .await?;
    tx.execute(
        "DELETE FROM tidings.keys WHERE name IN (
             SELECT k.name FROM tidings.streams s CROSS JOIN LATERAL (
                 SELECT name FROM tidings.keys WHERE stream = s.stream
                 ORDER BY seq LIMIT least(greatest(s.keys - $2, 0), $3)
             ) k WHERE s.stream = ANY($1))",
        &[&streams, &signed(limits.keys), &KEYS_PER_STEP],
    )
    .await?;
    tx.execute(
        "UPDATE tidings.streams s
         SET keys = (SELECT count(*) FROM tidings.keys k WHERE k.stream = s.stream)
         WHERE stream = ANY($1)",
        &[&streams],
    )
    .await?;
    Ok(())
}

/// Deletes streams that are empty, and idle for longer than the maximum age.
async fn delete_idle(tx: &Transaction<'_>, streams: &[i64], since: i64) -> Result<(), Error> {
    let rows = tx
        .query(
            "WITH deleted AS (
                 DELETE FROM tidings.streams WHERE stream = ANY($1) AND count = 0 AND millis < $2
                 RETURNING stream, name, seq
             ), garbage AS (INSERT INTO tidings.garbage SELECT stream FROM deleted)
             SELECT name, seq FROM deleted",
            &[&streams, &since],
        )
        .await?;
    if rows.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let sequences: Vec<i64> = rows.iter().map(|row| row.try_get(1)).collect::<Result<_, _>>()?;
    let (number, greatest) = (signed(rows.len() as u64), sequences.into_iter().max().unwrap_or(0));
    tx.execute(
        "UPDATE tidings.store SET sequence = greatest(sequence, $1), streams = streams - $2",
        &[&greatest, &number],
    )
    .await?;
    // From no server: this one is told too. Fewer names than fill a notification.
    let payload = format!("0 {}", names.join(" "));
    tx.execute("SELECT pg_notify($1, $2)", &[&CHANNEL, &payload]).await?;
    Ok(())
}

/// Removes some messages and keys of deleted streams; returns whether there are more.
async fn remove_garbage(tx: &Transaction<'_>) -> Result<bool, Error> {
    let select = "SELECT stream FROM tidings.garbage LIMIT $1";
    let rows = tx.query(select, &[&STREAMS_PER_STEP]).await?;
    for row in &rows {
        let stream: i64 = row.try_get(0)?;
        let messages = tx
            .execute(
                "DELETE FROM tidings.messages WHERE stream = $1 AND seq <= (
                     SELECT max(seq) FROM (SELECT seq FROM tidings.messages WHERE stream = $1
                                           ORDER BY seq LIMIT $2) oldest)",
                &[&stream, &MESSAGES_PER_STEP],
            )
            .await?;
        let keys = tx
            .execute(
                "DELETE FROM tidings.keys WHERE name IN (
                     SELECT name FROM tidings.keys WHERE stream = $1 LIMIT $2)",
                &[&stream, &KEYS_PER_STEP],
            )
            .await?;
        if messages == 0 && keys == 0 {
            tx.execute("DELETE FROM tidings.garbage WHERE stream = $1", &[&stream]).await?;
        }
    }
    Ok(!rows.is_empty())
}

/// Forgets servers that have not been seen for a day.
async fn forget_servers(tx: &Transaction<'_>) -> Result<(), Error> {
    let delete = "
        WITH gone AS (DELETE FROM tidings.watchers WHERE seen_at < now() - interval '1 day'
                      RETURNING server)
        DELETE FROM tidings.servers WHERE server IN (SELECT server FROM gone)";
    tx.execute(delete, &[]).await?;
    Ok(())
}
