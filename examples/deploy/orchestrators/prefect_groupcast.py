"""Prefect 3: a flow that has the daemon run syncs, and waits for them.

A run that fails fails the flow run, whose artifact links to it. Needs `groupcast` on the worker, and GROUPCAST_URL and
GROUPCAST_TOKEN in its environment.
"""

import json
import os
import subprocess

from prefect import flow, task
from prefect.artifacts import create_link_artifact


@task(retries=2, retry_delay_seconds=600)
def sync(name: str) -> dict:
    done = subprocess.run(["groupcast", "run", name, "--json"], stdout=subprocess.PIPE, text=True, check=False)
    result = json.loads(done.stdout or "{}")
    run = (result.get("runs") or [{}])[0]
    if "run" in run:
        create_link_artifact(key="groupcast-run", link=f"{os.environ['GROUPCAST_URL'].rstrip('/')}/runs/{run['run']}")
    # 3: some groups were rejected, the others are delivered.
    if done.returncode not in (0, 3):
        error = run.get("error") or run.get("stopped") or result.get("error") or {}
        raise RuntimeError(error.get("message", f"groupcast exited with {done.returncode}"))
    return run["counts"]


@flow
def nightly(names: list[str] = ["accounts"]) -> list[dict]:
    return [sync(name) for name in names]


if __name__ == "__main__":
    print(nightly())
