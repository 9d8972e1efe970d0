"""One Settings: defaults < TOML < environment < flag. Read when asked, never at import.

The TOML file is `scail2-farm.toml` in the user's configuration folder, or the file SCAIL2_SETTINGS names. Each key
has an environment twin: `weights` is SCAIL2_WEIGHTS; an empty variable is one that is not set. A description below
ends the sentence "it must be ..." of a fault.
"""

from __future__ import annotations

import json
import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from scail2_farm.errors import SettingsInvalid, WeightsMismatch, WeightsMissing, Where, storage_error

PREFIX = "SCAIL2_"


def _path(value: object) -> object:
    if value == "":
        raise ValueError("an empty text names no folder")
    try:
        return Path(value).expanduser() if isinstance(value, str) else value
    except RuntimeError as error:  # ~NAME of nobody
        raise ValueError(str(error)) from None


def _pairs(value: object) -> object:
    """NAME=PATH, with spaces between several, as the environment has them."""
    if not isinstance(value, str):
        return value
    pairs = [one.partition("=") for one in value.split()]
    if not all(name and equals and path for name, equals, path in pairs):
        raise ValueError("each is NAME=PATH")
    return {name: path for name, _, path in pairs}


def _no_truth(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("true and false are no numbers")
    return value


def _address(url: str) -> str:
    parts = urlsplit(url)
    known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0  # asking the port checks it
    if not known or "@" in parts.netloc or parts.fragment or not (url.isascii() and url.isprintable()) or " " in url:
        raise ValueError("this address cannot be posted to")
    return url


Folder = Annotated[Path, BeforeValidator(_path)]
Files = Annotated[dict[str, Folder], BeforeValidator(_pairs)]
Count = Annotated[int, BeforeValidator(_no_truth), Field(ge=1)]
Amount = Annotated[float, BeforeValidator(_no_truth), Field(ge=0, allow_inf_nan=False)]
Lapse = Annotated[float, BeforeValidator(_no_truth), Field(gt=0, allow_inf_nan=False)]
Address = Annotated[str, AfterValidator(_address)]
Addresses = Annotated[
    tuple[Address, ...], BeforeValidator(lambda value: value.split() if isinstance(value, str) else value)
]


CONFIG = "config.json"
SNAPSHOT_FILES = (
    CONFIG,
    "dit.safetensors",
    "vae.safetensors",
    "t5_encoder.safetensors",
    "clip.safetensors",
    "tokenizer.json",
)

Tier = Literal["q4", "q8", "bf16"]
TIERS: tuple[Tier, ...] = get_args(Tier)
"""The folders of a published snapshot that comes in several packings; each is a snapshot of its own."""

PACKED: Mapping[int, Tier] = {4: "q4", 8: "q8"}
"""The tiers of packed weights, by their bits."""

BUILT_IN_WEIGHTS: Mapping[str, Path] = {"miniature": Path(__file__).parent / "engine" / "miniature"}
"""Snapshots known by name."""


class Settings(BaseModel):
    """What an operator sets once for a machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights: str | None = Field(default=None, description="a path, or `miniature`")
    """The snapshot: a folder of config.json, dit, vae, t5_encoder and clip safetensors and tokenizer.json, or
    `miniature`, the small one that comes with the package."""

    tier: Tier | None = Field(default=None, description="q4, q8 or bf16")
    """Which of the packings that the weights come in; `weights` said nearer than `tier` ends it."""

    loras: Files = Field(
        default={}, description="a table of paths by name (in the environment: NAME=PATH, with spaces between them)"
    )
    """Files of adapters by the names that presets and manifests call them: dpo, lightx2v, relight ..."""

    cache: Folder | None = Field(default=None, description="the path of a folder")
    """Where the engine keeps what prompts and references came to; default: scail2-farm in the user's cache folder."""

    farm: Folder | None = Field(default=None, description="the path of a folder")
    """The root of the farm a submit is queued to; without one a submit renders in place."""

    ledger: Folder | None = Field(default=None, description="the path of a folder on a local disk")
    """Where the farm keeps its ledger; default: .farm in its root."""

    workers: Count = Field(default=1, description="a whole number from 1")
    """Engines that render side by side; each holds the weights in memory."""

    hooks: Addresses = Field(
        default=(),
        description="addresses that open with http:// or https://, without user, fragment or spaces "
        "(several in the environment: with spaces between them)",
    )
    """Where the farm posts what becomes of jobs and shots."""

    hook_secret: str | None = Field(default=None, min_length=1, repr=False, description="a text that is not empty")
    """What those posts are signed with; who receives them knows it too."""

    scratch_days: Amount = Field(default=14.0, description="a number of days from 0")
    """How long rendered segments, plans and logs are kept that nothing needs any more."""

    render_hours: Lapse = Field(default=6.0, description="a number of hours above 0")
    """A segment that takes longer is ended."""

    quiet_minutes: Lapse = Field(default=45.0, description="a number of minutes above 0")
    """A segment without a step for so long hangs, and is ended."""

    settle_s: Amount | None = Field(default=None, description="a number of seconds from 0")
    """A drop unchanged for so long is whole; default: 20, on a network volume 60."""

    poll_s: Lapse = Field(default=5.0, description="a number of seconds above 0")
    """How often the inbox is looked at."""

    retry_s: Lapse = Field(default=60.0, description="seconds, more than 0")
    """How long after a failure that was not the submission's something is tried again; then twice as long."""

    min_free_gb: Amount = Field(default=2.0, description="a number of gigabytes from 0")
    """What is kept free on each disk."""

    @model_validator(mode="after")
    def _hooks_are_signed(self) -> Settings:
        if self.hooks and self.hook_secret is None:
            raise ValueError(f"`hooks` are signed posts, and `hook_secret` ({PREFIX}HOOK_SECRET) is missing")
        if len(set(self.hooks)) < len(self.hooks):
            raise ValueError("`hooks` must name each address once")
        return self


def check_weights(named: str | None, *, tier: Tier | None = None) -> Path:
    """The snapshot folder behind a name or a path, complete as far as files go, and of the tier that is asked for.

    `miniature` is the small trained snapshot that comes with the package; a folder of that name is `./miniature`. Where
    a folder holds tiers, it is that of the one asked for, or of the only one. Raises WeightsMissing, WeightsMismatch,
    StorageError.
    """
    if named is None:
        raise WeightsMissing("no weights are named")
    folder = BUILT_IN_WEIGHTS.get(named, Path(named)).absolute()
    held = [one for one in TIERS if (folder / one).is_dir()]
    only = held[0] if len(held) == 1 and not (folder / CONFIG).is_file() else None
    inner = tier if tier in held else only if tier is None else None
    folder = folder / inner if inner is not None else folder
    missing = [name for name in SNAPSHOT_FILES if not (folder / name).is_file()]
    if missing and held and inner is None:
        what = f"not {tier}" if tier else "and none is named"
        raise WeightsMissing(
            f"the weights folder holds tiers ({', '.join(held)}), {what}",
            why="a snapshot is never packed or unpacked on the way: a tier that is there must be named",
            fix=f"name one of them: --tier {held[0]}, {PREFIX}TIER or `tier` in the settings file; "
            f"or its own folder: --weights {' or '.join(str(folder / one) for one in held)}",
            where=Where(file=str(folder)),
        )
    if missing:
        what = f"{', '.join(missing)} not found" if folder.is_dir() else "the weights folder is not there"
        raise WeightsMissing(what, where=Where(file=str(folder)))
    if tier is not None and (found := _tier_of(folder / CONFIG)) not in (tier, None):
        raise WeightsMismatch(
            f"{tier} was asked for, and the weights folder holds {found} alone",
            why="a snapshot is never packed or unpacked on the way: the tier that is asked for must be there",
            fix=f"ask for no tier, or name a folder that holds {tier}; `scail2-farm weights list` shows what there is",
            where=Where(file=str(folder)),
        )
    return folder


def _tier_of(config: Path) -> Tier | None:
    """The tier that the config.json of a snapshot says; None for one that says none, which loading will refuse.

    Loading compares it with the tensors. Raises StorageError.
    """
    try:
        said = json.loads(config.read_bytes()).get("quantization")
        return "bf16" if said is None else PACKED.get(said["bits"])
    except OSError as error:
        raise storage_error(error, config) from error
    except (ValueError, AttributeError, TypeError, LookupError, RecursionError):
        return None


def settings_path(environment: Mapping[str, str]) -> Path:
    """Where the settings file is looked for; it need not exist."""
    if named := environment.get(f"{PREFIX}SETTINGS"):
        return Path(named)
    folder = environment.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(folder) / "scail2-farm.toml"


def cache_folder(settings: Settings, *, environment: Mapping[str, str] | None = None) -> Path:
    """Where the engine keeps what it would otherwise compute for every job; it need not exist."""
    if settings.cache is not None:
        return settings.cache.absolute()
    environment = os.environ if environment is None else environment
    usual = "Library/Caches" if sys.platform == "darwin" else ".cache"
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / usual) / "scail2-farm"


def load_settings(*, environment: Mapping[str, str] | None = None, **flags: object) -> Settings:
    """The settings in force; a flag that is None was not given.

    Raises SettingsInvalid naming each wrong key, variable or flag, and what it must be.
    """
    environment = os.environ if environment is None else environment
    path = settings_path(environment)
    found = _written(path, named=bool(environment.get(f"{PREFIX}SETTINGS")))
    said = {name: f"`{name}`" for name in found}
    variables = {name: PREFIX + name.upper() for name in Settings.model_fields}
    in_environment = {name: value for name, variable in variables.items() if (value := environment.get(variable))}
    given = {name: value for name, value in flags.items() if value is not None}
    options = {name: "--" + name.replace("_", "-") for name in given}
    for level, names in ((in_environment, variables), (given, options)):
        if "weights" in level:
            found.pop("tier", None)  # it was said of other weights
        found |= level
        said |= {name: names[name] for name in level}
    try:
        return Settings.model_validate(found)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        unknown = any(fault["type"] == "extra_forbidden" for fault in faults)
        in_file = any(said.get(str(step), "").startswith("`") for fault in faults for step in fault["loc"][:1])
        raise SettingsInvalid(
            "; ".join(dict.fromkeys(_sentence(fault, said) for fault in faults)),
            fix=f"known settings: {', '.join(Settings.model_fields)}" if unknown else None,
            where=Where(file=str(path)) if in_file else None,
        ) from None


def _written(path: Path, *, named: bool) -> dict[str, object]:
    """What the settings file says; nothing when there is none and none was named."""
    where = Where(file=str(path))
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if named:
            raise SettingsInvalid(f"{PREFIX}SETTINGS names a file that is not there", where=where) from None
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"the settings file cannot be read: {error}", where=where) from None


def _sentence(fault: Mapping[str, Any], said: Mapping[str, str]) -> str:
    """One fault in words; what was given is told, unless it is secret."""
    if not fault["loc"]:
        return str(fault["msg"]).removeprefix("Value error, ")
    name = str(fault["loc"][0])
    if fault["type"] == "extra_forbidden":
        return f"{said[name]}: there is no such setting"
    given = "" if name == "hook_secret" else f", not {fault['input']!r}"
    return f"{said[name]} must be {Settings.model_fields[name].description}{given}"
