"""The exchange with one etcd endpoint: dial, status, sign in, linearizable read, alarm list."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from dataclasses import dataclass
from typing import Any

import grpc

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.targets import EtcdProbe
from backendhealth.probes import etcd_errors, etcd_stubs
from backendhealth.probes.etcd_cluster import Alarm, Member, Report, Status
from backendhealth.probes.etcd_link import Address, Link
from backendhealth.probes.exchange import ProbeError, failure, timed_out
from backendhealth.probes.registry import Context
from backendhealth.probes.secrets import load_credentials
from backendhealth.probes.trace import Trace

ELECTION_SECONDS = 2.0
"""How long a member without a leader is given to get one within an attempt; etcd's default elections take 1 s."""

_KEEPS_CONNECTION = {Reason.PROBE_SUCCEEDED, Reason.QUORUM_LOST, Reason.ALARM_CORRUPT}


@dataclass(slots=True)
class _Attempt:
    """What one attempt has learnt so far, also when it ends early."""

    trace: Trace
    status: Status | None = None
    quorum: bool = False
    key_denied: bool = False
    alarms: tuple[Alarm, ...] = ()
    signed_in: bool = False


class Endpoint:
    """One endpoint; keeps its channel and its token while they work."""

    def __init__(self, url: str, target: EtcdProbe, context: Context) -> None:
        self._address = Address(url, target.tls, context)
        self.address = str(self._address)
        self._target = target
        self._secrets = context.secrets
        self._link: Link | None = None

    @property
    def not_after(self) -> dt.datetime | None:
        """The end of the certificate that the kept connection's server has shown."""
        return self._link.connection.not_after if self._link else None

    @property
    def expiry_warning(self) -> float:
        """Seconds before that end at which it is worth a warning."""
        return self._link.tls.expiry_warning if self._link and self._link.tls else 0.0

    async def probe(self, trace: Trace, budget: float, spare: float) -> Report:
        """One exchange within `budget` seconds, and `spare` more to find out why it hung. Raises no network error."""
        seen = _Attempt(trace)
        if self._link is not None and not self._link.alive:
            await self.close()
        kept = self._link is not None
        try:
            async with asyncio.timeout(budget) as deadline:
                await self._exchange(seen)
            finding = Finding(Reason.PROBE_SUCCEEDED, "")
        except grpc.aio.AioRpcError as error:
            left = (deadline.when() or 0.0) - asyncio.get_running_loop().time()
            finding = await self._failed(error, trace, kept=kept, left=max(left, spare))
        except _NoLeader:
            finding = await self._hung(seen, ELECTION_SECONDS, spare)
        except TimeoutError as error:
            finding = await self._hung(seen, budget, spare) if deadline.expired() else failure(error, trace)
        except (ProbeError, OSError) as error:
            finding = await self._not_connected(error, trace, spare)
        if finding.reason not in _KEEPS_CONNECTION:
            await self.close()
        return Report(
            address=self.address,
            reason=finding.reason,
            message=finding.message,
            contact=trace.contact or finding.contact,
            status=seen.status,
            quorum=seen.quorum or _refused_by_quorum(finding, trace),
            key_denied=seen.key_denied,
            alarms=seen.alarms,
        )

    async def members(self, within: float) -> tuple[Member, ...] | None:
        """The member list as this endpoint knows it, or None when it can't be had within `within` seconds."""
        if self._link is None:
            return None
        request = etcd_stubs.messages().MemberListRequest()
        try:
            async with asyncio.timeout(within):
                answer = await self._link.call(self._link.stubs.cluster.MemberList, request)
        except (TimeoutError, ProbeError, grpc.aio.AioRpcError):
            return None
        return tuple(Member(m.ID, m.name, tuple(m.clientURLs), tuple(m.peerURLs), m.isLearner) for m in answer.members)

    async def close(self) -> None:
        """Close the channel at once."""
        link, self._link = self._link, None
        if link is not None:
            await link.channel.close()

    async def _exchange(self, seen: _Attempt) -> None:
        if self._link is None:
            self._link = await self._address.link(seen.trace)
        link, rpc = self._link, etcd_stubs.messages()
        answer = await self._call(link, seen, "status", link.stubs.maintenance.Status, rpc.StatusRequest())
        seen.trace.contact = True
        seen.status = self._status(answer)
        if seen.status.learner:
            return  # it answers nothing but status, and that names a leader for ever once it knew one
        try:
            async with asyncio.timeout(None if seen.status.leader else ELECTION_SECONDS):
                await self._read(link, seen)
        except TimeoutError:
            raise _NoLeader from None
        answer = await self._call(link, seen, "alarms", link.stubs.maintenance.Alarm, rpc.AlarmRequest())
        seen.alarms = tuple(Alarm(alarm.memberID, alarm.alarm) for alarm in answer.alarms)

    def _status(self, answer: Any) -> Status:
        if not answer.version or not answer.header.member_id:
            raise ProbeError(Reason.PROTOCOL_ERROR, f"{self.address} answers gRPC, but not as etcd does")
        return Status(
            member=answer.header.member_id,
            cluster=answer.header.cluster_id,
            version=answer.version,
            leader=answer.leader,
            learner=answer.isLearner,
            db_size=answer.dbSize,
            quota=answer.dbSizeQuota or self._target.quota_bytes,
        )

    async def _read(self, link: Link, seen: _Attempt) -> None:
        """Read a key through the quorum."""
        if self._target.auth is not None and link.token is None:
            await self._sign_in(link, seen)
        request = etcd_stubs.messages().RangeRequest(key=self._target.key.encode(), limit=1, keys_only=True)
        try:
            try:
                await self._call(link, seen, "read", link.stubs.kv.Range, request)
            except grpc.aio.AioRpcError as error:
                if not etcd_errors.leader_changed(error):
                    raise
                seen.trace.failed_in = ""  # an election has just ended, and etcd drops the reads that waited for it
                await self._call(link, seen, "read", link.stubs.kv.Range, request)
        except grpc.aio.AioRpcError as error:
            if not etcd_errors.denied(error):
                raise
            seen.trace.failed_in = ""
            seen.key_denied = True
        seen.quorum = True

    async def _call(self, link: Link, seen: _Attempt, step: str, method: Any, request: Any) -> Any:
        """One RPC. Where etcd asks for a token, or for a new one, sign in as a part of it; once in an attempt."""
        try:
            with seen.trace.step(step):
                return await link.call(method, request)
        except grpc.aio.AioRpcError as error:
            if self._target.auth is None or seen.signed_in or not etcd_errors.wants_sign_in(error):
                raise
        seen.trace.failed_in = ""
        await self._sign_in(link, seen)
        with seen.trace.step(step):
            return await link.call(method, request)

    async def _sign_in(self, link: Link, seen: _Attempt) -> None:
        with seen.trace.step("secret"):
            known = await load_credentials(self._secrets, self._target.auth, need=("username", "password"))
        if known is None:
            return
        seen.signed_in = True
        link.token = None  # etcd 3.4 refuses to let anybody sign in who still shows a token that has ended
        request = etcd_stubs.messages().AuthenticateRequest(name=known.username, password=known.password)
        try:
            with seen.trace.step("auth"):
                answer = await link.call(link.stubs.auth.Authenticate, request)
        except grpc.aio.AioRpcError as error:
            if not etcd_errors.auth_is_off(error):
                raise
            seen.trace.failed_in = ""
            link.token = ""
            return
        link.token = answer.token

    async def _failed(self, error: grpc.aio.AioRpcError, trace: Trace, *, kept: bool, left: float) -> Finding:
        """The finding for a failed RPC."""
        reason, message = etcd_errors.reason_of(error)
        if etcd_errors.lost_connection(error):
            await self.close()
            if kept:
                return await self._why_lost(trace, left)
        return Finding(reason, f"{self.address}: {message}")

    async def _why_lost(self, trace: Trace, left: float) -> Finding:
        """The finding for a kept connection that broke in mid-exchange, by what a new one says."""
        try:
            async with asyncio.timeout(left):
                await self._address.dial(trace)
        except (ProbeError, OSError) as cause:
            return await self._not_connected(cause, trace, left)
        told = "the connection broke in the middle of the exchange; a new one is accepted"
        return Finding(Reason.CONNECTION_RESET, f"{self.address}: {told}")

    async def _not_connected(self, error: ProbeError | OSError, trace: Trace, spare: float) -> Finding:
        """The finding for a dial that failed; where the other side just hung up, whether it is for want of TLS."""
        finding = failure(error, trace)
        if not isinstance(error, ConnectionResetError | ssl.SSLEOFError):
            return finding
        try:
            async with asyncio.timeout(spare):
                told = await self._address.mistaken()
        except TimeoutError:
            return finding
        return Finding(Reason.TLS_FAILURE, f"{self.address}: {told}") if told else finding

    async def _hung(self, seen: _Attempt, waited: float, spare: float) -> Finding:
        """The finding for an exchange that took too long: a member that still tells its status has lost its quorum."""
        if seen.trace.failed_in == "secret":
            told = f"reading the probe's Secret took longer than {waited:g} s"
            return Finding(Reason.SECRET_UNAVAILABLE, f"{self.address}: {told}", contact=seen.trace.contact)
        if seen.quorum:
            told = f"reads work, but nothing is committed within {waited:g} s: a slow disk?"
            return Finding(Reason.TIMEOUT, f"{self.address}: {told}")
        led = seen.status is None or seen.status.leader != 0
        if led and not await self._still_answers(seen, spare):
            hung = timed_out(seen.trace, waited)
            return Finding(hung.reason, f"{self.address}: {hung.message}", contact=hung.contact)
        told = "knows a leader, but a majority does not confirm it"
        if seen.status is None or not seen.status.leader:
            told = "has no leader" if seen.status else "answers, but nothing that takes a quorum"
        told = f"the member {told}; a read through the quorum is not answered"
        return Finding(Reason.QUORUM_LOST, f"{self.address}: {told}")

    async def _still_answers(self, seen: _Attempt, within: float) -> bool:
        """Whether the member tells its status within `within` seconds, or refuses to: neither takes a quorum."""
        if self._link is None:
            return False
        request = etcd_stubs.messages().StatusRequest()
        try:
            async with asyncio.timeout(within):
                seen.status = self._status(await self._link.call(self._link.stubs.maintenance.Status, request))
        except (TimeoutError, ProbeError):
            return False
        except grpc.aio.AioRpcError as error:
            return etcd_errors.wants_sign_in(error)
        return True


class _NoLeader(Exception):  # noqa: N818
    """The member has been without a leader for as long as an election may take."""


def _refused_by_quorum(finding: Finding, trace: Trace) -> bool:
    """Whether credentials were judged by the quorum: for a read and a sign-in it is asked before them."""
    return finding.reason is Reason.AUTHENTICATION_FAILED and trace.failed_in in ("read", "auth")
