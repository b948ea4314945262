"""Warns of a server certificate that ends soon."""

from __future__ import annotations

import dataclasses
import datetime as dt

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict


def check_expiry(
    finding: Finding, not_after: dt.datetime | None, warning: float, now: dt.datetime | None = None
) -> Finding:
    """`finding`, Degraded (CertificateExpiring) when it is healthy but the certificate ends within `warning` seconds.

    Adds the fact `certificateDaysLeft`. `not_after` is None where no verified certificate was seen.
    """
    if not_after is None:
        return finding
    left = (not_after - (now or dt.datetime.now(dt.UTC))).total_seconds()
    facts = {**finding.facts, "certificateDaysLeft": int(left // 86400)}
    if finding.verdict is not Verdict.HEALTHY or left > warning:
        return dataclasses.replace(finding, facts=facts)
    return dataclasses.replace(
        finding,
        reason=Reason.CERTIFICATE_EXPIRING,
        message=f"the server's certificate ends on {not_after:%Y-%m-%d %H:%M} UTC",
        facts=facts,
    )
