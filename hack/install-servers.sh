#!/usr/bin/env bash
# Installs the real servers that `make run` (run), `make cluster` (cluster) and `make test` (all) start on loopback. What is there
# already is used as it is.
set -euo pipefail
cd "$(dirname "$0")/.."
wanted=${1:-all}
PYTHON=${PYTHON:-python3}

debian() {  # debian PACKAGE…: install with apt where that is possible, else say what is missing
  local sudo=
  [ "$(id -u)" = 0 ] || sudo=sudo
  if ! command -v apt-get >/dev/null || { [ -n "$sudo" ] && ! command -v sudo >/dev/null; }; then
    echo "missing: $*. Install it with your system's package manager and run this again." >&2
    exit 1
  fi
  echo "installing $* …"
  # a server that a package starts by itself would sit on a well-known port: keep it from starting
  local policy=/usr/sbin/policy-rc.d made=
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | $sudo tee $policy >/dev/null && $sudo chmod +x $policy && made=1
  fi
  { $sudo apt-get update -qq && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } >/tmp/bh-apt.log 2>&1 ||
    { [ -n "$made" ] && $sudo rm -f $policy; cat /tmp/bh-apt.log >&2; exit 1; }
  [ -z "$made" ] || $sudo rm -f $policy
}

have() { command -v "$1" >/dev/null; }

cluster() {  # a real Kubernetes: the API server for all who have Go, a node with its programs for root
  if [ "$(uname)" != Linux ] || ! { have go || "$PYTHON" -m tests.cluster.build --check; }; then
    echo "no Go on Linux here: the tests on a Kubernetes API server and on a cluster will be skipped"
    return
  fi
  "$PYTHON" -m tests.cluster.build
  if [ "$(id -u)" != 0 ]; then
    echo "not root: the tests on a cluster (tests/e2e) will be skipped"
    return
  fi
  have containerd && have ctr && have runc && have iptables && have busybox && have buildah && have debootstrap && [ -e /usr/lib/cni/bridge ] ||
    debian containerd runc containernetworking-plugins iptables busybox-static buildah debootstrap
  "$PYTHON" -m tests.cluster.product
}

[ -n "${REDIS_SERVER_BINARY:-}" ] || have redis-server || debian redis-server
if [ "$wanted" != run ]; then
  [ "$(uname)" != Linux ] || [ "$(id -u)" != 0 ] || have ip || debian iproute2
  cluster
fi
if [ "$wanted" = all ]; then
  [ -n "${POSTGRES_BIN_DIR:-}" ] || have postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || debian postgresql
  have java && have javac || debian openjdk-17-jdk-headless
  have mvn || debian maven
  have prometheus && have promtool || debian prometheus
  [ "$(uname)" != Linux ] || compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null || debian libfaketime
  "$PYTHON" -m tests.servers.elasticsearch
fi
