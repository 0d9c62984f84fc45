"""Which sockets of this machine wait for connections from elsewhere, as Linux tells."""

import ipaddress
import sys
from collections.abc import Set
from pathlib import Path
from typing import Final

_LISTENING: Final = "0A"  # the kernel's TCP_LISTEN
_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def listeners_beyond_loopback(
    ports: Set[int], tables: tuple[Path, ...] = _TABLES
) -> dict[int, list[str]] | None:
    """Return port -> addresses on which something listens that is not for this machine only.

    Args:
        ports: to look for.
        tables: the kernel's tables of TCP sockets.

    Returns:
        Only ports on which something does; None if this system does not tell.
    """
    found: dict[int, list[str]] = {}
    read = [path.read_text() for path in tables if path.exists()]
    for line in (line for text in read for line in text.splitlines()[1:]):
        _number, local, _remote, state, *_rest = line.split()
        address, _, port = local.partition(":")
        host = _address(address)
        if state == _LISTENING and int(port, 16) in ports and not _is_local(host):
            found.setdefault(int(port, 16), []).append(str(host))
    return found if read else None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Decode an address, written word by word in the machine's byte order."""
    words = [bytes.fromhex(text[i : i + 8]) for i in range(0, len(text), 8)]
    if sys.byteorder == "little":
        words = [word[::-1] for word in words]
    return ipaddress.ip_address(b"".join(words))


def _is_local(host: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    mapped = host.ipv4_mapped if isinstance(host, ipaddress.IPv6Address) else None
    return (mapped or host).is_loopback
