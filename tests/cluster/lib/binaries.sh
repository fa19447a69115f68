# shellcheck shell=bash
# The cache of the cluster's programs: finds what is missing or damaged and builds it.

sources_hash() {
  (cd "$CLUSTER_DIR" && find modules lib/programs.sh -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    uname -m) | sha256sum | cut -c1-12
}

VERSION_KEY=$KUBERNETES_VERSION-$(sources_hash)
STORE=$CACHE/cluster/$VERSION_KEY
BIN=$STORE/bin

# The manifest has one line per program: name, size, time of change, digest.
manifest_line() { awk -v name="$1" '$1 == name' "$STORE/manifest" 2>/dev/null || true; }

digest() { sha256sum "$1" | cut -d' ' -f1; }

# record NAME: writes the program's line anew.
record() {
  local new=$STORE/manifest.new
  { awk -v name="$1" '$1 != name' "$STORE/manifest" 2>/dev/null || true; } >"$new"
  printf '%s %s %s\n' "$1" "$(stat -c '%s %Y' "$BIN/$1")" "$(digest "$BIN/$1")" >>"$new"
  mv "$new" "$STORE/manifest"
}

# intact NAME: same size and time as recorded, else the same digest.
intact() {
  local size changed sum
  read -r _ size changed sum <<<"$(manifest_line "$1")"
  [[ -n $sum && -x $BIN/$1 ]] || return 1
  [[ $(stat -c '%s %Y' "$BIN/$1") == "$size $changed" ]] && return 0
  [[ $(digest "$BIN/$1") == "$sum" ]] || return 1
  record "$1"
}

# ensure_binaries [NAME…]: builds what is missing or damaged, of the named programs or of all.
ensure_binaries() {
  local name module package wanted=" $* "
  while read -r name module package; do
    [[ $# == 0 || $wanted == *" $name "* ]] || continue
    intact "$name" && continue
    ensure_go
    mkdir -p "$BIN"
    exec 8>"$STORE/lock"
    flock -n 8 || { say "another build is at work in $STORE; waiting for it"; flock 8; }
    if ! intact "$name"; then
      [[ ! -e $BIN/$name ]] || say "$BIN/$name is damaged: building it again"
      timed "building $name" build_program "$name" "$module" "$package"
    fi
    exec 8>&-
  done < <(programs)
}

# build_program NAME MODULE PACKAGE: into a file beside, then renamed, so that a broken build leaves nothing.
build_program() {
  local new=$BIN/.$1.new log=$STORE/$1.log
  if ! compile "$2" "$3" "$new" >"$log" 2>&1 </dev/null; then
    say
    tail -n 20 "$log" >&2
    die "building $1 failed; all of the output: $log"
  fi
  mv "$new" "$BIN/$1"
  rm -f "$log"
  record "$1"
}

# use_running_binaries: those that the running cluster was started with, whatever this checkout would build.
use_running_binaries() { BIN=$(state_value BIN); }
