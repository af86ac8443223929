"""A small OpenAI-style endpoint that says back what it is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Endpoint(BaseHTTPRequestHandler):
    """`busy` in a question: come again; `shut`: refused; `wait`: no answer until `released`."""

    seen: set[str] = set()  # noqa: RUF012
    released = threading.Event()
    models = ("m",)
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        models = [{"id": name, "object": "model", "created": 0, "owned_by": "us"} for name in self.models]
        self._send(200, {"object": "list", "data": models})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/v1/completions"):
            self.complete(body)
            return
        said = body["messages"][-1]["content"]
        if body["model"] == "missing":
            self._send(404, {"error": {"message": "no such model"}})
        elif "shut" in said:
            self._send(400, {"error": {"message": "I won't"}})
        elif "busy" in said and said not in self.seen:
            self.seen.add(said)
            self._send(429, {"error": {"message": "slow down"}}, {"retry-after-ms": "10"})
        elif "wait" in said:
            self.released.wait()
        else:
            self._send(200, completion(f"{said}? seed {body['seed']}"))

    def complete(self, body: dict[str, Any]) -> None:
        """The text names the fields that arrived."""
        choice = {"index": 0, "finish_reason": "stop", "logprobs": None, "text": json.dumps(body)}
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": 2, "total_tokens": 5}
        kind = {"id": "1", "object": "text_completion", "created": 0, "model": body["model"]}
        self._send(200, {**kind, "choices": [choice], "usage": usage})

    def _send(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


def completion(text: str) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    kind = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
    return {**kind, "choices": [choice], "usage": usage}


@contextmanager
def serve(handler: type[Endpoint] = Endpoint) -> Iterator[str]:
    """The endpoint's base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that was stopped
    handler.released.clear()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        handler.released.set()
        server.shutdown()
