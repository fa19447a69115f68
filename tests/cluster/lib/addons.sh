# shellcheck shell=bash
# What runs in the cluster from the start: CoreDNS.

# Without a name server that pods can reach, names outside of the cluster are simply unknown.
forward_line() {
  local servers
  servers=$(upstream_servers | tr '\n' ' ')
  [[ -z ${servers// /} ]] || printf 'forward . %s' "$servers"
}

coredns_up() {
  sed -e "s|@VERSION@|${COREDNS_VERSION#v}|" -e "s|@IP@|$DNS_IP|" -e "s|@FORWARD@|$(forward_line)|" \
    "$CLUSTER_DIR/config/coredns.yaml" >"$DATA/coredns.yaml"
  # The server validates what it applies; kubectl's own check first fetches all of its schemas, which a slow machine does
  # not answer in time.
  kube apply --server-side --force-conflicts --validate=false -f "$DATA/coredns.yaml" >>"$LOGS/addons.log" 2>&1 ||
    die "cannot install CoreDNS" "see $LOGS/addons.log"
}

coredns_ready() {
  [[ $(kube -n kube-system get deployment coredns -o 'jsonpath={.status.readyReplicas}') == 1 ]]
}
