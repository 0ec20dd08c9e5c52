#!/bin/sh
# Builds the image, starts it as docs/deploy.md says, and looks at what matters: deploy/verify-docker.sh
# Leaves nothing behind. Ends with 0 if all is well, with 1 if not, with 2 where there is no Docker engine to ask.
set -eu
cd "$(dirname "$0")/.."

image=tollhouse:verify name=tollhouse-verify-$$ port=${PORT:-18000}

if ! docker info >/dev/null 2>&1; then
    echo "verify-docker: no Docker engine answers; start one, or let your user speak to it" >&2
    exit 2
fi
trap 'docker rm --force --volumes "$name" >/dev/null 2>&1 || true' EXIT

fail() {
    echo "FAILED  $*" >&2
    docker logs --tail 20 "$name" >&2 || true
    exit 1
}

docker build --quiet --target service --tag "$image" . >/dev/null
echo "ok      the image is built: $(docker image inspect --format '{{.Size}}' "$image") bytes"

docker run --detach --name "$name" --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
    --publish "127.0.0.1:$port:8000" --env ENVIRONMENT=test "$image" >/dev/null
health=starting seconds=0
while [ "$health" = starting ]; do
    [ "$seconds" -lt 90 ] || fail "no health check succeeded in 90 s"
    sleep 1
    seconds=$((seconds + 1))
    health=$(docker inspect --format '{{.State.Health.Status}}' "$name")
done
[ "$health" = healthy ] || fail "the health check says $health"
echo "ok      HEALTHCHECK says healthy after $seconds s"

user=$(docker exec "$name" id -u)
[ "$user" != 0 ] || fail "it runs as root"
echo "ok      it runs as user $user, on a read-only root"

deploy/verify-healthcheck.sh "http://127.0.0.1:$port" || fail "a sign of life is missing"

docker stop --time 45 "$name" >/dev/null
code=$(docker inspect --format '{{.State.ExitCode}}' "$name")
[ "$code" = 0 ] || fail "SIGTERM ended it with $code"
echo "ok      SIGTERM ends it with 0"
