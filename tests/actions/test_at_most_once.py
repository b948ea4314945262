"""The operator killed and stopped at random: never twice, never another process, never without its record."""

from __future__ import annotations

import pytest

from tests.actions.many import LANES, many, page, told
from tests.actions.runs import Chance, Run
from tests.actions.stage import Stage
from tests.cluster.cluster import Cluster

KILLED = Chance(0.5, stops=False)
SEED = 7


def came(*phases: str, signals: int, elsewhere: int = 0, expected: int = 1, chance: Chance | None = KILLED) -> Run:
    return Run("sent-1", chance, "running", phases, signals, elsewhere, expected, 9.0)


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (came("Succeeded", signals=1), ""),
        (came("Unknown", signals=1), ""),
        (came("Unknown", signals=0), ""),
        (came("Failed", signals=0), ""),
        (came("Succeeded", "Succeeded", signals=2, expected=2), ""),
        (came("Unknown", "Unknown", signals=1, expected=2), ""),
        (came("Succeeded", signals=2), "2 signals, 1 at most"),
        (came("Succeeded", signals=1, elsewhere=1), "1 signals to others"),
        (came("Failed", signals=1), "1 signals, but Failed"),
        (came("Unknown", "Succeeded", signals=1), "claimed again: Unknown, Succeeded"),
        (came("Succeeded", "Expired", signals=2, expected=2), "2 signals, but Succeeded, Expired"),
        (came(signals=0), "not at the end: no record"),
        (came("Running", signals=0), "not at the end: Running"),
        (came("Succeeded", signals=0), "0 signals, and yet Succeeded"),
        (came("Unknown", signals=0, chance=None), "0 signals without a fault, not 1"),
    ],
)
def test_what_is_wrong(run: Run, said: str) -> None:
    assert said in "; ".join(run.wrong)
    assert bool(run.wrong) is bool(said)


def test_the_page() -> None:
    runs = [came("Succeeded", signals=1), came("Unknown", signals=0), came("Succeeded", signals=1, chance=None)]
    text = page(runs, 1)
    assert (
        "**2 runs with a fault (2 killed, 0 stopped and woken), 0 wrong; Unknown in 1 (50.0 %).** 1 without"
        in " ".join(text.split())
    )
    assert "| sent | Unknown | 0 | 1 |" in text
    assert "| running | 2 | 1 | 1 |" in text


def _judged(runs: list[Run]) -> None:
    assert not [told(run) for run in runs if run.wrong]
    assert sum("Unknown" in run.phases for run in runs) <= max(2, len(runs) // 10), [told(run) for run in runs]


@pytest.mark.timeout(400)
def test_a_few(stage: Stage) -> None:
    _judged(many(stage.cluster, stage.helper_image, {"sent": 6, "toggled": 2, "scratch": 4}, SEED))


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many(stage: Stage, own_cluster: Cluster) -> None:
    _judged(many(own_cluster, stage.helper_image, LANES, SEED))
