"""A small HTTP server to run in pods of tests: `server_command()` is a container's command.

/ok            200
/status/503    that status
/header        200 if the request has X-Custom-Header: Awesome, else 400
/to/PATH       302 to /PATH
/away          302 to another host
/once          503 the first time, 200 from then on
/sick          200 until /fall has been asked for, then 500
/fall          200
/seen          200, with a line for each request before it
"""

from __future__ import annotations

import json
import os
import shutil

import pytest

_PROGRAM = """
import http.server, socket, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    seen, sick = [], False
    def do_GET(self):
        path, status, body, more = self.path, 404, 'nothing here', {}
        if path == '/ok' or path == '/fall':
            status, body = 200, 'fine'
            Handler.sick = Handler.sick or path == '/fall'
        elif path.startswith('/status/'):
            status, body = int(path[8:]), 'as asked for'
        elif path == '/header':
            status = 200 if self.headers.get('X-Custom-Header') == 'Awesome' else 400
        elif path.startswith('/to/'):
            status, more = 302, {'Location': path[3:]}
        elif path == '/away':
            status, more, body = 302, {'Location': 'http://192.0.2.1/'}, 'gone away'
        elif path == '/once':
            status = 200 if '/once' in [each.split()[0] for each in Handler.seen] else 503
        elif path == '/sick':
            status = 500 if Handler.sick else 200
        elif path == '/seen':
            status, body = 200, ''.join(Handler.seen)
        Handler.seen.append(f"{path} {self.headers.get('User-Agent')} {self.headers.get('Host')}\\n")
        data = body.encode()
        self.send_response(status)
        for name, value in more.items():
            self.send_header(name, value)
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *args):
        print(self.path, flush=True)
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
print('serving', flush=True)
Server(('::', 8080), Handler).serve_forever()
"""


def server_command() -> str:
    """The command as a JSON list, for a manifest. The host's own userland must have a Python."""
    python = next((each for each in ("/usr/bin/python3", shutil.which("python3") or "") if os.path.exists(each)), "")
    if not python.startswith("/usr/"):
        pytest.skip("the image podlite.local/host:1 has no Python here: there is none below /usr")
    return json.dumps([python, "-u", "-c", _PROGRAM])
