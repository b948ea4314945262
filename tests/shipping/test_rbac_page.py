"""The table of docs/how-to/permissions.md says what the operator may, and nothing else."""

from __future__ import annotations

import re

from tests.shipping.support import ROOT
from tests.shipping.test_rbac import AT_HOME, FENCE, SERVING

PAGE = (ROOT / "docs" / "how-to" / "permissions.md").read_text(encoding="utf-8")
VERBS = re.compile(r"\b(?:get|list|watch|create|update|patch|delete)\b")


def told(page: str) -> set[tuple[str, str]]:
    """Each verb on each resource, as the table has them."""
    table = page.partition("## The operator's own\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ") and "`" in line]
    return {
        (verb, resource)
        for row in rows
        for verb in VERBS.findall(re.sub(r"`.*?`", "", row[0]))
        for resource in re.findall(r"`(.+?)`", row[1])
    }


def test_the_page_tells_the_rights_that_are_shipped():
    assert told(PAGE) == {(one.verb, one.resource) for one in SERVING | AT_HOME | FENCE}
