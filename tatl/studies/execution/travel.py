"""What travels to nodes that share no disk with the driver, and back: files in Ray's object store.

A store is fetched once a node and its checksums are compared there.  A run's folder travels whole and its weights are
put in place last, so that at every moment it is finished or not begun.
"""

from __future__ import annotations

import getpass
import hashlib
import io
import pickle
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from tatl.data.store import Store
from tatl.machine.disk import file_sha256, room_for
from tatl.run import put_in_place

CHUNK = 1 << 24  # bytes of a file that are one object, so that neither end holds more of it in memory
LAST = "weights.safetensors"  # what makes a run a finished one
LEFT = ("lock", "last.ckpt", "failed")  # what of a run's folder is of the machine on which it lies
ARRIVING = "arriving"  # the folder in it of what is being put down

Contents = dict[str, bytes]  # of a run's folder, by names

_checked = set[Path]()


@dataclass(frozen=True)
class Parcel:
    """A file, or a folder of files, in the object store: its name, and the checksum and chunks of each file."""

    name: str
    files: dict[str, tuple[str, list[Any]]]

    @property
    def digest(self) -> str:
        said = "".join(f"{name} {checksum} " for name, (checksum, _) in sorted(self.files.items()))
        return hashlib.sha256(said.encode()).hexdigest()[:12]


def parcel(ray: Any, path: Path) -> Parcel:
    """A file or folder, put into the object store; the files of a folder alone, not of folders in it."""
    files = [each for each in sorted(path.iterdir()) if each.is_file()] if path.is_dir() else [path]
    return Parcel(path.name, {each.name if path.is_dir() else "": _chunks(ray, each) for each in files})


def _chunks(ray: Any, path: Path) -> tuple[str, list[Any]]:
    checksum, chunks = hashlib.sha256(), []
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            checksum.update(chunk)
            try:
                chunks.append(ray.put(chunk))
            except (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError) as error:
                what = f"the object store of Ray is full, and so is the disk that it spills to, at {path}"
                raise OSError(f"{what}: give the nodes more --object-store-memory, or a larger disk") from error
    return checksum.hexdigest(), chunks


def cache() -> Path:
    """The folder of this machine's local disk in which copies lie; TMPDIR moves it."""
    return Path(tempfile.gettempdir()) / f"tatl-{getpass.getuser()}"


def copy_here(ray: Any, sent: Parcel) -> Path:
    """This machine's copy of a parcel, fetched by the first process that asks and checked once by every one.

    OSError where it arrives with other bytes than it was sent with.
    """
    path = cache() / sent.digest / sent.name
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name("lock")):
        if path not in _checked and not _same(path, sent):
            with room_for(path):
                _fetch(ray, sent, path)
        _checked.add(path)
    return path


def _same(path: Path, sent: Parcel) -> bool:
    return all((path / name).is_file() and file_sha256(path / name) == sent.files[name][0] for name in sent.files)


def _fetch(ray: Any, sent: Parcel, path: Path) -> None:
    partial = path.with_name(path.name + ".partial")
    for old in (path, partial):
        shutil.rmtree(old, ignore_errors=True)
        old.unlink(missing_ok=True)
    for name, (_, chunks) in sent.files.items():
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        with (partial / name).open("wb") as stream:
            for chunk in chunks:
                stream.write(ray.get(chunk))
    if not _same(partial, sent):
        raise OSError(f"{path} arrived with other bytes than it was sent with: look at the disk of this machine")
    partial.rename(path)


def contents(folder: Path) -> Contents:
    """The files of a finished run, and of folders in its own."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".partial"]
    found = {path.relative_to(folder).as_posix(): path for path in files if path.parent.name != ARRIVING}
    return {name: path.read_bytes() for name, path in found.items() if name not in LEFT}


def put_down(found: Contents, folder: Path) -> None:
    """Write a finished run's files into its folder, its weights last."""
    arriving = folder / ARRIVING
    arriving.mkdir(parents=True, exist_ok=True)
    with room_for(folder):
        for name in sorted(found, key=lambda name: name == LAST):
            partial = arriving / Path(name).name
            partial.write_bytes(found[name])
            (folder / name).parent.mkdir(exist_ok=True)
            put_in_place(partial, folder / name)
    shutil.rmtree(arriving)


class Post:
    """Where nodes leave what the driver takes home: finished runs, and how far others are; an actor."""

    def __init__(self) -> None:
        self.folders, self.words = dict[str, Contents](), dict[str, str]()

    def leave(self, name: str, folder: Contents) -> None:
        """The folder of a finished run."""
        self.folders[name] = folder

    def tell(self, name: str, words: str) -> None:
        """How far a run is."""
        self.words[name] = words

    def take(self, had: Sequence[str]) -> tuple[dict[str, Contents], dict[str, str]]:
        """Both, of each run that has left any: the words since the last time, the folders but those that he `had`."""
        for name in had:
            self.folders.pop(name, None)
        told, self.words = self.words, {}
        return self.folders, told


class _Packer(pickle.Pickler):
    """Leaves stores out: of every node its own copy takes their place."""

    def persistent_id(self, found: Any) -> Any:
        return True if isinstance(found, Store) else None


class _Unpacker(pickle.Unpickler):
    def __init__(self, file: Any, store: Store) -> None:
        super().__init__(file)
        self.store = store

    def persistent_load(self, _: Any) -> Store:
        return self.store


def packed(what: Any) -> bytes:
    """Pickled, without the one store that it is about."""
    made = io.BytesIO()
    _Packer(made).dump(what)
    return made.getvalue()


def unpacked(what: bytes, store: Store) -> Any:
    """What was packed, with this copy of its store."""
    return _Unpacker(io.BytesIO(what), store).load()
