# Gaia's HTTP server in a container: docs/how-to/run-the-server.md shows it at work.
#
#     docker build -t gaia .
#     docker run --rm -v gaia:/data gaia keys create tavern
#     docker run -p 8188:8188 -v gaia:/data gaia

FROM python:3.13-slim AS build

# The providers that come along; `--build-arg ROOMS=""` leaves all of them out.
ARG ROOMS="offline runware gemini parasail"

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1

RUN python -m venv /opt/gaia
ENV PATH="/opt/gaia/bin:$PATH"

WORKDIR /src
COPY pyproject.toml README.md ./
COPY gaia_core ./gaia_core
COPY plugins ./plugins
RUN set -eu; \
    set -- ".[server,postgres]"; \
    for room in $ROOMS; do set -- "$@" "./plugins/gaia-$room"; done; \
    pip install "$@"

FROM python:3.13-slim

LABEL org.opencontainers.image.title="Gaia images" \
      org.opencontainers.image.description="Make, edit, enlarge and cut out pictures through any provider."

RUN useradd --system --uid 10001 --user-group --home-dir /data --create-home gaia

COPY --from=build /opt/gaia /opt/gaia

# Everything that is written lies in one volume; keys come with `docker run -e`.
ENV PATH="/opt/gaia/bin:$PATH" \
    PYTHONUNBUFFERED=1 \
    GAIA_DATABASE="sqlite:////data/gaia.db" \
    GAIA_IMAGE_STORE="/data/images" \
    GAIA_SPILL="/data/spill" \
    GAIA_SERVER__HOST="0.0.0.0" \
    GAIA_SERVER__PORT="8188"

USER gaia
WORKDIR /data
VOLUME /data
EXPOSE 8188
# What is under way is waited for: `docker stop -t 35` leaves it the time.
STOPSIGNAL SIGTERM

HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['GAIA_SERVER__PORT'] + '/api/health', timeout=4)"]

ENTRYPOINT ["gaia"]
CMD ["serve", "--log-json"]
