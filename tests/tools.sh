#!/bin/sh
# Programs that the tests drive: what is missing comes by apt where this is root, and is named otherwise; the tests that
# need it are then skipped, by name. `tests/tools.sh` for everybody, `tests/tools.sh server` also what starts a service.
set -eu

missing=''
need() { # need COMMAND PACKAGE
  PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need aria2c aria2
need rsync rsync
need curl curl
need ssh openssh-client
need strace strace
need ip iproute2
need systemd-analyze systemd
need chromium chromium
# Debian starts these when they are installed: not on a machine that only wants to run the tests.
if [ "${1-}" = server ]; then
  need sshd openssh-server
  need promtool prometheus
  export RUNLEVEL=1
fi
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "fleetcast: tests that need${missing} will be skipped, by name:  sudo apt-get install${missing}" >&2
  exit 0
fi
echo "fleetcast: apt-get install${missing} ..." >&2
export DEBIAN_FRONTEND=noninteractive
# A mirror that is away is no reason not to run the other tests.
apt-get update -qq >&2 || exit 0
# shellcheck disable=SC2086 # several packages
apt-get install -y -qq --no-install-recommends $missing >/dev/null || echo "fleetcast: apt-get failed for${missing}" >&2
