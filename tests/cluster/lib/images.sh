# shellcheck shell=bash
# Images from local files (with buildah), and their way into both containerds.

PAUSE_IMAGE=localhost/filstar/pause:1
IMAGES=$CACHE/images

# libraries FILE…: the shared libraries and the loader that the files need, if they are dynamic programs.
libraries() {
  local file
  for file in "$@"; do
    ldd "$file" 2>/dev/null | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\// { print $1 }' || true
  done | sort -u
}

# place FILE TARGET ROOT
place() {
  mkdir -p "$(dirname "$3$2")"
  cp -rL --preserve=mode "$1" "$3$2"
}

fill_root() {
  local root=$1 bare=$2 program=$3 item source target file
  shift 3
  mkdir -p "$root"
  place "$program" "/usr/bin/${program##*/}" "$root"
  for item in "$@"; do
    source=${item%%:*}
    target=${item#*:}
    [[ -e $source ]] || die "no such file: $source"
    [[ $target == /* ]] || target=$(realpath -s "$target")
    place "$source" "$target" "$root"
  done
  while read -r file; do
    [[ -e $root$file ]] || place "$file" "$file" "$root"
  done < <(find "$root" -type f \( -perm /111 -o -name '*.so*' \) -print0 | while IFS= read -rd '' file; do
    libraries "$file"
  done | sort -u)
  [[ -n $bare ]] || fill_system "$root"
}

# What programs expect of a system: users, a temporary folder, name resolution, authorities.
fill_system() {
  mkdir -p "$1/etc/ssl/certs" "$1/tmp" "$1/home/nonroot"
  chmod 1777 "$1/tmp"
  printf 'root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n' >"$1/etc/passwd"
  printf 'root:x:0:\nnonroot:x:65532:\n' >"$1/etc/group"
  printf 'hosts: files dns\n' >"$1/etc/nsswitch.conf"
  if [[ -s /etc/ssl/certs/ca-certificates.crt ]]; then
    cp -L /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/"
  fi
}

tree_hash() {
  (cd "$1" && find . -printf '%P %m %l\n' | LC_ALL=C sort && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
}

# build_image USER BARE NAME TAG PROGRAM [FILE[:PLACE]]…
build_image() {
  local user=$1 bare=$2 name=$3 tag=$4 program=$5 work hash stem archive
  shift 5
  ensure_packages
  mkdir -p "$IMAGES"
  work=$(mktemp -d "$IMAGES/.work.XXXXXX")
  # shellcheck disable=SC2064 # the folder is known now
  trap "rm -rf '$work'" EXIT
  fill_root "$work/root" "$bare" "$program" "$@"
  hash=$({ tree_hash "$work/root"; printf '%s\n' "$user" "${program##*/}" "$name:$tag" v1; } | sha256sum | cut -c1-16)
  stem=${name#localhost/}
  stem=$IMAGES/${stem//\//-}-$tag
  archive=$stem-$hash.tar
  if [[ ! -s $archive ]]; then
    timed "building image $name:$tag" pack "$work" "$user" "/usr/bin/${program##*/}" "$name:$tag" "$archive"
    find "$IMAGES" -maxdepth 1 -path "$stem-????????????????.tar" ! -path "$archive" -delete
    say "  $(($(stat -c %s "$archive") / 1000)) kB"
  fi
  rm -rf "$work"
  trap - EXIT
  printf '%s\n' "$archive"
}

# pack WORK USER ENTRY REFERENCE ARCHIVE: one layer, all times zero, so that equal content is an equal image.
pack() {
  local work=$1 user=$2 entry=$3 reference=$4 archive=$5 container log=$1/log
  local buildah=(buildah --root "$work/store" --runroot "$work/run" --storage-driver vfs)
  printf '{ "default": [ { "type": "insecureAcceptAnything" } ] }\n' >"$work/policy.json"
  if ! { container=$("${buildah[@]}" from --signature-policy "$work/policy.json" scratch) &&
    "${buildah[@]}" copy --chown 0:0 "$container" "$work/root" / &&
    "${buildah[@]}" config --user "$user:$user" --entrypoint "[\"$entry\"]" --workingdir / \
      --env PATH=/usr/bin:/bin --created-by "filstar" "$container" &&
    "${buildah[@]}" commit --signature-policy "$work/policy.json" --timestamp 0 "$container" \
      "docker-archive:$work/image.tar:$reference"; } >"$log" 2>&1; then
    say
    tail -n 10 "$log" >&2
    die "buildah cannot make $reference"
  fi
  mv "$work/image.tar" "$archive"
  give_to_caller "$archive"
}

# push_image ARCHIVE REFERENCE
push_image() {
  local archive=$1 reference=$2 work id log
  work=$(mktemp -d "$IMAGES/.work.XXXXXX")
  log=$work/log
  local buildah=(buildah --root "$work/store" --runroot "$work/run" --storage-driver vfs)
  printf '{ "default": [ { "type": "insecureAcceptAnything" } ] }\n' >"$work/policy.json"
  if ! { id=$("${buildah[@]}" pull --quiet --signature-policy "$work/policy.json" "docker-archive:$archive") &&
    "${buildah[@]}" push --quiet --signature-policy "$work/policy.json" "$id" "docker://$reference"; } >"$log" 2>&1; then
    say
    tail -n 10 "$log" >&2
    rm -rf "$work"
    die "$reference cannot be pushed" "log in: buildah login ${reference%%/*}"
  fi
  rm -rf "$work"
}

# archive_reference ARCHIVE: the image's name in it.
archive_reference() {
  tar -xOf "$1" manifest.json | sed -n 's/.*"RepoTags":\["\([^"]*\)".*/\1/p'
}

# load_image ARCHIVE: into both nodes. What a node has is known by the digest of the archive.
load_image() {
  local archive=$1 reference sum node stamp todo=()
  [[ -s $archive ]] || die "no such image archive: $archive"
  reference=$(archive_reference "$archive")
  [[ -n $reference ]] || die "$archive is no docker-archive with a name in it"
  sum=$(sha256sum <"$archive" | cut -d' ' -f1)
  for node in "${NODES[@]}"; do
    stamp=$DATA/$node/images/${reference//\//_}
    [[ $(cat "$stamp" 2>/dev/null) == "$sum" ]] && has_image "$node" "$reference" && continue
    todo+=("$node")
  done
  ((${#todo[@]})) || return 0
  timed "loading $reference" load_into "$archive" "$reference" "$sum" "${todo[@]}"
}

has_image() { [[ -n $(ctr_in "$1" images ls -q "name==$2" 2>/dev/null) ]]; }

load_into() {
  local archive=$1 reference=$2 sum=$3 node log=$LOGS/images.log
  shift 3
  for node in "$@"; do
    ctr_in "$node" images import "$archive" >>"$log" 2>&1 ||
      { say && tail -n 5 "$log" >&2 && die "$node does not take $reference" "all of the output: $log"; }
    mkdir -p "$DATA/$node/images"
    printf '%s\n' "$sum" >"$DATA/$node/images/${reference//\//_}"
  done
}

# The images that the cluster itself needs.
build_pause_image() {
  local program=$IMAGES/pause/pause
  if [[ ! -s $program || $CLUSTER_DIR/images/pause.c -nt $program ]]; then
    mkdir -p "$IMAGES/pause"
    gcc -static -Os -s -Wall -Wextra -o "$program" "$CLUSTER_DIR/images/pause.c"
  fi
  "$CLUSTER_DIR/build-image" --bare "${PAUSE_IMAGE%:*}" "${PAUSE_IMAGE##*:}" "$program"
}

build_coredns_image() {
  "$CLUSTER_DIR/build-image" localhost/filstar/coredns "${COREDNS_VERSION#v}" "$BIN/coredns"
}
