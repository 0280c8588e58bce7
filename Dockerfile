# Builds from source, with the tools that the README names. The image runs the unpacked archive of
# `cargo xtask dist`.

FROM node:22-bookworm-slim AS node

FROM rust:1.95-bookworm AS build
# Node provides wasm-opt and the minifiers.
COPY --from=node /usr/local/bin/node /usr/local/bin/
COPY --from=node /usr/local/lib/node_modules /usr/local/lib/node_modules
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
WORKDIR /src
COPY . .
# Cache mounts stay with the builder, so that the next build reuses them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo xtask dist \
    && mkdir /opt/tidings \
    && tar --extract --file target/dist/*.tar.gz --directory /opt/tidings --strip-components=1

# The same Debian: its C library must not be older than the one of the build stage.
FROM debian:bookworm-slim
COPY --from=build /opt/tidings /opt/tidings
# A numeric user, so that the runtime can verify that it is not root.
RUN install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/tidings
USER 10001:10001
WORKDIR /var/lib/tidings
VOLUME /var/lib/tidings
ENV TIDINGS_LISTEN=0.0.0.0:3000 TIDINGS_DATA=/var/lib/tidings/tidings.db
EXPOSE 3000
# Graceful shutdown takes up to ten seconds; allow for it (docker stop --time 20).
STOPSIGNAL SIGTERM
# A health check with Debian's bash, over plain HTTP: a server with its own certificate needs another
# check, or none (--no-healthcheck). Give a base path as the variable, so that it is known here.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/${TIDINGS_LISTEN##*:} && printf 'GET %s/health/ready HTTP/1.0\\r\\n\\r\\n' \"$TIDINGS_BASE_PATH\" >&3 && read -r answer <&3 && [[ $answer == *' 200 '* ]]"]
ENTRYPOINT ["/opt/tidings/tidings"]
