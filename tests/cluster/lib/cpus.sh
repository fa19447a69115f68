# shellcheck shell=bash
# Which CPUs a node may hand out. Both nodes see all CPUs of the machine; each reserves those that the other
# may give to pods alone. So exclusive CPUs never meet: on two CPUs node-a gives out CPU 1 and node-b CPU 0.

# expand LIST: "0-2,5" to "0 1 2 5".
expand() {
  local part parts
  IFS=, read -ra parts <<<"$1"
  for part in "${parts[@]}"; do seq "${part%-*}" "${part#*-}"; done | tr '\n' ' '
}

online_cpus() { expand "$(</sys/devices/system/cpu/online)"; }

# allowed_cpus: those that this process may use; a container may have fewer than the machine.
allowed_cpus() { expand "$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)"; }

check_cpus() {
  local allowed
  read -ra allowed <<<"$(allowed_cpus)"
  ((${#allowed[@]} >= 2)) || die "the cluster needs two CPUs, so that each node can give one to a pod alone; here is ${#allowed[@]}"
}

# exclusive_cpus NODE: the second half of the allowed CPUs for node-a, the first half for node-b.
exclusive_cpus() {
  local allowed half
  read -ra allowed <<<"$(allowed_cpus)"
  half=$((${#allowed[@]} / 2))
  if [[ $1 == node-a ]]; then
    printf '%s ' "${allowed[@]:${#allowed[@]}-half}"
  else
    printf '%s ' "${allowed[@]:0:half}"
  fi
}

# reserved_cpus NODE: all others, as a list with commas.
reserved_cpus() {
  local exclusive cpu
  exclusive=" $(exclusive_cpus "$1")"
  for cpu in $(online_cpus); do
    [[ $exclusive == *" $cpu "* ]] || printf '%s\n' "$cpu"
  done | paste -sd,
}
