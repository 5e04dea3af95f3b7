#!/bin/bash
#
# The demonstration: a temporary PostgreSQL server with sample traces, and nginx
# with the module.  "make demo" builds the module and runs this.
#
#   run.sh [check]      check: only test whether HOST and PORT can be used
#
# Data, sockets, configuration and logs are in one new directory.  Ctrl-C,
# SIGTERM or a failure stops both servers and removes the directory.
#
# Variables: HOST (the address to listen on, default 127.0.0.1; 0.0.0.0: all
# addresses), PORT (default 8080, or a free one), MODULE (the .so file), NGINX,
# PG_BINDIR (the directory of initdb and postgres).

set -euo pipefail

export LC_ALL=C
umask 022

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)

PATH=$PATH:/usr/sbin:/sbin
NGINX=$(command -v "${NGINX:-nginx}" || echo "${NGINX:-nginx}")
BUILD=${BUILD:-$top/build}
MODULE=$(realpath -m "${MODULE:-$BUILD/ngx_http_lunary_module.so}")
BINDIR=${PG_BINDIR:-}
KEY=$(sed -n "s/^ *('private', '\([0-9a-f-]*\)',$/\1/p" "$here/traces.sql")
PROJECT=$(sed -n "s/^const PROJECT = '\(.*\)';$/\1/p" "$here/index.html")

dir=
as_owner=()
postgres_pid=
nginx_pid=
log=                    # of the current step
status=1

# nginx reads inherited sockets from this variable

export -n NGINX

# variables such as PGHOST would change the server that psql uses; postgres
# needs a current directory that its user can read

unset "${!PG@}"
cd /


say() {
    printf '%s\n' "$*"
}


die() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}


# shellcheck disable=SC2317,SC2329    # called by trap

cleanup() {
    trap '' INT TERM HUP
    trap - EXIT
    set +e

    # immediate shutdowns: no data is kept

    if [ -n "$nginx_pid" ]; then
        kill -TERM "$nginx_pid" 2> /dev/null
        wait "$nginx_pid" 2> /dev/null
    fi

    # bash starts postgres with SIGQUIT ignored, until it has its own handler

    if [ -n "$postgres_pid" ]; then
        while kill -QUIT "$postgres_pid" 2> /dev/null; do
            sleep 0.1
        done
        wait "$postgres_pid" 2> /dev/null
    fi

    if [ -n "$dir" ]; then
        if [ "$status" -eq 1 ] && [ -s "$dir/$log" ]; then
            printf 'demo: the last lines of %s:\n' "$log" >&2
            tail -n 15 "$dir/$log" >&2
        fi

        rm -rf "$dir"
    fi

    exit "$status"
}


# initdb, postgres and pg_ctl are not in Debian's PATH

find_bindir() {
    local candidate newest=

    for candidate in "$(pg_config --bindir 2> /dev/null || true)" \
                     /usr/local/pgsql/bin \
                     $(printf '%s\n' /usr/pgsql-*/bin \
                                     /usr/lib/postgresql/*/bin | sort -V) \
                     "$BINDIR"
    do
        if [ -x "$candidate/initdb" ] && [ -x "$candidate/postgres" ]; then
            newest=$candidate
        fi
    done

    [ -n "$newest" ] \
        || die "PostgreSQL's initdb and postgres are not there: make deps-demo"
    say "$newest"
}


# prints the reason if a server cannot listen on this port

cannot_listen() {
    perl -MSocket=:all -e '
        my ($error, $at) = getaddrinfo(@ARGV, { socktype => SOCK_STREAM,
            flags => AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE });

        die "it is no address, as 127.0.0.1 or 0.0.0.0\n" if $error;

        socket my $socket, $at->{family}, SOCK_STREAM, 0 or die "$!\n";
        setsockopt $socket, SOL_SOCKET, SO_REUSEADDR, 1;
        bind $socket, $at->{addr} and listen $socket, 1 and exit;
        die $!{EADDRINUSE} ? "port $ARGV[1] is taken\n" : "$!\n"' \
        "$HOST" "$1" 2>&1 || true
}


choose_port() {
    local port why

    if [ -n "${PORT:-}" ]; then
        if ! [[ $PORT =~ ^[1-9][0-9]{0,4}$ ]] || [ "$PORT" -gt 65535 ]; then
            die "PORT=$PORT is no port: 1 to 65535"
        fi

        why=$(cannot_listen "$PORT")
        [ -z "$why" ] || die "HOST=$HOST: $why"
        say "$PORT"
        return
    fi

    for port in 8080 {8081..8099} {18080..18099}; do
        why=$(cannot_listen "$port")

        if [ -z "$why" ]; then
            say "$port"
            return
        fi

        [[ $why = *' is taken' ]] || die "HOST=$HOST: $why"
    done

    die "no free port: set PORT"
}


base64url() {
    openssl base64 -A | tr '+/' '-_' | tr -d '='
}


# a token as Lunary's backend makes it when a user logs in

session_token() {
    local secret=$1 user=$2 now text

    now=$(date +%s)
    text=$(printf '%s' '{"alg":"HS256","typ":"JWT"}' | base64url)
    text+=.$(printf '{"userId":"%s","iat":%d,"nbf":%d,"exp":%d}' \
             "$user" "$now" "$now" $((now + 30 * 86400)) | base64url)
    say "$text.$(printf '%s' "$text" \
        | openssl dgst -sha256 -hmac "$secret" -binary | base64url)"
}


# replaces a value in a line of demo.conf that is marked "path"

set_path() {
    grep -q -- "$1" "$dir/nginx.conf" || die "demo.conf has no line $1"
    sed -i "s|$1|$2|" "$dir/nginx.conf"
}


HOST=${HOST:-127.0.0.1}
HOST=${HOST#[}
HOST=${HOST%]}
port=$(choose_port)

if [ "${1:-}" = check ]; then
    exit 0
fi

bindir=$(find_bindir)

command -v "$NGINX" > /dev/null \
    || die "nginx is not installed: make deps-demo"
[ -e "$MODULE" ] || die "$MODULE is not there: make"
[ -n "$KEY" ] || die "traces.sql has no key"

owner=$(id -un)

if [ "$(id -u)" -eq 0 ]; then
    owner=postgres
    id "$owner" > /dev/null 2>&1 || owner=nobody
    as_owner=(setpriv "--reuid=$owner" "--regid=$(id -g "$owner")"
              --init-groups)
fi

trap cleanup EXIT
trap 'status=${running:-130}; exit' INT
trap 'status=${running:-143}; exit' TERM
trap 'status=${running:-129}; exit' HUP

# the path of a socket is limited, and PostgreSQL's user has to reach it

dir=$(mktemp -d "${TMPDIR:-/tmp}/lunary-demo.XXXXXX")
chmod 755 "$dir"

if [ ${#dir} -gt 80 ] || ! "${as_owner[@]}" test -r "$dir"; then
    rmdir "$dir"
    dir=$(mktemp -d /tmp/lunary-demo.XXXXXX)
    chmod 755 "$dir"
fi

mkdir -p "$dir/data" "$dir/run" "$dir/logs" "$dir/temp" "$dir/page/demo"
chmod 700 "$dir/data"
chown "$owner:" "$dir/data" "$dir/run"


# the database has no port; its socket is in our directory; other users of the
# machine can only connect as the read-only role

say "starting PostgreSQL ($bindir) ..."
log=initdb.log

"${as_owner[@]}" "$bindir/initdb" -D "$dir/data" -U "$owner" -A peer \
    -E UTF8 --locale=C --no-sync > "$dir/initdb.log" 2>&1

cat > "$dir/pg_hba.conf" <<'END'
local  lunary  lunary_ro  trust
local  all     all        peer
END

cat > "$dir/postgresql.conf" <<END
listen_addresses = ''
unix_socket_directories = '$dir/run'
hba_file = '$dir/pg_hba.conf'
max_connections = 40
shared_buffers = 32MB
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum = off
log_min_messages = warning
timezone = 'UTC'
END

"${as_owner[@]}" "$bindir/postgres" -D "$dir/data" \
    -c "config_file=$dir/postgresql.conf" > "$dir/postgres.log" 2>&1 &
postgres_pid=$!
log=postgres.log

sql() {
    "${as_owner[@]}" "$bindir/psql" -X -q -o /dev/null -v ON_ERROR_STOP=1 \
        -h "$dir/run" "$@" >> "$dir/load.log" 2>&1
}

for ((i = 0; i < 300; i++)); do
    sql -d postgres -c "select" && break
    kill -0 "$postgres_pid" 2> /dev/null || break
    sleep 0.1
done

sql -d postgres -c "select" || die "PostgreSQL does not start"

: > "$dir/load.log"
log=load.log

sql -d postgres -c "create database lunary"
sql -d lunary < "$top/t/sql/schema.sql"
sql -d lunary < "$here/traces.sql"
sql -d lunary < "$here/role.sql"


# nginx: the pages are copied, as the workers may not be able to read this
# repository; the trace page gets a session, signed with a new secret

log=logs/stderr
secret=$(openssl rand -hex 32)
user=$("${as_owner[@]}" "$bindir/psql" -X -At -h "$dir/run" -d lunary \
       -c "select account_id from account_project")
session=$(session_token "$secret" "$user")

(umask 077; say "$secret" > "$dir/jwt_secret")
sed "s|^const SESSION = '';|const SESSION = '$session';|" \
    "$here/index.html" > "$dir/page/demo/index.html"
cp "$top/conf/status.html" "$dir/page/"
chmod 644 "$dir/page/demo/index.html" "$dir/page/status.html"
cp "$top/conf/demo.conf" "$dir/nginx.conf"

set_path 'modules/ngx_http_lunary_module.so' "$MODULE"
set_path 'host=/run/postgresql' "host=$dir/run"

# the address to print, if nginx listens on all addresses

case "$HOST" in
    0.0.0.0) at=$HOST:$port local=127.0.0.1:$port ;;
    ::)      at="[::]:$port" local="[::1]:$port" ;;
    *:*)     at="[$HOST]:$port" local=$at ;;
    *)       at=$HOST:$port local=$at ;;
esac

set_path '127.0.0.1:8080' "$at"
set_path ' conf;' " $dir/page;"
set_path '/etc/nginx/lunary/jwt_secret' "$dir/jwt_secret"

"$NGINX" -e "$dir/logs/error.log" -p "$dir" -c "$dir/nginx.conf" \
    -g 'daemon off;' > "$dir/logs/stderr" 2>&1 &
nginx_pid=$!

for ((i = 0; i < 100; i++)); do
    kill -0 "$nginx_pid" 2> /dev/null || die "nginx did not start"
    [ -s "$dir/logs/nginx.pid" ] && break
    sleep 0.05
done

say ""
say "Ready.  Open  http://$local/  or ask for a trace:"
say ""
sed -n 's/^-- sample: //p' "$here/traces.sql" \
    | while read -r id title; do
          say "# $title"
          say "curl -H 'Authorization: Bearer $KEY'" \
              "http://$local/v1/runs/$id/related"
          say ""
      done
sed -n 's/^-- sample: \([^ ]*\) .*/\1/p' "$here/traces.sql" | head -n 1 \
    | while read -r id; do
          say "With a session, as Lunary's dashboard has one:"
          say "curl -H 'Authorization: Bearer $session'" \
              "'http://$local/v1/runs/$id/related?projectId=$PROJECT'"
          say ""
      done
say "The traces, drawn:  http://$local/"
say "Metrics:            http://$local/metrics"
say "Metrics, drawn:     http://$local/status"

if [ "$local" != "$at" ]; then
    say "Other machines use an address of this machine instead."
fi

say ""
say "Logs are in $dir/logs.  Ctrl-C stops both servers."

# a signal ends "wait" and runs the trap

running=0
log=logs/error.log
code=0
wait "$nginx_pid" || code=$?
nginx_pid=
die "nginx ended with status $code"
