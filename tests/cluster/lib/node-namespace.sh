#!/usr/bin/env bash
# Runs as the first process in a node's mount namespace: mounts the node's own folders over the usual places,
# says that it is ready, and keeps the namespace open. All mounts of the node end with the namespace.
# node-namespace.sh READY_FILE SOURCE TARGET [SOURCE TARGET]…
set -euo pipefail

ready=$1
shift
mount --make-rshared / # volumes with mount propagation need it
while (($#)); do
  mount --bind "$1" "$2"
  shift 2
done
touch "$ready"
exec sleep infinity
