"""What is on the disk, and a full one said in one sentence: each library words it differently."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

YOUNG = 60.0  # seconds in which a process may not have locked yet what it has made
FULL = (errno.ENOSPC, errno.EDQUOT)
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # what file systems without locks say
# safetensors raises no OSError but repeats the system's words, of a process that trains beside others the traceback
# is repeated, and np.save counts what it could not write.
WORDS = re.compile("|".join((*map(os.strerror, FULL), r"\d+ requested and \d+ written")))


def tells_of_a_full_disk(error: Exception) -> bool:
    """By its number, or by the words of a library that loses the number."""
    return getattr(error, "errno", None) in FULL or WORDS.search(str(error)) is not None


@contextmanager
def room_for(path: Path) -> Iterator[None]:
    """Whatever tells of a full disk, or of a full quota, in this block becomes an OSError that says what to do."""
    try:
        yield
    except Exception as error:
        if not tells_of_a_full_disk(error):
            raise
        remedy = "free some space and run the same command again, which continues"
        raise OSError(f"the disk is full while {path} is written: {remedy}") from error


def to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders, and renames through its journal
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_sha256(path: Path) -> str:
    """The checksum of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(path: Path, busy: Exception, soft: bool = False) -> Iterator[None]:
    """Inside, no other process holds the lock at this path; `busy` is raised where one does.

    OSError where files cannot be locked, unless it may be `soft`: a file that is there, which a crash leaves behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0, fallback_to_soft=soft)
    try:
        lock.acquire()
    except Timeout as error:
        raise busy from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        what = f"the file system of {path.parent} has no file locks, which keep two processes apart"
        raise OSError(f"{what}: put --runs on another disk, such as a local one") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def own_folder(place: Path, prefix: str) -> Iterator[Path]:
    """A folder in this place, its name begun so, while this process needs it; those of killed processes go first."""
    place.mkdir(parents=True, exist_ok=True)
    for folder in place.glob(f"{prefix}*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > YOUNG:
                with FileLock(folder / "owner", timeout=0):  # which its process holds while it lives
                    shutil.rmtree(folder)
    made = tempfile.TemporaryDirectory(prefix=prefix, dir=place, ignore_cleanup_errors=True)
    with made, FileLock(Path(made.name) / "owner"):
        yield Path(made.name)
