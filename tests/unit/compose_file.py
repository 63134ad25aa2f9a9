"""docker-compose.yml, the variables in it, and what the images of our services have set already."""

import re
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
TEXT: Final = (ROOT / "docker-compose.yml").read_text()
SERVICES: Final[dict[str, Any]] = yaml.safe_load(TEXT)["services"]
_VARIABLE: Final = re.compile(r"\$\{([A-Z_]+):-(.*?)\}")


def variables(text: str = TEXT) -> list[tuple[str, str]]:
    """Return the variables that a person may set, each with its default, as often as they occur."""
    return _VARIABLE.findall(text)


def environment(service: str) -> dict[str, str]:
    """Return what a container of ours has in its environment when nobody has chosen anything."""
    given = {
        name: _VARIABLE.sub(r"\2", value)
        for name, value in SERVICES[service]["environment"].items()
        if value is not None  # compose leaves it out then
    }
    return image_environment(service) | given


def image_environment(service: str) -> dict[str, str]:
    """Return what a Dockerfile of ours sets."""
    dockerfile = (ROOT / SERVICES[service]["build"]["dockerfile"]).read_text()
    image = dockerfile.rpartition("\nFROM ")[2].replace("\\\n", " ")
    pairs = " ".join(re.findall(r"^ENV (.*)$", image, re.MULTILINE)).split()
    return dict(pair.split("=", 1) for pair in pairs)
