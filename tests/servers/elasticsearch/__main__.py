"""`python -m tests.servers.elasticsearch`: fetch and build the server that the tests start."""

from __future__ import annotations

import sys

from tests.servers.elasticsearch.install import home, install, version
from tests.servers.process import ServerFailed


def main() -> int:
    """0 when the server is installed, 1 with the reason when it could not be."""
    if (home() / "complete").exists():
        print(f"Elasticsearch {version()} is installed in {home()}")
        return 0
    try:
        install(lambda line: print(line, flush=True))
    except ServerFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
