# Built from source, with the tools that the README names; what runs is the archive that
# `cargo xtask dist` packs, unpacked.

FROM node:22-bookworm-slim AS node

FROM rust:1.95-bookworm AS build
# Node brings wasm-opt, and what minifies.
COPY --from=node /usr/local/bin/node /usr/local/bin/
COPY --from=node /usr/local/lib/node_modules /usr/local/lib/node_modules
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
WORKDIR /src
COPY . .
# The caches stay with the builder: another build takes up where this one was.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo xtask dist \
    && mkdir /opt/tidings \
    && tar --extract --file target/dist/*.tar.gz --directory /opt/tidings --strip-components=1

# The same Debian: its C library must be no older than the one that the server was built with.
FROM debian:bookworm-slim
COPY --from=build /opt/tidings /opt/tidings
# A number and no name, so that whoever runs it can see that it is not root.
RUN install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/tidings
USER 10001:10001
WORKDIR /var/lib/tidings
VOLUME /var/lib/tidings
ENV TIDINGS_LISTEN=0.0.0.0:3000 TIDINGS_DATA=/var/lib/tidings/tidings.db
EXPOSE 3000
# Everybody is let go within ten seconds; give it as long (docker stop --time 20).
STOPSIGNAL SIGTERM
# Debian's bash can ask by itself. It asks in plain HTTP: a server with a certificate of its own needs
# another check, or none (--no-healthcheck).
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/${TIDINGS_LISTEN##*:} && printf 'GET /health/ready HTTP/1.0\\r\\n\\r\\n' >&3 && read -r answer <&3 && [[ $answer == *' 200 '* ]]"]
ENTRYPOINT ["/opt/tidings/tidings"]
