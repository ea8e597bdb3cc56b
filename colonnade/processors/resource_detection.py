"""Adds to every resource what the daemon finds out about where it runs.

    processors:
      resource_detection:
        detectors: [env, system, k8s_downward_api]
        override: false
        system:
          hostname_sources: [os]
          resource_attributes:
            host.id:
              enabled: true

Meant for sidecars and agents, which run where their senders do. Detectors run at start, in order, and the first to name
an attribute wins; `override` says whether that also holds against what resources name themselves. What is switched on
per attribute is added, nothing else is looked for. A detector that fails is told in the log and left out; with
`fail_on_missing_metadata` the daemon does not start. It holds no rows and refuses none.

- `env`: `OTEL_RESOURCE_ATTRIBUTES`, as `key=value` with commas between, percent-decoded.
- `system`: host and operating system.
- `docker`: the host as its Docker engine names it, asked over its socket.
- `process`: this daemon's process.
- `k8s_downward_api`: pod, namespace, node and container out of environment variables (`K8S_POD_NAME` or `POD_NAME` and
  so on), and the pod's labels and annotations out of a mounted `downwardAPI` volume.

Specification: the Collector's `resource_detection` processor. Differences: `process` and `k8s_downward_api` are ours;
the detectors of clouds and of the Kubernetes API are not there yet, and refused by name.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import platform
import pwd
import re
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from urllib.parse import unquote

from pydantic import AfterValidator, Field

from colonnade.native import AttributeEdit
from colonnade.pipeline.attribute_actions import typed
from colonnade.pipeline.component import BatchContext, ComponentId, Factory, Host, Processor, signals
from colonnade.pipeline.errors import ColonnadeError
from colonnade.pipeline.settings import Duration, Settings

if TYPE_CHECKING:
    from colonnade.native import Batch

Found = dict[str, Any]

DOCKER_SOCKET: Final = "/var/run/docker.sock"
PODINFO: Final = "/etc/podinfo"
NAMESPACE_FILE: Final = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "i686": "x86", "armv7l": "arm32"}

# Attributes by detector, and whether each is added unless the file says otherwise.
_ON, _OFF = True, False
SYSTEM: Final = {
    "host.name": _ON,
    "os.type": _ON,
    **dict.fromkeys(("host.id", "host.arch", "host.ip", "host.mac"), _OFF),
    **dict.fromkeys(("host.cpu.vendor.id", "host.cpu.family", "host.cpu.model.id", "host.cpu.model.name"), _OFF),
    **dict.fromkeys(("host.cpu.stepping", "host.cpu.cache.l2.size"), _OFF),
    **dict.fromkeys(("os.description", "os.name", "os.version", "os.build.id"), _OFF),
}
DOCKER: Final = {"host.name": _ON, "os.type": _ON}
PROCESS: Final = {
    **dict.fromkeys(("process.pid", "process.executable.name", "process.executable.path"), _ON),
    **dict.fromkeys(("process.runtime.name", "process.runtime.version"), _ON),
    **dict.fromkeys(("process.command", "process.command_args", "process.owner"), _OFF),
}
# Each from the first of these variables that is set.
VARIABLES: Final = {
    "k8s.pod.name": ("K8S_POD_NAME", "POD_NAME"),
    "k8s.pod.uid": ("K8S_POD_UID", "POD_UID"),
    "k8s.pod.ip": ("K8S_POD_IP", "POD_IP"),
    "k8s.namespace.name": ("K8S_NAMESPACE_NAME", "K8S_NAMESPACE", "POD_NAMESPACE"),
    "k8s.node.name": ("K8S_NODE_NAME", "NODE_NAME"),
    "k8s.container.name": ("K8S_CONTAINER_NAME", "CONTAINER_NAME"),
}


class Switch(Settings):
    """An attribute's switch."""

    enabled: bool = Field(description="Whether the attribute is added.")


def _known(attributes: Iterable[str]) -> Callable[[dict[str, Switch]], dict[str, Switch]]:
    def check(switches: dict[str, Switch]) -> dict[str, Switch]:
        for key in switches:
            if key not in attributes:
                raise ValueError(f"unknown attribute {key!r}; known here: {', '.join(attributes)}")
        return switches

    return check


class System(Settings):
    """`system`."""

    hostname_sources: tuple[Literal["dns", "os", "cname", "lookup"], ...] = Field(
        default=("dns", "os"), min_length=1, description="Where the host's name comes from: the first that knows it."
    )
    resource_attributes: Annotated[dict[str, Switch], AfterValidator(_known(SYSTEM))] = Field(
        default_factory=dict[str, Switch], description="Attributes switched on or off."
    )


class Docker(Settings):
    """`docker`."""

    socket: str = Field(default=DOCKER_SOCKET, description="The engine's socket.")
    resource_attributes: Annotated[dict[str, Switch], AfterValidator(_known(DOCKER))] = Field(
        default_factory=dict[str, Switch], description="Attributes switched on or off."
    )


class Process(Settings):
    """`process`."""

    resource_attributes: Annotated[dict[str, Switch], AfterValidator(_known(PROCESS))] = Field(
        default_factory=dict[str, Switch], description="Attributes switched on or off."
    )


class Downward(Settings):
    """`k8s_downward_api`."""

    volume: str = Field(default=PODINFO, description="Folder of the volume, with the files labels and annotations.")
    labels: bool = Field(default=True, description="Add the pod's labels as k8s.pod.label.KEY.")
    annotations: bool = Field(default=False, description="Add the pod's annotations as k8s.pod.annotation.KEY.")
    resource_attributes: Annotated[dict[str, Switch], AfterValidator(_known(VARIABLES))] = Field(
        default_factory=dict[str, Switch], description="Attributes switched on or off."
    )


class Config(Settings):
    """The processor's section."""

    detectors: tuple[Literal["env", "system", "docker", "process", "k8s_downward_api"], ...] = Field(
        default=("env",), min_length=1, description="What is asked, in this order."
    )
    override: bool = Field(default=True, description="What is found replaces what resources name themselves.")
    timeout: Duration = Field(default=5.0, gt=0, description="Bound of one detector.")
    refresh_interval: Duration = Field(default=0.0, description="How often detectors run again; 0 = at start only.")
    fail_on_missing_metadata: bool = Field(default=False, description="A detector that fails keeps the daemon down.")
    system: System = Field(default_factory=lambda: System(), description="The detector `system`.")
    docker: Docker = Field(default_factory=lambda: Docker(), description="The detector `docker`.")
    process: Process = Field(default_factory=lambda: Process(), description="The detector `process`.")
    k8s_downward_api: Downward = Field(default_factory=lambda: Downward(), description="The Kubernetes downward API.")


class ResourceDetection(Processor):
    """Detects at start, and again where the file says so; every batch gets what was found last."""

    def __init__(self, id: ComponentId, config: Config) -> None:
        super().__init__(id)
        self.config = config
        self.found: Found = {}
        self._edit: AttributeEdit | None = None
        self._refreshing: asyncio.Task[None] | None = None

    async def start(self, host: Host) -> None:
        await self._detect(host, strict=self.config.fail_on_missing_metadata)
        if self.config.refresh_interval:
            self._refreshing = asyncio.create_task(self._refresh(host), name=f"{self.id} refresh")

    async def shutdown(self) -> None:
        task, self._refreshing = self._refreshing, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def process(self, batch: Batch, ctx: BatchContext) -> Batch | None:
        return batch if self._edit is None else self._edit.apply(batch)

    async def _refresh(self, host: Host) -> None:
        while True:
            await asyncio.sleep(self.config.refresh_interval)
            await self._detect(host, strict=False)

    async def _detect(self, host: Host, *, strict: bool) -> None:
        """Asks every detector. What is found is set at once; where nothing is, the last findings stay."""
        found: Found = {}
        for name in self.config.detectors:
            try:
                async with asyncio.timeout(self.config.timeout):
                    more = await host.run(DETECTORS[name], self.config)
            except (OSError, ValueError, TimeoutError, http.client.HTTPException) as error:
                text = f"detector {name} failed: {error or type(error).__name__}"
                if strict:
                    raise ColonnadeError("detection", text) from error
                host.logger.warning("processor %s: %s", self.id, text)
                continue
            found = {**more, **found}
        if not found or found == self.found:
            return
        action = "upsert" if self.config.override else "insert"
        actions = [{"action": action, "key": key, "value": typed(value)} for key, value in found.items()]
        self.found, self._edit = found, AttributeEdit("resource", actions)
        host.logger.info("processor %s: found %s", self.id, ", ".join(sorted(found)))


# --- detectors: each blocks, and raises OSError or ValueError with the reason


def _env(config: Config) -> Found:
    text = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").strip()
    found: Found = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"OTEL_RESOURCE_ATTRIBUTES must be key=value with commas between; got {pair!r}")
        found[unquote(key.strip())] = unquote(value.strip().strip('"'))
    return found


def _system(config: Config) -> Found:
    wanted = _wanted(SYSTEM, config.system.resource_attributes)
    makers: dict[str, Callable[[], Any]] = {
        "host.name": lambda: _hostname(config.system.hostname_sources),
        "os.type": lambda: platform.system().lower(),
        "host.id": _machine_id,
        "host.arch": lambda: _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "host.ip": _addresses,
        "host.mac": _macs,
        "os.description": lambda: f"{_os_release().get('PRETTY_NAME', platform.system())} ({platform.release()})",
        "os.name": lambda: _os_release().get("NAME"),
        "os.version": lambda: _os_release().get("VERSION_ID"),
        "os.build.id": lambda: _os_release().get("BUILD_ID"),
    }
    found = {key: make() for key, make in makers.items() if key in wanted}
    if any(key.startswith("host.cpu.") for key in wanted):
        found |= {key: value for key, value in _cpu().items() if key in wanted}
    return _present(found)


def _docker(config: Config) -> Found:
    connection = http.client.HTTPConnection("docker", timeout=config.timeout)
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(config.timeout)
        stream.connect(config.docker.socket)
        connection.sock = stream
        connection.request("GET", "/info")
        answer = connection.getresponse()
        body = answer.read()
    if answer.status != 200:
        raise ValueError(f"the Docker engine answered {answer.status}")
    info = json.loads(body)
    wanted = _wanted(DOCKER, config.docker.resource_attributes)
    found = {"host.name": info.get("Name"), "os.type": str(info.get("OSType", "")).lower()}
    return _present({key: value for key, value in found.items() if key in wanted})


def _process(config: Config) -> Found:
    wanted = _wanted(PROCESS, config.process.resource_attributes)
    found = {
        "process.pid": os.getpid(),
        "process.executable.name": Path(sys.executable).name,
        "process.executable.path": sys.executable,
        "process.command": sys.orig_argv[0],
        "process.command_args": list(sys.orig_argv),
        "process.owner": _owner(),
        "process.runtime.name": sys.implementation.name,
        "process.runtime.version": platform.python_version(),
    }
    return _present({key: value for key, value in found.items() if key in wanted})


def _downward(config: Config) -> Found:
    section = config.k8s_downward_api
    wanted = _wanted(dict.fromkeys(VARIABLES, _ON), section.resource_attributes)
    found = {key: next(filter(None, map(os.environ.get, VARIABLES[key])), None) for key in wanted}
    if "k8s.namespace.name" in wanted and not found["k8s.namespace.name"]:
        found["k8s.namespace.name"] = _read(NAMESPACE_FILE)
    for name, on in (("label", section.labels), ("annotation", section.annotations)):
        if on:
            found |= {f"k8s.pod.{name}.{key}": value for key, value in _pairs(_read(f"{section.volume}/{name}s"))}
    return _present(found)


DETECTORS: Final[dict[str, Callable[[Config], Found]]] = {
    "env": _env,
    "system": _system,
    "docker": _docker,
    "process": _process,
    "k8s_downward_api": _downward,
}


# --- where it is found


def _wanted(known: dict[str, bool], switches: dict[str, Switch]) -> set[str]:
    return {key for key, on in known.items() if (switches[key].enabled if key in switches else on)}


def _present(found: Found) -> Found:
    return {key: value for key, value in found.items() if value not in (None, "", [])}


def _read(path: str) -> str:
    """A file's text; empty when there is none."""
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    return ""


def _hostname(sources: Iterable[str]) -> str:
    own = socket.gethostname()
    for source in sources:
        with suppress(OSError):
            match source:
                case "os":
                    return own
                case "cname" | "dns":
                    info = socket.getaddrinfo(own, None, flags=socket.AI_CANONNAME)
                    name = info[0][3] if info else ""
                case _:
                    name = socket.gethostbyaddr(socket.gethostbyname(own))[0]
            # An alias of the loopback address names no host.
            if name and name != "localhost":
                return name
    raise ValueError(f"none of {', '.join(sources)} knows the host's name")


def _machine_id() -> str:
    return _read("/etc/machine-id") or _read("/var/lib/dbus/machine-id")


def _os_release() -> dict[str, str]:
    with suppress(OSError):
        return platform.freedesktop_os_release()
    return {}


def _interfaces() -> list[str]:
    return sorted(name for _, name in socket.if_nameindex() if name != "lo")


def _macs() -> list[str]:
    found = [_read(f"/sys/class/net/{name}/address") for name in _interfaces()]
    return [mac.upper().replace(":", "-") for mac in found if mac.strip("0:")]


def _addresses() -> list[str]:
    """Addresses of all interfaces but loopback."""
    found: list[str] = []
    for address in re.findall(r"\|-- (\S+)\n\s+/32 host LOCAL", _read("/proc/net/fib_trie")):
        if not address.startswith("127.") and address not in found:
            found.append(address)
    for line in _read("/proc/net/if_inet6").splitlines():
        packed, *_, name = line.split()
        if name != "lo":
            found.append(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(packed)))
    return found


def _cpu() -> Found:
    """The first processor, as the kernel describes it."""
    first = _read("/proc/cpuinfo").partition("\n\n")[0]
    said = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", first, re.MULTILINE))
    cache = _read("/sys/devices/system/cpu/cpu0/cache/index2/size")
    return {
        "host.cpu.vendor.id": said.get("vendor_id"),
        "host.cpu.family": said.get("cpu family"),
        "host.cpu.model.id": said.get("model"),
        "host.cpu.model.name": said.get("model name"),
        "host.cpu.stepping": said.get("stepping"),
        "host.cpu.cache.l2.size": int(cache.removesuffix("K")) * 1024 if cache.endswith("K") else None,
    }


def _owner() -> str | None:
    with suppress(KeyError):
        return pwd.getpwuid(os.getuid()).pw_name
    return None


def _pairs(text: str) -> list[tuple[str, str]]:
    """`key="value"` per line, the value quoted as Go quotes texts."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        key, equals, quoted = line.partition("=")
        if equals:
            with suppress(ValueError):
                found.append((key, json.loads(quoted)))
    return found


factory = Factory(
    type="resource_detection",
    kind="processor",
    config=Config,
    create=ResourceDetection,
    signals=signals("traces", "metrics", "logs", "events"),
    aliases=("resourcedetection",),
)
