"""Which sockets of this machine wait for connections from elsewhere."""

import ipaddress
from collections.abc import Set

import psutil


def listeners_beyond_loopback(ports: Set[int]) -> dict[int, list[str]] | None:
    """Return port -> addresses on which something listens that is not for this machine only.

    Args:
        ports: to look for.

    Returns:
        Only ports on which something does; None if this system does not tell, as macOS does not
        tell everybody.
    """
    try:
        sockets = psutil.net_connections("tcp")
    except (psutil.Error, OSError):
        return None
    found: dict[int, list[str]] = {}
    for socket in sockets:
        if socket.status != psutil.CONN_LISTEN or socket.laddr.port not in ports:
            continue
        host = ipaddress.ip_address(socket.laddr.ip)
        if not _is_local(host) and str(host) not in found.setdefault(socket.laddr.port, []):
            found[socket.laddr.port].append(str(host))
    return {port: hosts for port, hosts in found.items() if hosts}


def _is_local(host: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    mapped = host.ipv4_mapped if isinstance(host, ipaddress.IPv6Address) else None
    return (mapped or host).is_loopback
