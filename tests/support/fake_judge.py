"""A judge on loopback, in OpenAI's chat format, that can be told to behave badly."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]
Answer = Callable[[Body], str]


@dataclass(frozen=True)
class Say:
    """One reply: a text of the judge's, or something else."""

    text: str = "Output (a)"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    """In place of a proper answer."""
    hangs: bool = False
    """No answer comes until the server is closed."""
    drops: bool = False
    """The connection is closed without an answer."""


def chosen(body: Body) -> str:
    """Prefer the output with more letters e; the first where both have as many."""
    outputs = body["messages"][-1]["content"].split("## Output")[1:3]
    first, second = (text.partition("\n\n")[2].split("\n\n## ")[0].count("e") for text in outputs)
    return "Output (b)" if second > first else "Output (a)"


class FakeJudge:
    """What was asked, and what is replied: in the order of the list, then always ``answer``."""

    def __init__(self, answer: Callable[[Body], str | Say] = chosen) -> None:
        self.answer, self.first = answer, list[Say]()
        self.asked: list[Body] = []
        self.keys: list[str | None] = []
        self.closed = threading.Event()
        self._lock = threading.Lock()

    def reply(self, body: Body, key: str | None) -> Say:
        with self._lock:
            self.asked.append(body)
            self.keys.append(key)
            said: str | Say = self.first.pop(0) if self.first else self.answer(body)
        return Say(said) if isinstance(said, str) else said


class _Handler(BaseHTTPRequestHandler):
    judge: FakeJudge
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        body = json.loads(self.rfile.read(size))
        said = self.judge.reply(body, self.headers.get("Authorization"))
        self.close_connection = True
        if said.hangs:
            self.judge.closed.wait(30)
        if said.hangs or said.drops:
            return
        choice = {"index": 0, "message": {"role": "assistant", "content": said.text}}
        data = json.dumps({"choices": [choice]}).encode() if said.raw is None else said.raw
        self.send_response(said.status)
        ends = {"Content-Length": str(len(data)), "Connection": "close"}
        for name, value in {**ends, **said.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def judging(judge: FakeJudge) -> Iterator[str]:
    """Let a judge answer; yields its URL."""
    handler = type("Handler", (_Handler,), {"judge": judge})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        judge.closed.set()
        server.shutdown()
        server.server_close()
        thread.join()
