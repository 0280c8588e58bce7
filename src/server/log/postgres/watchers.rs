//! The watchers of all servers: each reports its own every few seconds, and reads those of the others.

use std::collections::HashMap;

use tokio_postgres::{Client, Error};

use super::read::{signed, unsigned};
use crate::server::log::StreamName;

/// Reports the watchers of this server, and returns those of the others, by stream.
pub(super) async fn exchange(
    client: &Client,
    server: i64,
    own: &[(StreamName, u64)],
) -> Result<HashMap<StreamName, u64>, Error> {
    let names: Vec<&str> = own.iter().map(|(name, _)| name.as_str()).collect();
    let watchers: Vec<i64> = own.iter().map(|(_, watchers)| signed(*watchers)).collect();
    client
        .execute(
            "INSERT INTO tidings.watchers VALUES ($1, now(), $2, $3)
             ON CONFLICT (server) DO UPDATE SET seen_at = excluded.seen_at,
                 names = excluded.names, watchers = excluded.watchers",
            &[&server, &names, &watchers],
        )
        .await?;
    let rows = client
        .query(
            "SELECT w.name, sum(w.watchers)::bigint FROM tidings.watchers s
             CROSS JOIN LATERAL unnest(s.names, s.watchers) AS w (name, watchers)
             WHERE s.server <> $1 AND s.seen_at > now() - interval '15 seconds' GROUP BY w.name",
            &[&server],
        )
        .await?;
    let mut others = HashMap::with_capacity(rows.len());
    for row in &rows {
        // A row with an invalid name was not written by this program.
        if let Ok(name) = row.try_get::<_, &str>(0)?.parse() {
            others.insert(name, unsigned(row, 1)?);
        }
    }
    Ok(others)
}

/// Forgets this server when it stops.
pub(super) async fn leave(client: &Client, server: i64) -> Result<(), Error> {
    let delete = "WITH gone AS (DELETE FROM tidings.watchers WHERE server = $1) \
                  DELETE FROM tidings.servers WHERE server = $1";
    client.execute(delete, &[&server]).await?;
    Ok(())
}
