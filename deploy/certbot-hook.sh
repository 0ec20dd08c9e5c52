#!/bin/sh
# certbot runs this after every renewal (`--deploy-hook`). nginx reads certificate and key anew where certbot keeps
# them; nothing is copied. Workers with open streams finish them with the old certificate, so nothing is cut.
# NGINX and NGINX_CONF name another program and another main file than the system's.
set -eu

nginx() {
    command "${NGINX:-nginx}" ${NGINX_CONF:+-c "$NGINX_CONF"} "$@"
}

if ! nginx -t -q; then
    echo "certbot-hook: nginx refuses its files; it goes on with the certificate it has" >&2
    exit 1
fi
nginx -s reload
echo "certbot-hook: nginx serves the new certificate of ${RENEWED_DOMAINS:-its sites}"
