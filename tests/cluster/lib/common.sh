# shellcheck shell=bash
# Settings, messages, waiting and the lock. Every command here sources this file first.
set -Eeuo pipefail

CLUSTER_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
CHECKOUT=$(cd "$CLUSTER_DIR/../.." && pwd -P)
CACHE=${FILSTAR_CACHE:-${HOME:-/root}/.cache/filstar}
PATH=$PATH:/usr/sbin:/sbin

# Fixed places, so that every checkout finds a cluster that another one started.
RUN=/run/filstar-cluster      # sockets and process ids
DATA=/var/lib/filstar-cluster # everything else, admin.conf and audit.log included
LOCK=/run/filstar-cluster.lock
ADMIN_CONF=$DATA/admin.conf
AUDIT_LOG=$DATA/audit.log
LOGS=$DATA/logs

NODES=(node-a node-b)
declare -A NODE_IP=([node-a]=10.243.0.1 [node-b]=10.243.0.2)
declare -A NODE_PODS=([node-a]=10.244.0.0/24 [node-b]=10.244.1.0/24)
NODES_NET=10.243.0.0/24
PODS_NET=10.244.0.0/16
SERVICES_NET=10.245.0.0/24
DNS_IP=10.245.0.10
API_IP=10.243.0.1

say() { printf '%s\n' "$*" >&2; }

die() {
  say "error: $1"
  shift
  local line
  for line in "$@"; do say "  $line"; done
  exit 1
}

on_error() {
  say "error: ${BASH_SOURCE[1]##*/}:${BASH_LINENO[0]}: command failed: $BASH_COMMAND"
}
trap on_error ERR

now_ms() { date +%s%3N; }

# seconds_since MS: tenths below ten seconds, whole seconds above.
seconds_since() {
  local ms=$(($(now_ms) - $1))
  if ((ms < 10000)); then
    printf '%d.%d s' $((ms / 1000)) $((ms % 1000 / 100))
  else
    printf '%d s' $((ms / 1000))
  fi
}

# timed WHAT COMMAND…: says what runs and how long it took. The command's own output goes where it sends it.
timed() {
  local what=$1 start
  shift
  start=$(now_ms)
  printf '%s … ' "$what" >&2
  "$@"
  say "$(seconds_since "$start")"
}

# patient SECONDS: time limits are for machines of today; FILSTAR_PATIENCE multiplies them for slow ones.
patient() { printf '%d' $(($1 * ${FILSTAR_PATIENCE:-1})); }

# wait_until SECONDS WHAT SERVICE COMMAND…: polls a condition; on the time limit, or when the service
# that it depends on has ended, stops with the tail of that service's log.
wait_until() {
  local limit what=$2 service=$3 deadline
  limit=$(patient "$1")
  shift 3
  deadline=$((SECONDS + limit))
  until "$@" >/dev/null 2>&1; do
    if [[ -n $service ]] && ! service_alive "$service"; then
      fail_with_log "$service" "$service ended while waiting for: $what"
    fi
    if ((SECONDS >= deadline)); then
      fail_with_log "$service" "no success within $limit s: $what"
    fi
    sleep 0.3
  done
}

fail_with_log() {
  local service=$1 log
  log=$LOGS/${service//\//-}.log
  say
  if [[ -n $service && -s $log ]]; then
    say "--- the last lines of $log"
    tail -n 25 "$log" >&2
    say "---"
  elif [[ -z $service ]]; then
    kube get nodes,pods --all-namespaces -o wide >&2 || true
    kube get events --all-namespaces --field-selector type=Warning 2>/dev/null | tail -n 10 >&2 || true
  fi
  die "$2" "all logs: $LOGS" "start afresh: $CLUSTER_DIR/down && $CLUSTER_DIR/up"
}

# need_root COMMAND ARGS…: goes on as root, with the settings that sudo would drop.
need_root() {
  ((EUID == 0)) && return
  command -v sudo >/dev/null || die "${1##*/} needs root and there is no sudo; run it as root"
  say "${1##*/} needs root: going on with sudo"
  exec sudo "FILSTAR_CACHE=$CACHE" "FILSTAR_PATIENCE=${FILSTAR_PATIENCE:-1}" "PATH=$PATH" ${KUBECONFIG+"KUBECONFIG=$KUBECONFIG"} \
    ${REGISTRY_AUTH_FILE+"REGISTRY_AUTH_FILE=$REGISTRY_AUTH_FILE"} "$@"
}

# Files that people read without root belong to whoever called sudo.
give_to_caller() { chown "${SUDO_UID:-0}:${SUDO_GID:-0}" "$@"; }

# take_lock: one command at a time changes the cluster. The file goes away with drop_lock, so after
# waiting the lock may be on a file that is gone; then try again.
take_lock() {
  local said=
  while :; do
    exec 9>"$LOCK"
    if ! flock -n 9; then
      [[ -n $said ]] || say "another cluster command is at work; waiting for it"
      said=1
      flock -w 900 9 || die "another cluster command holds $LOCK for more than 15 minutes"
    fi
    [[ $(stat -c %i "$LOCK" 2>/dev/null) == $(stat -L -c %i /proc/self/fd/9) ]] && break
  done
  trap drop_lock EXIT
}

drop_lock() { rm -f "$LOCK"; }

kube() { "$BIN/kubectl" --kubeconfig "$ADMIN_CONF" "$@"; }
