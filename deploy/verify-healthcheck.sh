#!/bin/sh
# Says how a running gateway fares: deploy/verify-healthcheck.sh [http://127.0.0.1:8000]
# Ends with 0 if every sign of life is there, with 1 if one is missing. HOST_HEADER is the name to ask for, where
# TRUSTED_HOSTS has no address.
set -eu

url=${1:-http://127.0.0.1:8000}
url=${url%/}
failed=0

# check PATH TEXT: the answer is 200 and has the text in it.
check() {
    answer=$(curl -sS --max-time 5 -w '\n%{http_code}' ${HOST_HEADER:+-H "host: $HOST_HEADER"} "$url$1" 2>&1) || true
    status=$(printf '%s' "$answer" | tail -n 1)
    case "$status:$answer" in
        200:*"$2"*) echo "ok      $1" ;;
        *)
            echo "FAILED  $1: $(printf '%s' "$answer" | tr '\n' ' ' | cut -c 1-200)"
            failed=1
            ;;
    esac
}

check /health '"healthy"'
check /health/live '"ok"'
check /health/ready '"ready"'
[ "$failed" = 0 ] || echo "verify-healthcheck: $url is not well; its log says why" >&2
exit "$failed"
