# shellcheck shell=bash
# What must hold in a running cluster, each check a function. Used by `test` only.

CHECK_NS=filstar-cluster-test
CHECK_IMAGE=localhost/filstar/cluster-test:1

# check WHAT COMMAND…: prints one line; the first failure ends the test.
check() {
  local what=$1 start
  shift
  start=$(now_ms)
  if "$@" >"$CHECK_OUTPUT" 2>&1; then
    say "ok    $what ($(seconds_since "$start"))"
  else
    say "FAIL  $what"
    sed 's/^/      /' "$CHECK_OUTPUT" >&2
    exit 1
  fi
}

# fails_with TEXT COMMAND…: the command must fail and its output must hold the text.
fails_with() {
  local text=$1 output
  shift
  if output=$("$@" 2>&1); then
    printf 'it succeeded: %s\n' "$output"
    return 1
  fi
  printf '%s\n' "$output"
  [[ $output == *"$text"* ]]
}

# says TEXT COMMAND…: the command must succeed and its output must hold the text.
says() {
  local text=$1 output
  shift
  output=$("$@" 2>&1) || { printf 'it failed: %s\n' "$output" && return 1; }
  printf '%s\n' "$output"
  [[ $output == *"$text"* ]]
}

in_pod() { kube -n "$CHECK_NS" exec "$1" -- busybox "${@:2}"; }

# One pod per node that takes its free CPU whole, serves a file, and has a service of the same name.
pod_manifest() {
  cat <<YAML
apiVersion: v1
kind: Pod
metadata: { name: $1, namespace: $CHECK_NS, labels: { app: $1 } }
spec:
  nodeName: $2
  terminationGracePeriodSeconds: 1
  securityContext: { runAsNonRoot: true, seccompProfile: { type: RuntimeDefault } }
  containers:
    - name: web
      image: $CHECK_IMAGE
      imagePullPolicy: IfNotPresent
      args: [httpd, -f, -v, -p, "8080", -h, /etc]
      resources:
        requests: { cpu: "1", memory: 128Mi }
        limits: { cpu: "1", memory: 128Mi }
---
apiVersion: v1
kind: Service
metadata: { name: $1, namespace: $CHECK_NS }
spec:
  selector: { app: $1 }
  ports: [ { port: 80, targetPort: 8080 } ]
YAML
}

# A rule over an unbounded list in an unbounded list: its estimated cost is beyond the API server's limit.
costly_crd() {
  cat <<'YAML'
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: costs.test.filstar.io }
spec:
  group: test.filstar.io
  scope: Namespaced
  names: { plural: costs, singular: cost, kind: Cost }
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              properties:
                rows:
                  type: array
                  items: { type: array, items: { type: string } }
              x-kubernetes-validations:
                - rule: "self.rows.all(r, r.all(c, self.rows.all(q, q.all(d, c != d))))"
YAML
}

load_check_image() {
  load_image "$("$CLUSTER_DIR/build-image" "${CHECK_IMAGE%:*}" "${CHECK_IMAGE##*:}" /bin/busybox "$BIN/kubectl:/usr/bin/kubectl")"
}

start_pods() {
  kube delete namespace "$CHECK_NS" --ignore-not-found --timeout "$(patient 60)s"
  kube create namespace "$CHECK_NS"
  { pod_manifest a node-a && printf -- '---\n' && pod_manifest b node-b; } | retry 20 kube apply -f -
  kube -n "$CHECK_NS" wait --for condition=Ready pod/a pod/b --timeout "$(patient 60)s"
}

# eventually SECONDS COMMAND…: a kubelet answers before it knows its pods again.
eventually() {
  local deadline=$((SECONDS + $(patient "$1")))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.5
  done
}

# retry SECONDS COMMAND…: with the same standard input each time.
retry() {
  local input deadline=$((SECONDS + $(patient "$1")))
  shift
  input=$(cat)
  until printf '%s\n' "$input" | "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.5
  done
}

stop_pods() { kube delete namespace "$CHECK_NS" --timeout "$(patient 90)s"; }

both_nodes_ready() {
  local node
  for node in "${NODES[@]}"; do node_is_ready "$node" || return 1; done
  says "$KUBERNETES_VERSION" kube get nodes
}

# program_pid POD NODE: the process of the pod's program, found through the kernel's cgroups.
program_pid() {
  local uid pid
  uid=$(kube -n "$CHECK_NS" get pod "$1" -o 'jsonpath={.metadata.uid}')
  for pid in $(find "$CGROUP" -path "*/$CGROUP_TOP/$2/kubepods/*$uid*" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -un); do
    [[ $(<"/proc/$pid/comm") == busybox ]] && printf '%s\n' "$pid" && return
  done
  return 1
}

pod_has_exclusive_cpu() {
  local pid cpus
  pid=$(program_pid "$1" "$2") || { printf 'no process of pod %s\n' "$1" && return 1; }
  cpus=$(expand "$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' "/proc/$pid/status")")
  printf 'pod %s on %s runs on CPU %s; %s may give out %s\n' "$1" "$2" "$cpus" "$2" "$(exclusive_cpus "$2")"
  [[ $cpus =~ ^[0-9]+\ $ && " $(exclusive_cpus "$2")" == *" $cpus"* ]]
}

pod_reaches_api_by_service() {
  says "$KUBERNETES_VERSION" kube -n "$CHECK_NS" exec "$1" -- kubectl get --raw /version &&
    says "10.245.0.1" in_pod "$1" nslookup kubernetes.default.svc.cluster.local
}

# kubectl is the HTTP client: busybox, linked statically, cannot look names up with the C library.
pod_reaches_service() {
  says nonroot kube -n "$CHECK_NS" exec "$1" -- kubectl --server "http://$2.$CHECK_NS.svc.cluster.local" get --raw /passwd
}

logs_show_request() { says "response:200" kube -n "$CHECK_NS" logs "$1"; }

audit_log_has() { grep -q "$1" "$AUDIT_LOG"; }

audit_log_works() {
  audit_log_has "\"verb\":\"create\".*\"resource\":\"namespaces\".*\"name\":\"$CHECK_NS\"" &&
    audit_log_has "\"level\":\"Request\".*\"resource\":\"leases\".*\"requestObject\"" &&
    ! audit_log_has "\"resource\":\"secrets\".*\"requestObject\""
}

pod_survives_restart_of() {
  local before after
  before=$(program_pid a node-a)
  "$CLUSTER_DIR/restart" "$1" || return 1
  after=$(program_pid a node-a)
  printf 'process before %s, after %s\n' "$before" "$after"
  [[ $before == "$after" ]] && eventually 20 pod_reaches_service a b
}

# from_another_checkout COMMAND…: runs the command with OTHER set to another checkout's tests/cluster.
from_another_checkout() {
  local top result=0
  top=$(mktemp -d)
  OTHER=$top/tests/cluster
  mkdir -p "$top/tests"
  cp -r "$CLUSTER_DIR" "$OTHER"
  "$@" || result=1
  rm -rf "$top"
  return $result
}

is_told_whose_cluster_runs() {
  fails_with "use it:" "$OTHER/up" && fails_with "stop it there:" "$OTHER/down"
}

stops_it_by_force() { says "is down" "$OTHER/down" --force; }

named_cluster_is_used() {
  local conf result=0
  conf=$(mktemp)
  cp "$ADMIN_CONF" "$conf"
  KUBECONFIG=$conf says "using your cluster at https://$API_IP:6443" "$CLUSTER_DIR/up" &&
    KUBECONFIG=$conf says "nothing to stop" "$CLUSTER_DIR/down" && node_is_ready node-a || result=1
  KUBECONFIG=/nowhere fails_with "names no cluster" "$CLUSTER_DIR/up" || result=1
  rm -f "$conf"
  return $result
}

damaged_program_is_built_again() {
  printf x >>"$BIN/kubeconform"
  says "is damaged" "$CLUSTER_DIR/build" kubeconform && "$BIN/kubeconform" -v
}

check_all() {
  check "two nodes are Ready with the version asked for" both_nodes_ready
  check "the test image is on both nodes" load_check_image
  check "a pod on each node starts" start_pods
  check "the pod on node-a has one CPU alone" pod_has_exclusive_cpu a node-a
  check "the pod on node-b has one CPU alone" pod_has_exclusive_cpu b node-b
  check "a pod on node-a reaches the API server through its service" pod_reaches_api_by_service a
  check "a pod on node-b reaches the API server through its service" pod_reaches_api_by_service b
  check "node-b resolves and reaches a service on node-a" eventually 20 pod_reaches_service b a
  check "node-a resolves and reaches a service on node-b" eventually 20 pod_reaches_service a b
  check "a pod reaches itself through its service" eventually 20 pod_reaches_service a a
  check "logs of node-a can be read" logs_show_request a
  check "logs of node-b can be read" logs_show_request b
  check "the audit log has requests, and no body of a secret" audit_log_works
  check "a CRD whose rules cost too much is refused" fails_with "exceeds budget" kube create -f <(costly_crd)
  check "pods outlive a killed API server" pod_survives_restart_of apiserver
  check "pods outlive a killed etcd" pod_survives_restart_of etcd
  check "pods outlive a killed kubelet" pod_survives_restart_of node-a/kubelet
  check "pods outlive a killed containerd" pod_survives_restart_of node-a/containerd
  check "up on a running cluster says so" says "is running" "$CLUSTER_DIR/up"
  check "another checkout is told whose cluster runs" from_another_checkout is_told_whose_cluster_runs
  check "a cluster that KUBECONFIG names is used and left alone" named_cluster_is_used
  check "a damaged program is built again" damaged_program_is_built_again
  check "a namespace with its pods goes away" stop_pods
}
