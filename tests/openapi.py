"""Holds answers of the admin API against docs/openapi.json.

Reads one JSON object per line (method, path, query, request, status, content_type, body), each an exchange with the real
gateway. Prints what is wrong with any of them, and which operations never succeeded; exit code 1 if there is any.
"""

import json
import sys

from openapi_core import Config, OpenAPI
from openapi_core.testing import MockRequest, MockResponse
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate


def closed(schema):
    """What is not described is a mistake here; clients may be more generous."""
    if isinstance(schema, dict):
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            closed(part)
    elif isinstance(schema, list):
        for part in schema:
            closed(part)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        document = json.load(file)
    validate(document)
    closed(document["components"]["schemas"])
    readers = {
        "application/problem+json": json.loads,
        "application/openmetrics-text": lambda text, **_: text.decode(),
    }
    api = OpenAPI.from_dict(document, config=Config(extra_media_type_deserializers=readers))
    problem = OAS31Validator(document["components"]["schemas"]["Problem"])
    host = document["servers"][0]["url"]
    waiting = {(m, p) for p, operations in document["paths"].items() for m in operations}
    problems = []
    count = 0
    for line in sys.stdin:
        exchange = json.loads(line)
        count += 1
        method, path, status = exchange["method"].lower(), exchange["path"], exchange["status"]
        content_type = exchange["content_type"].split(";")[0]
        if method not in document["paths"].get(path, {}):
            # Another method than the description's: a problem that says so.
            try:
                assert status in (403, 405), "an operation that is not described"
                problem.validate(json.loads(exchange["body"]))
            except Exception as error:  # noqa: BLE001
                problems.append(f"{method} {path} {status}: {error}")
            continue
        sent = exchange["request"]
        request = MockRequest(
            host,
            method,
            path,
            args=exchange["query"],
            data=sent.encode() if sent else None,
            content_type="application/json",
        )
        response = MockResponse(
            exchange["body"].encode(), status_code=status, content_type=content_type
        )
        try:
            api.validate_response(request, response)
            if status < 300:
                api.validate_request(request)
                waiting.discard((method, path))
            elif content_type == "application/problem+json":
                assert json.loads(exchange["body"])["status"] == status, "the problem has another status"
            # Every status is described by itself, not by a default.
            assert str(status) in document["paths"][path][method]["responses"], "undescribed status"
        except Exception as error:  # noqa: BLE001: whatever the validator raises is a finding
            causes = [error]
            while causes[-1].__cause__ is not None:
                causes.append(causes[-1].__cause__)
            why = " <- ".join(f"{type(cause).__name__}: {cause}" for cause in causes)
            more = getattr(causes[-1], "schema_errors", "")
            problems.append(f"{method} {path} {status}: {why} {more}")
    for problem in problems:
        print(problem)
    for method, path in sorted(waiting):
        print(f"{method} {path} never succeeded")
    print(f"{count} exchanges")
    return 1 if problems or waiting or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
