# shellcheck shell=bash
# A cluster that is there already: one that KUBECONFIG names, or one of ours that runs.

# foreign_kubeconfig: KUBECONFIG names a cluster that is not ours.
foreign_kubeconfig() { [[ -n ${KUBECONFIG-} && $KUBECONFIG != "$ADMIN_CONF" ]]; }

use_foreign_cluster() {
  local kubectl server version minor
  kubectl=$(command -v kubectl || true)
  if [[ -z $kubectl ]]; then
    ensure_binaries kubectl
    kubectl=$BIN/kubectl
  fi
  server=$("$kubectl" config view --minify -o 'jsonpath={.clusters[0].cluster.server}' 2>/dev/null) ||
    die "KUBECONFIG=$KUBECONFIG names no cluster" "check it, or unset KUBECONFIG to get a local cluster"
  version=$("$kubectl" get --raw /version --request-timeout 15s 2>/dev/null | sed -n 's/.*"gitVersion": *"\([^"]*\)".*/\1/p')
  [[ -n $version ]] || die "your cluster at $server (KUBECONFIG=$KUBECONFIG) does not answer" \
    "try: kubectl version" "or unset KUBECONFIG to get a local cluster"
  minor=${version#v1.}
  minor=${minor%%.*}
  [[ $version == v1.* && $minor -ge 34 ]] ||
    die "your cluster at $server runs $version; Filstar needs Kubernetes 1.34 or later"
  say "using your cluster at $server (server version $version); nothing was started"
}

running_services() { [[ -n $(marked_processes) ]]; }

cluster_is_healthy() {
  local service node
  for service in etcd apiserver controller-manager scheduler kube-proxy; do service_alive "$service" || return 1; done
  for node in "${NODES[@]}"; do
    for service in namespace containerd kubelet; do service_alive "$node/$service" || return 1; done
    node_is_ready "$node" || return 1
  done
  kube get --raw /readyz >/dev/null && coredns_ready
} 2>/dev/null

# check_existing: stops when a cluster of another checkout or version is in the way, clears what a reboot left,
# and returns 0 when ours is to be resumed, 1 when there is none.
check_existing() {
  local owner version
  if ! have_state; then
    if [[ -e $DATA || -e $RUN ]] || running_services; then
      say "removing what an earlier start left behind"
      tear_down
    fi
    return 1
  fi
  owner=$(state_value CHECKOUT)
  version=$(state_value VERSION)
  if ! state_is_of_this_boot || ! running_services; then
    say "a cluster that $owner started no longer runs; removing what it left"
    tear_down
    return 1
  fi
  state_is_ours || die "a cluster that the checkout $owner started is running on this machine (since $(state_value STARTED))" \
    "use it:   export KUBECONFIG=$ADMIN_CONF" "stop it:  $owner/tests/cluster/down" \
    "or, if that checkout is gone: $CLUSTER_DIR/down --force"
  [[ $version == "$VERSION_KEY" ]] || die "this checkout's cluster runs with other versions ($version; now $VERSION_KEY)" \
    "use it as it is: export KUBECONFIG=$ADMIN_CONF" "replace it:      $CLUSTER_DIR/down && $CLUSTER_DIR/up"
}
