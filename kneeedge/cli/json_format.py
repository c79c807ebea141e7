"""What the JSON of a command says of itself, so that a reader knows which fields to expect."""

from typing import Any

from kneeedge.system.strict_json import plain

FORMATS = {
    "audit": 1,
    "train": 1,
    "folds": 1,
    "tune": 1,
    "export": 1,
    "slim": 1,
    "infer": 1,
    "evaluate": 1,
    "stress": 1,
    "certify": 1,
    "verify": 1,
    "verify-emulate": 1,
    "verify-rows": 1,
    "info": 1,
    "vectors": 1,
    "bench": 2,
    "compare": 1,
    "runs": 1,
    "runs-compare": 1,
    "web": 1,
    "triton": 1,
}
"the version of each: raised where a field goes, changes its meaning or its type; not for a new one"


def stamped(name: str, record: Any) -> Any:
    """The record as plain JSON, with its `format` first; a list has it in each of its records."""
    fields = plain(record)
    if isinstance(fields, list):
        return [stamped(name, item) for item in fields]
    return {"format": f"kneeedge-{name}/{FORMATS[name]}"} | {
        key: value for key, value in fields.items() if key != "format"
    }
