"""What of a status is worth a write, what of it fits into an object, and when a sign of life is due."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.core.verdict import Verdict

Json = dict[str, Any]

WRITTEN_FIELDS = (
    "observedGeneration",
    "probeRequestedAt",
    "summary",
    "conditions",
    "probes",
    "diagnosis",
    "incident",
    "history",
    "remediation",
)
"""The fields whose change causes a write; `heartbeatTime` is the only other one."""
STATUS_BYTES = 256 * 1024
"""Room for a status. etcd takes 1.5 MiB at once, and the spec and the list of managed fields need theirs."""
_SPREAD = 0.1  # part of a heartbeat's interval over which heartbeats are spread
_EMPTY: tuple[Any, ...] = (None, "", [], {})
_ESCAPED = ("<", ">", "&")  # Go stores them as \u003c
_LINE_BREAKS = ("\u2028", "\u2029")  # of 3 bytes, stored as \u2028


def rendered(status: BackendHealthStatus) -> Json:
    """The status as the API server takes it, without `heartbeatTime`."""
    return status.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"heartbeat_time"})


def fingerprint(status: Mapping[str, Any] | None) -> str:
    """A hash of the listed fields: a status with another one is worth a write.

    What is empty is as what is absent: the API server fills defaults in and leaves nulls out.
    """
    listed = _bare({field: (status or {}).get(field) for field in WRITTEN_FIELDS})
    text = json.dumps(listed, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: bare for name, item in value.items() if (bare := _bare(item)) not in _EMPTY}
    return [_bare(item) for item in value] if isinstance(value, list) else value


def heartbeat_in(age: float | None, every: float, key: str) -> float:
    """Seconds until the heartbeat of `key` is due, when its last write is `age` seconds old; None: there was none.

    Those that were written together, or are overdue after we were away, don't beat together. An age below zero is a
    clock that was set back.
    """
    spread = _SPREAD * every * int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
    return spread if age is None else max(every - spread - max(age, 0.0), spread)


def age_of(status: Mapping[str, Any] | None, now: float) -> float | None:
    """Seconds since the status was written, by its own `heartbeatTime`; None when it has none that can be read."""
    written = (status or {}).get("heartbeatTime")
    try:
        return now - dt.datetime.fromisoformat(written).timestamp() if isinstance(written, str) else None
    except ValueError:
        return None


def stored_bytes(value: Any) -> int:
    """Bytes of `value` as the API server stores it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    more = 5 * sum(map(text.count, _ESCAPED)) + 3 * sum(map(text.count, _LINE_BREAKS))
    return len(text.encode(errors="replace")) + more


def fitted(status: Json, room: int = STATUS_BYTES) -> Json:
    """The status in no more than `room` bytes, if cutting can do it: what is least missed goes first.

    Messages that were cut end in an ellipsis, lists in an entry that tells how many more there are.
    """
    for cut in _CUTS:
        # counting all bytes takes long where there are far too many
        if _at_least(status) <= room and stored_bytes(status) <= room:
            break
        status = cut(status)
    return status


def _at_least(status: Json) -> int:
    """A lower bound of the bytes of most of a status."""
    subjects = [one for probe in status.get("probes", ()) for one in probe.get("subjects", ())]
    return sum(len(one["subject"]) + len(one["message"]) for one in subjects)


_Cut = Callable[[Json], Json]


def _messages(limit: int, *lists: str) -> _Cut:
    """Cuts the messages in `lists`; those of the subjects are in the list `subjects`."""

    def short(entry: Json) -> Json:
        message = entry["message"]
        return entry if len(message) <= limit else {**entry, "message": f"{message[: limit - 1]}…"}

    def cut(status: Json) -> Json:
        status = dict(status)
        for name in {"probes", "conditions"} & set(lists) & status.keys():
            status[name] = [short(entry) for entry in status[name]]
        if "subjects" in lists:
            status["probes"] = [
                probe | {name: [short(one) for one in probe[name]] for name in ("subjects", "parts") if name in probe}
                for probe in status.get("probes", ())
            ]
        for name in {"diagnosis", "remediation"} & set(lists):
            if status.get(name):
                status[name] = _short_texts(status[name], limit)
        return status

    return cut


_TEXTS = ("message", "because", "nextStep", "evidence")


def _short_texts(value: Json, limit: int) -> Json:
    """An object of lists whose texts are cut; names stay, because entries are told apart by them."""
    entries = {
        name: [_short_entry(one, limit) if type(one) is dict else one for one in found]
        for name, found in value.items()
        if type(found) is list
    }
    question = {"nextQuestion": _short(value["nextQuestion"], limit)} if "nextQuestion" in value else {}
    return {**value, **entries, **question}


def _short_entry(entry: Json, limit: int) -> Json:
    return {name: _short(text, limit) if name in _TEXTS else text for name, text in entry.items()}


def _short(text: Any, limit: int) -> Any:
    if isinstance(text, list):
        return [_short(one, limit) for one in text]
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _evidence(most: int) -> _Cut:
    """Cuts the evidence of each root cause, and the lists beside the root causes, to `most` entries."""

    def cut(status: Json) -> Json:
        diagnosis = status.get("diagnosis") or {}
        causes = [
            {**cause, "evidence": cause["evidence"][:most]} if "evidence" in cause else cause
            for cause in diagnosis.get("rootCauses", ())
        ]
        lists = {name: found[: 2 * most] for name, found in diagnosis.items() if type(found) is list}
        explained = [{**one, "by": one["by"][: 2 * most]} for one in lists.get("explained", ())]
        lists |= {"explained": explained} if explained else {}
        return {**status, "diagnosis": {**diagnosis, **lists, "rootCauses": causes}} if diagnosis else status

    return cut


def _remediation(most: int) -> _Cut:
    """Cuts what holds remediation back, and what is under way, to `most` entries: the first guards are told first."""

    def cut(status: Json) -> Json:
        told = status.get("remediation") or {}
        return {**status, "remediation": {name: found[:most] for name, found in told.items()}} if told else status

    return cut


def _parts(most: int) -> _Cut:
    """Cuts the parts of each probe to `most`: the worst ones, in their order."""

    def short(probe: Json) -> Json:
        parts = probe.get("parts", [])
        if len(parts) <= most:
            return probe
        kept = sorted(range(len(parts)), key=lambda at: -Verdict(parts[at]["verdict"]).rank)[:most]
        return {**probe, "parts": [parts[at] for at in sorted(kept)]}

    def cut(status: Json) -> Json:
        return {**status, "probes": [short(probe) for probe in status.get("probes", ())]}

    return cut


def _subjects(most: int) -> _Cut:
    def cut(status: Json) -> Json:
        return {**status, "probes": [_with_subjects(probe, most) for probe in status.get("probes", ())]}

    return cut


def _with_subjects(probe: Json, most: int) -> Json:
    subjects = probe.get("subjects", [])
    if len(subjects) <= most:
        return probe
    kept, left = subjects[: most - 1], subjects[most - 1 :]
    before = _more(left[-1]["subject"])  # an earlier cut has counted some
    count = len(left) - 1 + before if before else len(left)
    worst = max(left, key=lambda one: Verdict(one["verdict"]).rank)
    told = {**worst, "subject": f"… {count} more", "message": "left out: there is no room for them"}
    return {**probe, "subjects": [*kept, told]}


def _causes(most: int) -> _Cut:
    def cut(status: Json) -> Json:
        diagnosis = status.get("diagnosis") or {}
        causes = diagnosis.get("rootCauses", [])
        if len(causes) <= most:
            return status
        left = causes[most - 1 :]
        told = {**left[0], "component": f"… {len(left)} more", "message": "left out: see probes"}
        return {**status, "diagnosis": {**diagnosis, "rootCauses": [*causes[: most - 1], told]}}

    return cut


def _more(subject: str) -> int:
    found = re.fullmatch(r"… ([0-9]+) more", subject)
    return int(found[1]) if found else 0


_ALL = ("probes", "conditions", "diagnosis", "remediation")
_CUTS: tuple[_Cut, ...] = (
    _messages(256, "subjects"),
    _messages(64, "subjects"),
    _subjects(16),
    _subjects(4),
    _messages(256, *_ALL),
    _evidence(4),
    _remediation(16),
    _parts(8),
    _messages(64, "subjects", *_ALL),
    _subjects(1),
    _causes(8),
    _evidence(1),
    _remediation(4),
    _parts(0),
    _messages(8, "subjects", *_ALL),
)
