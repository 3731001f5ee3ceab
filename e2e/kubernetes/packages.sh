#!/usr/bin/env bash
# packages.sh PROGRAM=PACKAGE...: installs those Debian packages whose program is missing. Needs root only if one is.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

missing=()
for pair in "$@"; do
  program=${pair%%=*} package=${pair#*=}
  if [[ $program = /* ]]; then [ -e "$program" ] || missing+=("$package")
  else command -v "$program" > /dev/null || missing+=("$package"); fi
done
[ ${#missing[@]} -gt 0 ] || exit 0

echo "Debian packages that are missing: ${missing[*]}"
if [ "$(id -u)" -ne 0 ]; then
  echo "they are installed by root: sudo apt-get install -y ${missing[*]}" >&2
  exit 1
fi
if ! command -v apt-get > /dev/null; then
  echo "there is no apt-get here: install what your system calls them, then run this again" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq < /dev/null
apt-get install -y -qq --no-install-recommends "${missing[@]}" < /dev/null
