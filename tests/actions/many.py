"""`python -m tests.actions.many`: runs on a real cluster, side by side, and their table. Exit code 1: one is wrong.

Every signal was counted by the process that got it.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from tests.actions.place import placed
from tests.actions.runs import BYSTANDER, Chance, Lane, Run
from tests.actions.services import SCRATCH, pod, recipes, service
from tests.actions.stage import debug_logs
from tests.cluster import images, product
from tests.cluster.cluster import Cluster

_HEAD = """# At most once

<!-- Written by `make runs`; do not edit. -->

An action under policy is to happen at most once, whatever becomes of the operator. Here two replicas serve a namespace
of a real cluster (real kubelet, real processes that count the signals that they get), and in each run, at a moment by
chance between the failure and the end of the record, the one that leads is killed with SIGKILL (its place is taken by
the other), or stopped with SIGSTOP until the other leads and woken then: two who believe that they lead.

Wrong would be: a second signal; a signal to another process, container or pod; a signal without a record that admits
it; a record that claims one that was not sent. `Unknown` is the honest end where it can't be told; it is never
repeated. Lanes: `sent` is one signal by exec; `toggled` verbose logs on and off again by exec; `scratch` one signal by
an ephemeral container, since the image has no shell.
"""


KINDS = {
    "sent": (images.BUSYBOX, False, ((0.0, 2.0),)),
    "toggled": (images.BUSYBOX, True, ((0.0, 2.0), (9.0, 13.0))),
    "scratch": (SCRATCH, False, ((0.0, 5.0),)),
}
"""What a lane's name begins with: the image of the target, whether it is toggled, and when about something goes on."""
LANES = {"sent-1": 52, "sent-2": 53, "toggled-1": 25, "toggled-2": 25, "toggled-3": 25, "scratch": 20}
"""Runs with a fault: 200."""


@contextlib.contextmanager
def lane(cluster: Cluster, helper_image: str, name: str) -> Iterator[Lane]:
    """One lane of a kind, its pods and replicas up."""
    image, toggles, spans = KINDS[name.partition("-")[0]]
    beside = {**service(image), "name": "beside"}
    pods = (pod(name, service(image), beside), pod(BYSTANDER, service(image), beside))
    with placed(cluster, helper_image, *pods) as place:
        made = Lane(place, name, _action(name, toggles), toggles, spans)
        with made.running():
            yield made


def _action(name: str, toggles: bool) -> dict[str, object]:
    if toggles:
        return debug_logs(name, revertAfter="10s", confirmWithin="3s")
    return {"signal": {"podSelector": {"matchLabels": {"app": name}}, "signal": "SIGUSR1"}}


def many(
    cluster: Cluster, helper_image: str, counts: dict[str, int], seed: int, say: Callable[[Run], None] = lambda _: None
) -> list[Run]:
    """So many runs with a fault in each lane, after one without, the lanes side by side."""

    def one_lane(name: str) -> list[Run]:
        # the replicas end with this thread, which started them
        chances, found = random.Random(f"{name} {seed}"), []
        with lane(cluster, helper_image, name) as made:
            for number in range(counts[name] + 1):
                found.append(made.run(Chance.drawn(chances, made.spans) if number else None))
                say(found[-1])
        return found

    with ThreadPoolExecutor(len(counts)) as lanes:
        return [run for runs in list(lanes.map(one_lane, counts)) for run in runs]


def page(runs: Sequence[Run], seed: int) -> str:
    """The whole page, as Markdown."""
    struck = [run for run in runs if run.chance]
    wrong = [run for run in runs if run.wrong]
    unknown = sum("Unknown" in run.phases for run in struck)
    stopped = sum(run.chance.stops for run in struck if run.chance)
    killed, calm = len(struck) - stopped, len(runs) - len(struck)
    share = 100 * unknown / max(1, len(struck))
    lines = [
        _HEAD,
        f"**{len(struck)} runs with a fault ({killed} killed, {stopped} stopped and woken), {len(wrong)} wrong;",
    ]
    lines += [
        f"Unknown in {unknown} ({share:.1f} %).** {calm} without a fault: as many signals as there should be, exactly."
    ]
    lines += [f"Seed {seed}; a run took {median(run.seconds for run in runs):.0f} s (median).", ""]
    lines += ["| lane | phases | signals | runs |", "|---|---|--:|--:|"]
    table = Counter((run.lane.partition("-")[0], ", then ".join(run.phases), run.signals) for run in struck)
    lines += [
        f"| {name} | {phases} | {signals} | {count} |" for (name, phases, signals), count in sorted(table.items())
    ]
    lines += ["", "| hit after | runs | with a signal | Unknown |", "|---|--:|--:|--:|"]
    for step in sorted({run.hit for run in struck}):
        those = [run for run in struck if run.hit == step]
        sent, open_ = sum(run.signals > 0 for run in those), sum("Unknown" in run.phases for run in those)
        lines.append(f"| {step} | {len(those)} | {sent} | {open_} |")
    lines += ["", *(f"- wrong: {told(run)}" for run in wrong)]
    return "\n".join(lines).rstrip() + "\n"


def told(run: Run) -> str:
    """A line for people."""
    what = run.chance.told if run.chance else "no fault"
    came = f"{run.signals} signals, {', then '.join(run.phases)}" + (f" ({run.why})" if run.why else "")
    return f"{run.lane}: {what} (at {run.hit or 'no step'}): {'; '.join(run.wrong) or came}, {run.seconds:.0f} s"


def main() -> int:
    """Run, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", type=Path, help="file for the page; default: standard output")
    args = parser.parse_args()
    with Cluster() as cluster, tempfile.TemporaryDirectory() as folder:
        cluster.load_image(product.archive())
        for image in recipes(Path(folder)):
            cluster.load_image(images.write(image, Path(folder) / images.file_name(image.name)))
        runs = many(cluster, product.NAME, LANES, args.seed, lambda run: print(told(run), file=sys.stderr, flush=True))
    text = page(runs, args.seed)
    if args.write:
        args.write.write_text(text)
    else:
        print(text)
    return 1 if any(run.wrong for run in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
