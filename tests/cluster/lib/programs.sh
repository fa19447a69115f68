# shellcheck shell=bash
# How each program is built: module, package, flags. The cache folder's name holds a hash of this file and of
# modules/, so a change of either builds anew. Versions are written in one place only: modules/*/go.mod.

MODULES=$CLUSTER_DIR/modules

# module_version FOLDER MODULE: the version that the folder's go.mod requires.
module_version() {
  awk -v module="$2" '($1 == module && $2 ~ /^v/) { print $2; exit } ($2 == module && $3 ~ /^v/) { print $3; exit }' \
    "$MODULES/$1/go.mod"
}

KUBERNETES_VERSION=$(module_version kubernetes k8s.io/kubernetes)
COREDNS_VERSION=$(module_version coredns github.com/coredns/coredns)

# The list: program, module folder, package. CoreDNS and etcd have a main package of ours.
programs() {
  local name
  for name in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl kubeadm; do
    printf '%s kubernetes k8s.io/kubernetes/cmd/%s\n' "$name" "$name"
  done
  printf 'etcd etcd .\n'
  for name in containerd containerd-shim-runc-v2 ctr; do
    printf '%s containerd github.com/containerd/containerd/v2/cmd/%s\n' "$name" "$name"
  done
  printf 'runc runc github.com/opencontainers/runc\n'
  printf 'coredns coredns .\n'
  printf 'helm helm helm.sh/helm/v3/cmd/helm\n'
  printf 'kubeconform kubeconform github.com/yannh/kubeconform/cmd/kubeconform\n'
}

# link_flags MODULE: the versions that programs report. Without them the API server says v0.0.0 and charts
# that ask for a Kubernetes version refuse to install.
link_flags() {
  local version package minor=${KUBERNETES_VERSION#v1.}
  printf -- '-s -w'
  case $1 in
    kubernetes)
      for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        printf -- ' -X %s.gitVersion=%s -X %s.gitMajor=1 -X %s.gitMinor=%s -X %s.gitTreeState=clean' \
          "$package" "$KUBERNETES_VERSION" "$package" "$package" "${minor%%.*}" "$package"
      done
      ;;
    containerd)
      version=$(module_version containerd github.com/containerd/containerd/v2)
      printf -- ' -X github.com/containerd/containerd/v2/version.Version=%s' "$version"
      ;;
    helm)
      version=$(module_version helm helm.sh/helm/v3)
      package=helm.sh/helm/v3
      printf -- ' -X %s/internal/version.version=%s' "$package" "$version"
      # What `helm template` and `helm lint` take for the cluster's version.
      printf -- ' -X %s/pkg/chartutil.k8sVersionMajor=1 -X %s/pkg/chartutil.k8sVersionMinor=%s' \
        "$package" "$package" "${minor%%.*}"
      ;;
    kubeconform)
      version=$(module_version kubeconform github.com/yannh/kubeconform)
      printf -- ' -X main.version=%s' "$version"
      ;;
  esac
}

build_tags() {
  case $1 in
    containerd) printf 'no_btrfs,no_devmapper,no_zfs' ;;
    runc) printf 'seccomp' ;;
  esac
}

# compile MODULE PACKAGE OUTPUT: only runc needs C.
compile() {
  local cgo=0
  [[ $1 == runc ]] && cgo=1
  (cd "$MODULES/$1" && CGO_ENABLED=$cgo GOFLAGS=-mod=readonly GOWORK=off nice -n 10 \
    go build -buildvcs=false -trimpath -tags "$(build_tags "$1")" -ldflags "$(link_flags "$1")" -o "$3" "$2")
}
