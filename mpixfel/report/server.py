"""A small web server for one run: on this machine alone, for who has the token, and for reading alone.

No path names a file: what can be asked for is a closed list. A page of another site cannot ask either: the token is in
no cookie, and a foreign `Origin` or `Host` is refused.
"""
import hmac
import json
import secrets
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from mpixfel.errors import MpixfelError
from mpixfel.report.live import Run
from mpixfel.report.page import plotly_script, web

HOSTS = ("127.0.0.1", "localhost", "[::1]")
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
          "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
           "Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin", "X-Frame-Options": "DENY"}
JSON, HTML, SCRIPT, STYLE, PNG = ("application/json", "text/html; charset=utf-8", "text/javascript; charset=utf-8",
                                  "text/css; charset=utf-8", "image/png")


def make_server(folder, port=0, token=None):
    """A server for a run, bound to 127.0.0.1; its `url` opens the page. Call `serve_forever`.

    Raises `MpixfelError` for a folder without a run and for a port in use.
    """
    run, token = Run(folder), token or secrets.token_urlsafe(24)
    handler = type("RunHandler", (Handler,), {"run": run, "token": token})
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise MpixfelError(f"port {port} cannot be used: {error.strerror}", "--port", "give another, or none") from None
    server.daemon_threads = True
    server.url = f"http://127.0.0.1:{server.server_address[1]}/?token={token}"
    return server


def whole(text):
    """A whole number of a query, or `MpixfelError`."""
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise MpixfelError(f"{text[:20]!r} is no whole number", "", "give digits")
    return int(text)


ROUTES = {
    "/": (HTML, lambda run, ask, token: web("serve.html").replace("TOKEN", token)),
    "/report.css": (STYLE, lambda run, ask, token: web("report.css")),
    "/serve.css": (STYLE, lambda run, ask, token: web("serve.css")),
    "/serve.js": (SCRIPT, lambda run, ask, token: web("serve.js")),
    "/plotly.js": (SCRIPT, lambda run, ask, token: plotly_script()),
    "/api/status": (JSON, lambda run, ask, token: run.status()),
    "/api/figures": (JSON, lambda run, ask, token: run.figures()),
    "/api/events": (JSON, lambda run, ask, token: run.events(ask("kind", "all"), whole(ask("first", "0")))),
    "/api/event": (JSON, lambda run, ask, token: run.event(whole(ask("row")))),
    "/api/image": (PNG, lambda run, ask, token: run.image(whole(ask("row")))),
    "/api/pixel": (JSON,
                   lambda run, ask, token: run.pixel(whole(ask("row")), whole(ask("column")), whole(ask("line")))),
}


class Handler(BaseHTTPRequestHandler):
    """Answers one request; `run` and `token` are set by `make_server`."""

    server_version, sys_version, timeout = "mpixfel", "", 60
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        parts = urlsplit(self.path)
        query = parse_qs(parts.query, keep_blank_values=True, max_num_fields=20)
        refused = self.refused(query.get("token", [""])[-1])
        if refused:
            return self.answer(403, "text/plain", refused)
        if parts.path not in ROUTES:
            return self.answer(404, "text/plain", "there is nothing here")
        kind, function = ROUTES[parts.path]
        try:
            content = function(self.run, lambda name, default="": query.get(name, [default])[-1], self.token)
        except (MpixfelError, OSError, ValueError) as error:
            return self.answer(400, "text/plain", str(error))
        return self.answer(200, kind, json.dumps(content) if kind == JSON else content)

    do_HEAD = do_GET

    def refused(self, token):
        """Why the request is refused, or ""."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        if host.rpartition(":")[0] not in HOSTS and host not in HOSTS:
            return "another host was asked for"
        if origin is not None and origin != f"http://{host}":
            return "asked from another site"
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return "asked from another site"
        if not hmac.compare_digest(token.encode(), self.token.encode()):
            return "the token is missing or wrong: open the whole address that mpixfel serve has printed"
        return ""

    def answer(self, code, kind, content):
        """Send a text or bytes."""
        body = content.encode() if isinstance(content, str) else content
        self.send_response(code)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **HEADERS}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments):
        """The terminal stays quiet."""
