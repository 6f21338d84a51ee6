"""What a data engineer writes in an afternoon: reads the accounts, compares them with what was sent last time, and sends the
new and changed ones to Amplitude's Group Identify API, a thousand per request.

It has no retries, no limit of properties per request, no per-group errors and no unsets: only what the work takes at
least. Accounts that were sent are remembered as a hash each, in SQLite.

    WAREHOUSE=accounts.duckdb RECEIVER=http://127.0.0.1:8321 STATE=state.sqlite python script.py
"""

import hashlib
import http.client
import json
import os
import sqlite3
import urllib.parse
from datetime import date, datetime
from decimal import Decimal

import duckdb

BATCH = 1_000


def plain(value):
    if isinstance(value, datetime):
        return value.isoformat() + "Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return value


def main():
    host = urllib.parse.urlsplit(os.environ["RECEIVER"]).netloc
    state = sqlite3.connect(os.environ["STATE"])
    state.execute("CREATE TABLE IF NOT EXISTS sent (key TEXT PRIMARY KEY, hash BLOB) WITHOUT ROWID")
    known = dict(state.execute("SELECT key, hash FROM sent"))
    warehouse = duckdb.connect(os.environ["WAREHOUSE"], read_only=True)
    rows = warehouse.execute("SELECT * FROM accounts")
    names = [column[0] for column in rows.description]
    connection = http.client.HTTPConnection(host)

    def send(batch):
        identifications = [
            {"group_type": "company", "group_value": key, "group_properties": traits} for key, traits, _ in batch
        ]
        body = urllib.parse.urlencode({"api_key": "key", "identification": json.dumps(identifications)})
        headers = {"content-type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/groupidentify", body, headers)
        response = connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise RuntimeError(f"HTTP {response.status}: {text!r}")
        state.executemany("INSERT OR REPLACE INTO sent VALUES (?, ?)", [(key, digest) for key, _, digest in batch])
        state.commit()

    batch = []
    while page := rows.fetchmany(10_000):
        for row in page:
            key, *values = row
            traits = dict(zip(names[1:], map(plain, values)))
            digest = hashlib.blake2b(json.dumps(traits).encode(), digest_size=16).digest()
            if known.get(key) == digest:
                continue
            batch.append((key, traits, digest))
            if len(batch) == BATCH:
                send(batch)
                batch = []
    if batch:
        send(batch)


if __name__ == "__main__":
    main()
