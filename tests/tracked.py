"""What the tests of tracking share: servers that answer or do not, a run that is told things, and what was written."""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from dafw import tracking
from dafw.tracking import Tracker

CONFIG = {"method": {"name": "dann", "weight": 0.5}, "train": {"lr": 0.1, "steps": None}, "wandb": {"mode": "auto"}}
RESULT = {
    "target": {"accuracy": 0.8, "macro_f1": 0.7, "per_class_accuracy": 0.6, "examples": 9},
    "source": {"accuracy": 0.9},
    "references": {"lower": {"method": "source_only", "accuracy": 0.5}, "upper": None},
    "recovered_gap": None,
    "versus_lower": {"difference": 0.3, "p": 0.01, "verdict": "better"},
    "seconds": 1.5,
    "total_seconds": 2.5,
}
KEY = "0" * 40


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """A server at 127.0.0.1: any answer to HEAD, and to each GraphQL request a status and a JSON body, or silence."""

    def __init__(self, answer: Callable[[dict[str, Any]], tuple[int, Any] | None]):
        self.requests: list[dict[str, Any]] = []
        self.over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_HEAD(self) -> None:
                self.send_response(404)
                self.end_headers()

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append(request)
                answered = answer(request)
                if answered is None:
                    outer.over.wait()
                    return
                body = json.dumps(answered[1]).encode()
                self.send_response(answered[0])
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()


def start(tracker: Tracker, folder: Path, mode: str, **described: Any) -> float:
    """Start as the lead of a run does; seconds it took."""
    folder.mkdir(exist_ok=True)
    began = time.perf_counter()
    known = {"project": "p", "entity": None, "group": "synth-digits/dann", "name": "n", "tags": ["a"]}
    tracker.start(folder, CONFIG, mode=mode, **{**known, **described})
    return time.perf_counter() - began


def records(file: Path) -> list[Any]:
    """The records of a .wandb file: LevelDB's log format after 7 bytes, in blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2

    data, found, parts, at = file.read_bytes(), [], b"", 7
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])  # after 4 bytes of checksum
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            found.append(record)
            parts = b""
    return found


def told(folder: Path) -> dict[str, Any]:
    """What the one run in this folder was told: config, history by step, summary, pictures, exit code, run."""
    tracking.load().teardown()  # waits until all is written, as the end of a process does
    (file,) = folder.rglob("*.wandb")
    said: dict[str, Any] = {"config": {}, "history": {}, "summary": {}, "exit": None}
    for record in records(file):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            said["run"] = record.run
            said["config"].update({u.key: json.loads(u.value_json) for u in record.run.config.update})
        elif kind == "history":
            items = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            said["history"].setdefault(items["_step"], {}).update(items)
        elif kind == "summary":
            for item in record.summary.update:
                said["summary"]["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
        elif kind == "exit":
            said["exit"] = record.exit.exit_code
    return said
