#!/bin/sh
# Runs Schemathesis (https://schemathesis.io) over a server without a secret, then over one with a secret.
# Needs Python, `pip install 'schemathesis>=4.32'`, and a server that `cargo xtask run` has built, or the one
# in $TIDINGS. Arguments go to Schemathesis: --max-examples 1000.
set -eu
cd "$(dirname "$0")/../.."
tidings=${TIDINGS:-target/quick/tidings}
url=http://127.0.0.1:3917
folder=$(mktemp -d)
failed=0
trap 'kill $server 2>/dev/null || true; rm -r "$folder"' EXIT

run() {
    # Limits that one client alone would reach, and a counter that ends.
    "$tidings" --listen "${url#http://}" --data :memory: --log warn --read-rate 0 --publish-rate 0 --sign-in-rate 0 \
        --max-streams 1000000 --counter-count 3 --counter-delay 1ms $flags &
    server=$!
    schemathesis --config-file tests/schemathesis/schemathesis.toml run "$url/openapi.json" \
        --wait-for-schema 10 "$@" || failed=1
    kill $server
    wait $server || true
}

flags=
run "$@"
head -c 32 /dev/urandom | base64 > "$folder/secret"
token=$("$tidings" token --secret-file "$folder/secret" --for schemathesis --publish '*' --watch '*' --expires 1d)
flags="--secret-file $folder/secret"
run --header "Authorization: Bearer $token" "$@"
exit $failed
