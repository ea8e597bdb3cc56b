# syntax=docker/dockerfile:1
# Colonnade as an image: built with Rust, run without it. `docker build -t colonnade .`

FROM rust:1.95-slim-bookworm AS rust

FROM python:3.13-slim-bookworm AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY --from=rust /usr/local/rustup /usr/local/rustup
COPY --from=rust /usr/local/cargo /usr/local/cargo
ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:$PATH
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY native native
COPY colonnade colonnade
RUN python -m venv /opt/colonnade \
    && /opt/colonnade/bin/pip install --no-cache-dir --disable-pip-version-check ".[all]"

FROM python:3.13-slim-bookworm
LABEL org.opencontainers.image.title="Colonnade" \
      org.opencontainers.image.description="An OpenTelemetry Collector-compatible telemetry daemon whose rows are columns." \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 colonnade \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/colonnade --shell /usr/sbin/nologin colonnade \
    && install --directory --owner=10001 --group=10001 /var/lib/colonnade /etc/colonnade
COPY --from=build /opt/colonnade /opt/colonnade
COPY pipeline.yaml /etc/colonnade/pipeline.yaml
ENV PATH=/opt/colonnade/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    COLONNADE_HOST=0.0.0.0
# Relative paths of the configuration (data, archive) are relative to the working directory: mount a volume here.
WORKDIR /var/lib/colonnade
VOLUME /var/lib/colonnade
USER 10001:10001
# OTLP/gRPC, OTLP/HTTP, queries, own metrics, health
EXPOSE 4317 4318 8080 8081 8082 8123 8888 9090 13133
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:13133/', timeout=2)"]
ENTRYPOINT ["colonnade"]
CMD ["run", "--config", "/etc/colonnade/pipeline.yaml"]
