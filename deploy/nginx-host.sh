#!/bin/sh
# Takes a host out of nginx before it is restarted, and puts it in again once it is ready. See docs/deploy.md.
#   deploy/nginx-host.sh out 10.0.0.11:8000
#   deploy/nginx-host.sh in 10.0.0.11:8000
# SITE names another site than the system's; NGINX and NGINX_CONF another program and another main file; WAIT the
# seconds that a host may take until it is ready.
set -eu

SITE=${SITE:-/etc/nginx/sites-available/tollhouse.conf}
ORDER=${1:-}
HOST=${2:-}

nginx() {
    command "${NGINX:-nginx}" ${NGINX_CONF:+-c "$NGINX_CONF"} "$@"
}

fail() {
    echo "nginx-host: $1" >&2
    exit 1
}

is_ready() {
    curl --fail --silent --output /dev/null --max-time 5 "http://$HOST/health/ready"
}

case $ORDER in out | in) ;; *) fail "say \`out\` or \`in\`, and a host as it stands in $SITE" ;; esac
PLAIN=$(printf %s "$HOST" | sed 's/[].[*^$/]/\\&/g')
LINE="^\([[:space:]]*server $PLAIN\)\( down\)\{0,1\};"
grep -q "$LINE" "$SITE" || fail "$SITE has no line \`server $HOST;\`"

if [ "$ORDER" = out ]; then
    sed "s/$LINE/\1 down;/" "$SITE" | grep -q '^[[:space:]]*server [^ {]*;' || fail "$HOST is the last one: it stays"
else
    END=$(($(date +%s) + ${WAIT:-120}))
    until is_ready; do
        [ "$(date +%s)" -lt "$END" ] || fail "$HOST is not ready: it stays out"
        sleep 0.5
    done
fi

BEFORE=$(mktemp)
trap 'rm -f "$BEFORE"' EXIT
cp "$SITE" "$BEFORE"
[ "$ORDER" = out ] && MARK=' down' || MARK=
sed -i "s/$LINE/\1$MARK;/" "$SITE"
if ! nginx -t -q; then
    cat "$BEFORE" >"$SITE"
    fail "nginx refuses its files; it goes on as before"
fi
nginx -s reload
sleep 2 # nginx says nothing when its new workers have taken over; the old ones then get no more connections
echo "nginx-host: $HOST is $ORDER"
