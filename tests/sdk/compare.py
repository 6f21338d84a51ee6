"""Do we say what the official SDKs say? Sends the same groups through each SDK and through `groupcast run`, records both,
and compares them as parsed JSON. Every difference is explained in differences.py or fails the comparison; so does an
explanation that explains nothing any more.

    compare.py PROGRAM SQL CACHE [--only NAME]

PROGRAM is the built `groupcast`, SQL the built example of that name, CACHE the folder that run.sh filled.
"""

import argparse
import base64
import decimal
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.parse

from differences import EXPLAINED, MISSING
from recorder import Recorder

HERE = pathlib.Path(__file__).parent
KEY = "0123456789abcdef0123456789abcdef"
# PostHog's say what they are; elsewhere such a key would be refused as another vendor's.
POSTHOG_KEY = "phc_0123456789abcdef"

# What tells of the attempt, the clock or the sender and not of the group; compared by their form alone.
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|\+00:00)")


def number(text):
    return decimal.Decimal(text)


def parsed(text):
    """JSON with exact numbers; 42 and 42.0 are the same, 1 and true are not."""
    return json.loads(text, parse_int=number, parse_float=number, parse_constant=lambda name: f"the invalid token {name}")


def body_of(request):
    if request["method"] == "GET":
        fields = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(request["path"]).query, keep_blank_values=True))
        return {**fields, "data": parsed(base64.b64decode(fields["data"]))}
    if request["headers"].get("content-type", "").startswith("application/x-www-form-urlencoded"):
        fields = dict(urllib.parse.parse_qsl(request["body"].decode(), keep_blank_values=True, strict_parsing=True))
        return {name: parsed(value) if value[:1] in "[{" else value for name, value in fields.items()}
    return parsed(request["body"])


def events(body, name):
    """The elements of a body, and what is around them."""
    rest = dict(body)
    return rest.pop(name), rest


def amplitude(body):
    found, rest = events(body, "events")
    said = []
    for one in found:
        (group_type, key), = one["groups"].items()
        assert group_type == "company", one
        assert isinstance(one["time"], decimal.Decimal) and one["time"] == int(one["time"]), one
        assert len(one["insert_id"]) >= 16, one
        said.append((key, without(one, "time", "insert_id", "library", "event_id")))
    return said, without(rest, "client_upload_time", "request_metadata")


def amplitude_properties(body):
    """Only what both endpoints have in common: a group and its properties."""
    if "identification" in body:
        found = [(one["group_type"], one["group_value"], one) for one in body["identification"]]
    else:
        found = [(*next(iter(one["groups"].items())), one) for one in body["events"]]
    return [(key, {"type": kind, "group_properties": one["group_properties"]}) for kind, key, one in found], {}


def posthog(body):
    found, rest = events(body, "batch")
    said = []
    for one in found:
        assert UUID.fullmatch(one["uuid"]) and TIME.fullmatch(one["timestamp"]), one
        key = one["properties"]["$group_key"]
        assert one["distinct_id"] == "$company_" + key, one
        one = without(one, "uuid", "timestamp")
        one["properties"] = without(one["properties"], "$lib", "$lib_version", "$is_server", "$geoip_disable")
        said.append((key, one))
    assert TIME.fullmatch(rest["sent_at"]), rest
    return said, without(rest, "sent_at", "historical_migration")


def posthog_v1(body):
    found, rest = events(body, "batch")
    said = []
    for one in found:
        assert UUID.fullmatch(one["uuid"]) and TIME.fullmatch(one["timestamp"]), one
        key = one["properties"]["$group_key"]
        assert one["distinct_id"] == "$company_" + key, one
        assert not one.pop("options", None), one
        one = without(one, "uuid", "timestamp")
        one["properties"] = without(one["properties"], "$lib", "$lib_version", "$is_server", "$geoip_disable")
        said.append((key, one))
    assert TIME.fullmatch(rest["created_at"]), rest
    return said, without(rest, "created_at", "historical_migration")


def segment(body):
    found, rest = events(body, "batch")
    said = []
    for one in found:
        assert TIME.fullmatch(one["timestamp"]) and 0 < len(one["messageId"]) < 100, one
        assert set(one["context"]["library"]) == {"name", "version"}, one
        assert one.pop("anonymousId", None) is None, one
        one["context"] = without(one["context"], "library")
        said.append((one["groupId"], without(one, "timestamp", "messageId", "_metadata", "integrations")))
    assert TIME.fullmatch(rest["sentAt"]), rest
    return said, without(rest, "sentAt", "writeKey")


def mixpanel(body):
    found = body["data"] if isinstance(body, dict) else body
    said = {}
    for one in found if isinstance(found, list) else [found]:
        # One update per operator; together they are what is said about a group.
        said.setdefault(one["$group_id"], {}).update(without(one, "$time"))
    return list(said.items()), {}


def without(members, *names):
    return {name: member for name, member in members.items() if name not in names}


# name: how a body is read, whether requests are compared as well, our settings, the SDKs, what can be said
FAMILIES = {
    "amplitude": (amplitude_properties, False, 'type = "amplitude"\napi_key = "${KEY}"\nbase_url = "URL"', ["python amplitude", "node amplitude"], {"set_once", "unset"}),
    "amplitude http_v2": (amplitude, True, 'type = "amplitude"\napi = "http_v2"\napi_key = "${KEY}"\nbase_url = "URL"', ["python amplitude", "node amplitude"], {"set_once", "unset"}),
    "posthog": (posthog, True, 'type = "posthog"\napi_key = "${POSTHOG_KEY}"\nbase_url = "URL"', ["python posthog", "node posthog"], {"null"}),
    "posthog v1": (posthog_v1, True, 'type = "posthog"\napi_key = "${POSTHOG_KEY}"\nbase_url = "URL"\ncapture = "v1"', ["python posthog_v1"], {"null"}),
    "segment": (segment, True, 'type = "segment"\nwrite_key = "${KEY}"\nbase_url = "URL"', ["python segment", "node segment"], {"null", "user"}),
    "rudderstack": (segment, True, 'type = "segment"\npreset = "rudderstack"\nwrite_key = "${KEY}"\nbase_url = "URL"', ["python rudder"], {"null", "user"}),
    "mixpanel": (mixpanel, False, 'type = "mixpanel"\ntoken = "${KEY}"\nbase_url = "URL"', ["python mixpanel", "node mixpanel"], {"set_once", "unset"}),
}  # fmt: skip


def environment():
    """Ours without proxies: everything here is on this machine."""
    inherited = {name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")}
    return {name: value for name, value in inherited.items() if not name.startswith("GROUPCAST_")} | {"KEY": KEY, "POSTHOG_KEY": POSTHOG_KEY}


def command(arguments, **more):
    return subprocess.run(arguments, env=environment(), capture_output=True, text=True, timeout=300, **more)


def said_by(read, requests):
    """What is said about each group, by its key, and what the requests have in common."""
    said = {}
    for request in requests:
        for key, one in read(body_of(request))[0]:
            if key in said and read is not mixpanel:
                raise SystemExit(f"group {key} is spoken about twice: {said[key]} and {one}")
            said[key] = {**said.get(key, {}), **one}
    return said, around(read, requests)


def around(read, requests):
    """What stands around the groups, the same in every request."""
    found = []
    for request in requests:
        headers = request["headers"]
        found.append({
            "method": request["method"],
            "path": urllib.parse.urlsplit(request["path"]).path,
            "content-type": headers.get("content-type", "").split(";")[0],
            "authorization": headers.get("authorization", MISSING),
            "attempt": headers.get("posthog-attempt", MISSING),
            "request headers": sorted(name for name in headers if name.startswith("posthog-")),
            **{f"body {name}": value for name, value in read(body_of(request))[1].items()},
        })  # fmt: skip
    assert all(one == found[0] for one in found), found
    return found[0] if found else {}


def theirs(sdk, read, cache):
    language, name = sdk.split()
    with Recorder() as recorder:
        if language == "python":
            sender = [sys.executable, str(HERE / "send.py"), name, recorder.url]
        else:
            sender = ["node", str(HERE / "send.mjs"), name, recorder.url, str(cache / "node")]
        ended = command(sender)
        if ended.returncode != 0:
            raise SystemExit(f"{sdk} failed: {ended.stdout}{ended.stderr}")
        return said_by(read, recorder.take())


def can_say(case, able):
    needs = {name for name in ("set_once", "unset") if case.get(name)} | ({"null"} if case.get("on_null") else set())
    return needs <= able


def ours(settings, read, cases, able, program, sql):
    """Each case is a project of its own, run once; one that unsets runs again after its values turned null."""
    said, requests = {}, []
    with Recorder(rudderstack="rudderstack" in settings) as recorder:
        for case in cases:
            with tempfile.TemporaryDirectory() as folder:
                sent = run_case(case, settings.replace("URL", recorder.url), "user" in able, folder, recorder, program, sql)
            said |= said_by(read, sent)[0]
            requests += sent
        return said, around(read, requests)


def run_case(case, settings, user, folder, recorder, program, sql):
    """The requests of `groupcast run` over a DuckDB warehouse that holds the case's group."""
    folder = pathlib.Path(folder)
    (folder / "mappings").mkdir()
    (folder / "groupcast.toml").write_text(
        f'[sources.warehouse]\ntype = "duckdb"\npath = "warehouse.duckdb"\n[destinations.it]\n{settings}\n'
    )
    mapping = [
        'source = "warehouse"',
        'destination = "it"',
        '[model]\ntable = "accounts"',
        '[group]\ntype = "company"\nkey = "id"',
        *(['[user]\nid = "account:{key}"'] if user else []),
        f'[policy]\non_null = "{case.get("on_null", "unset" if case.get("unset") else "skip")}"',
        "[traits]",
    ]
    columns, unsets = [f"{quoted(case['key'])} AS id"], []
    for op in ("set", "set_once", "unset"):
        for trait in case.get(op, []):
            column = f"c{len(columns)}"
            columns.append(f"{trait['sql']} AS {column}")
            fields = [f'column = "{column}"']
            fields += [f'as = "{trait["as"]}"'] if "as" in trait else []
            fields += ['op = "set_once"'] if op == "set_once" else []
            mapping.append(f"{json.dumps(trait['name'])} = {{ {', '.join(fields)} }}")
            unsets += [f"UPDATE accounts SET {column} = NULL;"] if op == "unset" else []
    (folder / "mappings" / "accounts.toml").write_text("\n".join(mapping) + "\n")

    def change(text):
        ended = command([sql, str(folder / "warehouse.duckdb"), text])
        if ended.returncode != 0:
            raise SystemExit(f"{case['case']}: the warehouse: {ended.stderr}")

    def run():
        ended = command([program, "-C", str(folder), "run", "--accept", "nulled", "--color", "never"])
        # 0: delivered; 3: something was rejected, which the comparison then shows.
        if ended.returncode not in (0, 3):
            raise SystemExit(f"{case['case']}: groupcast run:\n{ended.stdout}{ended.stderr}")
        return recorder.take()

    change(f"CREATE TABLE accounts AS SELECT {', '.join(columns)};")
    sent = run()
    if unsets:
        change(" ".join(unsets))
        sent = run()
    return sent


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def differences(a, b, path=""):
    """Where two values differ: path, theirs, ours."""
    if isinstance(a, dict) and isinstance(b, dict):
        for name in sorted(a.keys() | b.keys()):
            yield from differences(a.get(name, MISSING), b.get(name, MISSING), f"{path}.{name}" if path else name)
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for at, (one, other) in enumerate(zip(a, b)):
            yield from differences(one, other, f"{path}.{at}")
    elif type(a) is not type(b) or a != b:
        yield path, a, b


def main():
    parser = argparse.ArgumentParser()
    for name in ("program", "sql", "cache"):
        parser.add_argument(name)
    parser.add_argument("--only", choices=FAMILIES, help="one family instead of all")
    given = parser.parse_args()
    all_cases = json.loads((HERE / "cases.json").read_text())
    wrong, used, compared = [], set(), 0
    for family, (read, requests_too, settings, sdks, able) in FAMILIES.items():
        if given.only not in (None, family):
            continue
        cases = [case for case in all_cases if can_say(case, able)]
        own, own_request = ours(settings, read, cases, able, given.program, given.sql)
        for sdk in sdks:
            their, their_request = theirs(sdk, read, pathlib.Path(given.cache))
            pairs = [(case["case"], their.get(case["key"], MISSING), own.get(case["key"], MISSING)) for case in cases]
            if requests_too:
                pairs.append(("request", their_request, own_request))
            same, explained = 0, 0
            for case, theirs_said, ours_said in pairs:
                found = list(differences(theirs_said, ours_said))
                same += not found
                for path, one, other in found:
                    explanations = [at for at, each in enumerate(EXPLAINED) if each.covers(family, sdk, case, path, one, other)]
                    used.update(explanations)
                    explained += bool(explanations)
                    if not explanations:
                        wrong.append(f"{family}, {sdk}, {case}: {path or 'all of it'}: theirs {one!r:.200}, ours {other!r:.200}")
            compared += len(pairs)
            print(f"{family}: {same} of {len(pairs)} cases say the same as {sdk}, {explained} differences are explained")
    if given.only is None:
        wrong += [f"explains nothing any more: {each.why}" for at, each in enumerate(EXPLAINED) if at not in used]
    for line in wrong:
        print(f"  {line}")
    print(f"{compared} comparisons, {len(wrong)} problems")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
