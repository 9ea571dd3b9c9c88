"""Writes the OpenAPI document that `src/schema.ts` is generated from: python clients/typescript/openapi.py FILE."""

import json
import sys
from pathlib import Path
from typing import cast

from serve.ingress import create_app
from serve.types import Service


def document() -> str:
    """The document as JSON, keys in order, so that it changes with the API alone."""
    return json.dumps(create_app(cast(Service, None)).openapi(), indent=1, sort_keys=True)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document(), encoding="utf-8")
