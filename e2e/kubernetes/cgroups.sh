# Sourced by up.sh and down.sh: control groups, version 1 (a tree per controller) and 2 (one tree).

# group_of STATE: the group of the Kubernetes kept in STATE, below the root of every tree.
group_of() { echo "etcd-core-e2e-$(printf %s "$1" | cksum | cut -d' ' -f1)"; }

# make_cgroup GROUP/NODE: makes it in every tree, with all controllers there are.
make_cgroup() {
  local path=/sys/fs/cgroup part tree
  if [ "$(stat -fc %T $path)" != cgroup2fs ]; then
    for tree in "$path"/*/; do mkdir -p "$tree/$1"; done
    return
  fi
  # From the root down: a group has a controller only if every group above hands it on.
  hand_on "$path"
  for part in ${1//\// }; do
    path=$path/$part
    mkdir -p "$path"
    hand_on "$path"
  done
}

# hand_on PATH: gives the groups below PATH every controller that PATH has.
hand_on() {
  local controller pid
  for controller in $(cat "$1/cgroup.controllers"); do
    echo "+$controller" > "$1/cgroup.subtree_control" 2> /dev/null && continue
    # Inside a container the root is a group as any other, and those cannot both hold processes and hand controllers on.
    mkdir -p "$1/rest"
    while read -r pid; do echo "$pid" > "$1/rest/cgroup.procs" 2> /dev/null || true; done < "$1/cgroup.procs"
    echo "+$controller" > "$1/cgroup.subtree_control" 2> /dev/null ||
      echo "the control group $1 cannot hand on the controller $controller" >&2
  done
}

# remove_cgroups GROUP: removes it from every tree, once the kernel has buried the last process in it.
remove_cgroups() {
  local tries left
  for tries in $(seq 100); do
    left=$(find /sys/fs/cgroup -depth -type d -path "/sys/fs/cgroup*/$1*" 2> /dev/null || true)
    [ -n "$left" ] || return 0
    xargs rmdir 2> /dev/null <<< "$left" || true
    [ "$tries" -eq 1 ] || sleep 0.1 # version 1 has no event to wait for
  done
  echo "control groups are left behind: $left" >&2
  return 1
}
