"""JSON from strangers: what is too large, too deep or no JSON at all ends in one exception.

Imports nothing of kouros.
"""

import json
from pathlib import Path
from typing import Any

MAX_BYTES = 2**30
"""Of one file; COCO's largest annotations have half of it."""


class DocumentError(ValueError):
    """A file that is no JSON; the message says "it ...", without the file's name."""


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DocumentError: it is no JSON, nested too deeply, or larger than `MAX_BYTES`.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise DocumentError(f"it has more than {MAX_BYTES // 2**20} MiB")
    return parse_json(content)


def parse_json(content: bytes | str) -> Any:
    """The value that JSON text describes. Numbers may be infinite (1e999) or NaN; who uses them looks.

    Raises:
        DocumentError: it is no JSON, or nested too deeply.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise DocumentError("it is nested too deeply") from None
    except (ValueError, MemoryError) as error:  # of the decoder, of the text's encoding, of numbers of many digits
        raise DocumentError(f"it is no JSON: {str(error)[:200] or type(error).__name__}") from None
