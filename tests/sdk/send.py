"""Sends the cases through one of the official Python SDKs: `send.py SDK ADDRESS`."""

import datetime
import decimal
import json
import logging
import pathlib
import sys

KEY = "0123456789abcdef0123456789abcdef"
# PostHog's say what they are; elsewhere such a key would be refused as another vendor's.
POSTHOG_KEY = "phc_0123456789abcdef"


def plain(value):
    """A case's value as an application would hold it."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    match list(value.items()):
        case [("$datetime", text)]:
            return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
        case [("$date", text)]:
            return datetime.date.fromisoformat(text)
        case [("$number", text)]:
            if text.isdigit():
                return int(text)
            return decimal.Decimal(text) if len(text) > 17 else float(text)
        case [("$repeat", [text, times])]:
            return text * times
    return {name: plain(member) for name, member in value.items()}


def traits(case, under):
    return {one["name"]: plain(one["value"]) for one in case.get(under, [])}


def amplitude(url, cases):
    from amplitude import Amplitude, Identify

    client = Amplitude(KEY)
    client.configuration.server_url = url + "/2/httpapi"
    for case in cases:
        identify = Identify()
        for name, value in traits(case, "set").items():
            identify.set(name, value)
        for name, value in traits(case, "set_once").items():
            identify.set_once(name, value)
        for name in traits(case, "unset"):
            identify.unset(name)
        client.group_identify("company", case["key"], identify)
    client.shutdown()


def posthog(url, cases):
    from posthog import Posthog

    client = Posthog(POSTHOG_KEY, host=url, sync_mode=True)
    for case in only_set(cases):
        client.group_identify("company", case["key"], traits(case, "set"), distinct_id="$company_" + case["key"])
    client.shutdown()


def posthog_v1(url, cases):
    from posthog import Posthog

    client = Posthog(POSTHOG_KEY, host=url, sync_mode=True, capture_mode="v1")
    for case in only_set(cases):
        client.group_identify("company", case["key"], traits(case, "set"), distinct_id="$company_" + case["key"])
    client.shutdown()


def segment(url, cases):
    import segment.analytics

    client = segment.analytics.Client(KEY, host=url, sync_mode=True)
    for case in only_set(cases):
        tried(case, lambda: client.group("account:" + case["key"], case["key"], traits(case, "set")))


def rudder(url, cases):
    from rudderstack.analytics.client import Client

    client = Client(KEY, host=url, sync_mode=True)
    for case in only_set(cases):
        tried(case, lambda: client.group("account:" + case["key"], case["key"], traits(case, "set")))


def mixpanel(url, cases):
    import mixpanel

    client = mixpanel.Mixpanel(KEY, consumer=mixpanel.Consumer(groups_url=url + "/groups"))
    for case in cases:
        def send():
            if case.get("unset"):
                client.group_unset("company", case["key"], list(traits(case, "unset")))
            if case.get("set"):
                client.group_set("company", case["key"], traits(case, "set"))
            if case.get("set_once"):
                client.group_set_once("company", case["key"], traits(case, "set_once"))

        tried(case, send)


def only_set(cases):
    return [case for case in cases if case.get("set") and not case.get("set_once")]


def tried(case, send):
    """An SDK that cannot write a value says so by an exception; the comparison then finds nothing of the case."""
    try:
        send()
    except (TypeError, ValueError, AssertionError) as error:
        print(f"{case['case']}: {error}")


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    sdk, url = sys.argv[1:]
    cases = json.loads((pathlib.Path(__file__).parent / "cases.json").read_text())
    {"amplitude": amplitude, "posthog": posthog, "posthog_v1": posthog_v1, "segment": segment, "rudder": rudder, "mixpanel": mixpanel}[sdk](url, cases)
