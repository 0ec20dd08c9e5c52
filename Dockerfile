# syntax=docker/dockerfile:1
# The gateway as an image: `docker build -t tollhouse .`; docs/deploy.md tells the rest.

# Packages come as wheels with pinned hashes, so no compiler is needed, and nothing unpinned gets in.
FROM python:3.11-slim-bookworm AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.txt /tmp/requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/venv \
    && /opt/venv/bin/pip install --require-hashes --only-binary=:all: -r /tmp/requirements.txt

FROM python:3.11-slim-bookworm AS base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    PORT=8000 \
    INSTANCE_PATH=/data
# A number of its own, so that Kubernetes can see that it is not root.
RUN groupadd --gid 10001 tollhouse \
    && useradd --uid 10001 --gid tollhouse --no-create-home --home-dir /data --shell /usr/sbin/nologin tollhouse \
    && install -d -o tollhouse -g tollhouse -m 0700 /data
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
VOLUME /data
EXPOSE 8000 8001 8002
# The first of TRUSTED_HOSTS is a name that the gateway answers to.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; e = os.environ; h = e.get('TRUSTED_HOSTS', '').split(',')[0].strip().lstrip('.'); r.urlopen(r.Request('http://127.0.0.1:' + (e.get('PORT') or '8000') + '/health', headers={'Host': h} if h else {}), timeout=2)"]
# gunicorn is process 1: it takes SIGTERM, drains its workers and ends.
STOPSIGNAL SIGTERM
CMD ["gunicorn", "-c", "gunicorn.conf.py", "app:serving()"]

# For `docker compose watch`, which puts changed files in as the user: the code belongs to the user here.
FROM base AS development
RUN chown tollhouse:tollhouse /app
USER 10001:10001
COPY --chown=tollhouse:tollhouse . .

# What runs: the code is root's, and compiled beforehand, as the service may not write beside it.
FROM base AS service
ENV PYTHONDONTWRITEBYTECODE=1
COPY . .
RUN python -m compileall -q -j 0 .
USER 10001:10001
