# shellcheck shell=bash
# etcd, API server, controller manager, scheduler and kube-proxy, as plain processes on the host.

PKI=$DATA/pki
CONF=$DATA/conf # kubeconfigs of the programs

# kubeadm makes certificates and kubeconfigs; nothing else of it is used.
kubeadm_config() {
  cat <<YAML
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: { advertiseAddress: $API_IP, bindPort: 6443 }
nodeRegistration: { name: $1, criSocket: "unix://$RUN/$1/containerd/containerd.sock" }
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
clusterName: filstar
kubernetesVersion: $KUBERNETES_VERSION
certificatesDir: $PKI
networking: { serviceSubnet: $SERVICES_NET, podSubnet: $PODS_NET }
apiServer: { certSANs: [localhost, 127.0.0.1] }
YAML
}

certificates_up() {
  local node config log=$LOGS/kubeadm.log
  [[ ! -e $CONF/complete ]] || return 0
  mkdir -p "$PKI" "$CONF"
  chmod 700 "$PKI" "$CONF"
  for node in "${NODES[@]}"; do
    config=$CONF/kubeadm-$node.yaml
    kubeadm_config "$node" >"$config"
    if [[ $node == "${NODES[0]}" ]]; then
      kubeadm_phase "$log" certs all --config "$config"
      kubeadm_phase "$log" kubeconfig all --config "$config" --kubeconfig-dir "$CONF"
      mv "$CONF/kubelet.conf" "$CONF/kubelet-$node.conf"
      "$BIN/kubeadm" kubeconfig user --client-name system:kube-proxy --config "$config" \
        >"$CONF/kube-proxy.conf" 2>>"$log" || die "kubeadm failed" "see $log"
    else
      mkdir -p "$CONF/$node"
      kubeadm_phase "$log" kubeconfig kubelet --config "$config" --kubeconfig-dir "$CONF/$node"
      mv "$CONF/$node/kubelet.conf" "$CONF/kubelet-$node.conf"
    fi
  done
  install -m 600 "$CONF/admin.conf" "$ADMIN_CONF"
  give_to_caller "$ADMIN_CONF"
  touch "$CONF/complete"
}

kubeadm_phase() {
  local log=$1
  shift
  "$BIN/kubeadm" init phase "$@" >>"$log" 2>&1 || { tail -n 10 "$log" >&2; die "kubeadm failed" "see $log"; }
}

# No fsync: the data are gone with the cluster anyway, and slow disks would slow every write. A killed
# process loses nothing by it, only a crash of the machine would.
etcd_up() {
  ensure_service etcd etcd --data-dir "$DATA/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls https://127.0.0.1:2379 --advertise-client-urls https://127.0.0.1:2379 \
    --listen-peer-urls https://127.0.0.1:2380 --initial-advertise-peer-urls https://127.0.0.1:2380 \
    --initial-cluster default=https://127.0.0.1:2380 \
    --client-cert-auth --trusted-ca-file "$PKI/etcd/ca.crt" \
    --cert-file "$PKI/etcd/server.crt" --key-file "$PKI/etcd/server.key" \
    --peer-client-cert-auth --peer-trusted-ca-file "$PKI/etcd/ca.crt" \
    --peer-cert-file "$PKI/etcd/peer.crt" --peer-key-file "$PKI/etcd/peer.key"
}

apiserver_up() {
  [[ -e $AUDIT_LOG ]] || { install -m 600 /dev/null "$AUDIT_LOG" && give_to_caller "$AUDIT_LOG"; }
  cp "$CLUSTER_DIR/config/audit-policy.yaml" "$DATA/audit-policy.yaml"
  ensure_service apiserver kube-apiserver \
    --etcd-servers https://127.0.0.1:2379 --etcd-cafile "$PKI/etcd/ca.crt" \
    --etcd-certfile "$PKI/apiserver-etcd-client.crt" --etcd-keyfile "$PKI/apiserver-etcd-client.key" \
    --bind-address "$API_IP" --advertise-address "$API_IP" --secure-port 6443 \
    --service-cluster-ip-range "$SERVICES_NET" --allow-privileged \
    --client-ca-file "$PKI/ca.crt" --tls-cert-file "$PKI/apiserver.crt" --tls-private-key-file "$PKI/apiserver.key" \
    --kubelet-client-certificate "$PKI/apiserver-kubelet-client.crt" \
    --kubelet-client-key "$PKI/apiserver-kubelet-client.key" --kubelet-preferred-address-types InternalIP \
    --service-account-issuer https://kubernetes.default.svc.cluster.local \
    --service-account-key-file "$PKI/sa.pub" --service-account-signing-key-file "$PKI/sa.key" \
    --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
    --requestheader-client-ca-file "$PKI/front-proxy-ca.crt" --requestheader-allowed-names front-proxy-client \
    --requestheader-extra-headers-prefix X-Remote-Extra- --requestheader-group-headers X-Remote-Group \
    --requestheader-username-headers X-Remote-User \
    --proxy-client-cert-file "$PKI/front-proxy-client.crt" --proxy-client-key-file "$PKI/front-proxy-client.key" \
    --audit-policy-file "$DATA/audit-policy.yaml" --audit-log-path "$AUDIT_LOG" --audit-log-format json \
    --audit-log-maxsize 1000 --audit-log-maxbackup 10
}

apiserver_ready() { "$BIN/kubectl" --kubeconfig "$CONF/super-admin.conf" get --raw /readyz; }

# admin.conf's group gets its rights as kubeadm would give them. The API server itself must be let in by the
# kubelets, for `kubectl logs` and `exec`.
grant_rights() {
  "$BIN/kubectl" --kubeconfig "$CONF/super-admin.conf" apply --server-side -f - >/dev/null <<'YAML'
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: "kubeadm:cluster-admins" }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin }
subjects:
  - { apiGroup: rbac.authorization.k8s.io, kind: Group, name: "kubeadm:cluster-admins" }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: "filstar:kubelet-api" }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:kubelet-api-admin" }
subjects:
  - { apiGroup: rbac.authorization.k8s.io, kind: User, name: kube-apiserver-kubelet-client }
YAML
}

# Without leader election: there is one of each, and their leases would fill the audit log.
controller_manager_up() {
  ensure_service controller-manager kube-controller-manager --kubeconfig "$CONF/controller-manager.conf" \
    --bind-address 127.0.0.1 --leader-elect=false --use-service-account-credentials \
    --cluster-signing-cert-file "$PKI/ca.crt" --cluster-signing-key-file "$PKI/ca.key" \
    --root-ca-file "$PKI/ca.crt" --service-account-private-key-file "$PKI/sa.key"
}

scheduler_up() {
  ensure_service scheduler kube-scheduler --kubeconfig "$CONF/scheduler.conf" \
    --bind-address 127.0.0.1 --leader-elect=false
}

# One kube-proxy serves both nodes, since both use the host's network stack; two would fight over its tables.
# It counts itself as node-a, which matters only for services with a Local traffic policy.
# The connection-tracking limits are left as the host has them.
proxy_up() {
  cat >"$DATA/kube-proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: { kubeconfig: $CONF/kube-proxy.conf }
hostnameOverride: ${NODES[0]}
clusterCIDR: $PODS_NET
nodePortAddresses: [$NODES_NET]
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s }
YAML
  ensure_service kube-proxy kube-proxy --config "$DATA/kube-proxy.yaml"
}

control_plane_up() {
  etcd_up
  apiserver_up
  wait_until 90 "the API server is ready" apiserver apiserver_ready
  grant_rights
  controller_manager_up
  scheduler_up
}
