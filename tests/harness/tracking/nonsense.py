"""Servers on this machine that answer what no tracker says."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.patience import HANG

HTML = b"<html><body>Welcome to nginx!</body></html>"


class Server:
    """Takes connections and answers each request in one way."""

    def __init__(self, kind: str) -> None:
        self.kind, self.requests = kind, 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.open: list[socket.socket] = []
        self.threads: list[threading.Thread] = []

    def serve(self) -> None:
        """Answer until the server is closed."""
        with contextlib.suppress(OSError):
            while True:
                self.open.append(self.socket.accept()[0])
                one = threading.Thread(target=self.answer, args=(self.open[-1],), daemon=True)
                self.threads.append(one)
                one.start()

    def answer(self, connection: socket.socket) -> None:
        """Answer the requests of one connection."""
        with contextlib.suppress(OSError):
            while text := connection.recv(1 << 16):
                if b"HTTP/1.1" not in text.partition(b"\r\n")[0]:
                    continue  # the rest of a body
                self.requests += 1
                if self.kind == "silence":
                    continue
                if self.kind == "reset":
                    linger = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    connection.close()
                    return
                connection.sendall(self.reply())

    def reply(self) -> bytes:
        """Return what an answer is."""
        head = {
            "html": "200 OK",
            "redirect": f"302 Found\r\nLocation: {self.uri}/again",
            "busy": "503 Service Unavailable\r\nRetry-After: 60",
            "many": "429 Too Many Requests",
            "broken": "500 Internal Server Error",
            "denied": "401 Unauthorized",
        }[self.kind]
        length = f"Content-Type: text/html\r\nContent-Length: {len(HTML)}"
        return f"HTTP/1.1 {head}\r\n{length}\r\n\r\n".encode() + HTML


KINDS = ("html", "redirect", "reset", "silence", "busy", "many", "broken", "denied")


@contextmanager
def served(kind: str) -> Iterator[Server]:
    """Run a server; what waits for it sees its connections close in the end."""
    server = Server(kind)
    serving = threading.Thread(target=server.serve, daemon=True)
    serving.start()
    try:
        yield server
    finally:
        server.socket.shutdown(socket.SHUT_RDWR)
        serving.join(HANG)
        server.socket.close()
        for connection in server.open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in server.threads:
            thread.join(HANG)
        for connection in server.open:
            connection.close()
