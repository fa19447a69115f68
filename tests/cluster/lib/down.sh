# shellcheck shell=bash
# Takes everything away again, in whatever state it is.

tear_down() {
  kill_all marked_processes
  kill_all pod_processes
  wait_for_pod_links
  cgroups_down
  network_down
  unmount_rest
  take_back
  rm -rf --one-file-system "$RUN" "$DATA"
}

# The kernel removes a pod's link some time after the pod's last process.
wait_for_pod_links() {
  local link
  for _ in $(seq 100); do
    [[ -n $(pod_routes) ]] || return 0
    sleep 0.1
  done
  for link in $(pod_routes | sed -n 's/.* dev \([^ ]*\).*/\1/p' | sort -u); do
    ip link delete "$link" 2>/dev/null || true
  done
}

# The nodes' mounts end with their namespaces; this is for what others mounted below our folders.
unmount_rest() {
  local place
  awk -v run="$RUN/" -v data="$DATA/" 'index($5 "/", run) == 1 || index($5 "/", data) == 1 { print $5 }' \
    /proc/self/mountinfo | tac | while read -r place; do
    umount --lazy "$place" 2>/dev/null || say "note: cannot unmount $place"
  done
}
