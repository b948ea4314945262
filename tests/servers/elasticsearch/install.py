"""Builds a genuine Elasticsearch node out of what Maven Central publishes, once per version, in the cache directory.

The distribution itself is in no package registry, its jars are. Beside them a node needs three things that are not
published: a `main` (ServerMain.java), the module that answers `GET /` (RootPlugin.java) and configuration.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.servers.process import ServerFailed, cache_dir, find_binary

SOURCES = Path(__file__).parent
DESCRIPTOR = "plugin-descriptor.properties"
# Speed of starting matters here, not speed of running: one simple collector, only the quick compiler.
JVM_OPTIONS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Xlog:disable", "-Xlog:all=error:stderr")
_APT = "apt-get install --no-install-recommends maven openjdk-17-jdk-headless"
_MODULE_JARS = ("netty-", "transport-netty4-")  # a jar both in lib and in a module is refused by the server


def version() -> str:
    """The server's version, as pinned in pom.xml."""
    found = re.search(r"<elasticsearch\.version>([^<]+)<", (SOURCES / "pom.xml").read_text())
    assert found is not None
    return found[1]


def java() -> str:
    """Path of a `java` (17 or newer)."""
    return _jdk("java")


def home() -> Path:
    """Where the installation for these sources lives, whether or not it is complete."""
    digest = hashlib.sha256()
    for name in ("pom.xml", "ServerMain.java", "RootPlugin.java", "install.py"):
        digest.update((SOURCES / name).read_bytes())
    return cache_dir() / f"elasticsearch-{version()}-{digest.hexdigest()[:12]}"


def class_path(root: Path) -> str:
    """The server's class path; sorted, because the class archive is only valid for the very same order."""
    return os.pathsep.join(str(jar) for jar in sorted((root / "lib").glob("*.jar")))


def archive(root: Path) -> Path:
    """The JVM's archive of loaded classes: it halves the time to start."""
    return root / "classes.jsa"


def install(say: Callable[[str], None] = lambda _: None) -> Path:
    """The home of a complete installation, built first if need be; safe under concurrent calls.

    `say` gets progress lines. Raises ServerFailed when Java, Maven or the registry is missing.
    """
    root = home()
    if (root / "complete").exists():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with root.with_name(f"{root.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another installation of Elasticsearch to finish")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if (root / "complete").exists():
            return root
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        _build(root, say)
        (root / "complete").touch()
    say(f"Elasticsearch {version()} is in {root}")
    return root


def _build(root: Path, say: Callable[[str], None]) -> None:
    say(f"fetching Elasticsearch {version()} from Maven Central (41 MB)")
    _fetch(root / "lib")
    say("building the main class and the root module")
    _lay_out_netty(root)
    _compile(root)
    say("archiving classes for a quicker start")
    _archive_classes(root)


def _fetch(lib: Path) -> None:
    maven = find_binary("mvn", env="BACKENDHEALTH_MAVEN", remedy=_APT)
    goal = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
    _run(
        [maven, "--quiet", "--batch-mode", "-f", str(SOURCES / "pom.xml"), goal, f"-DoutputDirectory={lib}"],
        "Maven could not fetch Elasticsearch",
    )


def _lay_out_netty(root: Path) -> None:
    module = root / "modules" / "transport-netty4"
    module.mkdir(parents=True)
    for jar in sorted((root / "lib").glob("*.jar")):
        if jar.name.startswith(_MODULE_JARS):
            jar.rename(module / jar.name)
    (jar,) = module.glob("transport-netty4-*.jar")
    with zipfile.ZipFile(jar) as content:
        descriptor = content.read(f"META-INF/es-plugins/transport-netty4/{DESCRIPTOR}").decode()
    # Without its module name it is loaded from a class path, as the server itself is here.
    kept = [line for line in descriptor.splitlines() if not line.startswith("modulename=")]
    (module / DESCRIPTOR).write_text("\n".join(kept) + "\n")


def _compile(root: Path) -> None:
    classes = root / "classes"
    sources = [str(SOURCES / "ServerMain.java"), str(SOURCES / "RootPlugin.java")]
    _run([_jdk("javac"), "-cp", class_path(root), "-d", str(classes), *sources], "javac failed")
    _jar(root / "lib" / "server-main.jar", sorted(classes.glob("ServerMain*.class")))
    module = root / "modules" / "root"
    module.mkdir()
    _jar(module / "root.jar", sorted(classes.glob("RootPlugin*.class")))
    fields = {
        "name": "root",
        "description": "Answers GET /",
        "version": version(),
        "elasticsearch.version": version(),
        "java.version": "17",
        "classname": "RootPlugin",
    }
    (module / DESCRIPTOR).write_text("".join(f"{key}={value}\n" for key, value in fields.items()))


def _archive_classes(root: Path) -> None:
    from tests.servers.elasticsearch.server import Elasticsearch  # it needs this module

    with Elasticsearch(root=root, jvm_options=[f"-XX:ArchiveClassesAtExit={archive(root)}"]) as server:
        server.request("PUT", "/warm/_doc/1?refresh=true", {"text": "a class loaded now is a class archived"})
        server.request("GET", "/warm/_search?q=text:class")
        server.request("DELETE", "/warm")
        server.stop(timeout=60)
    if not archive(root).exists():
        raise ServerFailed("the JVM wrote no archive of classes")


def _jar(path: Path, classes: Sequence[Path]) -> None:
    with zipfile.ZipFile(path, "w") as jar:
        for file in classes:
            jar.write(file, file.name)


def _jdk(tool: str) -> str:
    homes = [os.environ["JAVA_HOME"]] if os.environ.get("JAVA_HOME") else []
    fallbacks = [Path(directory) / "bin" / tool for directory in homes]
    return find_binary(tool, env=f"BACKENDHEALTH_{tool.upper()}", fallbacks=fallbacks, remedy=_APT)


def _run(argv: Sequence[str], failure: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise ServerFailed(f"{failure}:\n{(done.stdout + done.stderr)[-4000:]}")
