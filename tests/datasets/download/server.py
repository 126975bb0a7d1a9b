"""A web server on loopback with files in memory, which can fail in the ways of real ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class File:
    """Content, and how it is served."""

    content: bytes
    cut: list[int] = field(default_factory=list)  # of each next answer, the bytes until it breaks
    ranges: bool = True  # whether the Range header is respected
    status: list[int] = field(default_factory=list)  # of each next answer, instead of 200
    redirect: str = ""  # address to which the client is sent


@dataclass
class Server:
    """The files by path, and the paths and Range headers that were asked for."""

    url: str
    files: dict[str, File] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)  # the Authorization headers

    def add(self, path: str, content: bytes, **options: object) -> str:
        """Serve ``content`` at ``path``, and return its address."""
        self.files[path] = File(content, **options)  # type: ignore[arg-type]
        return f"{self.url}{path}"


@contextmanager
def serve() -> Iterator[Server]:
    """Run a server in a thread."""
    server: Server

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            server.asked.append((path, self.headers.get("Range")))
            server.tokens.append(self.headers.get("Authorization"))
            file = server.files.get(path)
            status = 404 if file is None else file.status.pop(0) if file.status else 200
            if file is None or status >= 400:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if file.redirect:
                self.send_response(302)
                self.send_header("Location", file.redirect)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = 0
            wanted = self.headers.get("Range")
            if wanted and file.ranges:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                total = len(file.content)
                self.send_response(206 if start < total else 416)
                last = f"bytes {start}-{total - 1}" if start < total else "bytes *"
                self.send_header("Content-Range", f"{last}/{total}")
            else:
                self.send_response(200)
            body = file.content[start:]
            self.send_header("Content-Length", str(len(body)))
            if path.startswith("/api/"):
                self.send_header("Content-Type", "application/json")
            self.end_headers()
            end = file.cut.pop(0) if file.cut else len(body)
            self.wfile.write(body[:end])

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server = Server(f"http://127.0.0.1:{http.server_address[1]}")
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
