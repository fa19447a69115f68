# shellcheck shell=bash
# Who runs the cluster, and what it changed on this machine outside its own folders.
#
# DATA/state says which checkout started it, with which version, since when, in which boot.
# DATA/undo is a journal: each change is written there before it is made; `down` takes them back, last first.

STATE=$DATA/state
UNDO=$DATA/undo

boot_id() { cat /proc/sys/kernel/random/boot_id; }

write_state() {
  mkdir -p "$RUN" "$DATA" "$LOGS"
  chmod 755 "$RUN" "$DATA"
  {
    printf 'CHECKOUT=%s\n' "$CHECKOUT"
    printf 'VERSION=%s\n' "$VERSION_KEY"
    printf 'BIN=%s\n' "$BIN"
    printf 'STARTED=%s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
    printf 'BOOT=%s\n' "$(boot_id)"
  } >"$STATE.new"
  mv "$STATE.new" "$STATE"
}

# state_value KEY: empty when there is no such line.
state_value() { sed -n "s|^$1=||p" "$STATE" 2>/dev/null || true; }

have_state() { [[ -s $STATE ]]; }
state_is_ours() { [[ $(state_value CHECKOUT) == "$CHECKOUT" ]]; }
state_is_of_this_boot() { [[ $(state_value BOOT) == "$(boot_id)" ]]; }

# note KIND ARGS…: one line of the journal.
note() { printf '%s\n' "$*" >>"$UNDO"; }

# set_sysctl KEY VALUE: the old value is kept once.
set_sysctl() {
  local old
  keep_sysctl "$1" || return 0
  old=$(sysctl_value "$1")
  [[ $old == "$2" ]] || printf '%s' "$2" >"$(sysctl_file "$1")" 2>/dev/null || say "note: cannot set $1 to $2 (it is $old)"
}

# keep_sysctl KEY: for those that the kubelet changes by itself.
keep_sysctl() {
  [[ -r $(sysctl_file "$1") ]] || return 1
  grep -q "^sysctl $1 " "$UNDO" 2>/dev/null || note sysctl "$1" "$(sysctl_value "$1")"
}

sysctl_file() { printf '/proc/sys/%s' "${1//.//}"; }
sysctl_value() { cat "$(sysctl_file "$1")"; }

# make_dir PATH: each missing parent is noted too.
make_dir() {
  [[ ! -d $1 ]] || return 0
  make_dir "$(dirname "$1")"
  note dir "$1"
  mkdir "$1"
}

take_back() {
  local kind first rest
  [[ -s $UNDO ]] || return 0
  tac "$UNDO" | while read -r kind first rest; do
    case $kind in
      sysctl) printf '%s' "$rest" 2>/dev/null >"$(sysctl_file "$first")" || say "note: cannot set $first back to $rest" ;;
      dir) rmdir "$first" 2>/dev/null || true ;;
      mount) umount "$first" 2>/dev/null || true ;;
      controller) { printf -- '-%s' "$first" >"$rest/cgroup.subtree_control"; } 2>/dev/null || true ;;
      processes) move_processes "$first" "$rest" ;;
      firewall) iptables -w -D FORWARD "${first}" "${rest}" -m comment --comment filstar-cluster -j ACCEPT 2>/dev/null || true ;;
    esac
  done
}
