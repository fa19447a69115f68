# shellcheck shell=bash
# The network of both nodes on one host.
#
#   filstar0 (a bridge without ports) holds the nodes' addresses: 10.243.0.1 node-a, 10.243.0.2 node-b.
#   Pods hang on point-to-point veths (10.244.0.0/24 and 10.244.1.0/24) and the host routes between them, so
#   traffic between nodes needs no tunnel, and no bridge filter (br_netfilter) to make services work.
#   One nft table of ours masquerades what leaves for the world. kube-proxy has its own table.

LINK=filstar0
NFT_TABLE=filstar-cluster
HOSTS_MARK="# filstar-cluster"

network_up() {
  link_up
  set_sysctl net.ipv4.ip_forward 1
  masquerade_up
  forward_up
  hosts_up
}

link_up() {
  local node
  if ! ip link show "$LINK" >/dev/null 2>&1; then
    ip link add "$LINK" type bridge
  fi
  for node in "${NODES[@]}"; do
    ip address replace "${NODE_IP[$node]}/24" dev "$LINK"
  done
  ip link set "$LINK" up
}

masquerade_up() {
  nft -f - <<NFT
table ip $NFT_TABLE {}
delete table ip $NFT_TABLE
table ip $NFT_TABLE {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr $PODS_NET ip daddr != { $PODS_NET, $NODES_NET, $SERVICES_NET } masquerade
  }
}
NFT
}

# Docker and firewalls set FORWARD to DROP; then our pods need an exception there. A table that is not in use
# is not touched, since touching would create it.
forward_up() {
  local side
  [[ $(iptables -w -S FORWARD 2>/dev/null) != "-P FORWARD ACCEPT" ]] || return 0
  for side in -s -d; do
    if ! iptables -w -C FORWARD $side "$PODS_NET" -m comment --comment filstar-cluster -j ACCEPT 2>/dev/null; then
      note firewall $side "$PODS_NET"
      iptables -w -I FORWARD 1 $side "$PODS_NET" -m comment --comment filstar-cluster -j ACCEPT ||
        say "note: cannot add an exception to the firewall's FORWARD chain; pods may not reach each other"
    fi
  done
}

hosts_up() {
  local node
  for node in "${NODES[@]}"; do
    grep -q "[[:space:]]$node $HOSTS_MARK\$" /etc/hosts ||
      printf '%s %s %s\n' "${NODE_IP[$node]}" "$node" "$HOSTS_MARK" >>/etc/hosts
  done
}

network_down() {
  local kept
  nft delete table ip "$NFT_TABLE" 2>/dev/null || true
  if [[ -e $DATA/node-a ]]; then # kube-proxy's tables are ours only when we ran it
    nft delete table ip kube-proxy 2>/dev/null || true
    nft delete table ip6 kube-proxy 2>/dev/null || true
  fi
  ip link delete "$LINK" 2>/dev/null || true
  if grep -q "$HOSTS_MARK\$" /etc/hosts; then
    kept=$(grep -v "$HOSTS_MARK\$" /etc/hosts || true)
    printf '%s\n' "$kept" >/etc/hosts # written in place: in containers the file is a mount
  fi
}

pod_routes() { ip -4 route show root "$PODS_NET"; }

# The addresses must be free, and so must be kube-proxy's tables.
check_network_free() {
  local taken
  taken=$(for net in "$NODES_NET" "$PODS_NET" "$SERVICES_NET"; do ip -4 route show root "$net"; done)
  [[ -z $taken ]] || die "this machine has routes in the cluster's networks ($NODES_NET, $PODS_NET, $SERVICES_NET):" "$taken"
  if nft list table ip kube-proxy >/dev/null 2>&1; then
    die "another Kubernetes runs on this machine (there is a table 'kube-proxy' in nftables)" \
      "stop it first, or use it: export KUBECONFIG=…"
  fi
  taken=$(ss -Hltn 'sport = :2379 or sport = :2380 or sport = :10257 or sport = :10259 or sport = :10249 or sport = :10256 or sport = :10248 or sport = :10348' | awk '{ print $4 }' | tr '\n' ' ')
  [[ -z $taken ]] || die "these ports are in use, probably by another Kubernetes or etcd: $taken" \
    "who: ss -ltnp" "stop it first, or use it: export KUBECONFIG=…"
}

# upstream_servers: the host's name servers that a pod can reach as well.
upstream_servers() {
  local file=/etc/resolv.conf
  if grep -q '^nameserver 127\.0\.0\.53' "$file" && [[ -s /run/systemd/resolve/resolv.conf ]]; then
    file=/run/systemd/resolve/resolv.conf
  fi
  awk '$1 == "nameserver" && $2 !~ /^127\./ && $2 !~ /^(::1|fe80)/ { print $2 }' "$file" 2>/dev/null | head -n 3
}
