"""What did a client send? An HTTP server that keeps every request and answers as the vendor would."""

import gzip
import http.server
import json
import threading
import time

# Answers for each event.
V1 = "/i/v1/analytics/events"
# The first prefix that fits the path gives the answer.
ANSWERS = [
    ("/2/httpapi", 200, "application/json", '{"code":200,"events_ingested":1,"payload_size_bytes":1,"server_upload_time":1}'),
    ("/groupidentify", 200, "text/html", "success"),
    ("/batch", 200, "application/json", '{"status":"Ok"}'),
    ("/groups", 200, "application/json", '{"status":1,"error":null}'),
    ("/v1/batch", 200, "application/json", '{"success":true}'),
    ("/", 200, "application/json", "{}"),
]


class Recorder:
    """Listens on a free port of this machine for as long as it is used in a `with`."""

    def __init__(self, rudderstack=False):
        self.requests = []
        self.answered_at = time.monotonic()
        recorder = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                length = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(length)
                if self.headers.get("transfer-encoding") == "chunked":
                    body = self.chunks()
                encoding = self.headers.get("content-encoding")
                if encoding == "gzip":
                    body = gzip.decompress(body)
                elif encoding:
                    raise ValueError(f"content-encoding {encoding}")
                headers = {name.lower(): value for name, value in self.headers.items()}
                if self.path.startswith(V1) and self.command == "GET":
                    # Whoever asks whether it is there sends nothing.
                    self.send_response(405)
                    self.send_header("content-length", "0")
                    return self.end_headers()
                recorder.requests.append(
                    {"method": self.command, "path": self.path, "headers": headers, "body": body}
                )
                _, status, kind, text = next(one for one in ANSWERS if self.path.startswith(one[0]))
                if headers.get("user-agent", "").startswith("mixpanel") or "verbose=0" in self.path:
                    text = "1"
                if self.path.startswith(V1):
                    ids = [event["uuid"] for event in json.loads(body)["batch"]]
                    text = json.dumps({"results": {one: {"result": "ok"} for one in ids}})
                if rudderstack:
                    kind, text = "text/plain", '"OK"'
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def chunks(self):
                body = b""
                while True:
                    size = int(self.rfile.readline().split(b";")[0], 16)
                    body += self.rfile.read(size)
                    self.rfile.readline()
                    if size == 0:
                        return body

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = answer

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def take(self):
        """The requests since the last time."""
        taken, self.requests = self.requests, []
        return taken
