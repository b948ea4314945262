"""What the files, and this program, know of a resource's platform."""

from __future__ import annotations

import sys

from backendhealth import profiles as shipped
from backendhealth.cli.load import Loaded
from backendhealth.core.knowledge import Knowledge
from backendhealth.core.profileref import knowledge_of, not_there
from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.spec.profile import DiagnosisProfileSpec


def knowledge_among(loaded: Loaded, resource: BackendHealth) -> Knowledge:
    """What is known of the platform of `resource`; a profile that is not there is told on standard error."""

    def find(namespace: str, name: str) -> DiagnosisProfileSpec:
        beside = {one.metadata.name: one.spec for one in loaded.profiles if one.metadata.namespace == namespace}
        if name not in beside:
            raise not_there(namespace, name, beside, shipped.names())
        return beside[name]

    knowledge = knowledge_of(resource, shipped.spec_of, find)
    if knowledge.problem is not None:
        print(f"warning: {resource.key}: {knowledge.message} (give its file with -f)", file=sys.stderr)
    return knowledge
