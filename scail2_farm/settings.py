"""One Settings: defaults < TOML < environment < flag. Read when asked, never at import.

The TOML file is `scail2-farm.toml` in the user's configuration folder, or the file SCAIL2_SETTINGS names. Each key
has an environment twin: `weights` is SCAIL2_WEIGHTS.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from scail2_farm.errors import SettingsInvalid, Where

PREFIX = "SCAIL2_"


class Settings(BaseModel):
    """What an operator sets once for a machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights: str | None = None
    """The snapshot: a folder of config.json, dit, vae, t5_encoder and clip safetensors and tokenizer.json, or
    `miniature`, the small one that comes with the package."""


def settings_path(environment: Mapping[str, str]) -> Path:
    """Where the settings file is looked for; it need not exist."""
    if named := environment.get(f"{PREFIX}SETTINGS"):
        return Path(named)
    folder = environment.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(folder) / "scail2-farm.toml"


def load_settings(*, environment: Mapping[str, str] | None = None, **flags: object) -> Settings:
    """The settings in force; a flag that is None was not given.

    Raises SettingsInvalid naming the file or variable and the key.
    """
    environment = os.environ if environment is None else environment
    path = settings_path(environment)
    found: dict[str, object] = {}
    if path.is_file():
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsInvalid(f"the settings file cannot be read: {error}", where=Where(file=str(path))) from None
    elif f"{PREFIX}SETTINGS" in environment:
        raise SettingsInvalid(f"{PREFIX}SETTINGS names a file that is not there", where=Where(file=str(path)))
    for name in Settings.model_fields:
        if value := environment.get(PREFIX + name.upper()):
            found[name] = value
    found |= {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(step) for step in first["loc"])
        known = ", ".join(Settings.model_fields)
        words = {"extra_forbidden": "there is no such setting", "path_type": "this must be a path"}
        raise SettingsInvalid(
            f"setting `{key}`: {words.get(first['type'], first['msg'])}",
            fix=f"known settings: {known}",
            where=Where(file=str(path)),
        ) from None
