"""The closed set of reasons: the one table that verdicts, `explain`, the docs and every probe go by."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from backendhealth.core.verdict import Verdict


class Reason(StrEnum):
    """Why a probe, a component or a resource has its verdict; CamelCase as in Kubernetes conditions."""

    PROBE_SUCCEEDED = "ProbeSucceeded"
    # what we cannot tell: our own side
    PENDING = "Pending"
    SUSPENDED = "Suspended"
    INVALID_SPEC = "InvalidSpec"
    PROFILE_NOT_FOUND = "ProfileNotFound"
    PROFILE_INVALID = "ProfileInvalid"
    BLIND = "Blind"
    INTERNAL_ERROR = "InternalError"
    RESOLVER_UNAVAILABLE = "ResolverUnavailable"
    NETWORK_UNREACHABLE = "NetworkUnreachable"
    ADDRESS_REFUSED = "AddressRefused"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105
    SECRET_FORBIDDEN = "SecretForbidden"  # noqa: S105
    SECRET_NOT_ALLOWED = "SecretNotAllowed"  # noqa: S105
    SECRET_UNAVAILABLE = "SecretUnavailable"  # noqa: S105
    SECRET_KEY_MISSING = "SecretKeyMissing"  # noqa: S105
    SECRET_INVALID = "SecretInvalid"  # noqa: S105
    AUTHENTICATION_FAILED = "AuthenticationFailed"
    PERMISSION_DENIED = "PermissionDenied"
    # reaching it
    CONNECTION_REFUSED = "ConnectionRefused"
    CONNECTION_RESET = "ConnectionReset"
    HOST_UNREACHABLE = "HostUnreachable"
    TIMEOUT = "Timeout"
    DNS_NAME_NOT_FOUND = "DNSNameNotFound"
    TLS_FAILURE = "TLSFailure"
    CERTIFICATE_EXPIRED = "CertificateExpired"
    CERTIFICATE_EXPIRING = "CertificateExpiring"
    PROTOCOL_ERROR = "ProtocolError"
    FLAPPING = "Flapping"
    # shared by several backends
    MEMBER_DOWN = "MemberDown"
    TOO_MANY_CLIENTS = "TooManyClients"
    LOADING = "Loading"
    OVERLOADED = "Overloaded"
    DATABASE_MISSING = "DatabaseMissing"
    # etcd
    QUORUM_LOST = "QuorumLost"
    ALARM_NO_SPACE = "AlarmNoSpace"
    ALARM_CORRUPT = "AlarmCorrupt"
    QUOTA_NEARLY_FULL = "QuotaNearlyFull"
    # RethinkDB
    TABLE_MISSING = "TableMissing"
    TABLE_UNAVAILABLE = "TableUnavailable"
    REPLICA_LOST = "ReplicaLost"
    ISSUE_REPORTED = "IssueReported"
    # Redis
    OUT_OF_MEMORY = "OutOfMemory"
    PERSISTENCE_FAILING = "PersistenceFailing"
    READ_ONLY_REPLICA = "ReadOnlyReplica"
    MASTER_LINK_DOWN = "MasterLinkDown"
    SLOTS_UNCOVERED = "SlotsUncovered"
    NO_PRIMARY = "NoPrimary"
    NOT_ENOUGH_REPLICAS = "NotEnoughReplicas"
    # Elasticsearch
    CLUSTER_RED = "ClusterRed"
    CLUSTER_YELLOW = "ClusterYellow"
    NO_MASTER = "NoMaster"
    INDEX_MISSING = "IndexMissing"
    INDEX_BLOCKED = "IndexBlocked"
    SHARDS_FAILED = "ShardsFailed"
    NOT_ELASTICSEARCH = "NotElasticsearch"
    # HTTP and TCP
    UNEXPECTED_STATUS = "UnexpectedStatus"
    UNEXPECTED_HEADER = "UnexpectedHeader"
    UNEXPECTED_BODY = "UnexpectedBody"
    UNEXPECTED_REPLY = "UnexpectedReply"
    TOO_MANY_REDIRECTS = "TooManyRedirects"
    # PostgreSQL
    READ_ONLY = "ReadOnly"
    QUERY_FAILED = "QueryFailed"
    UNEXPECTED_RESULT = "UnexpectedResult"
    UNEXPECTED_ROLE = "UnexpectedRole"
    REPLICATION_LAG = "ReplicationLag"
    # pods
    NO_CLUSTER = "NoCluster"
    CLUSTER_UNAVAILABLE = "ClusterUnavailable"
    PODS_FORBIDDEN = "PodsForbidden"
    NO_PODS = "NoPods"
    NOT_ENOUGH_READY = "NotEnoughReady"
    PODS_DEGRADED = "PodsDegraded"
    RESTARTS_RISING = "RestartsRising"
    OOM_KILLED = "OOMKilled"
    CONTAINER_CONFIG_ERROR = "ContainerConfigError"
    CONTAINER_START_FAILED = "ContainerStartFailed"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CRASH_LOOP_BACK_OFF = "CrashLoopBackOff"
    UNSCHEDULABLE = "Unschedulable"
    CONTAINER_EXITED = "ContainerExited"
    POD_FAILED = "PodFailed"
    POD_NOT_READY = "PodNotReady"
    # PlaceOS as users see it
    STEP_SKIPPED = "StepSkipped"
    LOGIN_FAILED = "LoginFailed"
    REQUEST_FAILED = "RequestFailed"
    MODULE_NOT_FOUND = "ModuleNotFound"
    FUNCTION_NOT_FOUND = "FunctionNotFound"
    NO_CORE_INSTANCES = "NoCoreInstances"
    CONNECT_FAILED = "ConnectFailed"
    CORE_REFUSED = "CoreRefused"
    EXECUTE_FAILED = "ExecuteFailed"
    MODULE_RAISED = "ModuleRaised"
    BIND_FAILED = "BindFailed"
    WEBSOCKET_LOST = "WebSocketLost"
    BACKEND_FAILING = "BackendFailing"
    # PlaceOS's drivers and cores
    API_UNAVAILABLE = "ApiUnavailable"
    DRIVER_CRASH_LOOPING = "DriverCrashLooping"
    DRIVER_COMPILE_FAILED = "DriverCompileFailed"
    DRIVER_MISSING = "DriverMissing"
    DRIVER_NOT_RUNNING = "DriverNotRunning"
    MODULES_NOT_LOADED = "ModulesNotLoaded"
    CORE_NOT_REGISTERED = "CoreNotRegistered"
    STALE_PLACEMENT = "StalePlacement"

    @property
    def verdict(self) -> Verdict:
        """The verdict that this reason stands for."""
        return REASONS[self].verdict

    @property
    def info(self) -> ReasonInfo:
        """Meaning, detection and remedy, for people."""
        return REASONS[self]


@dataclass(frozen=True, slots=True)
class ReasonInfo:
    """One row of the table: what a reason means to a person on call."""

    verdict: Verdict
    given_by: str
    """Which probes can give it, or `engine`."""
    meaning: str
    found_by: str
    look_at: str


_H, _D, _N, _U = Verdict.HEALTHY, Verdict.DEGRADED, Verdict.UNKNOWN, Verdict.UNHEALTHY
EVERY_PROBE = "every probe"
"""Who gives the reasons that tell of the way to a target."""
_ALL = EVERY_PROBE
_Row = ReasonInfo

REASONS: dict[Reason, ReasonInfo] = {
    Reason.PROBE_SUCCEEDED: _Row(
        _H, _ALL, "The backend did all that the probe asks of it.", "Every check of the attempt passed.", "Nothing."
    ),
    Reason.PENDING: _Row(
        _N,
        "engine",
        "Not decided yet: too few attempts since the start or since the spec changed.",
        "Fewer attempts than successThreshold or failureThreshold asks for.",
        "Wait for interval and retryInterval; nothing is wrong.",
    ),
    Reason.SUSPENDED: _Row(
        _N,
        "engine",
        "Probing is switched off on purpose.",
        "`suspend: true` in the resource or the probe, or the annotation `backendhealth.dev/suspended-until`.",
        "Remove `suspend` or the annotation to go on; the annotation ends by itself.",
    ),
    Reason.INVALID_SPEC: _Row(
        _N,
        "operator",
        "The resource can't be used as it stands: an older CRD has let it through, or the operator is the older one.",
        "The same checks as `backendhealth lint`; the message names the fields.",
        "Correct the fields that the message names; bring the CRDs and the operator to the same version.",
    ),
    Reason.PROFILE_NOT_FOUND: _Row(
        _N,
        "operator",
        "The DiagnosisProfile that the resource names is not there; the last good one stays in force.",
        "Condition Stalled; probing goes on.",
        "`kubectl get diagnosisprofiles`, or `backendhealth profiles` for the built-in ones, and `spec.profileRef`.",
    ),
    Reason.PROFILE_INVALID: _Row(
        _N,
        "operator",
        "The DiagnosisProfile that the resource names can't be used as it stands; the last good one stays in force.",
        "Condition Stalled, whose message names each field that is wrong; probing goes on.",
        "`backendhealth lint -f` the profile and correct it.",
    ),
    Reason.BLIND: _Row(
        _N,
        "engine",
        "Nobody answers us, neither with a refusal nor with a reply: our own network is the likely fault.",
        "Every target has been silent since the failure began, and there are at least two of them.",
        "The prober's own network: its node, CNI, NetworkPolicy, routes.",
    ),
    Reason.INTERNAL_ERROR: _Row(
        _N,
        _ALL,
        "The probe itself failed: a fault of this program, not of the backend.",
        "An exception that no probe expects; its traceback is in the log.",
        "The log, then report the fault.",
    ),
    Reason.RESOLVER_UNAVAILABLE: _Row(
        _N,
        _ALL,
        "The name could not be looked up because the resolver does not answer.",
        "The resolver's temporary failure (EAI_AGAIN), or no answer within the time-out.",
        "The cluster's DNS (CoreDNS), /etc/resolv.conf, a NetworkPolicy that blocks port 53.",
    ),
    Reason.NETWORK_UNREACHABLE: _Row(
        _N,
        _ALL,
        "This side has no route to the target's network.",
        "ENETUNREACH or ENETDOWN from connect(2).",
        "The prober's own routes and interfaces; IPv6 addresses on a network without IPv6.",
    ),
    Reason.ADDRESS_REFUSED: _Row(
        _N,
        _ALL,
        "The target's address is one that probes must not connect to.",
        "The address that would really be connected is on the deny-list (loopback, metadata, node, API server).",
        "The spec's host name, redirects and DNS answers; a setting allows such addresses.",
    ),
    Reason.SECRET_NOT_FOUND: _Row(
        _N,
        _ALL,
        "A Secret that the probe names does not exist.",
        "The look-up of the Secret in the resource's namespace.",
        "Create the Secret, or correct the secretRef.",
    ),
    Reason.SECRET_FORBIDDEN: _Row(
        _N,
        _ALL,
        "A Secret that the probe names may not be read by us.",
        "401 or 403 from the API server, or no `spec.serviceAccountName` whose rights could be asked about.",
        "Run the `kubectl` line at the end of the message, if the grant is meant to be.",
    ),
    Reason.SECRET_NOT_ALLOWED: _Row(
        _N,
        _ALL,
        "A Secret that the probe names may be read, but its owner does not allow its use by this resource or host.",
        "The Secret's annotations `backendhealth.dev/allow` and `backendhealth.dev/allow-hosts`.",
        "Ask the Secret's owner, who may run the `kubectl` line at the end of the message.",
    ),
    Reason.SECRET_UNAVAILABLE: _Row(
        _N,
        _ALL,
        "The API server, where the Secret is kept, does not answer or answers with an error.",
        "Reading the Secret failed or took too long; nothing was sent to the backend.",
        "The API server named in the kubeconfig; our own network.",
    ),
    Reason.SECRET_KEY_MISSING: _Row(
        _N,
        _ALL,
        "The Secret exists but lacks a key that the probe needs.",
        "The keys of the Secret: username, password, token, ca.crt, tls.crt, tls.key.",
        "Add the key that the message names.",
    ),
    Reason.SECRET_INVALID: _Row(
        _N,
        _ALL,
        "A value in the Secret cannot be used: not a certificate, not a key, not UTF-8.",
        "Loading the value with the TLS library or as text.",
        "The key that the message names; compare with `openssl x509 -in ca.crt -text`.",
    ),
    Reason.AUTHENTICATION_FAILED: _Row(
        _N,
        _ALL,
        "The backend answers but does not accept the probe's credentials, so its health can't be told.",
        "The backend's own answer to the credentials.",
        "Was the password rotated? Compare the Secret with the backend's users.",
    ),
    Reason.PERMISSION_DENIED: _Row(
        _N,
        _ALL,
        "The credentials are good, but the backend does not allow what the probe asks.",
        "The backend's own answer to the probe's request.",
        "Grant the probe's user what the message names; reading is enough unless a write check is on.",
    ),
    Reason.CONNECTION_REFUSED: _Row(
        _U,
        _ALL,
        "The host is there, but nothing listens on the port.",
        "ECONNREFUSED from connect(2).",
        "Is the process running? Did it crash or move to another port? `kubectl get pods`, its previous log.",
    ),
    Reason.CONNECTION_RESET: _Row(
        _U,
        _ALL,
        "The connection was made and then broken by the other side.",
        "ECONNRESET or an end of file in the middle of the exchange.",
        "The backend's log at that second; a proxy or load balancer in between; plain text sent to a TLS port.",
    ),
    Reason.HOST_UNREACHABLE: _Row(
        _U,
        _ALL,
        "No way to the host, though our network works.",
        "EHOSTUNREACH from connect(2).",
        "Is the node or the pod gone? Compare the Service's endpoints.",
    ),
    Reason.TIMEOUT: _Row(
        _U,
        _ALL,
        "No answer within the time-out; the message names the step that hung.",
        "The attempt's deadline, over name look-up, connect, TLS, authentication and reading together.",
        "Step connect: host down or packets dropped. A later one: the process is frozen or blocked on disk.",
    ),
    Reason.DNS_NAME_NOT_FOUND: _Row(
        _U,
        _ALL,
        "The resolver works and says that the name does not exist.",
        "EAI_NONAME or EAI_NODATA from the resolver.",
        "The spelling of the host; does the Service exist in that namespace?",
    ),
    Reason.TLS_FAILURE: _Row(
        _U,
        _ALL,
        "No TLS session could be agreed on; the message has the cause.",
        "The TLS handshake: unknown authority, wrong name, no client certificate, or the port does not speak TLS.",
        "caSecretRef, serverName, certSecretRef; `openssl s_client -connect HOST:PORT`.",
    ),
    Reason.CERTIFICATE_EXPIRED: _Row(
        _U,
        _ALL,
        "The backend's certificate has expired: clients that verify it can't connect.",
        "The TLS handshake.",
        "Renew the certificate; is cert-manager healthy?",
    ),
    Reason.CERTIFICATE_EXPIRING: _Row(
        _D,
        _ALL,
        "All works, but the backend's certificate expires soon.",
        "notAfter of the certificate against tls.expiryWarning.",
        "Renew the certificate before the date in the message.",
    ),
    Reason.PROTOCOL_ERROR: _Row(
        _U,
        _ALL,
        "Something answers there, but it is not this backend or does not keep to its protocol.",
        "The answer can't be parsed, is far too large, or is another protocol's.",
        "The port, and what listens on it; a proxy's error page.",
    ),
    Reason.FLAPPING: _Row(
        _U,
        "engine",
        "The component changes between failing and working too often to be relied on.",
        "More changes within flapDetection.window than flapDetection.changes allows; held until it calms down.",
        "The history of its reasons: restarts, failovers, a load balancer with one dead member.",
    ),
    Reason.MEMBER_DOWN: _Row(
        _D,
        "etcd, redis, elasticsearch",
        "A member is down while the rest still serve: redundancy is lost.",
        "One endpoint or member fails while the cluster has its quorum.",
        "The member that the message names, before a second one goes.",
    ),
    Reason.TOO_MANY_CLIENTS: _Row(
        _U,
        "redis, postgres",
        "The server turns new clients away: its connection limit is reached.",
        "The server's answer to a new connection (maxclients, max_connections).",
        "Who holds the connections? CLIENT LIST or pg_stat_activity; connection leaks after a restart storm.",
    ),
    Reason.LOADING: _Row(
        _U,
        "redis, postgres, elasticsearch",
        "The server runs but is still starting and refuses requests.",
        "LOADING from Redis, SQLSTATE 57P03 from PostgreSQL, the block `state not recovered` from Elasticsearch.",
        "Wait, watch its log; why did it restart?",
    ),
    Reason.OVERLOADED: _Row(
        _U,
        "elasticsearch, etcd, http, redis",
        "The server refuses requests because it is overloaded.",
        "HTTP 429, a full queue or a tripped circuit breaker; BUSY from a Redis that a script blocks.",
        "Load, heap and queue sizes of the server; who sends so much?",
    ),
    Reason.DATABASE_MISSING: _Row(
        _U,
        "rethinkdb, postgres, redis",
        "The server works but does not have the database.",
        "The server's answer to a query in that database.",
        "The name in the spec; was the server re-created with an empty disk?",
    ),
    Reason.QUORUM_LOST: _Row(
        _U,
        "etcd",
        "The cluster has no leader that a majority follows: no writes and no up-to-date reads.",
        "A linearizable read fails or times out, or status says there is no leader.",
        "How many members run? `etcdctl endpoint status --cluster`; network between members; slow disks.",
    ),
    Reason.ALARM_NO_SPACE: _Row(
        _U,
        "etcd",
        "The database reached its quota: etcd refuses writes until it is compacted, defragmented and disarmed.",
        "The alarm list has NOSPACE (status and reads still succeed).",
        "`etcdctl compact`, `defrag`, `alarm disarm`; raise --quota-backend-bytes.",
    ),
    Reason.ALARM_CORRUPT: _Row(
        _U,
        "etcd",
        "A member's data differs from its peers': etcd has raised the CORRUPT alarm.",
        "The alarm list has CORRUPT.",
        "Replace the member that the message names; restore from a snapshot if all disagree.",
    ),
    Reason.QUOTA_NEARLY_FULL: _Row(
        _D,
        "etcd",
        "The database is close to its quota; at the quota all writes stop.",
        "dbSize of status against quotaBytes and quotaWarningPercent.",
        "Compaction and defragmentation; what writes so many revisions?",
    ),
    Reason.TABLE_MISSING: _Row(
        _U,
        "rethinkdb",
        "The database is there but lacks a table that the platform needs.",
        "table_list of the database has no such name.",
        "The name in the spec; did a migration or a restore run to its end?",
    ),
    Reason.TABLE_UNAVAILABLE: _Row(
        _U,
        "rethinkdb",
        "A table can't be written, or not even read; the message says which.",
        "table_status: ready_for_writes, ready_for_reads, replica states and primary; a real read.",
        "Which servers are gone? Its `current_issues`; bring a majority of the table's replicas back.",
    ),
    Reason.REPLICA_LOST: _Row(
        _D,
        "rethinkdb",
        "All tables serve, but one lacks a replica: the next loss may stop it.",
        "table_status: all_replicas_ready is false while reads and writes are possible.",
        "The server that the message names.",
    ),
    Reason.ISSUE_REPORTED: _Row(
        _D,
        "rethinkdb",
        "The cluster reports an issue of its own that does not stop reads or writes.",
        "An entry of current_issues.",
        "The entry's text in the message.",
    ),
    Reason.OUT_OF_MEMORY: _Row(
        _U,
        "redis",
        "maxmemory is reached and the policy is noeviction: writes are refused, reads still work.",
        "OOM to the write check, or used_memory over maxmemory in INFO.",
        "What grew? `redis-cli --bigkeys`; raise maxmemory.",
    ),
    Reason.PERSISTENCE_FAILING: _Row(
        _U,
        "redis",
        "Redis can't save to disk and therefore refuses writes (MISCONF).",
        "MISCONF in an answer, or rdb_last_bgsave_status / aof_last_write_status in INFO.",
        "Disk full or read-only? Its log says why the save failed.",
    ),
    Reason.READ_ONLY_REPLICA: _Row(
        _U,
        "redis",
        "A primary is expected here, but the server is a replica: writes are refused.",
        "The role in INFO, or READONLY to the write check.",
        "Was there a failover? Point clients at the new primary, or fix the Service's selector.",
    ),
    Reason.MASTER_LINK_DOWN: _Row(
        _U,
        "redis",
        "The replica has lost its primary: its data is stale, or it refuses to serve it.",
        "master_link_status in INFO, or MASTERDOWN in an answer.",
        "Is the primary up? Network, password (masterauth) and buffer limits between the two.",
    ),
    Reason.SLOTS_UNCOVERED: _Row(
        _U,
        "redis",
        "Some hash slots of the cluster are served by nobody: keys in them fail, by default all do.",
        "CLUSTER INFO and CLUSTER SLOTS.",
        "The nodes that held the slots; promote their replicas (CLUSTER FAILOVER).",
    ),
    Reason.NO_PRIMARY: _Row(
        _U,
        "redis",
        "The Sentinels answer, but know no primary of that name or one that does not work as such.",
        "SENTINEL GET-MASTER-ADDR-BY-NAME, then the role of the server at that address.",
        "masterName; Sentinel quorum; is a failover under way?",
    ),
    Reason.NOT_ENOUGH_REPLICAS: _Row(
        _U,
        "redis",
        "Fewer replicas are in step than are asked for: writes are refused, or there is none to read from.",
        "NOREPLICAS to the write check; with role replica, the Sentinels know none.",
        "The replicas and their links; min-replicas-to-write and min-replicas-max-lag of the primary.",
    ),
    Reason.CLUSTER_RED: _Row(
        _U,
        "elasticsearch",
        "At least one primary shard is unassigned: part of the data can't be read or written.",
        "Cluster health, over the indices named.",
        "`GET _cluster/allocation/explain`; nodes that left; disks.",
    ),
    Reason.CLUSTER_YELLOW: _Row(
        _D,
        "elasticsearch",
        "All data is served, but replicas are missing and minimumStatus asks for green.",
        "Cluster health, over the indices named.",
        "`GET _cat/shards?v`; fewer nodes than replicas ask for?",
    ),
    Reason.NO_MASTER: _Row(
        _U,
        "elasticsearch",
        "The cluster has no elected master: no writes to metadata, soon none at all.",
        "master_not_discovered_exception, or cluster health without an answer while the node itself answers.",
        "How many master-eligible nodes run? Their logs; network between them.",
    ),
    Reason.INDEX_MISSING: _Row(
        _U,
        "elasticsearch",
        "An index that the platform needs does not exist.",
        "404 index_not_found_exception.",
        "Was the reindex run? PlaceOS: `POST /api/engine/v2/reindex`.",
    ),
    Reason.INDEX_BLOCKED: _Row(
        _U,
        "elasticsearch",
        "An index refuses writes: flood-stage disk watermark or a read-only block.",
        "The blocks in the cluster state of the indices named.",
        "Free disk space; then set index.blocks.read_only_allow_delete to null.",
    ),
    Reason.SHARDS_FAILED: _Row(
        _U,
        "elasticsearch",
        "The search was answered by a part of the shards only: results are incomplete.",
        "`_shards.failed` of the search, or 503 when all failed.",
        "The failure text in the message; `GET _cat/shards?v`.",
    ),
    Reason.NOT_ELASTICSEARCH: _Row(
        _U,
        "elasticsearch",
        "Something answers HTTP there, but it does not say that it is Elasticsearch.",
        "The X-Elastic-Product header and the answer to `GET /`.",
        "The URL; a proxy; OpenSearch is another product.",
    ),
    Reason.UNEXPECTED_STATUS: _Row(
        _U,
        "http",
        "The HTTP status is not one of those expected.",
        "The answer's status line against expect.status.",
        "The status and the body's beginning in the message; the service's log.",
    ),
    Reason.UNEXPECTED_HEADER: _Row(
        _U,
        "http",
        "A header is missing or has another value.",
        "The answer's headers against expect.headers.",
        "A proxy that adds or strips headers; another version of the service.",
    ),
    Reason.UNEXPECTED_BODY: _Row(
        _U,
        "http",
        "The body does not match.",
        "expect.bodyRegex or expect.jsonPath against the body's first MiB.",
        "The body's beginning in the message.",
    ),
    Reason.UNEXPECTED_REPLY: _Row(
        _U,
        "tcp",
        "The reply does not match.",
        "expect against what was received.",
        "The reply's beginning in the message.",
    ),
    Reason.TOO_MANY_REDIRECTS: _Row(
        _U,
        "http",
        "The answers redirect in a circle or further than allowed.",
        "maxRedirects.",
        "The Location headers; http-to-https loops behind a proxy.",
    ),
    Reason.READ_ONLY: _Row(
        _U,
        "postgres",
        "A writable server is expected, but this one is read-only.",
        "pg_is_in_recovery() or default_transaction_read_only.",
        "Was there a failover? Does the Service point at a standby?",
    ),
    Reason.QUERY_FAILED: _Row(
        _U,
        "postgres, elasticsearch",
        "The query ended in an error.",
        "The server's SQLSTATE, or HTTP 400 from Elasticsearch.",
        "The server's text in the message.",
    ),
    Reason.UNEXPECTED_RESULT: _Row(
        _U,
        "postgres, elasticsearch",
        "The query's first value is not the one expected, or a search found too little.",
        "expect against the first column of the first row; minHits against the search's number of documents.",
        "The query and the value in the message.",
    ),
    Reason.UNEXPECTED_ROLE: _Row(
        _U,
        "postgres",
        "A standby is expected, but the server is a primary.",
        "pg_is_in_recovery().",
        "Was the standby promoted? Two primaries mean diverging data: which one do clients write to?",
    ),
    Reason.REPLICATION_LAG: _Row(
        _D,
        "postgres",
        "The standby is further behind its primary than allowed.",
        "Replay lag against maxReplicationLag.",
        "Load on the standby, long queries that hold replay back, the network to the primary.",
    ),
    Reason.NO_CLUSTER: _Row(
        _N,
        "pods",
        "Pods can't be seen because no cluster is known to this command.",
        "There is neither a kubeconfig given on purpose nor an operator's own access.",
        "Give `--kubeconfig FILE` to `backendhealth check`.",
    ),
    Reason.CLUSTER_UNAVAILABLE: _Row(
        _N,
        "pods",
        "The API server does not answer, so nobody can tell how the pods are; they may well run.",
        "Listing the pods failed or took too long, or the watch has been lost for more than 10 seconds.",
        "The API server; our own network to it. What depends on the pods may be fine meanwhile.",
    ),
    Reason.PODS_FORBIDDEN: _Row(
        _N,
        "pods",
        "The prober may not list and watch pods in the resource's namespace.",
        "401 or 403 from the API server.",
        "The message has the kubectl line that grants it.",
    ),
    Reason.NO_PODS: _Row(
        _U,
        "pods",
        "No pod that is to run matches the selector.",
        "The list is empty, or holds only pods that have ended or are being deleted.",
        "Scaled to zero? A quota? `kubectl describe` of the Deployment or StatefulSet; the labels in the selector.",
    ),
    Reason.NOT_ENOUGH_READY: _Row(
        _U,
        "pods",
        "Fewer pods are ready than needed, and none of the others says more than that it is not ready.",
        "Pods with condition Ready against minimumReady.",
        "The pods in the list of subjects; what their readiness probes ask; how many are meant to run.",
    ),
    Reason.PODS_DEGRADED: _Row(
        _D,
        "pods",
        "Enough pods are ready, but one of the others is in trouble: a rollout that hangs, or lost redundancy.",
        "A trouble of a pod beyond minimumReady; a pod that just starts or ends is none.",
        "The pods in the list of subjects.",
    ),
    Reason.RESTARTS_RISING: _Row(
        _D,
        "pods",
        "All needed pods are ready, but one of them is restarted again and again.",
        "Restart counts within restartWindow against maximumRestarts.",
        "`kubectl logs --previous`; liveness probes that are too strict; memory.",
    ),
    Reason.OOM_KILLED: _Row(
        _U,
        "pods",
        "A container was killed because it used more memory than its limit.",
        "OOMKilled in the container's present or last state; of a ready pod, for restartWindow.",
        "Raise resources.limits.memory, or find what grew.",
    ),
    Reason.CONTAINER_CONFIG_ERROR: _Row(
        _U,
        "pods",
        "A container is not made because a Secret, ConfigMap or key that its spec names is missing.",
        "CreateContainerConfigError.",
        "Create what the message names.",
    ),
    Reason.CONTAINER_START_FAILED: _Row(
        _U,
        "pods",
        "The container runtime can't start a container.",
        "CreateContainerError, RunContainerError, StartError or a failed hook.",
        "The runtime's words in the message: a command that isn't in the image, a mount, a permission.",
    ),
    Reason.IMAGE_PULL_FAILED: _Row(
        _U,
        "pods",
        "A container's image can't be had.",
        "ErrImagePull, ImagePullBackOff, InvalidImageName and the like.",
        "The image's name and tag; imagePullSecrets; the registry; the node's way to it.",
    ),
    Reason.CRASH_LOOP_BACK_OFF: _Row(
        _U,
        "pods",
        "A container crashes each time that it is started.",
        "CrashLoopBackOff, or two restarts or more within restartWindow and not up for 20 seconds since the last.",
        "`kubectl logs --previous`; what it needs at its start: a backend, a Secret, a migration.",
    ),
    Reason.UNSCHEDULABLE: _Row(
        _U,
        "pods",
        "No node takes the pod.",
        "The pod's condition PodScheduled.",
        "The scheduler's words in the message: requests, node selectors, taints, volumes, gates.",
    ),
    Reason.CONTAINER_EXITED: _Row(
        _U,
        "pods",
        "A container has ended with an error and does not run.",
        "The container's state terminated with an exit code other than 0.",
        "`kubectl logs`; it is started again unless restartPolicy says otherwise.",
    ),
    Reason.POD_FAILED: _Row(
        _U,
        "pods",
        "A pod has failed for good and nothing has taken its place.",
        "Phase Failed: evicted, over its deadline, refused by its node, or a Job's attempt.",
        "The pod's reason in the message; who is to replace it?",
    ),
    Reason.POD_NOT_READY: _Row(
        _U,
        "pods",
        "A pod is not ready, and its containers show no cause.",
        "The pod's condition Ready; with enough others ready, told after 60 seconds or when it was ready before.",
        "What the readiness probe asks for; its node; `kubectl describe pod`.",
    ),
    Reason.STEP_SKIPPED: _Row(
        _N,
        "placeos, drivers",
        "This was not tried, because something that it needs has failed: nothing is known of it.",
        "An earlier step of the same attempt; the message names it.",
        "The step that failed.",
    ),
    Reason.LOGIN_FAILED: _Row(
        _U,
        "placeos",
        "Nobody can log in: the credentials are not what is wrong.",
        "A log-in is refused or fails while PlaceOS's own health pages say that its database is away, or ends in an"
        " error of the server. With an API key, any failure of the database reads as 401 `unknown X-API-Key`.",
        "The configuration database; then the load balancer: do requests reach the services?",
    ),
    Reason.REQUEST_FAILED: _Row(
        _U,
        "placeos",
        "The API answered a request with an error of its own.",
        "The status of the answer; production shows no more (an empty body, or `{}`).",
        "Listing systems needs the search index, modules the database, functions Redis. The API's log has the cause.",
    ),
    Reason.MODULE_NOT_FOUND: _Row(
        _U,
        "placeos",
        "The system or its module is not found.",
        "404 or `could not find module`: the mapping or the module's metadata is missing in Redis; an empty list.",
        "Did Redis lose its data? Is the module running? The system and module in the spec.",
    ),
    Reason.FUNCTION_NOT_FOUND: _Row(
        _N,
        "placeos",
        "The module does not have the function that the spec names, so executing it tells nothing.",
        "`could not find function`, or the list of functions lacks it.",
        "The function in the spec; was the driver changed?",
    ),
    Reason.NO_CORE_INSTANCES: _Row(
        _U,
        "placeos, drivers",
        "No core is registered, so nothing can be executed.",
        "`No registered core instances`, or an empty list of cores.",
        "Is core running? Can it reach etcd, or Redis where that is its discovery?",
    ),
    Reason.CONNECT_FAILED: _Row(
        _U,
        "placeos",
        "The API could not connect to what an execute needs: the core that it was told of, discovery or Redis.",
        "A connect error in the answer's message.",
        "Whose address the message has: a core that is down or was registered and is gone, etcd, Redis.",
    ),
    Reason.CORE_REFUSED: _Row(
        _U,
        "placeos",
        "core was reached and refused to execute the function; why is only in its log.",
        "`unexpected response code` in the answer's message.",
        "core's log: module stopped, not loaded, driver not compiled, or no record of it.",
    ),
    Reason.EXECUTE_FAILED: _Row(
        _U,
        "placeos",
        "Executing the function failed by another error than those known.",
        "The message of the answer, for example a Redis exception.",
        "The text in the message; the API's log.",
    ),
    Reason.MODULE_RAISED: _Row(
        _D,
        "placeos",
        "The function was executed and its driver raised an exception: the platform works, the module doesn't.",
        "`module raised` in the answer's message.",
        "The driver's exception in the message; with Redis down, drivers raise, too.",
    ),
    Reason.BIND_FAILED: _Row(
        _U,
        "placeos",
        "A WebSocket opens, but a variable can't be bound over it.",
        "The answer to the command `bind`.",
        "The text in the message; discovery (etcd or Redis), then Redis.",
    ),
    Reason.WEBSOCKET_LOST: _Row(
        _U,
        "placeos",
        "A WebSocket that was open has ended: users lose theirs.",
        "The connection that is kept between attempts was closed by the other side.",
        "Did the API restart? Its pods; time-outs of the load balancer.",
    ),
    Reason.BACKEND_FAILING: _Row(
        _D,
        "placeos",
        "The service runs and answers, and says that one of its backends does not.",
        "A deep health page with an error status; which backend is only in its log.",
        "Its backends. On Kubernetes, a liveness probe at that page restarts the service for nothing.",
    ),
    Reason.API_UNAVAILABLE: _Row(
        _N,
        "drivers",
        "Drivers can't be seen, because the API through which they are asked for does not answer.",
        "The cluster API's answer, and that of the cores in coreUrls.",
        "The API and its backends; coreUrls lets cores be asked directly.",
    ),
    Reason.DRIVER_CRASH_LOOPING: _Row(
        _U,
        "drivers",
        "A driver's process ends and is launched again and again.",
        "launch_count rises by more than maximumLaunches within launchWindow; last_exit_code is told.",
        "core's log for the driver. All drivers at once: drivers end when Redis is away.",
    ),
    Reason.DRIVER_COMPILE_FAILED: _Row(
        _U,
        "drivers",
        "A driver does not compile, so its modules don't run.",
        "unavailable_drivers of a core that answers; the compiler's first lines are in the message.",
        "The compiler's output; the driver's last commit; the build service.",
    ),
    Reason.DRIVER_MISSING: _Row(
        _U,
        "drivers",
        "A driver that is required runs on no core, though all cores answer.",
        "`required` against what the cores have loaded.",
        "Are its modules running? Was the driver removed or renamed?",
    ),
    Reason.DRIVER_NOT_RUNNING: _Row(
        _U,
        "drivers",
        "A driver should run and does not, or its process does not answer core.",
        "`running` of the driver's status, or `query failed` in place of its modules.",
        "core's log: `error launching driver`, `driver launch timeout`, `restarting unresponsive driver`.",
    ),
    Reason.MODULES_NOT_LOADED: _Row(
        _U,
        "drivers",
        "A driver runs, but has fewer modules loaded than core counts for it.",
        "The modules that the driver lists against module_instances.",
        "core's log: `module load failure`; load the module: `POST /modules/{id}/load`.",
    ),
    Reason.CORE_NOT_REGISTERED: _Row(
        _U,
        "drivers",
        "A core that should be there is not in discovery: nothing is executed on it.",
        "Ready pods, or the number expected, or cores that answer, against the cores registered.",
        "Can core reach etcd or Redis? Older builds don't come back by themselves: restart core.",
    ),
    Reason.STALE_PLACEMENT: _Row(
        _U,
        "drivers",
        "Discovery has a core that is dead: executes on its modules fail with connect errors.",
        "A registration without its expiring key, or one whose core does not answer.",
        "Only a live leader prunes: start a core, or remove the entry; restart the API if it keeps old addresses.",
    ),
}
