"""A server of files on this machine that breaks in all the ways in which servers break."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[Any, bytes], None]


class Site(ThreadingHTTPServer):
    """Serves `files`; each of `answers` is given once, in place of the file."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.answers: list[Answer] = []
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self.ranges = True
        self.tag: str | None = '"first"'

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def began(self) -> list[str | None]:
        """Return which bytes each request asked for."""
        return [headers.get("Range") for _, headers in self.asked]


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Site

    def do_GET(self) -> None:
        site, path = self.server, self.path.partition("?")[0]
        site.asked.append((self.path, dict(self.headers)))
        if path not in site.files:
            self.send_error(404)
            return
        answer = site.answers.pop(0) if site.answers else whole
        with suppress(ConnectionError):
            answer(self, site.files[path])

    def begin(self, status: int, length: int, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        if self.server.tag:
            self.send_header("ETag", self.server.tag)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


def whole(handler: Handler, content: bytes) -> None:
    """Send all, or what of it is asked for."""
    site, wanted = handler.server, handler.headers.get("Range")
    condition = handler.headers.get("If-Range")
    if not wanted or not site.ranges or condition not in (None, site.tag):
        handler.begin(200, len(content))
        handler.wfile.write(content)
        return
    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
    if start >= len(content):
        handler.begin(416, 0, Content_Range=f"bytes */{len(content)}")
        return
    last = len(content) - 1
    handler.begin(206, len(content) - start, Content_Range=f"bytes {start}-{last}/{len(content)}")
    handler.wfile.write(content[start:])


def cut(count: int) -> Answer:
    """Promise all that is asked for, and hang up after so many bytes of it."""

    def answer(handler: Handler, content: bytes) -> None:
        sent = Cut(handler.wfile, count)
        handler.wfile = sent
        with suppress(ConnectionError):
            whole(handler, content)
        handler.close_connection = True

    return answer


class Cut:
    """A stream that ends, headers apart, after so many bytes."""

    def __init__(self, stream: Any, count: int) -> None:
        self.stream, self.left, self.begun = stream, count, False
        self.flush, self.closed, self.close = stream.flush, stream.closed, stream.close

    def write(self, data: bytes) -> int:
        if not self.begun:  # the headers, in one piece
            self.begun = True
            self.stream.write(data)
            return len(data)
        self.stream.write(data[: self.left])
        raise ConnectionError


def page(kind: str) -> Answer:
    """Send a web page, called what it is or something else."""

    def answer(handler: Handler, content: bytes) -> None:
        text = b"\n<!DOCTYPE html><title>Please log in</title>"
        handler.begin(200, len(text), Content_Type=kind)
        handler.wfile.write(text)

    return answer


def redirect(to: str) -> Answer:
    """Send elsewhere."""

    def answer(handler: Handler, content: bytes) -> None:
        handler.begin(302, 0, Location=to)

    return answer


def refuse(handler: Handler, content: bytes) -> None:
    """Say that it does not work just now."""
    handler.send_error(503)


def drip(handler: Handler, content: bytes) -> None:
    """Send a byte at a time, for as long as anybody listens."""
    handler.begin(200, len(content))
    for index in range(len(content)):
        handler.wfile.write(content[index : index + 1])
        handler.wfile.flush()


def after(gate: threading.Event, begun: threading.Event) -> Answer:
    """Send nothing before a gate opens."""

    def answer(handler: Handler, content: bytes) -> None:
        begun.set()
        gate.wait()
        whole(handler, content)

    return answer


@contextmanager
def serving() -> Iterator[Site]:
    """Serve as long as the block lasts."""
    site = Site()
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        site.shutdown()
        thread.join()
        site.server_close()
