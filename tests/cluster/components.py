"""Command lines and configuration files of everything that runs on the node."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.apiserver import SERVICE_NETWORK, ApiServer, Store
from tests.cluster.node import ADDRESS, NAME
from tests.cluster.pki import ADMIN_GROUP, Pki
from tests.servers.process import LOOPBACK

API_PORT = 6443
API_URL = f"https://{LOOPBACK}:{API_PORT}"
"""Inside the node's network namespace."""
CONTAINERD = "/run/containerd/containerd.sock"
_POD_NETWORK = "10.78.0.0/24"
_KWOK_PORT = 10247
_STAGES = Path(__file__).with_name("kwok.yaml")
_NODE_GROUP = "system:nodes"


@dataclass(frozen=True, slots=True)
class Components:
    """Command lines by method; each writes the files that it names below `directory`."""

    binaries: Path
    directory: Path
    pki: Pki

    @property
    def audit_log(self) -> Path:
        """One JSON line for each request to the API server."""
        return self.directory / "audit.log"

    def etcd(self) -> list[str]:
        """The cluster's store."""
        return self._store().arguments()

    def apiserver(self) -> list[str]:
        """On all addresses of the node, for the pods; its certificate names the loopback address too."""
        names = (LOOPBACK, ADDRESS, _first_service(), "localhost", "kubernetes", "kubernetes.default.svc")
        kubelet_client = self.pki.client("kube-apiserver-kubelet-client", ADMIN_GROUP)
        server = ApiServer(
            self.binaries / "kube-apiserver",
            self.pki,
            self.pki.server("apiserver", *names),
            self._store(),
            API_PORT,
            self.audit_log,
        )
        return server.arguments(
            "--bind-address=0.0.0.0",
            f"--advertise-address={ADDRESS}",
            f"--kubelet-client-certificate={kubelet_client.cert_file}",
            f"--kubelet-client-key={kubelet_client.key_file}",
            f"--kubelet-certificate-authority={self.pki.ca_file}",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
        )

    def controller_manager(self) -> list[str]:
        """All controllers; hostpath volumes are provisioned, so that claims work."""
        return [
            *self._controller("kube-controller-manager"),
            "--use-service-account-credentials",
            "--enable-hostpath-provisioner",
            "--kube-api-qps=500",  # the default takes 5 s more to start
            "--kube-api-burst=1000",
            f"--service-account-private-key-file={self.pki.service_account_key_file}",
            f"--root-ca-file={self.pki.ca_file}",
            f"--cluster-signing-cert-file={self.pki.ca_file}",
            f"--cluster-signing-key-file={self.pki.ca_key_file}",
        ]

    def scheduler(self) -> list[str]:
        """The scheduler."""
        return self._controller("kube-scheduler")

    def containerd(self) -> list[str]:
        """The container runtime, with a bridge for the pods and no way out of it."""
        networks = self.directory / "cni"
        networks.mkdir(exist_ok=True)
        (networks / "10-bridge.conflist").write_text(json.dumps(_bridge()))
        config = self.directory / "containerd.toml"
        config.write_text(_CONTAINERD.replace("@NETWORKS@", str(networks)))
        return ["containerd", "--config", str(config)]

    def kubelet(self) -> list[str]:
        """The node's agent."""
        serving = self.pki.server("kubelet-serving", ADDRESS, NAME, user=f"system:node:{NAME}", group=_NODE_GROUP)
        config = _kubelet(str(serving.cert_file), str(serving.key_file), str(self.pki.ca_file))
        return [
            str(self.binaries / "kubelet"),
            f"--config={self._write('kubelet', config)}",
            f"--kubeconfig={self._kubeconfig(f'system:node:{NAME}', _NODE_GROUP)}",
            "--root-dir=/var/lib/kubelet",
            f"--hostname-override={NAME}",
            f"--node-ip={ADDRESS}",
        ]

    def proxy(self) -> list[str]:
        """Service addresses, by iptables."""
        config = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": str(self._kubeconfig("system:kube-proxy"))},
            "hostnameOverride": NAME,
            "bindAddress": ADDRESS,
            "mode": "iptables",
            "clusterCIDR": _POD_NETWORK,
            "detectLocalMode": "ClusterCIDR",
            "healthzBindAddress": f"{LOOPBACK}:10256",
            "metricsBindAddress": f"{LOOPBACK}:10249",
            # the machine's own limits stay
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            "iptables": {"minSyncPeriod": "100ms"},
            "oomScoreAdj": 0,
        }
        return [str(self.binaries / "kube-proxy"), f"--config={self._write('kube-proxy', config)}"]

    def dns(self) -> list[str]:
        """Names of Services; for any other name the answer is that there is none."""
        corefile = self.directory / "Corefile"
        kubeconfig = self._kubeconfig("coredns", ADMIN_GROUP)
        zones = "cluster.local in-addr.arpa ."  # without the last, other names would be refused, not denied
        corefile.write_text(
            f".:53 {{\n  errors\n  kubernetes {zones} {{\n    kubeconfig {kubeconfig} test\n    ttl 1\n  }}\n}}\n"
        )
        return [str(self.binaries / "coredns"), "-conf", str(corefile)]

    def kwok(self) -> list[str]:
        """Plays the kubelet of nodes that carry the annotation kwok.x-k8s.io/node=fake."""
        serving = self.pki.server("kwok-serving", ADDRESS, NAME)
        return [
            str(self.binaries / "kwok"),
            f"--kubeconfig={self._kubeconfig('kwok', ADMIN_GROUP)}",
            f"--config={_STAGES}",
            "--manage-all-nodes=false",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
            f"--node-ip={ADDRESS}",
            f"--node-port={_KWOK_PORT}",
            "--node-lease-duration-seconds=40",  # without leases its nodes flap
            f"--server-address={ADDRESS}:{_KWOK_PORT}",
            f"--tls-cert-file={serving.cert_file}",
            f"--tls-private-key-file={serving.key_file}",
        ]

    def _store(self) -> Store:
        return Store(self.binaries / "etcd", Path("/run/etcd"), 2379, 2380)

    def _controller(self, name: str) -> list[str]:
        kubeconfig = self._kubeconfig(f"system:{name}")
        return [
            str(self.binaries / name),
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            f"--bind-address={LOOPBACK}",
            "--leader-elect=false",
            "--profiling=false",
        ]

    def _kubeconfig(self, user: str, group: str | None = None) -> Path:
        return self.pki.kubeconfig(user.replace(":", "-"), API_URL, self.pki.client(user, group))

    def _write(self, name: str, config: dict[str, Any]) -> Path:
        path = self.directory / f"{name}.json"
        path.write_text(json.dumps(config, indent=1))
        return path


def _first_service() -> str:
    """The address of the Service `kubernetes`."""
    return SERVICE_NETWORK.replace("0.0/16", "0.1")


def _bridge() -> dict[str, Any]:
    addresses = {
        "type": "host-local",
        "dataDir": "/run/cni",
        "ranges": [[{"subnet": _POD_NETWORK}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "pods0", "isGateway": True, "hairpinMode": True, "ipam": addresses}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}


def _kubelet(cert: str, key: str, ca: str) -> dict[str, Any]:
    never = {"memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%"}
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ADDRESS,
        "readOnlyPort": 0,
        "healthzPort": 0,
        "tlsCertFile": cert,
        "tlsPrivateKeyFile": key,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": ca},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{CONTAINERD}",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,  # lowering it needs CAP_SYS_RESOURCE
        "resolvConf": "",  # the machine's own name server can't be reached from here
        "clusterDNS": [ADDRESS],
        "clusterDomain": "cluster.local",
        "podLogsDir": "/run/pod-logs",
        "volumePluginDir": "/run/volume-plugins",
        "makeIPTablesUtilChains": False,
        "localStorageCapacityIsolation": False,
        "evictionHard": never,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "syncFrequency": "1s",  # a waiting container is called CrashLoopBackOff at the next sync
        "nodeStatusUpdateFrequency": "2s",
        "shutdownGracePeriod": "0s",
        "serializeImagePulls": False,
        # long enough for CrashLoopBackOff to be seen, short enough to wait for
        "crashLoopBackOff": {"maxContainerRestartPeriod": "10s"},
    }


_CONTAINERD = f"""version = 2
root = "/run/containerd-root"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
]
[grpc]
  address = "{CONTAINERD}"
[plugins."io.containerd.internal.v1.opt"]
  path = "/run/containerd-opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "runc"
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "@NETWORKS@"
"""
