"""Types of arguments that more than one task has: file names, ids, months, addresses."""

from typing import Annotated

from pydantic import AfterValidator, Field, HttpUrl, StringConstraints, TypeAdapter


def _plain_file_name(name: str) -> str:
    if "/" in name or "\\" in name or ".." in name or name == ".":
        raise ValueError("must be a plain file name, without a path or '..'")
    if not name.isprintable() or name != name.strip():
        raise ValueError("must have no control characters and no spaces at its ends")
    return name


_http_url = TypeAdapter(HttpUrl)


def _web_address(url: str) -> str:
    _http_url.validate_python(url)
    return url


FileName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200),
    AfterValidator(_plain_file_name),
]
FileId = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Month = Annotated[
    str,
    StringConstraints(pattern=r"^[1-9][0-9]{3}-(0[1-9]|1[0-2])$"),
    Field(description="A month as YYYY-MM.", examples=["2025-01"]),
]
WebAddress = Annotated[str, StringConstraints(max_length=2_000), AfterValidator(_web_address)]
