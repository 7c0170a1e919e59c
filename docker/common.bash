#!/usr/bin/env bash
# What ./up and ./deploy share; they source it.

# Where the caller is: what is named on the command line is seen from there. Set before we go to our
# own folder.
: "${caller:=$PWD}"

# from_caller FILE: as one of ours.
from_caller() { case $1 in /*) printf '%s' "$1" ;; *) printf '%s/%s' "$caller" "$1" ;; esac; }

# for_caller FILE: one of our folder, as the caller can name it.
for_caller() { if [ "$caller" = "$PWD" ]; then printf '%s' "$1"; else printf '%s/%s' "$PWD" "$1"; fi; }

# Of this run only.
scratch=$(mktemp -d)
log=$scratch/log
trap 'rm -rf "$scratch"' EXIT

say() { printf '%s\n' "$*"; }

# fail WHAT [REMEDY…]: what is wrong, then what to do about it.
fail() {
    printf '\n%s\n' "$1" >&2
    shift
    [ $# = 0 ] || printf '  %s\n' "$@" >&2
    exit 1
}

# compose …: docker compose, with the settings of the file $HUBBUB_ENV_FILE in place of .env where
# ./deploy names one.
compose() { docker compose ${HUBBUB_ENV_FILE:+--env-file "$HUBBUB_ENV_FILE"} "$@"; }

# within SECONDS COMMAND…: without coreutils' timeout (macOS) there is no limit but the client's own.
within() {
    if command -v timeout >/dev/null; then timeout "$@"; else shift; "$@"; fi
}

# run LINES COMMAND…: one that takes its time. In sight on a terminal, else only the last LINES of its
# output show, and only if it fails.
run() {
    local lines=$1
    shift
    if [ -t 1 ]; then "$@"; else "$@" >"$log" 2>&1 || { tail -n "$lines" "$log" >&2; return 1; }; fi
}

# Reads `docker compose config` from stdin, so that there is one reader of .env, and sets
# `project`, `domain`, `acme` (true when a public CA is asked), `ports` (lines of SERVICE TARGET
# PUBLISHED PROTOCOL) and `address`.
read_config() {
    local config https_port
    config=$(cat)
    # shellcheck disable=SC2034 # for who sources this
    project=$(sed -n 's/^name: //p' <<<"$config")
    domain=$(sed -n 's/^ *GATEWAY__DOMAIN: //p' <<<"$config" | tr -d \")
    # shellcheck disable=SC2034
    if grep -q '^ *GATEWAY__ACME_[A-Z]*: *[^ "]' <<<"$config"; then acme=true; else acme=false; fi
    ports=$(awk '/^  [^ ]/ { service = $1; sub(/:/, "", service) } $1 == "target:" { target = $2 }
        $1 == "published:" { gsub(/"/, "", $2); published = $2 }
        $1 == "protocol:" && published { print service, target, published, $2; published = "" }' <<<"$config")
    https_port=$(published 8443)
    address=https://$domain
    [ "$https_port" = 443 ] || address=$address:$https_port
}

# published TARGET: the port of the machine that the gateway's TCP port TARGET is published on.
published() { awk -v target="$1" '$1 == "gateway" && $2 == target && $4 == "tcp" { print $3 }' <<<"$ports"; }
