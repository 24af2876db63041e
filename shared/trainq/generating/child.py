"""The process that writes a generated file: asked once on stdin, it answers once on stdout, and ends with its parent.

``python -m trainq.generating.child`` reads one JSON object (:class:`Request`) and writes one, :class:`Written` or
``{"error": ..., "code": ...}``. The file gets its name when all of its rows were made, judged and are on the disk, and
never otherwise; one that has the name already is replaced as a whole, which makes asking again harmless.
"""

from __future__ import annotations

import sys
from pathlib import Path

from trainq import files, leaks
from trainq.errors import InputError
from trainq.generating import asked, producing, registry
from trainq.generating.asked import Written
from trainq.generating.base import GenerateRequest


class Request(asked.Request, frozen=True, kw_only=True):
    """What the child is asked: rows of this generator."""

    generator: str


def write(request: Request) -> Written:
    """Make the rows and publish the file.

    Raises:
        NotFoundError: there is no such generator.
        UsageError: the request makes no sense.
        InputError: the generator cannot do it, or one of its rows is bad.
        StorageError, StorageFullError: the disk.
    """
    generator = registry.find(request.generator)
    wanted = GenerateRequest(count=request.count, level=request.level, seed=request.seed, options=request.options)
    producing.refuse(generator, wanted)
    guarded = leaks.read_suites(Path(request.suites)) if request.suites else None
    size_bytes = rows = left_out = 0
    with files.publish_file(Path(request.path)) as stream:
        for row in producing.rows(generator, wanted):
            if guarded is not None and guarded.find(row.sample) is not None:
                left_out += 1
                continue
            stream.write(row.line)
            rows += 1
            size_bytes += len(row.line)
        if not rows:
            raise InputError(f"all of the {left_out} rows stand in an evaluation suite",
                             mend="another level has more rows to give")
    return Written(rows=rows, left_out=left_out, size_bytes=size_bytes, generator_version=generator.version)


if __name__ == "__main__":
    sys.exit(asked.serve(Request, write))
