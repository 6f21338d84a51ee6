"""Do tools behind Segment understand the second call about a group? Sends a group twice with `groupcast run`, its plan
changed in between, and hands both calls to Segment's own integrations: with `always` on what the tools take from each
call, and without. Without, they must fail as docs/destinations.md says; an integration that no longer does so fails this.

    downstream.py PROGRAM SQL CACHE
"""

import json
import pathlib
import subprocess
import sys
import tempfile

from compare import HERE, command
from recorder import Recorder

TRAITS = {"name": 'column = "name"', "website": 'column = "website"', "objectTypeId": 'const = "7"'}


def calls(program, sql, marked):
    """The first and the second call about a group."""
    with Recorder() as recorder, tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "mappings").mkdir()
        (folder / "groupcast.toml").write_text(
            '[sources.warehouse]\ntype = "duckdb"\npath = "warehouse.duckdb"\n'
            f'[destinations.it]\ntype = "segment"\nwrite_key = "${{KEY}}"\nbase_url = "{recorder.url}"\ndownstream = "none"\n'
        )
        always = ", always = true" if marked else ""
        traits = [f"{name} = {{ {value}{always} }}" for name, value in TRAITS.items()] + ['plan = "plan"']
        (folder / "mappings" / "accounts.toml").write_text(
            'source = "warehouse"\ndestination = "it"\n[model]\ntable = "accounts"\n[group]\ntype = "company"\nkey = "id"\n'
            '[user]\nid = "account:{key}"\n[policy]\non_null = "null"\n[traits]\n' + "\n".join(traits) + "\n"
        )
        found = []
        for change in [
            "CREATE TABLE accounts AS SELECT 'acme' AS id, 'Acme' AS name, 'acme.example' AS website, 'free' AS plan;",
            "UPDATE accounts SET plan = 'pro';",
        ]:
            for arguments in [[sql, str(folder / "warehouse.duckdb"), change], [program, "-C", str(folder), "run"]]:
                ended = command(arguments)
                if ended.returncode != 0:
                    raise SystemExit(f"{arguments}:\n{ended.stdout}{ended.stderr}")
            (request,) = recorder.take()
            found += json.loads(request["body"])["batch"]
        return found


def understood(tool, told):
    """Whether a tool makes of a call what it should; else what it makes of it."""
    if "error" in told:
        return told["error"]
    if tool == "customerio":
        (sent,) = told["sent"]
        kind = sent["body"]["identifiers"]["object_type_id"]
        return True if kind == "7" else f"the object lands under type {kind}"
    if tool == "hubspot":
        created = [sent["body"]["properties"] for sent in told["sent"] if sent["method"] == "POST"]
        named = created and created[-1].get("name") == "Acme" and created[-1].get("domain") == "acme.example"
        return True if named else "a company without name and domain"
    return True


def main():
    program, sql, cache = sys.argv[1:]
    wrong = []
    for marked in (True, False):
        pair = calls(program, sql, marked)
        if len(pair) != 2 or pair[1]["traits"].get("plan") != "pro" or ("name" in pair[1]["traits"]) != marked:
            raise SystemExit(f"not two calls, the second with what changed: {pair}")
        ended = subprocess.run(
            ["node", str(HERE / "downstream.cjs"), str(pathlib.Path(cache) / "node")],
            input=json.dumps(pair), capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        if ended.returncode != 0:
            raise SystemExit(f"downstream.cjs: {ended.stderr}")
        for tool, (first, second) in json.loads(ended.stdout).items():
            results = understood(tool, first), understood(tool, second)
            print(f"{tool}, {'marked' if marked else 'unmarked'}: {' / '.join('understood' if one is True else one for one in results)}")
            if results[0] is not True or (results[1] is True) != marked:
                wrong.append(f"{tool}, {'marked' if marked else 'unmarked'}: {results}")
    for line in wrong:
        print(f"  {line}")
    print(f"{len(wrong)} problems with tools behind Segment")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
