"""What Schemathesis cannot know of Tidings: failures that are none, each with its reason."""

import itertools
import json
from urllib.parse import unquote

import schemathesis

turns = itertools.count()


@schemathesis.hook
def before_call(context, case, kwargs):
    """Asks for each of the media types that a response may have, in turn."""
    documented = case.operation.definition.raw["responses"].get("200", {}).get("content", {})
    if case.headers is not None and documented:
        case.headers["Accept"] = list(documented)[next(turns) % len(documented)]


@schemathesis.hook
def filter_failure(context, failure, case, response):
    kind, path, problem, query = type(failure).__name__, case.path, slug(response), case.query or {}
    several = "," in unquote(str((case.path_parameters or {}).get("name")))

    if kind == "RejectedPositiveData":
        # As a 409, it depends on what the server has: the key came with another message before.
        if problem == "key-reused":
            return False
        # OpenAPI 3.1 cannot say that of two parameters only one may be given …
        if path == "/streams/{name}/messages" and {"after", "before"} <= query.keys():
            return False
        if path == "/streams/{name}" and {"at", "find"} <= query.keys():
            return False
        # … or that two parameters have a limit together …
        if path == "/streams/{name}/messages" and problem == "malformed-query":
            words = as_list(query.get("contains")) + as_list(query.get("excludes"))
            return len(words) <= 16 and sum(len(word.encode()) for word in words) <= 512
        # … that a limit is in bytes of UTF-8, in words that are not quoted …
        if path == "/streams/{name}" and "find" in query and not several:
            return len(str(query["find"]).encode()) <= 512 and len(str(query["find"]).split()) <= 16
        # … that a parameter goes with one name, and not with several …
        if path == "/streams/{name}" and several and {"at", "before", "find"} & query.keys():
            return False
        if path == "/streams/{name}/events" and several and "watchers" in query:
            return False
        # … that a parameter goes with one of the formats …
        if path == "/streams" and problem == "malformed-query":
            return "last_event_id" not in query if is_json_asked(case) else not {"after", "limit"} & query.keys()
        # … or that a cursor is of the streams that are named, or one that the counter has sent.
        if path in ("/stream", "/streams/{name}/events") and problem == "malformed-cursor":
            return False
        # Whether a payload is of a known sender, or has the fields of the template, is not in its form.
        if path == "/streams/{name}/webhook" and problem == "malformed-payload":
            return False

    if kind == "AcceptedNegativeData":
        # A header wins over the query, which is not read then.
        if path.startswith("/{topic}") and "priority" in query and (case.headers or {}).get("priority"):
            return False
        if "last_event_id" in query and (case.headers or {}).get("last-event-id"):
            return False
        # An upload of lines may be empty, and a message not.
        if path == "/streams/{name}" and "lines" in query and not response.request.body:
            return False
        # Only the JSON has pages: other formats of the list ignore what pages are asked for with.
        if path == "/streams" and not media_type(response).startswith("application/json"):
            return False

    # A name without messages is a page, and an event stream, that waits for the first one.
    if kind == "UseAfterFree" and path in ("/streams/{name}", "/streams/{name}/events"):
        return False

    # An `EventSource` cannot see the status of a refusal: one whose cookie is not valid is told by a `reset`,
    # and gets nothing else.
    if kind == "IgnoredAuth" and failure.scenario.name != "NO_AUTH" and path == "/streams/{name}/events":
        return False

    # The HTTP library refuses a head that is too large, before the request has an address.
    if kind == "UndefinedStatusCode" and response.status_code == 431:
        return False
    return True


def is_json_asked(case):
    return case.headers.get("Accept") == "application/json"


def as_list(value):
    return value if isinstance(value, list) else [] if value is None else [value]


def media_type(response):
    return response.headers.get("content-type", [""])[0]


def slug(response):
    """The type of the problem that a request was refused with."""
    try:
        return json.loads(response.content)["type"].rpartition("#")[2]
    except (ValueError, KeyError, TypeError):
        return None
