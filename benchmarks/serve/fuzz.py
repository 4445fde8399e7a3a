"""Requests of all kinds to every route of a running server with a token, by schemathesis, which has an environment of
its own:

python -m venv /tmp/schemathesis && /tmp/schemathesis/bin/pip install schemathesis
python -m benchmarks.serve.fuzz MODEL DATA /tmp/schemathesis/bin/schemathesis [--minutes 15] [--seed 1]

Fails on an answer 5xx, one that its description does not have, a traceback in an answer or in the log, and a file
outside of the folder of the server.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.serve.server import Started, start_server

from unetpp.client import Client

TOKEN = "a-token-of-the-fuzzing"
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,ignored_auth"
CONFIG = """
[[operations]]
include-path-regex = "^/v1/jobs/"
include-method = ["GET", "POST"]
parameters = {{ id = "{id}" }}
"""
"""Most routes of jobs get the id of one that is done, so that more is reached than `404`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("schemathesis")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    data = str(arguments.data.absolute())
    with start_server(arguments.model, "--token", TOKEN, "--data", data, kept=500, training_minutes=0.1) as server:
        client = Client(server.address, TOKEN, timeout_s=600)
        job = client.predict(case=client.cases()[0]["id"], probabilities=True, uncertainty=True)
        (server.out / "schemathesis.toml").write_text(CONFIG.format(id=job["id"]))
        before = list_around(server)
        command = [
            arguments.schemathesis,
            "run",
            f"{server.address}/openapi.json",
            "-c",
            CHECKS,
            "--continue-on-failure",
        ]
        command += ["-H", f"Authorization: Bearer {TOKEN}", "--max-time", str(round(60 * arguments.minutes))]
        command += ["--seed", str(arguments.seed), "--no-color", "--request-timeout", "60"]
        code = subprocess.run(command, cwd=server.out).returncode
        found = [*find_tracebacks(server), *sorted(list_around(server) - before)]
        jobs = len(client.jobs())
    print(f"{jobs} jobs are left; files outside of the folder and tracebacks: {found or 'none'}")
    sys.exit(1 if found else code)


def list_around(server: Started) -> set[str]:
    """List all files around the folder of the server, without what lies in it and in that of schemathesis."""
    folders = [server.out, server.out.parent]
    inner = {"served", "corrections", ".schemathesis", ".hypothesis", "schemathesis-report"}
    found = {str(path) for folder in folders for path in folder.iterdir() if path.name not in inner}
    return {path for path in found if "unetpp" in path or Path(path).parent == server.out}


def find_tracebacks(server: Started) -> list[str]:
    lines = (server.out / "log").read_text(errors="replace").splitlines()
    return [
        f"{os.linesep.join(lines[number : number + 30])}" for number, line in enumerate(lines) if "Traceback" in line
    ]


if __name__ == "__main__":
    main()
