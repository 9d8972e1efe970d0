"""Colour spaces by name: the pinned built-in OCIO config, and the show's own.

Hides where a name is known, and what makes a config the same on every machine. A name is looked up in the show's
config (space, alias, role or interop id), then among those of the built-in one: a file's tag or a standard's name means
the same whatever the show has. The show's config meets the built-in one in ACES2065-1, by its role `aces_interchange`,
and its displays in CIE XYZ D65, by `cie_xyz_d65_interchange`; without the role nothing of it can be believed.

One version of the built-in config is pinned: `ocio://default` has no camera spaces, and `latest` differs between
library versions. S-Log3 has four spaces in it (S-Gamut3, S-Gamut3.Cine, and a Venice variant of each), ARRI LogC3 one,
of EI 800; each has its linear space beside it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import PyOpenColorIO

from scail2_farm.digests import sha256_of, sha256_of_several
from scail2_farm.errors import ColorSpaceUnknown, Where, storage_error

ocio: Any = PyOpenColorIO  # ships no types; `Any` stops at this module and `color`
OCIO_FAULTS: tuple[type[Exception], ...] = (ocio.Exception, ocio.ExceptionMissingFile)  # neither is of the other
Kind = Literal["scene", "sdr", "hdr"]

CONFIG = "ocio://studio-config-v4.0.0_aces-v2.0_ocio-v2.5"
SCENE = "ACES2065-1"
IDENTITY_SPACES = (
    "sRGB - Display",
    "Rec.1886 Rec.709 - Display",
    "Gamma 2.2 Rec.709 - Display",
    "Camera Rec.709",
    "sRGB Encoded Rec.709 (sRGB)",
    "Gamma 2.2 Encoded Rec.709",
    "Gamma 2.4 Encoded Rec.709",
)
"""SDR pictures with Rec.709 primaries: the model was trained on their code values as they are."""

REQUIRED_ROLE, DISPLAY_ROLE = "aces_interchange", "cie_xyz_d65_interchange"


@dataclass(frozen=True, slots=True)
class ColorConfig:
    """An OCIO config; equal when its content is.

    `name` is its address or path; `digest` the sha256 over the config and every file it names, "" for a built-in one,
    which its name pins. `warnings` are what whoever chose it should be told.
    """

    name: str
    digest: str
    warnings: tuple[str, ...]
    own: Any = field(compare=False, repr=False)

    @property
    def title(self) -> str:
        """What people call it."""
        return Path(self.name).name if self.digest else "the built-in config"


# --------------------------------------------------------------------------- configs


def load_config(where: str | Path | None) -> ColorConfig:
    """The pinned built-in config (None, "builtin"), another built-in one by its address, or the show's own.

    The show's is a .ocio file beside its lookup tables, a .ocioz archive, or a folder with a config.ocio. Read once and
    again when one of its files has changed. Variables in it stand at the values it declares itself: the environment of
    the machine is never looked at.

    Raises ColorSpaceUnknown for a config that is not there, not valid, or without `aces_interchange`; StorageError.
    """
    name = CONFIG if where in (None, "builtin") else str(where)
    if name.startswith("ocio://"):
        return _built_in(name)
    path = Path(name).absolute()
    path = path / "config.ocio" if path.is_dir() else path
    if not path.is_file():
        fix = "correct color.config in the manifest: a .ocio or .ocioz file, a folder with a config.ocio, or builtin"
        raise ColorSpaceUnknown(f"there is no OCIO config {path}", fix=fix, where=Where(file=str(where)))
    return _shows_own(path, tuple((called, file, _stamp(file)) for called, file in _files_of(path)))


@lru_cache(maxsize=4)
def _built_in(address: str) -> ColorConfig:
    if "latest" in address or "default" in address:
        fix = f"name one version, as {CONFIG}, or builtin"
        raise ColorSpaceUnknown(f"{address} is another config with every version of OpenColorIO", fix=fix)
    try:
        return ColorConfig(address, "", (), ocio.Config.CreateFromFile(address))
    except OCIO_FAULTS as error:
        raise ColorSpaceUnknown(f"OpenColorIO has no built-in config {address}", fix=f"name {CONFIG}") from error


def pinned() -> ColorConfig:
    """The built-in config that has the views."""
    return _built_in(CONFIG)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise storage_error(error, path) from error
    return stat.st_size, stat.st_mtime_ns


def _files_of(path: Path) -> Iterator[tuple[str, Path]]:
    """The config's file and every file it names that is there, by its name in it; of an archive only itself."""
    yield "", path
    if path.suffix.lower() == ".ocioz":
        return
    config, names = _named_by(path, _stamp(path))
    resolved = config.getCurrentContext().resolveStringVar
    folders = [Path(config.getWorkingDir(), resolved(folder)) for folder in config.getSearchPaths()] or [path.parent]
    for name in names:  # not asked of OpenColorIO, which remembers what was not there
        places = (folder / resolved(name) for folder in folders)
        if (place := next((place for place in places if place.is_file()), None)) is not None:
            yield name, place


@lru_cache(maxsize=4)
def _named_by(path: Path, stamp: tuple[int, int]) -> tuple[Any, tuple[str, ...]]:
    """The config, and the files its transforms name; `stamp` is there for the cache."""
    config = _opened(path)
    return config, tuple(sorted({name for transform in _transforms(config) for name in _named_in(transform)}))


@lru_cache(maxsize=4)
def _shows_own(path: Path, files: tuple[tuple[str, Path, tuple[int, int]], ...]) -> ColorConfig:
    ocio.ClearAllCaches()  # OpenColorIO remembers lookup tables by their path, whatever is in them now
    config = _opened(path)
    declared = list(config.getEnvironmentVarNames())
    standing = ", ".join(f"{name} = {config.getEnvironmentVarDefault(name)}" for name in declared)
    warnings = (f"{path.name}: its variables stand at their own defaults on every machine: {standing}",)
    digest = sha256_of_several({called: sha256_of(file) for called, file, _ in files})
    return ColorConfig(str(path), digest, warnings if declared else (), config)


def _opened(path: Path) -> Any:
    """The config, valid, and the same on every machine."""
    where = Where(file=str(path))
    try:
        config = ocio.Config.CreateFromFile(str(path))
        declared = {name: config.getEnvironmentVarDefault(name) for name in config.getEnvironmentVarNames()}
        for name, _ in list(config.getCurrentContext().getStringVars()):
            config.addEnvironmentVar(name, declared.get(name))
        config.validate()
    except OCIO_FAULTS as error:
        what = f"{path.name} is not a valid OCIO config: {error}"
        if "$" in str(error) or "%" in str(error):
            fix = "give the variable a default under `environment:` in the config; the machine's own is never looked at"
            raise ColorSpaceUnknown(what, why="a variable may differ between machines", fix=fix, where=where) from error
        raise ColorSpaceUnknown(what, fix="correct the config until ociocheck finds no fault", where=where) from error
    if not config.hasRole(REQUIRED_ROLE):
        raise ColorSpaceUnknown(
            f"{path.name} has no role {REQUIRED_ROLE}",
            why="it says which space is ACES2065-1, where the show's colours meet those of the model",
            fix=f"add to its roles: {REQUIRED_ROLE}: {_likely(config, SCENE)}",
            where=where,
        )
    return config


def _likely(config: Any, space: str) -> str:
    """The config's own name for a space of the built-in one, as far as OpenColorIO can tell."""
    try:
        return ocio.Config.IdentifyBuiltinColorSpace(config, pinned().own, space)
    except OCIO_FAULTS:
        return f"the name of its {space}"


def _transforms(config: Any) -> Iterator[Any]:
    """Every transform of a config at its top level."""
    for space in config.getColorSpaces(ocio.SEARCH_REFERENCE_SPACE_ALL, ocio.COLORSPACE_ALL):
        yield space.getTransform(ocio.COLORSPACE_DIR_TO_REFERENCE)
        yield space.getTransform(ocio.COLORSPACE_DIR_FROM_REFERENCE)
    for view in config.getViewTransforms():
        yield view.getTransform(ocio.VIEWTRANSFORM_DIR_TO_REFERENCE)
        yield view.getTransform(ocio.VIEWTRANSFORM_DIR_FROM_REFERENCE)
    for look in config.getLooks():
        yield look.getTransform()
        yield look.getInverseTransform()


def _named_in(transform: Any) -> Iterator[str]:
    """The files a transform names, as it names them."""
    if isinstance(transform, ocio.FileTransform):
        yield transform.getSrc()
    if isinstance(transform, ocio.GroupTransform):
        for part in transform:
            yield from _named_in(part)


# --------------------------------------------------------------------------- names


@dataclass(frozen=True, slots=True)
class Space:
    """A supported space, and the config that has it; `twin` is the built-in space it is by a name they share, or ""."""

    config: ColorConfig
    name: str
    kind: Kind
    encoding: str
    interop_id: str
    twin: str

    @property
    def identity(self) -> bool:
        """Whether the model takes its code values as they are."""
        return self.twin in IDENTITY_SPACES


def knows(name: str, config: ColorConfig) -> bool:
    """Whether there is a space of this name, in the config or among the built-in ones."""
    return _known(name, config) is not None


def same_picture(name: str, space: Space, config: ColorConfig) -> bool:
    """Whether the name means this space, or both are code values that are taken as they are."""
    found = _known(name, config)
    if found is None:
        return False
    twin = _twin(found[1])
    return found[1].getName() == space.name or (
        space.identity and twin is not None and twin.getName() in IDENTITY_SPACES
    )


def _known(name: str, config: ColorConfig) -> tuple[ColorConfig, Any] | None:
    """Who has a space of this name: the config (by alias, role or interop id too), else the built-in one."""
    if (found := config.own.getColorSpace(name)) is not None:
        return config, found
    proper = _names(pinned()).get(name.lower())
    return (pinned(), pinned().own.getColorSpace(proper)) if proper else None


def unknown(name: str, config: ColorConfig) -> str:
    """That nobody has a space of this name, with the nearest ones."""
    names = _names(config) | _names(pinned())
    near = difflib.get_close_matches(name.lower(), list(names), n=3, cutoff=0.5)
    nearest = list(dict.fromkeys(names[key] for key in near))
    hint = f"; the nearest: {', '.join(nearest)}" if nearest else ""
    return f"{config.title} has no colour space {name!r}{hint}"


def find(name: str, config: ColorConfig, where: Where) -> Space:
    """The space of this name; raises ColorSpaceUnknown for an unknown (with the nearest) or unsupported one."""
    known = _known(name, config)
    if known is None:
        raise ColorSpaceUnknown(unknown(name, config), where=where)
    owner, found = known
    own, proper = owner.own, found.getName()
    if found.isData():
        raise ColorSpaceUnknown(f"{proper} is data, not colour", where=where)
    twin = _twin(found)
    on_display = found.getReferenceSpaceType() == ocio.REFERENCE_SPACE_DISPLAY
    encoding = found.getEncoding() or (twin.getEncoding() if twin else "")
    if on_display and encoding not in ("sdr-video", "hdr-video", "edr-video"):
        what = f"{proper} of {owner.title} is a display, and it does not say whether SDR or HDR"
        raise ColorSpaceUnknown(what, fix="give it `encoding: sdr-video` or `hdr-video` in the config", where=where)
    identity = twin is not None and twin.getName() in IDENTITY_SPACES
    if on_display and not identity and not own.hasRole(DISPLAY_ROLE):
        what = f"{proper} is a display, and {owner.title} has no role {DISPLAY_ROLE}"
        fix = f"add to its roles: {DISPLAY_ROLE}: {_likely(own, 'CIE XYZ-D65 - Display-referred')}"
        raise ColorSpaceUnknown(what, fix=fix, where=where)
    if not encoding:
        try:
            encoding = "scene-linear" if own.isColorSpaceLinear(proper, ocio.REFERENCE_SPACE_SCENE) else "log"
        except OCIO_FAULTS as error:
            raise unconvertible(proper, owner.name, error, where) from error
    kind: Kind = "sdr" if encoding == "sdr-video" else "hdr" if on_display else "scene"
    interop_id = found.getInteropID() or (twin.getInteropID() if twin else "")
    return Space(owner, proper, kind, encoding, interop_id, twin.getName() if twin else "")


def unconvertible(space: str, config: str, error: Exception, where: Where) -> ColorSpaceUnknown:
    """What is said of a space that OpenColorIO cannot convert both ways."""
    what = f"{space} of {Path(config).name} cannot be converted: {error}"
    fix = "correct the space in the config: it must convert both ways, with its files on the search path"
    return ColorSpaceUnknown(what, fix=fix, where=where)


def _twin(space: Any) -> Any:
    """The built-in space of the same name, alias or interop id; None for none."""
    names = _names(pinned())
    shared = (names[name.lower()] for name in (space.getName(), *space.getAliases()) if name.lower() in names)
    return next((pinned().own.getColorSpace(name) for name in shared), None)


@lru_cache(maxsize=4)
def _names(config: ColorConfig) -> dict[str, str]:
    """Every name and alias in lower case, to the name proper."""
    names: dict[str, str] = {}
    for found in config.own.getColorSpaces():
        for name in (found.getName(), *found.getAliases()):
            names.setdefault(name.lower(), found.getName())
    return names
