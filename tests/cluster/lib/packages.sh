# shellcheck shell=bash
# What the cluster needs from Debian or Ubuntu, installed when missing.

PACKAGES=(containernetworking-plugins nftables iptables conntrack iproute2 buildah ca-certificates
  libseccomp-dev pkg-config gcc libc6-dev busybox-static)
CNI_BIN=/usr/lib/cni

missing_packages() {
  local package
  for package in "${PACKAGES[@]}"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || printf '%s ' "$package"
  done
}

as_root() {
  if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

ensure_packages() {
  command -v dpkg-query >/dev/null || die "this is not Debian or Ubuntu" \
    "install the equivalents of: ${PACKAGES[*]}" "or use an existing cluster: export KUBECONFIG=…"
  local missing log
  missing=$(missing_packages)
  [[ -n $missing ]] || return 0
  ((EUID == 0)) || command -v sudo >/dev/null || die "packages are missing and there is no sudo: $missing"
  mkdir -p "$CACHE"
  log=$CACHE/apt.log
  # shellcheck disable=SC2086 # one word per package
  timed "installing $missing" install_packages "$log" $missing
}

install_packages() {
  local log=$1
  shift
  if ! { as_root apt-get update -q && as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends "$@"; } >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    die "apt-get failed; all of its output: $log"
  fi
}

ensure_go() {
  command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin
  command -v go >/dev/null || die "Go is missing; the cluster's programs are built from source" \
    "install Go 1.26 or later: https://go.dev/dl/"
}
