# shellcheck shell=bash
# The demo in a cluster of the user's own. It runs on one node: FILSTAR_NODE, or the first that is ready. Pods get no
# CPUs of their own unless kubelet there hands them out (cpuManagerPolicy static); they say so and compute anyway.

# node: the one that the demo runs on.
node() {
  if [[ -n ${FILSTAR_NODE-} ]]; then
    printf '%s\n' "$FILSTAR_NODE"
  else
    kubectl get nodes -o go-template='{{range .items}}{{$n := .metadata.name}}{{if not .spec.unschedulable}}{{if not .spec.taints}}{{range .status.conditions}}{{if and (eq .type "Ready") (eq .status "True")}}{{$n}}{{"\n"}}{{end}}{{end}}{{end}}{{end}}{{end}}' | head -n 1
  fi
}

# node_selector: that of the one node.
node_selector() {
  kubectl get node "$(node)" -o go-template='{kubernetes.io/hostname: "{{index .metadata.labels "kubernetes.io/hostname"}}"}'
}

# demo_release: yes when the operator that is installed is the demo's, no when it is another, nothing when there is none.
demo_release() {
  local values
  values=$(helm get values filstar -n filstar-system -o json 2>/dev/null) || return 0
  if [[ $values == *'"filstar.io/program"'* ]]; then echo yes; else echo no; fi
}

must_be_free() {
  local name
  need_registry
  [[ $(demo_release) != no ]] || die "a Filstar that is not the demo's is installed in this cluster; the demo would change it" \
    "use another cluster, or unset KUBECONFIG to get a local one"
  name=$(node)
  [[ -n $name ]] || die "no node of this cluster is ready and free of taints" "name one: FILSTAR_NODE=… make demo"
  kubectl get node "$name" -o name >/dev/null || die "there is no node $name"
  say "node $name, images from $FILSTAR_REGISTRY"
}

# apply FILE: as it is in the local cluster; elsewhere with its images, and on the one node.
apply() {
  local work patch
  other_cluster || { kubectl apply -f "$1" && return; }
  work=$(mktemp -d)
  cp "$1" "$work/objects.yaml"
  {
    printf 'resources: [objects.yaml]\nimages:\n'
    local name reference
    for name in "${!PROGRAM[@]}"; do
      reference=$(image "$name")
      printf '  - {name: localhost/filstar/%s, newName: %s, newTag: %s}\n' "$name" "${reference%:*}" "${reference##*:}"
    done
    patch=$(node_selector)
    printf 'patches:\n'
    printf '  - {target: {kind: %s}, patch: '\''- {op: add, path: %s, value: %s}'\''}\n' \
      Deployment /spec/template/spec/nodeSelector "$patch" Job /spec/template/spec/nodeSelector "$patch" \
      SealingGroup /spec/nodeSelector "$patch" PostBatch /spec/nodeSelector "$patch" \
      SectorStore /spec/nodeSelector "$patch" SealingGroup /spec/placement '{policy: Preferred}'
    # The chain ends with its pod there: nobody would empty its folder.
    printf '  - {target: {kind: Deployment}, patch: '\''- {op: replace, path: /spec/template/spec/volumes/1, value: {name: data, emptyDir: {}}}'\''}\n'
  } >"$work/kustomization.yaml"
  kubectl apply -k "$work"
  rm -rf "$work"
}

# Values of the chart: nothing in the local cluster.
operator_values() {
  other_cluster || { echo '{}' && return; }
  local operator sealer
  operator=$(image operator)
  sealer=$(image sealer-pod)
  cat <<VALUES
image: {repository: ${operator%:*}, tag: ${operator##*:}}
sealerImage: $sealer
agent: {nodeSelector: $(node_selector)}
VALUES
}

# node_folders: makes the folders of the node and its parameters, by a Job.
node_folders() {
  kubectl create namespace filstar-devnet --dry-run=client -o yaml | kubectl apply -f - >/dev/null
  kubectl -n filstar-devnet delete job prepare --ignore-not-found >/dev/null
  apply deploy/demo/node.yaml
  say "making parameters on node $(node): 13 minutes on two cores the first time; look on: kubectl -n filstar-devnet logs -f job/prepare"
  kubectl -n filstar-devnet wait job/prepare --for=condition=Complete --timeout=60m ||
    die "the node could not be made ready" "see: kubectl -n filstar-devnet describe job prepare; kubectl -n filstar-devnet logs job/prepare"
}
