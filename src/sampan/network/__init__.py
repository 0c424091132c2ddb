"""The network of pods and containers: CNI, with the usual plugins built in.

    networks = CniNetworks(CniConfig(root=...))      # engine: graph.one("io.sampan.network.v1")
    path = await namespaces.create("pod1")           # a pinned network namespace
    result = await networks.set_up(Request(id="pod1", netns=path, ports=(PortMapping(...),)))
    result.ips[0].address                            # "10.88.0.7/16"
    await networks.tear_down(Request(id="pod1"))     # also twice, or after a crash
    await namespaces.remove("pod1")

Which networks? The first file of the CNI folder (/etc/cni/net.d), as Kubernetes has it; where that
folder is empty, the bridge network `sampan`, which is made on first use. `Request.networks` names
others: any list of the CNI folder, and those people made (`NetworkStore`). Files may come, change
and go at any time: they are looked at on each use.

A network is a list of plugins, each called in turn with what the one before it answered. Types that
we have built in run in this process, by netlink (`network.plugins`); all others, or all if
`builtin = false`, are executables of the CNI folders (/opt/cni/bin, /usr/lib/cni). Both leave the
same interfaces, rules and files behind, so that either can clean up after the other.

What lies on disk:

    /var/lib/cni/results/<network>-<id>-<ifname>      as libcni keeps it: config and result
    /var/lib/cni/networks/<network>/<address>         addresses in use (plugin host-local)
    <root>/attachments/<network>-<id>-<ifname>        ours: written before ADD, gone after DEL
    <root>/networks/<name>.conflist                   networks made by people, and the default one
    <root>/hosts/<network>.json                       names of containers on a network
    <state>/netns/<key>                               pinned namespaces, 0711

After SIGKILL at any point: what `attachments` names and nobody claims is torn down by `gc`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol

from sampan.plugin import PluginType

if TYPE_CHECKING:
    from sampan.network.cni import CniConfig, CniNetworks
    from sampan.network.errors import PluginError
    from sampan.network.namespaces import PinnedNamespaces
    from sampan.network.store import BridgeNetworks
    from sampan.zygote import Zygote

__all__ = [
    "NETWORKS",
    "NETWORK_NAMESPACES",
    "NETWORK_STORE",
    "Attachment",
    "Bandwidth",
    "BridgeNetworks",
    "CniConfig",
    "CniNetworks",
    "Dns",
    "Interface",
    "Ip",
    "Network",
    "NetworkNamespaces",
    "NetworkStore",
    "Networks",
    "PinnedNamespaces",
    "PluginError",
    "PortMapping",
    "Request",
    "Result",
    "Route",
    "Status",
]


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A port of the host that leads into the container (capability `portMappings`)."""

    host_port: int
    container_port: int
    protocol: str = "tcp"
    """tcp, udp or sctp."""
    host_ip: str = ""
    """Address of the host to listen on; empty is every one, of both families."""


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Limits on traffic (capability `bandwidth`), in bits and bits a second; 0 is no limit."""

    ingress_rate: int = 0
    """Into the container."""
    ingress_burst: int = 0
    egress_rate: int = 0
    egress_burst: int = 0


@dataclass(frozen=True, slots=True)
class Dns:
    """What a resolv.conf holds."""

    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.nameservers or self.domain or self.search or self.options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Connect `id` at `netns`. For tear-down `id` alone is enough; give what is known."""

    id: str
    """Of the container or pod: letters, digits, `_.-`."""
    netns: str = ""
    """Path of the network namespace; empty once it is gone (tear-down only)."""
    ifname: str = "eth0"
    """Of the first network; the next get the number that follows."""
    networks: tuple[str, ...] = ()
    """Names in order; empty takes the default."""
    ports: tuple[PortMapping, ...] = ()
    bandwidth: Bandwidth | None = None
    dns: Dns | None = None
    ips: tuple[str, ...] = ()
    """Addresses wished for, with or without prefix; of the first network."""
    mac: str = ""
    """Hardware address wished for; of the first network."""
    aliases: tuple[str, ...] = ()
    """Further names on the network."""
    cgroup_path: str = ""
    args: Mapping[str, str] = field(default_factory=dict)
    """CNI_ARGS: K8S_POD_NAME and the like. IgnoreUnknown=1 is always added."""
    capabilities: Mapping[str, object] = field(default_factory=dict)
    """Further capability arguments as JSON, such as `ipRanges` or `deviceID`."""


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface that a plugin made or used."""

    name: str
    mac: str = ""
    sandbox: str = ""
    """Path of its network namespace; empty is the host's."""
    mtu: int = 0
    socket_path: str = ""
    pci_id: str = ""


@dataclass(frozen=True, slots=True)
class Ip:
    """An address of the container."""

    address: str
    """With prefix: `10.88.0.7/16`."""
    gateway: str = ""
    interface: int | None = None
    """Index into `interfaces` of its attachment's result."""

    @property
    def ip(self) -> str:
        """The address without prefix."""
        return self.address.partition("/")[0]

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.address else 4


@dataclass(frozen=True, slots=True)
class Route:
    """A route in the container."""

    dst: str
    gw: str = ""
    mtu: int = 0
    advmss: int = 0
    priority: int = 0
    table: int | None = None
    scope: int | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """One network's part in a result."""

    network: str
    ifname: str
    result: Result


@dataclass(frozen=True, slots=True)
class Result:
    """What a set-up came to: of one network, or of all of a request put together."""

    interfaces: tuple[Interface, ...] = ()
    ips: tuple[Ip, ...] = ()
    """In the plugins' order, those of the first network first."""
    routes: tuple[Route, ...] = ()
    dns: Dns = field(default_factory=Dns)
    attachments: tuple[Attachment, ...] = ()
    """One for each network; empty in the result of an attachment itself."""


@dataclass(frozen=True, slots=True)
class Status:
    """Whether a set-up would work now; CRI's NetworkReady."""

    ready: bool
    reason: str = ""
    """A CamelCase word."""
    message: str = ""
    networks: tuple[str, ...] = ()
    """Names of all networks, the default first."""


class Networks(Protocol):
    """Connects network namespaces to networks. Safe to call many times at once."""

    async def set_up(self, request: Request) -> Result:
        """Attach to each network of the request; undo everything if one fails.

        Loopback is switched on as well. Cancelled, it undoes, too.

        Raises:
          NotFound: a network or a plugin's executable.
          InvalidArgument: a request or configuration that no plugin could serve.
          AlreadyExists: this id is attached to that network by that interface.
          PluginError: a plugin refused; code, message and details are its own.
          DeadlineExceeded: a plugin did not end in time and was killed.
        """
        ...

    async def tear_down(self, request: Request) -> None:
        """Detach `request.id` from all it is attached to, as it was attached; nothing is fine, too.

        Every plugin is called, even after one failed; what failed is remembered for the next try.
        """
        ...

    async def check(self, request: Request) -> None:
        """Ask all plugins whether the attachments of the id are as they were made.

        Raises:
          NotFound: the id is attached to nothing.
          PluginError: something is missing or changed.
        """
        ...

    async def gc(self, valid: Collection[str], *, gone_only: bool = False) -> None:
        """Tear down attachments made by us whose id is not in `valid`; let plugins do likewise.

        Pods and containers of one root share its attachments: `valid` must name both.

        Args:
          valid: Ids.
          gone_only: Spare those whose namespace exists. `gc((), gone_only=True)` is safe at any
            time, and clears up after a reboot.
        """
        ...

    async def status(self, *, plugins: bool = True) -> Status:
        """Return whether the default network could be used now.

        Args:
          plugins: Ask each plugin by STATUS as well (CNI 1.1), not only whether it is there.
        """
        ...

    async def close(self) -> None: ...


class NetworkNamespaces(Protocol):
    """Network namespaces that live without a process, pinned by a mount."""

    async def create(self, key: str, *, userns: str = "") -> str:
        """Make one and return its path.

        Args:
          key: letters, digits, `_.-`.
          userns: path of the user namespace that is to own it; default is our own.

        Raises:
          AlreadyExists: the key is taken.
        """
        ...

    async def pin(self, key: str, source: str) -> str:
        """Pin the namespace at `source` (/proc/PID/ns/net) and return its new path."""
        ...

    async def remove(self, key: str) -> None:
        """Unpin it; fine if it is not there. The kernel ends it when nobody is inside."""
        ...

    def remove_later(self, key: str) -> None:
        """The same, without waiting for the kernel, which takes its time; `close` waits."""
        ...

    async def list(self) -> Sequence[str]:
        """Return the keys of those that exist; rests of interrupted calls are swept away."""
        ...

    def use_zygote(self, zygote: Callable[[], Awaitable[Zygote]]) -> None:
        """Say whom to ask for the child that `create(userns=...)` needs."""
        ...

    def path(self, key: str) -> str:
        """Return where `key` is, or would be."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network by name, as people see it."""

    name: str
    driver: str
    """Type of its first plugin: `bridge`, `macvlan`, ..."""
    path: str
    """Its file."""
    ours: bool
    """Made by `NetworkStore.create`, or the default one: may be removed."""
    default: bool = False
    """Used where no network is named."""
    bridge: str = ""
    subnets: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    internal: bool = False
    mtu: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, object] = field(default_factory=dict)
    """The whole list of plugins."""


class NetworkStore(Protocol):
    """Networks as things that people make, and names of containers on them.

    Names are resolved by hosts files: each container that joins tells where its own lies, and every
    change on one of its networks is written into it, between two marker lines, in place (the file
    is bind-mounted).
    """

    async def create(
        self,
        name: str,
        *,
        subnets: Sequence[str] = (),
        gateways: Sequence[str] = (),
        ip_range: str = "",
        ipv6: bool = False,
        internal: bool = False,
        mtu: int = 0,
        labels: Mapping[str, str] = ...,
    ) -> Network:
        """Make a bridge network; subnets that are not given are chosen free of all others.

        Raises:
          AlreadyExists: the name is taken.
          InvalidArgument: a subnet is wrong or overlaps another network's.
        """
        ...

    async def list(self) -> Sequence[Network]: ...

    async def inspect(self, name: str) -> Network:
        """Return one network.

        Raises:
          NotFound: there is none of that name.
        """
        ...

    async def remove(self, name: str) -> None:
        """Remove its file and bridge.

        Raises:
          NotFound: there is none.
          FailedPrecondition: something is attached, or it is not ours.
        """
        ...

    async def members(self, name: str) -> Sequence[str]:
        """Return the ids attached to a network by us."""
        ...

    async def join(
        self, network: str, id: str, *, names: Sequence[str], ips: Sequence[str], hosts: str
    ) -> None:
        """Make `id` known on a network, and keep its `hosts` file up to date from now on."""
        ...

    async def leave(self, id: str) -> None:
        """Forget `id` on every network."""
        ...


NETWORKS: Final[PluginType[Networks]] = PluginType("io.sampan.network.v1")
NETWORK_NAMESPACES: Final[PluginType[NetworkNamespaces]] = PluginType("io.sampan.netns.v1")
NETWORK_STORE: Final[PluginType[NetworkStore]] = PluginType("io.sampan.networkstore.v1")

_HOMES = {
    "BridgeNetworks": "store",
    "CniConfig": "cni",
    "CniNetworks": "cni",
    "PinnedNamespaces": "namespaces",
    "PluginError": "errors",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
