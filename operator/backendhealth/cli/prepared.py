"""A case of a test, with all that it is about: ready to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from backendhealth.cli.documents import Document
from backendhealth.cli.testbench import Target
from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.spec.diagnosistest import DiagnosisCase, DiagnosisTest
from backendhealth.core.spec.policytest import PolicyCase, RemediationPolicyTest
from backendhealth.core.spec.profile import DiagnosisProfileSpec

AnyTest = DiagnosisTest | RemediationPolicyTest
_Test = TypeVar("_Test", DiagnosisTest, RemediationPolicyTest)
_Case = TypeVar("_Case", DiagnosisCase, PolicyCase)


@dataclass(frozen=True, slots=True)
class PreparedCase(Generic[_Test, _Case]):
    """A case with the profile and the resource that it is about. `targets`: what each name under `see` stands for."""

    test: _Test
    number: int
    """Which of the test's cases it is, from 0."""
    case: _Case
    profile: DiagnosisProfileSpec
    resource: BackendHealth
    targets: Mapping[str, Sequence[Target]]
    document: Document

    @property
    def name(self) -> str:
        """`TEST/CASE`, as `--run` sees it."""
        return f"{self.test.metadata.name}/{self.case.name}"

    @property
    def place(self) -> str:
        """Where the case is: `file:line`."""
        line, _ = self.document.place(("spec", "cases", self.number))
        return f"{self.document.source}:{line}"
