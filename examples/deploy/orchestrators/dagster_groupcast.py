"""Dagster: an asset that has the daemon run a sync, and waits for it.

A run that fails fails the asset; its metadata link to the run's page. Needs `groupcast` on the machine, and GROUPCAST_URL and
GROUPCAST_TOKEN in the environment.
"""

import json
import os
import subprocess

import dagster as dg


@dg.asset(deps=["dim_accounts"], kinds={"groupcast"})
def amplitude_accounts(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    command = ["groupcast", "run", "accounts", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    result = json.loads(done.stdout or "{}")
    run = (result.get("runs") or [{}])[0]
    page = f"{os.environ['GROUPCAST_URL'].rstrip('/')}/runs/{run['run']}" if "run" in run else os.environ["GROUPCAST_URL"]
    # 3: some groups were rejected, the others are delivered.
    if done.returncode not in (0, 3):
        error = run.get("error") or run.get("stopped") or result.get("error") or {}
        raise dg.Failure(
            description=error.get("message", f"groupcast exited with {done.returncode}"),
            metadata={"run": dg.MetadataValue.url(page), "next step": error.get("advice") or ""},
        )
    counts = run["counts"]
    return dg.MaterializeResult(
        metadata={"run": dg.MetadataValue.url(page), "delivered": counts["delivered"], "rejected": counts["rejected"]}
    )


defs = dg.Definitions(assets=[amplitude_accounts])
