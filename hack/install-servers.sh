#!/usr/bin/env bash
# Installs the real servers that `make run` (run) and `make test` (all) start on loopback. What is there already is used as it is.
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

[ -n "${REDIS_SERVER_BINARY:-}" ] || have redis-server || debian redis-server
if [ "$wanted" = all ]; then
  [ "$(uname)" != Linux ] || [ "$(id -u)" != 0 ] || have ip || debian iproute2
  [ -n "${POSTGRES_BIN_DIR:-}" ] || have postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || debian postgresql
  have java && have javac || debian openjdk-17-jdk-headless
  have mvn || debian maven
  "$PYTHON" -m tests.servers.elasticsearch
fi
