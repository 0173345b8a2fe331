#!/bin/sh
# Starts the daemon as OpenWhisk's deployments start the Scala invoker: /init.sh --id 0 --uniqueName 0
exec /usr/local/bin/ffs-invoker run "$@"
