"""A driver: a subprocess of core that runs the modules of one driver binary. Imports little, so that it starts at once.

It is told what to do by lines of JSON on stdin and answers on stdout. `python -S driver.py REDIS_HOST REDIS_PORT
REDIS_PASSWORD PING_SECONDS [crash]`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time

INTERFACE: dict[str, dict[str, dict[str, str]]] = {
    "ping": {},
    "echo": {"value": {"type": "string"}},
    "set_status": {"name": {"type": "string"}, "value": {"type": "string"}},
    "fail": {"message": {"type": "string"}, "code": {"type": "integer"}},
    "crash": {},
    "wait": {"seconds": {"type": "number"}},
    "admin_only": {},
}
SECURITY = {"administrator": ["admin_only"]}


class RedisLostError(Exception):
    """Redis does not answer."""


class Redis:
    """Enough of the protocol: commands whose answer is one line or one string."""

    def __init__(self, host: str, port: int, password: str) -> None:
        self._address = (host, port)
        self._password = password
        self._file: socket.SocketIO | None = None

    def call(self, *command: str) -> str:
        """Send one command on the kept connection. Raises RedisLostError."""
        try:
            return self._exchange(command)
        except OSError as error:
            self._file = None
            raise RedisLostError(str(error)) from error

    def _exchange(self, command: tuple[str, ...]) -> str:
        if self._file is None:
            connection = socket.create_connection(self._address, timeout=2)
            self._file = connection.makefile("rwb", buffering=0)
            connection.close()  # the file keeps it
            if self._password:
                self._exchange(("AUTH", self._password))
        parts = [part.encode() for part in command]
        self._file.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(one), one) for one in parts))
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("closed")
        return line.decode().strip()


class Driver:
    """The modules of one driver, loaded and asked by core."""

    def __init__(self, redis: Redis, ping_every: float) -> None:
        self._redis = redis
        self._ping_every = ping_every
        self._modules: set[str] = set()
        self._failed_pings = 0
        self._trace = False

    def toggle(self, *_: object) -> None:
        """SIGUSR1."""
        self._trace = not self._trace
        level = "Trace" if self._trace else "Info"
        say(f"default log level changed to {level}")
        say(f"action-controller.*, place_os.* log level changed to {level}")

    def serve(self) -> None:
        """Answer until stdin ends."""
        due = time.monotonic() + self._ping_every
        orders = open(0, "rb", buffering=0)  # noqa: SIM115 - to the end; unbuffered, or select would not see the rest
        while True:
            ready, _, _ = select.select([orders], [], [], max(0.0, due - time.monotonic()))
            if ready:
                line = orders.readline()
                if not line:
                    return
                self._answer(json.loads(line))
            if time.monotonic() >= due:
                due = time.monotonic() + self._ping_every
                self._ping()

    def _ping(self) -> None:
        try:
            self._redis.call("PING")
            for module in self._modules:
                self._describe(module)
            self._failed_pings = 0
        except RedisLostError:
            self._failed_pings += 1
            say("redis ping failed")
            if self._failed_pings >= 2:
                sys.exit(1)

    def _describe(self, module: str) -> None:
        """Metadata again where Redis lost it. [inf]"""
        text = json.dumps({"interface": INTERFACE, "implements": [], "requirements": {}, "security": SECURITY})
        self._redis.call("SET", f"interface/{module}", text)
        self._redis.call("HSETNX", f"status/{module}", "connected", "true")

    def _answer(self, asked: dict[str, object]) -> None:
        answer: dict[str, object] = {"id": asked["id"]}
        try:
            answer["result"] = self._do(str(asked["cmd"]), asked)
        except ModuleRaisedError as error:
            answer |= {"error": str(error), "code": error.code}
        except RedisLostError as error:
            answer |= {"error": f"redis: {error}", "code": 500}
        reply(answer)

    def _do(self, command: str, asked: dict[str, object]) -> object:
        module = str(asked.get("module"))
        if command == "loaded":
            return sorted(self._modules)
        if command == "load":
            self._modules.add(module)
            self._describe(module)
        elif command == "unload":
            self._modules.discard(module)
            self._redis.call("DEL", f"interface/{module}")
        elif command == "execute":
            arguments = asked["args"]
            return self._function(module, str(asked["method"]), arguments if isinstance(arguments, list) else [])
        return None

    def _function(self, module: str, method: str, arguments: list[object]) -> object:
        if self._trace:
            say(f"executing {method} on {module}")
        if method == "fail":
            code = arguments[1] if len(arguments) > 1 else 500
            raise ModuleRaisedError(str(arguments[0]), int(str(code)))
        if method == "crash":
            os._exit(7)
        if method == "wait":
            time.sleep(float(str(arguments[0])))
        if method == "set_status":
            name, value = str(arguments[0]), json.dumps(arguments[1])
            self._redis.call("HSET", f"status/{module}", name, value)
            self._redis.call("PUBLISH", f"status/{module}/{name}", value)
        return {"ping": "pong", "echo": arguments[0] if arguments else None}.get(method)


class ModuleRaisedError(Exception):
    """An exception of the driver's own code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def say(text: str) -> None:
    """To the log, which core copies."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def reply(answer: dict[str, object]) -> None:
    """To core."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run until core closes stdin."""
    host, port, password, ping_every, *fault = sys.argv[1:]
    driver = Driver(Redis(host, int(port), password), float(ping_every))
    signal.signal(signal.SIGUSR1, driver.toggle)
    if "crash" in fault:
        say("unhandled exception in driver")
        sys.exit(11)
    reply({"started": True})
    driver.serve()


if __name__ == "__main__":
    main()
