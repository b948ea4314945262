"""When attempts failed and when they worked, as the diagnosis needs it."""

from __future__ import annotations

from backendhealth.core.attempts import NONE, Attempts, together
from backendhealth.core.diagnosis.evidence import NEVER, Outage
from backendhealth.core.observation import Finding, Observation
from backendhealth.core.probestate import Thresholds, initial, observe
from tests.unit.support import DENIED, GOOD, REFUSED, RISKY


def made(*findings: Finding, failure: int = 1, success: int = 1) -> Attempts:
    """Attempts that begin at 0, 10, 20 … and take a second."""
    state, attempts = initial(0.0), NONE
    for number, finding in enumerate(findings):
        seen = Observation("default/demo", 1, "a", 10.0 * number, 10.0 * number + 1, finding)
        state = observe(state, seen, Thresholds(failure, success), None)
        attempts = attempts.made(finding.verdict, seen.started, seen.at, state)
    return attempts


def test_nothing_is_known_before_the_first():
    assert (NONE.onset, NONE.last_good, NONE.settled, NONE.newest) == (None, NEVER, NEVER, NEVER)


def test_what_works_is_good_when_its_attempt_began():
    assert made(GOOD, RISKY) == Attempts(last_good=10.0, settled=10.0, newest=10.0)


def test_a_failure_is_there_when_its_attempt_has_ended():
    assert made(GOOD, REFUSED, REFUSED) == Attempts(onset=11.0, last_good=0.0, settled=20.0, newest=20.0, down=True)


def test_what_is_not_decided_is_not_settled():
    assert made(GOOD, REFUSED, REFUSED, failure=3) == Attempts(onset=11.0, last_good=0.0, settled=0.0, newest=20.0)
    assert made(GOOD, REFUSED, REFUSED, REFUSED, failure=3).settled == 30.0


def test_one_odd_failure_leaves_nothing_behind():
    assert made(GOOD, REFUSED, GOOD, failure=3) == made(GOOD, GOOD, GOOD)


def test_the_onset_stays_until_the_verdict_is_good_again():
    recovering = made(GOOD, REFUSED, GOOD, success=3)
    assert (recovering.onset, recovering.again, recovering.last_good) == (11.0, 20.0, 0.0)
    assert made(GOOD, REFUSED, GOOD, REFUSED, success=3).again is None
    over = made(GOOD, REFUSED, GOOD, GOOD, GOOD, success=3)
    assert over == Attempts(last_good=40.0, settled=40.0, newest=40.0, outage=Outage(11.0, 20.0, 0.0))


def test_what_can_not_be_told_neither_fails_nor_works():
    assert made(GOOD, DENIED) == Attempts(last_good=0.0, settled=10.0, newest=10.0)
    assert made(REFUSED, DENIED).onset == 1.0


def test_several_probes_work_together_only():
    well, ill, worse = made(GOOD, GOOD), made(GOOD, REFUSED), made(REFUSED, REFUSED)
    assert together([well]) == well
    assert together([well, ill]).onset == 11.0
    assert together([ill, worse, well]).onset == 1.0
    assert together([ill, worse, well]).last_good == NEVER
    assert together([well, made(GOOD)]).last_good == 0.0
    assert together([well, made(GOOD)]).settled == 0.0
    assert together([]) == NONE


def test_the_last_outage_of_several_probes():
    first, second = made(REFUSED, GOOD), made(GOOD, REFUSED, GOOD)
    assert together([first, second]).outage == Outage(11.0, 20.0, 0.0)
