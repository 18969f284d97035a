#!/bin/sh
# Installs what the tests and the demo need beside a Rust toolchain: a C compiler for the TLS library and
# the demo's SQLite, and the PostgreSQL server's programs; where apt-get is, also PgBouncer, faketime and
# openssl, without which some tests say that they were skipped. Says what it installs; says little and does
# nothing where all is there. Reads nothing from the terminal.
set -eu

has() { command -v "$1" >/dev/null 2>&1; }

# The same places in which src/demo/postgres.rs looks.
has_postgres() {
    has initdb && has postgres && return 0
    for folder in /usr/lib/postgresql/*/bin /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin; do
        [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ] && return 0
    done
    return 1
}

# A compiler without the C library's headers compiles nothing.
has_compiler() {
    has cc && printf '#include <stdlib.h>\n' | cc -E -x c - >/dev/null 2>&1
}

if ! has cargo; then
    echo "install: there is no cargo here; get a Rust toolchain from https://rustup.rs first" >&2
    exit 1
fi

required=""
has_compiler || required="$required gcc libc6-dev"
has make || required="$required make"
has_postgres || required="$required postgresql"
optional=""
if has apt-get; then
    has pgbouncer || [ -x /usr/sbin/pgbouncer ] || optional="$optional pgbouncer"
    has faketime || optional="$optional faketime"
    has openssl || optional="$optional openssl"
fi
if [ -z "$required$optional" ]; then
    echo "install: nothing to do, compiler, PostgreSQL and the tests' tools are here"
    exit 0
fi

if ! has apt-get; then
    echo "install: please install these, whatever your system calls them:$required" >&2
    exit 1
fi

as_root=""
if [ "$(id -u)" -ne 0 ]; then
    if has sudo; then
        as_root="sudo"
    elif [ -z "$required" ]; then
        echo "install: not root and no sudo, so some tests will be skipped; they need:$optional"
        exit 0
    else
        echo "install: not root and no sudo; as root, run: apt-get install$required" >&2
        exit 1
    fi
fi

install() {
    echo "install: apt-get install $*"
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" \
        </dev/null
}

# A machine without the network may still have all that is required.
$as_root apt-get update -qq </dev/null || [ -z "$required" ]
# shellcheck disable=SC2086 # one word per package
[ -z "$required" ] || install $required
# shellcheck disable=SC2086 # one word per package
[ -z "$optional" ] || install $optional || echo "install: some tests will be skipped"

if ! has_compiler || ! has_postgres; then
    echo "install: apt-get ended well, but the compiler or PostgreSQL is still not to be found" >&2
    exit 1
fi
