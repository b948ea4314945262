"""What each probe of a resource speaks for: its component, other components, symptoms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from backendhealth.core.observation import Finding, clip
from backendhealth.core.reasons import Reason
from backendhealth.core.resourcestate import component_members, states_of, symptom_members
from backendhealth.core.spec.backendhealth import BackendHealth


@dataclass(frozen=True, slots=True)
class Speaker:
    """One probe: the keys of what is believed by it (its own finding first), and the names that these speak for."""

    keys: tuple[str, ...]
    parts: tuple[str, ...]
    components: tuple[str, ...]
    names: frozenset[str]
    """Of components and symptoms."""

    def findings(self, finding: Finding) -> Iterator[tuple[str, Finding]]:
        """What an attempt has found, by key. A part that the probe did not come to is Unknown."""
        yield self.keys[0], finding
        if not self.parts:
            return
        for key, part in zip(self.keys[1:], self.parts, strict=True):
            told = finding.parts.get(part)
            if told is None:
                told = Finding(Reason.STEP_SKIPPED, clip(f"not tried: {finding.message}"), contact=finding.contact)
            # whatever came back, came from the same target: that one step was silent is not our network's fault
            yield key, replace(told, contact=finding.contact) if told.contact is not finding.contact else told


def speakers(resource: BackendHealth) -> dict[str, Speaker]:
    """Who speaks for what, by the probe's name."""
    components, symptoms = component_members(resource), symptom_members(resource)
    found = {}
    for probe in resource.spec.probes:
        keys = states_of(probe)
        spoken = tuple(name for name, members in components.items() if not set(members).isdisjoint(keys))
        answered = (name for name, members in symptoms.items() if not set(members).isdisjoint(keys))
        found[probe.name] = Speaker(tuple(keys), probe.parts, spoken, frozenset((*spoken, *answered)))
    return found
