# shellcheck shell=bash
# What the cluster could leave behind on this machine, as text to compare. Used by `test` only.

snapshot() {
  printf 'processes:\n' && cluster_processes
  printf 'mounts:\n' && awk '{ print $5 }' /proc/self/mountinfo | LC_ALL=C sort
  printf 'links:\n' && ip -o link show | awk -F ': ' '{ print $2 }' | sort
  printf 'addresses and routes:\n' && ip -o -4 address show | awk '{ print $2, $4 }' && ip -4 route show table all
  printf 'network namespaces:\n' && { ls /run/netns 2>/dev/null || true; }
  printf 'cgroups:\n' && { find "$CGROUP" -type d 2>/dev/null || true; } | LC_ALL=C sort
  printf 'hosts:\n' && cat /etc/hosts
  printf 'nftables:\n' && nft list tables
  printf 'iptables:\n' && { iptables -S FORWARD 2>/dev/null || true; }
  printf 'files:\n' && { find /run /var/lib /var/log /etc/cni /opt -maxdepth 2 \( -type d -o -type s \) 2>/dev/null || true; } |
    LC_ALL=C sort
  printf 'settings:\n' && settings
}

# By mark, and by program: everything that runs from the cluster's folder of programs.
cluster_processes() {
  local exe
  for exe in /proc/[0-9]*/exe; do
    readlink "$exe" 2>/dev/null || true
  done | grep "^$CACHE/cluster/" | sort || true
  marked_processes | while read -r pid; do tr '\0' ' ' <"/proc/$pid/cmdline" && printf '\n'; done || true
}

settings() {
  local key
  for key in net.ipv4.ip_forward vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops \
    kernel.keys.root_maxkeys kernel.keys.root_maxbytes fs.inotify.max_user_instances fs.inotify.max_user_watches \
    net.netfilter.nf_conntrack_max net.netfilter.nf_conntrack_tcp_timeout_established \
    net.netfilter.nf_conntrack_tcp_timeout_close_wait net.ipv4.conf.all.route_localnet; do
    [[ ! -r $(sysctl_file "$key") ]] || printf '%s %s\n' "$key" "$(sysctl_value "$key")"
  done
}
