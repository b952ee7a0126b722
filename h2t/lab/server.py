"""A server on this machine for a page and, where one is behind it, a session's frames."""

from __future__ import annotations

import json
import secrets
import socketserver
import threading
import webbrowser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from h2t.base.errors import Error
from h2t.lab.explorer.session import Session
from h2t.lab.payload import join

WAIT = 20  # seconds that a question for frames waits for one
LARGEST = 1_000_000  # bytes of a request
PRIVATE = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Server(ThreadingHTTPServer):
    """Serves a page, and the session behind it, to any number who know ``token``."""

    daemon_threads = True

    def __init__(self, page: bytes, session: Session | None = None, ip="127.0.0.1", port=0):
        self.page, self.session, self.token = page, session, secrets.token_urlsafe(24)
        try:
            super().__init__((ip, port), Handler)
        except OSError as e:
            raise Error(
                f"cannot listen on {ip}:{port}: {e.strerror}; choose another with --ip and --port"
            ) from None

    def server_bind(self) -> None:
        # without HTTPServer's question to the name server for this machine's name
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    @property
    def url(self) -> str:
        host = "127.0.0.1" if self.server_name == "0.0.0.0" else self.server_name
        return f"http://{host}:{self.server_port}/?token={self.token}"

    def handle_error(self, request, client_address) -> None:
        """A page that was closed while it was answered is no error."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        if not self._known(query.get("token", "")):
            return
        if parts.path == "/":
            self._answer(self.server.page, "text/html; charset=utf-8")
        elif parts.path == "/frames" and self.server.session:
            last, found = self.server.session.feed.since(int(query["since"]), WAIT)
            self._answer(join(found), "application/octet-stream", {"X-Last": str(last)})
        else:
            self._answer(b"not here", "text/plain", status=404)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        wanted = self.path == "/ask" and self.server.session and 0 < length <= LARGEST
        if not self._known("") or not wanted:
            self.close_connection = True
            return
        self.server.session.handle(json.loads(self.rfile.read(length)))
        self._answer(b"", "text/plain")

    def _known(self, token: str) -> bool:
        given = self.headers.get("X-Token") or token
        if secrets.compare_digest(given.encode(), self.server.token.encode()):
            return True
        text = b"This page needs the token in its address, as h2t printed it.\n"
        self._answer(text, "text/plain", status=403)
        return False

    def _answer(self, body: bytes, kind: str, more: dict | None = None, status: int = 200) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), **(more or {})}
        for name, value in {**PRIVATE, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args) -> None:
        """Nobody reads a line a request."""


def serve(
    page: bytes, session: Session | None = None, *, ip="127.0.0.1", port=0, browser=True
) -> None:
    """Serve a page until Ctrl-C. Who opens it needs the token in its address.

    Arguments: ``ip`` to listen on (127.0.0.1: this machine alone; 0.0.0.0: any); ``port``, 0 for a
    free one; ``browser`` whether to open one here. Raises: ``h2t.Error`` where the port is taken.
    """
    try:
        with Server(page, session, ip, port) as server:
            print(f"the page is at\n  {server.url}\nStop it with Ctrl-C.", flush=True)
            if browser:
                threading.Timer(0.5, webbrowser.open, (server.url,)).start()
            server.serve_forever()
    except KeyboardInterrupt:
        print("\nthe page has ended")
    finally:
        if session:
            session.close()
