#!/bin/bash
# Starts a server of the database in compose.cluster.yaml, in the official image of PostgreSQL:
#   cluster-postgres.sh NAME OTHER primary|standby
# NAME and OTHER are the host names of this server and of the other one. A server without data copies the
# other one, and becomes its standby; the primary creates the database where no other one runs yet.
set -euo pipefail
name=$1 other=$2 role=$3
settings=$PGDATA/postgresql.auto.conf

create() {
    local password replication
    password=$(< /run/secrets/database)
    replication=$(< /run/secrets/replication)
    # The superuser is for the container's own user (`docker compose exec db1 psql`), without a password.
    initdb --username=postgres --auth-local=peer --auth-host=scram-sha-256 --encoding=UTF8 --locale=C
    echo "host all,replication all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    # A server for one user alone: one statement a line.
    printf '%s\n' "CREATE ROLE tidings LOGIN PASSWORD '$password'" \
        "CREATE ROLE replication LOGIN REPLICATION PASSWORD '$replication'" \
        "CREATE DATABASE tidings OWNER tidings" | postgres --single postgres
    # From now on a commit waits until the standby has it on disk too.
    echo "synchronous_standby_names = '$other'" >> "$settings"
}

copy() {
    local password
    password=$(< /run/secrets/replication)
    until PGPASSWORD=$password pg_basebackup --host="$other" --username=replication \
        --pgdata="$PGDATA" --wal-method=stream --checkpoint=fast --write-recovery-conf; do
        sleep 1
    done
    # Of several lines for a setting, the last one counts. A standby that is promoted commits alone.
    local connection="host=$other user=replication password=$password application_name=$name"
    printf '%s\n' "primary_conninfo = '$connection'" "synchronous_standby_names = ''" >> "$settings"
}

if [[ ! -s $PGDATA/PG_VERSION ]]; then
    chmod 0700 "$PGDATA"
    if [[ $role == primary ]] && ! pg_isready --quiet --host="$other"; then
        create
    else
        copy
    fi
fi
# What a standby misses while it is down is kept for it.
exec postgres -c listen_addresses='*' -c wal_keep_size=1GB
