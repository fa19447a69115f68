# shellcheck shell=bash
# A node: a mount namespace with containerd and a kubelet in it.
#
# containerd, its shims and the kubelet have paths that no setting moves (/run/containerd/s,
# /var/lib/kubelet/device-plugins, /var/log/containers). In its own mount namespace each node has its own
# folders at the usual places, so two nodes on one machine do not meet, and the host sees none of it.

# node_folders NODE: pairs of the real folder and the place where the node sees it.
node_folders() {
  local data=$DATA/$1
  printf '%s\n' \
    "$data/kubelet /var/lib/kubelet" \
    "$data/containerd /var/lib/containerd" \
    "$RUN/$1/containerd /run/containerd" \
    "$data/cni /var/lib/cni" \
    "$data/pod-logs /var/log/pods" \
    "$data/container-logs /var/log/containers"
}

in_node() {
  local node=$1
  shift
  nsenter --target "$(service_pid "$node/namespace")" --mount -- "$@"
}

namespace_up() {
  local node=$1 pairs=() source target ready=$RUN/$1/ready
  service_alive "$node/namespace" && return
  kill_all marked_processes "$node/" # programs of a namespace that lost its first process
  rm -f "$ready"
  while read -r source target; do
    mkdir -p "$source"
    make_dir "$target"
    pairs+=("$source" "$target")
  done < <(node_folders "$node")
  start_service "$node/namespace" unshare --mount --propagation slave \
    "$CLUSTER_DIR/lib/node-namespace.sh" "$ready" "${pairs[@]}"
  wait_until 20 "$node has its mount namespace" "$node/namespace" test -e "$ready"
}

# Only a process with CAP_SYS_RESOURCE (bit 24) may lower an OOM score; without it every sandbox would fail.
lacks_sys_resource() {
  local caps
  caps=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)
  (((16#$caps >> 24 & 1) == 0))
}

# overlayfs does not work on top of every file system (on another overlayfs, for one).
snapshotter() {
  local probe
  probe=$(mktemp -d "$DATA/overlay.XXXXXX")
  mkdir "$probe/lower" "$probe/upper" "$probe/work" "$probe/merged"
  if unshare --mount mount -t overlay overlay -o "lowerdir=$probe/lower,upperdir=$probe/upper,workdir=$probe/work" \
    "$probe/merged" 2>/dev/null; then
    printf overlayfs
  else
    printf native
  fi
  rm -rf "$probe"
}

containerd_config() {
  local restrict=false
  if lacks_sys_resource; then restrict=true; fi
  cat <<TOML
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins.'io.containerd.internal.v1.opt']
  path = "/var/lib/containerd/opt"
[plugins.'io.containerd.nri.v1.nri']
  disable = true
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "$(snapshotter)"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "$PAUSE_IMAGE"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = $restrict
  netns_mounts_under_state_dir = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["$CNI_BIN"]
  conf_dir = "$DATA/$1/cni-conf"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  BinaryName = "$BIN/runc"
  SystemdCgroup = false
TOML
}

cni_config() {
  cat <<JSON
{ "cniVersion": "1.0.0", "name": "filstar", "plugins": [
  { "type": "ptp", "ipMasq": false, "ipam": { "type": "host-local",
    "ranges": [[ { "subnet": "${NODE_PODS[$1]}" } ]], "routes": [ { "dst": "0.0.0.0/0" } ] } } ] }
JSON
}

# Each node gets half of the memory, so that both together promise no more than there is.
kubelet_config() {
  local memory_kib
  memory_kib=$(awk '$1 == "MemTotal:" { print $2 }' /proc/meminfo)
  cat <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: ${NODE_IP[$1]}
healthzBindAddress: 127.0.0.1
healthzPort: $2
authentication: { anonymous: { enabled: false }, webhook: { enabled: true }, x509: { clientCAFile: $PKI/ca.crt } }
authorization: { mode: Webhook }
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$CGROUP_TOP/$1
failCgroupV1: false
failSwapOn: false
cpuManagerPolicy: static
topologyManagerPolicy: single-numa-node
reservedSystemCPUs: "$(reserved_cpus "$1")"
systemReserved: { memory: $((memory_kib / 2))Ki }
evictionHard: { memory.available: 100Mi, nodefs.available: 500Mi, imagefs.available: 500Mi }
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
clusterDNS: [$DNS_IP]
clusterDomain: cluster.local
resolvConf: $DATA/resolv.conf
makeIPTablesUtilChains: false
maxPods: 100
YAML
}

containerd_up() {
  local node=$1
  mkdir -p "$DATA/$node/cni-conf"
  cni_config "$node" >"$DATA/$node/cni-conf/10-filstar.conflist"
  [[ -s $DATA/$node/containerd.toml ]] || containerd_config "$node" >"$DATA/$node/containerd.toml"
  service_alive "$node/containerd" ||
    start_service "$node/containerd" nsenter --target "$(service_pid "$node/namespace")" --mount -- \
      containerd --config "$DATA/$node/containerd.toml"
}

containerd_ready() { ctr_in "$1" version; }

ctr_in() {
  local node=$1
  shift
  in_node "$node" "$BIN/ctr" --namespace k8s.io "$@"
}

kubelet_up() {
  local node=$1 health=10248
  [[ $node == "${NODES[0]}" ]] || health=10348
  [[ -s $DATA/$node/kubelet.yaml ]] || kubelet_config "$node" "$health" >"$DATA/$node/kubelet.yaml"
  service_alive "$node/kubelet" ||
    start_service "$node/kubelet" nsenter --target "$(service_pid "$node/namespace")" --mount -- \
      kubelet --config "$DATA/$node/kubelet.yaml" --kubeconfig "$CONF/kubelet-$node.conf" \
      --hostname-override "$node" --node-ip "${NODE_IP[$node]}" --v 2
}

# The kubelet sets the first six by itself and never back; the others give two nodes on one host room.
host_settings_up() {
  local key
  for key in vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops \
    kernel.keys.root_maxkeys kernel.keys.root_maxbytes; do
    keep_sysctl "$key" || true
  done
  raise_sysctl fs.inotify.max_user_instances 1024
  raise_sysctl fs.inotify.max_user_watches 524288
  ulimit -n "$(ulimit -Hn)" || true
  upstream_servers | sed 's/^/nameserver /' >"$DATA/resolv.conf"
}

raise_sysctl() { (($(sysctl_value "$1") >= $2)) || set_sysctl "$1" "$2"; }

node_is_ready() {
  [[ $(kube get node "$1" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}') == True ]]
}
