"""What several kinds of probe share: Secret references, credentials, TLS."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from backendhealth.core.spec.base import Host, Model, ObjectName, Rule, duration_between, meaning

SecretKey = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=meaning("a key of a Secret: letters, digits, dashes, dots, underscores", r"^[-._a-zA-Z0-9]+$"),
    ),
]


class SecretRef(Model):
    """A Secret in the resource's own namespace."""

    name: ObjectName = Field(description="Name of the Secret.")


class SecretKeyRef(Model):
    """One key of a Secret in the resource's own namespace."""

    name: ObjectName = Field(description="Name of the Secret.")
    key: SecretKey = Field(description="Key of the Secret whose value is used.")


class Auth(Model):
    """Credentials: the Secret's keys `username` and `password`, or `token`."""

    secret_ref: SecretRef = Field(
        description="Secret with the keys `username` and `password`, or `token`, in the resource's namespace."
    )


class Tls(Model):
    """How to speak TLS with the backend."""

    ca_secret_ref: SecretRef | None = Field(
        default=None, description="Secret whose key `ca.crt` holds the authorities to trust; default: the system's."
    )
    cert_secret_ref: SecretRef | None = Field(
        default=None, description="Secret whose keys `tls.crt` and `tls.key` hold the client's certificate and key."
    )
    server_name: Host | None = Field(
        default=None, description="Name that the certificate must have; default: the host of the address."
    )
    insecure_skip_verify: bool = Field(
        default=False, description="Accept any certificate. For tests only: whoever is in between can read all."
    )
    expiry_warning: Annotated[str, duration_between("1h", "8760h")] = Field(
        default="336h", description="The probe is Degraded (CertificateExpiring) this long before the certificate ends."
    )


def tls_needs(schemes: tuple[str, ...], field: str) -> Rule:
    """The rule that `tls` goes with an encrypted URL only; `field` holds the URL or a list of them."""
    encrypted = " || ".join(f"u.startsWith('{scheme}://')" for scheme in schemes)
    many = field.endswith("s")
    urls = f"self.{field}" if many else f"[self.{field}]"
    guard = f"!has(self.tls) || !has(self.{field}) || "

    def holds(raw: dict[str, object]) -> bool:
        value = raw.get(field)
        listed = value if isinstance(value, list) else [value] if value else []
        return raw.get("tls") is None or all(str(url).split("://")[0] in schemes for url in listed)

    return Rule(
        id="tls-needs-encrypted-url",
        message=f"tls is set, but the URL is not encrypted: use {schemes[0]}://",
        cel=f"{guard}{urls}.all(u, {encrypted})",
        fields=(field,),
        holds=holds,  # type: ignore[arg-type]
        field="tls",
    )
