"""The differences between the official SDKs and us that are meant, each with its reason."""

import dataclasses
import datetime
import decimal
import re
from typing import Any, Callable


class Missing:
    """Nothing is said here."""

    def __repr__(self):
        return "nothing"


MISSING = Missing()


def anything(_theirs, _ours):
    return True


def same_instant(theirs, ours):
    """Two spellings of one moment: `+00:00`, `.000Z`, `Z`; or of the midnight of one day."""
    try:
        def moment(text):
            read = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
            return read if read.tzinfo else read.replace(tzinfo=datetime.timezone.utc)

        return moment(theirs) == moment(ours)
    except (AttributeError, TypeError, ValueError):
        return False


def same_second(theirs, ours):
    """Likewise, by someone who writes no fractions."""
    return isinstance(ours, str) and same_instant(theirs, re.sub(r"\.\d+", "", ours))


def digits_kept_by_us(theirs, ours):
    """We send the digits as text; theirs is a number, exact (Python) or what a double makes of it."""
    if not isinstance(ours, str) or not isinstance(theirs, (decimal.Decimal, str)):
        return False
    return float(decimal.Decimal(ours)) == float(theirs)


def only_ours(theirs, _ours):
    return theirs is MISSING


def only_theirs(_theirs, ours):
    return ours is MISSING


def null_left_out_by_us(theirs, ours):
    return isinstance(theirs, list) and [item for item in theirs if item is not None] == ours


@dataclasses.dataclass
class Explained:
    why: str
    family: str = ".*"
    sdk: str = ".*"
    case: str = ".*"
    path: str = ".*"
    when: Callable[[Any, Any], bool] = anything

    def covers(self, family, sdk, case, path, theirs, ours):
        fits = [(self.family, family), (self.sdk, sdk), (self.case, case), (self.path, path)]
        return all(re.fullmatch(pattern, text) for pattern, text in fits) and self.when(theirs, ours)


EXPLAINED = [
    Explained(
        "a moment is written `…Z` without needless zeros (RFC 3339), by Python as `+00:00`, by Node with milliseconds",
        case="moments",
        path=r".*\.(created_at|seen_at)",
        when=same_instant,
    ),
    Explained(
        "JavaScript has no dates: Node writes a midnight where we write the day",
        sdk="node .*",
        case="day",
        path=r".*\.renews_on",
        when=same_instant,
    ),
    Explained(
        "numbers that a double cannot hold travel as text, as the mapping says; SDKs round them or leave that to the vendor",
        case="numbers beyond a double, as text",
        path=r".*\.(id|ltv)",
        when=digits_kept_by_us,
    ),
    Explained(
        "both Amplitude SDKs drop a list that holds a null; we leave out the null (AM-13)",
        family="amplitude.*",
        case="list with null",
        when=only_ours,
    ),
    Explained(
        "strings above 1,024 characters: Amplitude's Python SDK cuts them, Node sends them whole and the server cuts them; "
        "we refuse the group and say so, since the ledger would else remember what the destination does not hold (AM-10)",
        family="amplitude.*",
        case="too long text",
        when=only_theirs,
    ),
    Explained(
        "Amplitude's Python SDK drops dates, with a line in the log; we write them as text (AM-11)",
        family="amplitude.*",
        sdk="python amplitude",
        case="moments|day",
        when=only_ours,
    ),
    Explained(
        "Amplitude's Python SDK drops a Decimal, with a line in the log; ours is text, as the mapping says (AM-12)",
        family="amplitude.*",
        sdk="python amplitude",
        case="numbers beyond a double, as text",
        path=r".*\.ltv",
        when=only_ours,
    ),
    Explained(
        "Amplitude's Node SDK sends an empty `options`, which says nothing",
        family="amplitude http_v2",
        sdk="node amplitude",
        case="request",
        path="body options",
        when=lambda theirs, ours: theirs == {} and ours is MISSING,
    ),
    Explained(
        "RudderStack's Python SDK names its kind of channel in every message; no server needs it",
        family="rudderstack",
        path="channel",
        when=lambda theirs, ours: theirs == "server" and ours is MISSING,
    ),
    Explained(
        "a null inside a list is left out at Mixpanel, whose reports know none; its SDKs send it",
        family="mixpanel",
        case="list with null",
        path=r"\$set\.tags",
        when=null_left_out_by_us,
    ),
    Explained(
        "Mixpanel's Python SDK writes moments without zone and fraction",
        family="mixpanel",
        sdk="python mixpanel",
        case="moments",
        path=r"\$set\.seen_at",
        when=same_second,
    ),
    Explained(
        "Mixpanel's Python SDK raises on a date and on a Decimal; ours are texts, as the mapping says",
        family="mixpanel",
        sdk="python mixpanel",
        case="day|numbers beyond a double, as text",
        when=only_ours,
    ),
    Explained(
        "texts above 255 bytes: Mixpanel's SDKs send them and the server cuts them; we refuse the group and say so",
        family="mixpanel",
        case="long text|too long text",
        when=only_theirs,
    ),
]
