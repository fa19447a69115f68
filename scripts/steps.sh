# shellcheck shell=bash
# Steps with their times. A script sources this file, runs its work through `step`, and on its end, good or bad,
# a table says what was done, for how long, and what was not reached.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
CACHE=${FILSTAR_CACHE:-${HOME:?}/.cache/filstar}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}
# shellcheck disable=SC2034 # for the scripts that source this
BIN=$CARGO_TARGET_DIR/release
# All programs of one build, with the same features: whoever adds one here compiles nothing twice.
# shellcheck disable=SC2034 # for the scripts that source this
CARGO=(--release --locked --workspace --features filstar-sealer-pod/test-points)
cd "$ROOT"

STEPS=()
CURRENT=
STARTED=$SECONDS

say() { printf '%s\n' "$*"; }

die() {
  printf 'error: %s\n' "$1" >&2
  shift
  (($#)) && printf '  %s\n' "$@" >&2
  exit 1
}

# length SECONDS
length() { if (($1 < 60)); then printf '%ds' "$1"; else printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); fi; }

# step NAME COMMAND…: runs the command and ends the script when it fails.
step() {
  local name=$1 begin=$SECONDS
  shift
  CURRENT=$name
  say "==> $name"
  "$@"
  CURRENT=
  STEPS+=("ok|$((SECONDS - begin))|$name")
  say "    $name: $(length $((SECONDS - begin)))"
}

# within MINUTES COMMAND…: what hangs ends with an error, and takes its children with it, as it does on an interrupt.
within() {
  local minutes=$1 pid code=0
  shift
  timeout --kill-after=10 "$((minutes * ${FILSTAR_PATIENCE:-1}))m" "$@" &
  pid=$!
  # A shell that waits with `wait` hears signals at once.
  trap 'kill "$pid"' INT TERM
  wait "$pid" || code=$?
  trap - INT TERM
  ((code != 124 && code != 137)) || die "not done in $minutes minutes: $*" \
    "the last lines above say what hangs; a slower machine needs FILSTAR_PATIENCE=4 or more"
  return "$code"
}

# skipped NAME WHY
skipped() {
  STEPS+=("skipped|0|$1: $2")
  say "==> $1: skipped, $2"
}

# summary [STATUS]: the table, and the end of the script.
summary() {
  local code=${1-$?} entry state took name
  trap - EXIT
  ((${#STEPS[@]})) || [[ -n $CURRENT ]] || exit "$code"
  say
  say "${0#"$ROOT/"}:"
  for entry in "${STEPS[@]}"; do
    IFS='|' read -r state took name <<<"$entry"
    printf '  %-8s %8s  %s\n' "$state" "$(length "$took")" "$name"
  done
  [[ -z $CURRENT ]] || printf '  %-8s %8s  %s\n' FAILED "" "$CURRENT"
  printf '  %-8s %8s\n' total "$(length $((SECONDS - STARTED)))"
  exit "$code"
}
trap summary EXIT

# What the programs link beside the C library: hwloc, for the role agent.
LIBRARIES=(libhwloc-dev libudev-dev pkg-config)

# libraries: installs what is missing of them on Debian and Ubuntu, and says elsewhere what to install.
libraries() {
  pkg-config --exists 'hwloc >= 2.8.0 hwloc < 3' libudev 2>/dev/null && return
  command -v apt-get >/dev/null || die "hwloc 2.8 or later and libudev are missing" \
    "install their development packages and pkg-config; on Debian: ${LIBRARIES[*]}"
  ((EUID == 0)) || command -v sudo >/dev/null || die "packages are missing and there is no sudo: ${LIBRARIES[*]}"
  say "installing ${LIBRARIES[*]}"
  mkdir -p "$CACHE"
  { as_root apt-get update -q && as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends "${LIBRARIES[@]}"; } >"$CACHE/apt-libraries.log" 2>&1 ||
    die "apt-get failed; all of its output: $CACHE/apt-libraries.log"
  pkg-config --exists 'hwloc >= 2.8.0 hwloc < 3' libudev ||
    die "this system's hwloc is too old: $(pkg-config --modversion hwloc 2>&1), and 2.8 is needed" \
      "Debian 12 and Ubuntu 24.04 have it; or build it from open-mpi.org/projects/hwloc and set PKG_CONFIG_PATH"
}

# other_cluster: KUBECONFIG names a cluster of the user's own.
other_cluster() { tests/cluster/is-other; }

need_registry() {
  [[ -n ${FILSTAR_REGISTRY-} ]] || die "where shall your cluster get the images from?" \
    "set FILSTAR_REGISTRY to a registry that you may push to and its nodes may pull from, such as registry.example/filstar"
}

# image NAME: the image that a cluster's nodes get. In a registry its tag is of its content, so that none is stale.
image() {
  if other_cluster; then
    printf '%s/%s:%s\n' "$FILSTAR_REGISTRY" "$1" "$(sha256sum "$BIN/${PROGRAM[$1]}" | cut -c1-16)"
  else
    printf 'localhost/filstar/%s:dev\n' "$1"
  fi
}
declare -A PROGRAM=([operator]=filstar-operator [sealer-pod]=sealer-pod [devnet]=filstar-devnet)

# programs: builds them, once in a run of scripts that call each other.
programs() {
  [[ -z ${FILSTAR_BUILT-} ]] || return 0
  libraries
  cargo build "${CARGO[@]}" --bins "$@"
  export FILSTAR_BUILT=yes
}

# as_root COMMAND…
as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "this needs root and there is no sudo: $*"
  fi
}
