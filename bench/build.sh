#!/bin/sh
# Builds the load-measurement tools into bench/bin/. CC=clang sh bench/build.sh uses another compiler.
set -eu
cd "$(dirname "$0")"
CC=${CC:-cc}

if ! command -v "$CC" >/dev/null 2>&1; then
    echo "build.sh: no C compiler ('$CC' is not found). Install one and run this again:" >&2
    echo "  Debian, Ubuntu:  apt-get install gcc libc6-dev" >&2
    echo "  Fedora:          dnf install gcc glibc-devel" >&2
    exit 1
fi
if [ "$(uname -s)" != Linux ]; then
    echo "build.sh: the tools need Linux 5.11 or newer, with glibc 2.35 or newer." >&2
    exit 1
fi

mkdir -p bin
flags="-std=c11 -O2 -Wall -Wextra -Werror"
# shellcheck disable=SC2086  # the flags are meant to be split
"$CC" $flags -o bin/upstream upstream.c plan.c
# shellcheck disable=SC2086
"$CC" $flags -o bin/load load.c options.c response.c
