# shellcheck shell=bash
# Long-running programs: start, look after, stop. No supervisor: `up` starts what has ended.
#
# Each program has an id file (process id and start time, so that a recycled id is never taken for ours)
# and a mark in its environment. Shims inherit the mark from containerd, so `down` finds them even when
# the id files are lost.

MARK=FILSTAR_CLUSTER_PROCESS

id_file() { printf '%s/pids/%s' "$RUN" "${1//\//-}"; }

# start_time PID: clock ticks after boot, field 22 of /proc/PID/stat; fails when the process has ended. A zombie
# has ended only with its last thread: until then its ports are in use.
start_time() {
  local pid=$1 stat tasks
  { stat=$(<"/proc/$pid/stat"); } 2>/dev/null || return 1
  # shellcheck disable=SC2086 # splitting is the point; the name in parentheses may hold blanks
  set -- ${stat##*) }
  if [[ $1 == Z ]]; then
    tasks=("/proc/$pid/task/"*)
    ((${#tasks[@]} > 1)) || return 1
  fi
  printf '%s' "${20}"
}

service_pid() {
  local pid started
  { read -r pid started <"$(id_file "$1")"; } 2>/dev/null || return 1
  [[ $(start_time "$pid") == "$started" ]] || return 1
  printf '%s' "$pid"
}

service_alive() { service_pid "$1" >/dev/null; }

# start_service NAME COMMAND…: in the background, in its own session, log appended.
start_service() {
  local name=$1 pid
  shift
  mkdir -p "$RUN/pids" "$LOGS"
  PATH=$BIN:$PATH setsid env "$MARK=$name" "$@" </dev/null >>"$LOGS/${name//\//-}.log" 2>&1 9>&- &
  pid=$!
  printf '%s %s\n' "$pid" "$(start_time "$pid")" >"$(id_file "$name")"
  disown "$pid"
}

# ensure_service NAME COMMAND…: starts it unless it runs.
ensure_service() { service_alive "$1" || start_service "$@"; }

# kill_service NAME [SIGNAL]: ends it and waits until it is gone.
kill_service() {
  local pid
  pid=$(service_pid "$1") || return 0
  kill "-${2:-KILL}" "$pid" 2>/dev/null || true
  for _ in $(seq 100); do
    service_alive "$1" || return 0
    sleep 0.1
  done
  kill -KILL "$pid" 2>/dev/null || true
}

# marked_processes [PREFIX]: the ids of all processes with our mark, or of those whose name starts so.
marked_processes() {
  local file pid
  for file in /proc/[0-9]*/environ; do
    pid=${file#/proc/}
    pid=${pid%/environ}
    if grep -qsz "^$MARK=${1-}" "$file"; then printf '%s\n' "$pid"; fi
  done
}

# kill_all LIST_COMMAND…: kills what the command lists until it lists nothing.
kill_all() {
  local pids
  for _ in $(seq 100); do
    pids=$("$@")
    [[ -n $pids ]] || return 0
    # shellcheck disable=SC2086 # one word per process
    kill -KILL $pids 2>/dev/null || true
    sleep 0.1
  done
  die "these processes do not end: ${pids//$'\n'/ }"
}
