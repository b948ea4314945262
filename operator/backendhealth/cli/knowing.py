"""What the files, the cluster of a kubeconfig, and this program know of a resource's platform."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from backendhealth import profiles as shipped
from backendhealth.cli.load import Loaded
from backendhealth.core.knowledge import Knowledge
from backendhealth.core.profileref import ProfileUnusableError, knowledge_of, not_there
from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.spec.profile import DiagnosisProfileSpec

There = Mapping[tuple[str, str], DiagnosisProfileSpec | ProfileUnusableError]
"""DiagnosisProfiles of a cluster by namespace and name, or why they can't be used."""
_NONE: There = {}


def missing_profiles(loaded: Loaded) -> set[tuple[str, str]]:
    """The profiles that resources of the files name and the files don't hold, by namespace and name."""
    held = {(one.metadata.namespace, one.metadata.name) for one in loaded.profiles}
    refs = ((one.metadata.namespace, one.spec.profile_ref) for one in loaded.resources)
    return {(namespace, ref.name) for namespace, ref in refs if ref and ref.name} - held


def knowledge_among(loaded: Loaded, resource: BackendHealth, there: There = _NONE) -> Knowledge:
    """What is known of the platform of `resource`; a profile that is not there is told on standard error.

    The files go before the cluster: who changes a profile sees what comes of it.
    """

    def find(namespace: str, name: str) -> DiagnosisProfileSpec:
        beside = {one.metadata.name: one.spec for one in loaded.profiles if one.metadata.namespace == namespace}
        if name in beside:
            return beside[name]
        found = there.get((namespace, name)) or not_there(namespace, name, beside, shipped.names())
        if isinstance(found, ProfileUnusableError):
            raise found
        return found

    knowledge = knowledge_of(resource, shipped.spec_of, find)
    if knowledge.problem is not None:
        print(f"warning: {resource.key}: {knowledge.message} (give its file with -f)", file=sys.stderr)
    return knowledge
