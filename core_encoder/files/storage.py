"""Files on disk: the home folder, names that become paths, atomic writes, free space.

Everything the hub keeps is written aside, fsynced and renamed, so that a reader sees a whole file or none.
"""

from __future__ import annotations

import difflib
import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_encoder.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from torch import Tensor

CONFIG_BYTES = 32 << 20  # a config of a hundred thousand class names has a tenth of it
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_ASIDE = re.compile(r"\..+\.(\d+)-[0-9a-f]+\.tmp")  # what `atomic_path` writes to before the rename
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def prismhub_home() -> Path:
    """The folder of cached features, digests and adapters: `PRISMHUB_HOME`, else a folder in the user's cache."""
    given = os.environ.get("PRISMHUB_HOME")
    if given:
        return Path(given).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache).expanduser() if cache else Path.home() / ".cache") / "prismhub"


def offline() -> bool:
    """Whether `PRISMHUB_OFFLINE` or `HF_HUB_OFFLINE` forbids the network."""
    return is_switched_on("PRISMHUB_OFFLINE") or is_switched_on("HF_HUB_OFFLINE")


def is_switched_on(name: str) -> bool:
    """Whether an environment variable says yes: it is there, and does not say no."""
    return os.environ.get(name, "").strip().lower() not in ("", "0", "false", "no", "off")


def check_name(name: str, what: str = "name") -> str:
    """Return `name` if it can safely become one path component.

    Raises:
        InputError: anything but up to 96 letters, digits, `.`, `_` and `-`, the first a letter or digit.
    """
    if not _NAME.fullmatch(name) or _RESERVED.fullmatch(name) or name.endswith("."):
        raise InputError(
            f"{what} {name!r} cannot be used: take letters, digits, '.', '_' and '-', starting with a letter or digit"
        )
    return name


def plain_name(text: str, otherwise: str = "unnamed") -> str:
    """`text` as a name that `check_name` takes: what cannot be in a name becomes `-`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:96].rstrip("-._") or otherwise


def nearest(word: str, known: Iterable[str]) -> str:
    """A closing phrase that offers the nearest known names: `; did you mean 'x'?`, or the list when none is near."""
    names = sorted(set(known))
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    if not names:
        return "; none is known"
    shown = ", ".join(repr(name) for name in names[:12]) + (", ..." if len(names) > 12 else "")
    return f"; known: {shown}"


_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)


@contextmanager
def writing_to(path: str | Path) -> Iterator[None]:
    """Say in one line why `path` cannot be written to.

    Raises:
        InputError: the disk is full, or the folder cannot be written to; other errors pass through.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            full = "disk is full" if error.errno == errno.ENOSPC else "disk is full up to your quota"
            raise InputError(f"{path}: the {full}; free space and run the same command again") from error
        if error.errno in _NOT_WRITABLE:
            raise InputError(f"{path}: cannot be written ({error}); allow it, or name another place") from error
        raise


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on success it is fsynced and renamed to `path`, on failure removed.

    The aside file is hidden and ends in `.tmp`, so that no reader takes a half-written file for a whole one.

    Raises:
        InputError: the disk is full, or the folder cannot be written to.
    """
    path = Path(path)
    aside = path.parent / f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield aside
            with aside.open("rb+") as file:
                os.fsync(file.fileno())
            aside.replace(path)
            _fsync_folder(path.parent)
        finally:
            aside.unlink(missing_ok=True)


def half_written(folder: str | Path) -> list[tuple[Path, int]]:
    """What `atomic_path` began in `folder` and has not finished, each with the process id of its writer."""
    found = ((path, _ASIDE.fullmatch(path.name)) for path in Path(folder).glob(".*.tmp"))
    return [(path, int(match[1])) for path, match in found if match]


def process_lives(process: int) -> bool:
    """Whether a process of this machine is running; where that cannot be asked it is."""
    if os.name == "nt":  # there, asking would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _fsync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some network and user-space file systems cannot do it to folders
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: str | Path, wait: bool = True) -> Iterator[None]:
    """Keep others that lock `folder`, made if it is missing, out while the block runs; where the file system can.

    Raises:
        BlockingIOError: another holds it, and `wait` is off.
        OSError: the folder cannot be made or opened; `writing_to` words it.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(descriptor)


def write_text(path: str | Path, text: str) -> Path:
    """Write `text` as UTF-8, atomically, with the line ends it has: the same bytes on every system."""
    with atomic_path(path) as aside:
        aside.write_bytes(text.encode())
    return Path(path)


def write_json(path: str | Path, value: Any) -> Path:
    """Write `value` as indented JSON, atomically; NaN and infinity are refused because JSON has no word for them."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_utf8(path: str | Path) -> str:
    """The text of a file, its lines ended by `\\n`, without a byte order mark.

    Raises:
        InputError: it is missing, cannot be read, or is not UTF-8: which byte in which line.
    """
    return _utf8(path).replace("\r\n", "\n").replace("\r", "\n")


def _utf8(path: str | Path) -> str:
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content[:2]:
        raise InputError(f"{path}: line 1: is UTF-16, not UTF-8; save the file as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        begin = content.rfind(b"\n", 0, error.start) + 1
        line, place = content.count(b"\n", 0, error.start) + 1, error.start - begin + 1
        byte = f"byte 0x{content[error.start]:02x} is not UTF-8"
        where = f" (the {place:,}th of the line)" if place > 200 else ""
        raise InputError(f"{path}: line {line}: {byte}{where}; save the file as UTF-8") from error


def read_json(path: str | Path) -> Any:
    """Read a JSON file, with or without a byte order mark.

    Raises:
        InputError: the file is missing, cannot be read or is not JSON; the message names it, and the line.
    """
    try:
        return json.loads(_utf8(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not valid JSON ({error})") from error
    except RecursionError as error:
        raise InputError(f"{path}: its lists and objects lie too deep in one another") from error


def read_config_json(path: str | Path) -> Any:
    """Read the JSON of a config, which may come from anywhere: a file of at most 32 MiB, as `read_json` does.

    Raises:
        InputError: as `read_json`, or it is larger, or no file.
    """
    if Path(path).exists():
        check_regular(path)
        if (size := Path(path).stat().st_size) > CONFIG_BYTES:
            most = readable_bytes(CONFIG_BYTES)
            raise InputError(f"{path}: has {readable_bytes(size)}, and a config no more than {most}: it is damaged")
    return read_json(path)


def check_regular(path: str | Path) -> None:
    """Refuse what is there and no file: to read a pipe or a device may never end.

    Raises:
        InputError: it is a folder, a pipe or a device.
    """
    if Path(path).exists() and not Path(path).is_file():
        raise InputError(f"{path}: is no file")


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file of plain values; None when it is empty.

    Raises:
        InputError: the file is missing, cannot be read or is not YAML, or a key comes twice; the message names it.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # a ValueError: not UTF-8, or a NUL in the path
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """The plain values that `text` spells in YAML; `where` begins the messages.

    Raises:
        InputError: it is not YAML, or a key comes twice, of which YAML would silently take the last.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
            node = super().compose_mapping_node(anchor)
            seen = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    continue
                name = (key.tag, key.value)
                if name in seen and key.tag != "tag:yaml.org,2002:merge":
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
                seen.add(name)
            return node

    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        reason = getattr(error, "problem", None) or " ".join(str(error).split())
        raise InputError(f"{where}: {line}not valid YAML ({reason})") from error
    # A date with a month 13, thousands of brackets, `!!bool x`: the constructors let through what they stumble over.
    except (ValueError, ArithmeticError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(f"{where}: not valid YAML ({' '.join(str(error).split())})") from error


def is_file(path: str | Path) -> bool:
    """Whether a file is there; a name that no file can have is no error."""
    return os.path.isfile(path)  # noqa: PTH113 (a Path raises where a name is too long)


def is_folder(path: str | Path) -> bool:
    """Whether a folder is there; a name that no folder can have is no error."""
    return os.path.isdir(path)  # noqa: PTH112 (as above)


def expanded(path: str | Path) -> Path:
    """`path` with `~` as the user's home.

    Raises:
        InputError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{path}: there is no such user's home") from error


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """Write `tensors` as one safetensors file, atomically.

    Raises:
        InputError: the disk is full, or the folder cannot be written to.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    whole = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    with atomic_path(path) as aside:
        try:
            save_file(whole, str(aside), metadata=dict(metadata or {}))
        except SafetensorError as error:  # it wraps the operating system's error in text
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), str(error)) from error
    return Path(path)


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read a whole safetensors file.

    Raises:
        InputError: the file is missing, truncated or not safetensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_regular(path)
    try:
        return load_file(str(path))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a whole safetensors file ({error})") from error


def check_finite(tensors: Mapping[str, Tensor], where: str | Path) -> None:
    """Refuse weights that hold NaN or infinity: they answer nothing.

    Raises:
        InputError: how many tensors do, and the first of them.
    """
    broken = []
    for name, tensor in sorted(tensors.items()):
        whole = tensor.detach()  # its sum is quick, and nearly always finite
        if whole.is_floating_point() and not whole.sum().isfinite() and not whole.isfinite().all():
            broken.append(name)
    if broken:
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        raise InputError(f"{where}: NaN or infinity in {', '.join(broken[:3])}{more}: not the weights that were saved")


def free_bytes(folder: str | Path) -> int:
    """Free bytes on the disk that holds `folder`, which need not exist yet."""
    folder = Path(folder).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def readable_bytes(count: float) -> str:
    """`6291456` -> `6.0 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
