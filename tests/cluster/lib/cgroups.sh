# shellcheck shell=bash
# A cgroup per node, /filstar-cluster/node-a and /filstar-cluster/node-b, on cgroup v1 and v2.

CGROUP=/sys/fs/cgroup
CGROUP_TOP=filstar-cluster

cgroup_v2() { [[ $(stat -fc %T "$CGROUP") == cgroup2fs ]]; }

# v1_mounts: one mount point per v1 hierarchy (a joint one such as cpu,cpuacct counts once).
v1_mounts() {
  awk '{ for (i = 7; i <= NF; i++) if ($i == "-") { if ($(i + 1) == "cgroup") print $5; break } }' /proc/self/mountinfo |
    sort -u
}

cgroups_up() {
  if cgroup_v2; then v2_up; else v1_up; fi
}

v1_up() {
  local mount node group
  mount_hugetlb
  while read -r mount; do
    for node in "${NODES[@]}"; do
      for group in "$mount/$CGROUP_TOP" "$mount/$CGROUP_TOP/$node"; do
        mkdir -p "$group"
        inherit_cpuset "$group"
      done
    done
  done < <(v1_mounts)
}

# A new v1 cpuset is empty, and nothing can run in an empty one.
inherit_cpuset() {
  local file
  for file in cpuset.cpus cpuset.mems; do
    [[ -e $1/$file && -z $(<"$1/$file") ]] || continue
    cat "$(dirname "$1")/$file" >"$1/$file"
  done
}

# The kubelet wants the hugetlb controller, which not every system mounts.
mount_hugetlb() {
  local dir=$CGROUP/hugetlb
  awk '$1 == "hugetlb" && $4 == 1 { found = 1 } END { exit !found }' /proc/cgroups || return 0
  [[ ! $(v1_mounts) =~ [/,]hugetlb(,|$'\n'|$) ]] || return 0
  make_dir "$dir"
  note mount "$dir"
  mount -t cgroup -o hugetlb cgroup "$dir" || say "note: cannot mount the hugetlb controller"
}

v2_up() {
  local node
  v2_pass_on "$CGROUP"
  mkdir -p "$CGROUP/$CGROUP_TOP"
  v2_pass_on "$CGROUP/$CGROUP_TOP"
  for node in "${NODES[@]}"; do mkdir -p "$CGROUP/$CGROUP_TOP/$node"; done
}

# v2_pass_on GROUP: gives the children of a group its controllers.
v2_pass_on() {
  local controller missing=()
  for controller in cpuset cpu io memory hugetlb pids; do
    grep -qw "$controller" "$1/cgroup.controllers" || continue
    grep -qw "$controller" "$1/cgroup.subtree_control" || missing+=("$controller")
  done
  ((${#missing[@]})) || return 0
  v2_evacuate "$1"
  for controller in "${missing[@]}"; do
    note controller "$controller" "$1"
    printf '+%s' "$controller" >"$1/cgroup.subtree_control" ||
      die "cannot pass the cgroup controller $controller on to pods (in $1)"
  done
}

# v2_evacuate GROUP: the top group that a container sees may hold processes, and a group with processes must
# not give controllers to children. They move to a group beside. The machine's real top group (it has no
# cgroup.type) is exempt.
v2_evacuate() {
  [[ -e $1/cgroup.type && -n $(<"$1/cgroup.procs") ]] || return 0
  make_dir "$1/filstar-others"
  note processes "$1/filstar-others" "$1"
  move_processes "$1" "$1/filstar-others"
}

move_processes() {
  local pid
  while read -r pid; do
    { printf '%s' "$pid" >"$2/cgroup.procs"; } 2>/dev/null || true
  done < <(cat "$1/cgroup.procs")
}

# cgroup_tops: our top group in every hierarchy, the v2 one beside v1 included.
cgroup_tops() {
  local mount
  for mount in $(v1_mounts) "$CGROUP" "$CGROUP/unified"; do
    [[ ! -d $mount/$CGROUP_TOP ]] || printf '%s\n' "$mount/$CGROUP_TOP"
  done
}

pod_processes() {
  local top
  for top in $(cgroup_tops); do
    find "$top" -name cgroup.procs -exec cat {} + 2>/dev/null || true
  done | sort -un
}

# A group can be busy for a moment after its last process.
cgroups_down() {
  local top
  for top in $(cgroup_tops); do
    for _ in $(seq 50); do
      find "$top" -depth -type d -exec rmdir {} + 2>/dev/null || true
      [[ -d $top ]] || break
      sleep 0.1
    done
    [[ ! -d $top ]] || say "note: cannot remove $top"
  done
}
