#!/bin/sh
# Makes OpenWhisk's three databases in a CouchDB: views, and the subjects guest and whisk.system.
#
#   DB_USERNAME=… DB_PASSWORD=… [GUEST_KEY=UUID:KEY] [SYSTEM_KEY=UUID:KEY] docker/couchdb/init.sh
#
# Where and under which names: DB_PROTOCOL, DB_HOST, DB_PORT, DB_SUBJECTS, DB_WHISKS, DB_ACTIVATIONS. What
# is there already is brought up to date, and subjects with it; a subject without a key given is left out.
# Needs curl. DB_SINGLE_NODE=1 makes a fresh CouchDB 3 a node of its own first.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
at=${DB_PROTOCOL:-http}://${DB_HOST:-127.0.0.1}:${DB_PORT:-5984}
subjects=${DB_SUBJECTS:-whisk_local_subjects}
whisks=${DB_WHISKS:-whisk_local_whisks}
activations=${DB_ACTIVATIONS:-whisk_local_activations}

# request METHOD PATH [BODY]: prints the answer's body, then its status on a line. The password stays out of
# the list of processes.
request() {
    if [ $# -ge 3 ]; then
        set -- "$1" "$2" --header 'Content-Type: application/json' --data-binary "$3"
    fi
    method=$1 path=$2
    shift 2
    printf 'user = "%s:%s"\n' "${DB_USERNAME:?}" "${DB_PASSWORD:?}" |
        curl --config - --silent --show-error --request "$method" --write-out '\n%{http_code}' "$@" "$at/$path"
}

fail() {
    echo "$1: $at answered $2" >&2
    exit 1
}

# make_database NAME
make_database() {
    answer=$(request PUT "$1")
    case ${answer##*
} in
        201 | 202 | 412) ;; # 412: it is there
        *) fail "database $1 cannot be made" "$answer" ;;
    esac
}

# put DATABASE ENCODED_ID BODY: creates or replaces a document.
put() {
    revision=$(request GET "$1/$2" | sed -n 's/.*"_rev":"\([^"]*\)".*/\1/p')
    answer=$(request PUT "$1/$2${revision:+?rev=$revision}" "$3")
    case ${answer##*
} in
        201 | 202) ;;
        *) fail "document $2 of $1 cannot be written" "$answer" ;;
    esac
}

# put_views DATABASE FOLDER
put_views() {
    for file in "$here/design/$2"/*.json; do
        put "$1" "_design/$(basename "$file" .json)" "@$file"
    done
}

# put_subject NAME UUID:KEY
put_subject() {
    if [ -z "$2" ]; then return; fi
    put "$subjects" "$1" "{\"subject\":\"$1\",\"namespaces\":[{\"name\":\"$1\",\"uuid\":\"${2%%:*}\",\"key\":\"${2#*:}\"}]}"
}

if [ "${DB_SINGLE_NODE:-0}" = 1 ]; then
    for database in _users _replicator; do make_database "$database"; done
fi
for database in "$subjects" "$whisks" "$activations"; do make_database "$database"; done
put_views "$subjects" subjects
put_views "$whisks" whisks
put_views "$activations" activations
put_subject guest "${GUEST_KEY:-}"
put_subject whisk.system "${SYSTEM_KEY:-}"
