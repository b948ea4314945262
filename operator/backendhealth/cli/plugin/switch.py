"""`kubectl backendhealth switch`: all remediation off, and on again."""

from __future__ import annotations

import argparse

from backendhealth.cli.plugin.session import BadInput, Session, add_cluster
from backendhealth.kube.api import ApiError
from backendhealth.kube.switch import ANNOTATION, ENABLED

_NAMESPACE, _NAME = "backendhealth-system", "backendhealth-remediation"


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "switch",
        help="turn all remediation off, or on again",
        description="Writes an annotation on the operator's ConfigMap, which is asked before every action; its data is"
        " Git's. On is what both say.",
        epilog="example:\n  kubectl backendhealth switch off\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("to", choices=("on", "off", "status"), help="what to turn it to")
    parser.add_argument("--operator-namespace", default=_NAMESPACE, metavar="NS", help=f"default: {_NAMESPACE}")
    parser.add_argument("--configmap", default=_NAME, metavar="NAME", help=f"default: {_NAME}")
    add_cluster(parser)
    parser.set_defaults(run=run)


async def run(args: argparse.Namespace, session: Session) -> int:
    """Turn it, and tell how it stands."""
    path = f"/api/v1/namespaces/{args.operator_namespace}/configmaps/{args.configmap}"
    try:
        if args.to == "status":
            found = await session.api.request("GET", path)
        else:
            value = "off" if args.to == "off" else None
            body = {"metadata": {"annotations": {ANNOTATION: value}}}
            found = await session.api.request("PATCH", path, body=body, content_type="application/merge-patch+json")
    except ApiError as error:
        if error.status == 404:
            told = f"no ConfigMap {args.configmap} in {args.operator_namespace}: then remediation is off;"
            raise BadInput(f"{told} see --operator-namespace") from None
        raise
    annotation = (found["metadata"].get("annotations") or {}).get(ANNOTATION)
    enabled = (found.get("data") or {}).get(ENABLED)
    if annotation == "off":
        print("remediation is off: by annotation")
    elif enabled != "true":
        print(f'remediation is off: data.{ENABLED} of the ConfigMap is not "true"; that is Git\'s to change')
    else:
        print("remediation is on, as far as policies allow")
    return 0
