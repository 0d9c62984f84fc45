"""A real S3 server on this machine (moto's), behind a proxy that can do harm to what passes."""

import contextlib
import http.client
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BUCKET = "bucket"
KEYS = {
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "us-east-1",
    "AWS_SESSION_TOKEN": "",
}


class Dropped(Exception):
    """The connection is to be reset."""


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes
    cut: int | None = None
    """Send only so many bytes of the body, and then reset the connection."""


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def name(self) -> str:
        """What it is about, below the bucket and the test's folder; "" for a listing."""
        return self.path.partition("?")[0].removeprefix(f"/{BUCKET}").partition("/")[2]


Harm = Callable[[Request, Callable[[], Reply]], Reply]
"""Answers a request; the second argument passes it on to the server."""


def error(status: int, code: str) -> Harm:
    body = f"<Error><Code>{code}</Code><Message>as the test wants</Message></Error>".encode()
    return lambda _request, _forward: Reply(status, {"Content-Type": "application/xml"}, body)


def reset(_request: Request, _forward: Callable[[], Reply]) -> Reply:
    raise Dropped


def lost_reply(_request: Request, forward: Callable[[], Reply]) -> Reply:
    forward()
    raise Dropped


def cut_off(_request: Request, forward: Callable[[], Reply]) -> Reply:
    """Reset in the middle of a body."""
    reply = forward()
    return Reply(reply.status, reply.headers, reply.body, cut=len(reply.body) // 2)


def truncated(_request: Request, forward: Callable[[], Reply]) -> Reply:
    """A shorter body that seems to be whole."""
    reply = forward()
    return Reply(reply.status, reply.headers, reply.body[:-1])


def flipped(_request: Request, forward: Callable[[], Reply]) -> Reply:
    reply = forward()
    body = bytes([reply.body[0] ^ 1]) + reply.body[1:] if reply.body else b""
    return Reply(reply.status, reply.headers, body)


def seems_absent(_request: Request, forward: Callable[[], Reply]) -> Reply:
    forward()
    return Reply(404, {}, b"")


def seems_present(request: Request, forward: Callable[[], Reply]) -> Reply:
    """A HEAD that tells of what is not there."""
    headers = {"Last-Modified": "Tue, 24 Nov 2026 12:00:00 GMT", "ETag": '"0"'}
    if request.method != "HEAD":
        return forward()
    return Reply(200, headers | {"Content-Length": "7"}, b"")


def skewed(days: float) -> Harm:
    """A server whose clock is off, in whatever it tells."""
    ahead = timedelta(days=days)

    def harm(_request: Request, forward: Callable[[], Reply]) -> Reply:
        reply, headers = forward(), {}
        for name, value in reply.headers.items():
            dated = name.lower() in ("date", "last-modified")
            headers[name] = (
                format_datetime(parsedate_to_datetime(value) + ahead, True) if dated else value
            )

        def later(match: re.Match[bytes]) -> bytes:
            told = datetime.fromisoformat(match[1].decode().replace("Z", "+00:00")) + ahead
            text = told.strftime("%Y-%m-%dT%H:%M:%S.000Z")
            return b"<LastModified>" + text.encode() + b"</LastModified>"

        body = re.sub(rb"<LastModified>([^<]+)</LastModified>", later, reply.body)
        return Reply(reply.status, headers, body)

    return harm


@dataclass
class S3:
    """The server: what was asked of it, and what is done to whom.

    Attributes:
        asked: every request that came.
        harms: (methods, part of the path, harm); the first that fits is done.
        going_on: cleared when the server stops, so that slow answers end.
    """

    asked: list[Request] = field(default_factory=list)
    harms: list[tuple[str, str, Harm]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def slow(self, _request: Request, _forward: Callable[[], Reply]) -> Reply:
        """Never answers, as far as the client can tell."""
        self.over.wait(20)
        raise Dropped

    def heal(self) -> None:
        self.harms.clear()
        self.asked.clear()

    def answer(self, request: Request, forward: Callable[[], Reply]) -> Reply:
        self.asked.append(request)
        for methods, part, harm in self.harms:
            if request.method in methods.split() and part in request.path:
                return harm(request, forward)
        return forward()


@contextlib.contextmanager
def s3_server(environment: Callable[[str, str], None]) -> Iterator[S3]:
    """Run the server and its proxy with one empty bucket.

    Args:
        environment: sets a variable, by which clients find the server and their credentials.
    """
    for name, value in KEYS.items():
        environment(name, value)
    from moto.server import ThreadedMotoServer  # takes a while

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _host, port = server.get_host_and_port()
    found = S3()
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), _handler(found, port))
    proxy.daemon_threads = True
    threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
    environment("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.server_address[1]}")
    try:
        _pass_on(port, Request("PUT", f"/{BUCKET}", {}, b""))
        yield found
    finally:
        found.over.set()
        proxy.shutdown()
        proxy.server_close()
        server.stop()


def _pass_on(port: int, request: Request) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request(request.method, request.path, request.body, request.headers)
        reply = connection.getresponse()
        dropped = ("transfer-encoding", "connection", "content-length")
        headers = {n: v for n, v in reply.getheaders() if n.lower() not in dropped}
        body = reply.read()
        if request.method == "HEAD" and (length := reply.getheader("Content-Length")):
            headers["Content-Length"] = length
        return Reply(reply.status, headers, body)


def _handler(found: S3, port: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = Request(self.command, self.path, dict(self.headers.items()), body)
            try:
                reply = found.answer(request, lambda: _pass_on(port, request))
                self._send(reply)
                if reply.cut is not None:
                    raise Dropped
            except Dropped:
                # A reset, not an orderly end.
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True
                self.connection.close()

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

        def _send(self, reply: Reply) -> None:
            self.send_response_only(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if "Content-Length" not in reply.headers:
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body[: reply.cut])
            self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return Handler
