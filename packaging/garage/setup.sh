#!/bin/sh
# Makes one store of the Garages on three servers, with a bucket and a key for Watchfire. On one of them, once:
#   setup.sh CAPACITY ID@HOST:3901 ID@HOST:3901 ID@HOST:3901
# CAPACITY is what each server gives, such as 500G; `garage node id` on a server prints its ID@HOST:3901.
# GARAGE is the command to run, `garage` where it is not set. Prints the environment of the brokers.
# To run it once more does no harm.
set -eu

if [ $# -lt 4 ]; then
    sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
capacity=$1
shift
garage=${GARAGE:-garage}

for node; do
    $garage node connect "$node" >/dev/null || {
        echo "setup.sh: $node cannot be reached: does Garage run there, with the same rpc_secret, and is port 3901 open?" >&2
        exit 1
    }
done
if ! $garage layout show 2>/dev/null | grep -q 'Current cluster layout version: [1-9]'; then
    for node; do
        id=${node%%@*}
        host=${node#*@}
        # Each server fails alone, so each is a zone.
        $garage layout assign "$id" --zone "${host%:*}" --capacity "$capacity" >/dev/null
    done
    $garage layout apply --version 1 >/dev/null
    echo "setup.sh: each object lies on $# servers now" >&2
fi
peers=$(printf ', "%s"' "$@")
echo "setup.sh: garage.toml of each server must have: bootstrap_peers = [${peers#, }]" >&2
$garage bucket info watchfire >/dev/null 2>&1 || $garage bucket create watchfire >/dev/null
$garage key info watchfire >/dev/null 2>&1 || $garage key create watchfire >/dev/null
$garage bucket allow --read --write watchfire --key watchfire >/dev/null
$garage key info --show-secret watchfire 2>/dev/null | sed -n \
    -e 's/^Key ID: *\([^ ]*\).*/AWS_ACCESS_KEY_ID=\1/p' \
    -e 's/^Secret key: *\([^ ]*\).*/AWS_SECRET_ACCESS_KEY=\1/p'
echo 'WATCHFIRE_STORE=s3://watchfire/brokers?endpoint=http://127.0.0.1:3900&region=garage'
