"""dlt with a custom destination, its documented way to an HTTP API: batches of a thousand rows, posted as JSON.

    WAREHOUSE=accounts.duckdb RECEIVER=http://127.0.0.1:8321 STATE=folder python dlt_pipeline.py
"""

import os

os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")

import dlt  # noqa: E402
import duckdb  # noqa: E402
import requests  # noqa: E402
from dlt.common.json import json  # noqa: E402

session = requests.Session()


@dlt.destination(batch_size=1_000, loader_file_format="typed-jsonl", naming_convention="direct", max_table_nesting=0)
def receiver(items, table):
    response = session.post(
        os.environ["RECEIVER"] + "/rows", data=json.dumpb(items), headers={"content-type": "application/json"}
    )
    response.raise_for_status()


@dlt.resource(name="accounts", max_table_nesting=0)
def accounts():
    warehouse = duckdb.connect(os.environ["WAREHOUSE"], read_only=True)
    rows = warehouse.execute("SELECT * FROM accounts")
    names = [column[0] for column in rows.description]
    while page := rows.fetchmany(10_000):
        yield [dict(zip(names, row)) for row in page]


pipeline = dlt.pipeline("accounts", destination=receiver, pipelines_dir=os.environ["STATE"])
print(pipeline.run(accounts()))
