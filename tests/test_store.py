"""A store is whole or it is not there, and however it came about it holds the same bytes."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from tatl.data.case import BadCase, Case, Size
from tatl.data.prepare import decoding, partial
from tatl.data.prepare.problems import by_kind
from tatl.data.store import GUESSED, BadCases, Store, prepare
from tatl.machine.disk import room_for

SIZE = Size(12, 16)
FILES = ("images.npy", "masks.npy", "cases.csv", "store.json")


class Toy:
    """Cases drawn from their number; `bad` ones cannot be read, and `tags` stand for the state of their files."""

    name = "toy"
    attributes = ("dots", "veil", "never")

    def __init__(self, count: int, bad: set[int] | None = None, problems: tuple[str, ...] = (), **options: Any):
        self.ids = [f"T_{i:04d}" for i in range(count)]
        self.groups = [f"g{i // 2}" for i in range(count)]
        self.bad, self.problems = bad or set(), problems
        self.tags = {name: "v1" for name in self.ids}
        self.provenance = {"data": "toy", **options}
        self.read_ids: list[str] = []

    def stamp(self, index: int) -> str:
        return self.tags[self.ids[index]]

    def read(self, index: int, size: Size) -> Case:
        name = self.ids[index]
        self.read_ids.append(name)
        number = int(name[2:])
        if number in self.bad:
            raise BadCase(f"{name}.jpg is truncated")
        rng = np.random.default_rng([number, *self.tags[name].encode()])
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        masks = {
            "dots": image[..., 0] > 200,
            "veil": None if number % 3 == 0 else image[..., 1] > 100,
            "never": np.zeros(size, bool),
        }
        lesion = image[..., 2] > 50 if number % 2 else None
        return Case(name, self.groups[index], image, lesion, masks, 100 + number, 200)


def make(path: Path, toy: Toy, size: Size = SIZE, workers: int = 1, skip_bad: bool = False) -> Store:
    return prepare(toy, path, size, workers=workers, skip_bad=skip_bad, progress=False)


def content(path: Path) -> dict[str, bytes]:
    assert sorted(os.listdir(path)) == sorted(FILES)
    return {name: (path / name).read_bytes() for name in FILES}


def test_a_store_holds_what_was_read(tmp_path: Path) -> None:
    toy = Toy(7)
    store = make(tmp_path / "s", toy)
    assert (len(store), store.size, store.attributes, store.name) == (7, SIZE, ("dots", "veil", "never"), "s")
    assert store.source == {"data": "toy"}
    assert store.images.dtype == np.uint8 and store.images.shape == (7, 12, 16, 3)
    assert store.masks.dtype == np.uint16 and store.masks.shape == (7, 12, 16)
    for i in range(7):
        case = toy.read(i, SIZE)
        assert np.array_equal(store.images[i], case.image)
        for name, mask in {"lesion": case.lesion, **case.attributes}.items():
            assert store.known(name)[i] == (mask is not None)
            assert store.present(name)[i] == (mask is not None and mask.any())
            assert np.array_equal(store.mask(name, i), np.zeros(SIZE, bool) if mask is None else mask)
    assert store.cases["height"].tolist() == [100, 101, 102, 103, 104, 105, 106]
    assert store.cases["group"].tolist() == ["g0", "g0", "g1", "g1", "g2", "g2", "g3"]
    store.verify()


def test_the_union_is_all_attribute_bits_and_known_if_all_are(tmp_path: Path) -> None:
    store = make(tmp_path / "s", Toy(7))
    assert [store.bits(name) for name in ("lesion", "dots", "veil", "never", "union")] == [1, 2, 4, 8, 14]
    several = np.array([1, 4])
    assert np.array_equal(store.mask("union", several), store.mask("dots", several) | store.mask("veil", several))
    assert np.array_equal(store.mask("union", several), store.masks[several] >> 1 != 0)
    assert np.array_equal(store.known("union"), store.known("veil"))
    assert np.array_equal(store.present("union"), store.known("veil")) and not store.present("never").any()
    with pytest.raises(ValueError, match="has no mask 'streaks': it has lesion, dots, veil, never, union"):
        store.known("streaks")


def test_a_store_is_read_only_and_cheap_to_send(tmp_path: Path) -> None:
    store = make(tmp_path / "s", Toy(3))
    with pytest.raises(ValueError, match="read-only"):
        store.images[0] = 0
    sent = pickle.dumps(store)
    assert len(sent) < 500
    assert np.array_equal(pickle.loads(sent).images, store.images)


def test_processes_write_the_same_bytes_as_one(tmp_path: Path) -> None:
    one, two = make(tmp_path / "1", Toy(23)), make(tmp_path / "2", Toy(23), workers=2)
    assert content(one.path) == content(two.path)
    assert one.digest == two.digest and len(one.digest) == 12
    assert one.digest != make(tmp_path / "3", Toy(22)).digest


def test_decoding_does_not_import_torch() -> None:
    code = "import tatl.data.prepare.partial, tatl.data.readers, sys; assert not {'torch', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- the same command again


def test_a_whole_store_of_the_same_recipe_is_left_as_it_is(tmp_path: Path) -> None:
    make(tmp_path / "s", Toy(5))
    written = (tmp_path / "s" / "images.npy").stat().st_mtime_ns
    again = Toy(5)
    make(tmp_path / "s", again)
    assert not again.read_ids
    assert (tmp_path / "s" / "images.npy").stat().st_mtime_ns == written


def test_masks_of_an_earlier_version_may_have_been_guessed(tmp_path: Path) -> None:
    """Its store.json has no notes: such a store was taken for one of today without a word."""
    assert make(tmp_path / "s", Toy(5)).notes == []
    described = json.loads((tmp_path / "s/store.json").read_text())
    del described["notes"]
    (tmp_path / "s/store.json").write_text(json.dumps(described))
    assert make(tmp_path / "s", Toy(5)).notes == [f"{tmp_path / 's'}: {GUESSED}"]
    assert Store.open(tmp_path / "s").notes == []


def test_a_whole_store_of_another_recipe_is_an_error(tmp_path: Path) -> None:
    make(tmp_path / "s", Toy(5))
    changed = Toy(5)
    changed.tags["T_0002"] = "v2"
    for toy, size, differing in [
        (Toy(6), SIZE, "ids, files"),
        (Toy(5), Size(6, 8), "size"),
        (Toy(5, seed=1), SIZE, "source"),
        (changed, SIZE, "files"),
    ]:
        with pytest.raises(ValueError, match=rf"another recipe \(what differs: {differing}\)"):
            make(tmp_path / "s", toy, size)
    with pytest.raises(ValueError, match="exists and is not a store"):
        make(tmp_path, Toy(5))
    (tmp_path / "empty").mkdir()
    assert len(make(tmp_path / "empty", Toy(5))) == 5


def interrupt(path: Path, toy: Toy, after: int) -> None:
    """Prepare until so many cases are read."""
    read = toy.read

    def stop(index: int, size: Size) -> Case:
        if len(toy.read_ids) == after:
            raise KeyboardInterrupt
        return read(index, size)

    toy.read = stop  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt) as raised:
        make(path, toy)
    assert "the same command continues" in raised.value.__notes__[0]


def test_an_interrupted_store_is_no_store_and_continues(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole", Toy(9))
    interrupt(tmp_path / "s", Toy(9), 4)
    with pytest.raises(FileNotFoundError, match="is not whole yet: run the same"):
        Store.open(tmp_path / "s")
    with pytest.raises(FileNotFoundError, match="not a store"):
        Store.open(tmp_path / "s.partial")
    rest = Toy(9)
    store = make(tmp_path / "s", rest)
    assert rest.read_ids == whole.cases["id"].tolist()[4:]
    assert content(store.path) == content(whole.path)
    assert not (tmp_path / "s.partial").exists()


def written(path: Path, toy: Toy, *numbers: int) -> list[Path]:
    """Where cases of a store that is not whole are."""
    decoder = decoding.Decoder(toy, SIZE, path.with_name(path.name + ".partial") / "cases")
    return [decoder.path(number) for number in numbers]


def test_torn_cases_are_decoded_again(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole", Toy(9))
    interrupt(tmp_path / "s", Toy(9), 6)
    changed, cut, empty, headless = written(tmp_path / "s", Toy(9), 1, 2, 4, 5)
    data = changed.read_bytes()
    changed.write_bytes(data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
    cut.write_bytes(cut.read_bytes()[:-20])
    empty.write_bytes(b"")
    headless.write_bytes(headless.read_bytes()[:20])
    rest = Toy(9)
    store = make(tmp_path / "s", rest)
    assert rest.read_ids == ["T_0001", "T_0002", "T_0004", "T_0005", "T_0006", "T_0007", "T_0008"]
    assert content(store.path) == content(whole.path)


def test_a_file_that_changed_meanwhile_is_decoded_again(tmp_path: Path) -> None:
    def changed() -> Toy:
        toy = Toy(9)
        toy.tags["T_0001"] = "v2"
        return toy

    interrupt(tmp_path / "s", Toy(9), 6)
    assert content(make(tmp_path / "s", changed()).path) == content(make(tmp_path / "whole", changed()).path)


def test_a_partial_store_of_another_recipe_is_an_error(tmp_path: Path) -> None:
    interrupt(tmp_path / "s", Toy(9), 4)
    with pytest.raises(ValueError, match=r"s\.partial was begun from other data, options or size.*delete it"):
        make(tmp_path / "s", Toy(9), Size(6, 8))


def test_a_store_takes_no_place_that_cannot_be_renamed_onto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "below")
    for path in (".", "", "../below", str(tmp_path / "here/below")):
        with pytest.raises(ValueError, match=r"is the folder you are in.*such as .*/here/below/store"):
            make(Path(path), Toy(3))
        with pytest.raises(FileNotFoundError, match="there is no store at"):
            Store.open(path)
    with monkeypatch.context() as patched, pytest.raises(ValueError, match="or a disk of its own"):
        patched.setattr(Path, "is_mount", lambda self: self.name == "disk")
        make(tmp_path / "disk", Toy(3))
    assert make(tmp_path / "here" / "new" / ".." / "s", Toy(3)).name == "s"
    monkeypatch.chdir(tmp_path / "here" / "s")
    assert Store.open(".").name == "s" and make(Path("."), Toy(3)).name == "s"


def test_a_store_goes_where_a_link_leads(tmp_path: Path) -> None:
    for name in ("empty", "not there yet"):
        (tmp_path / name).symlink_to(tmp_path / "disk" / name)
    (tmp_path / "disk" / "empty").mkdir(parents=True)
    for name in ("empty", "not there yet"):
        assert len(make(tmp_path / name, Toy(3))) == 3 and (tmp_path / name).is_symlink()
    assert sorted(os.listdir(tmp_path / "disk")) == ["empty", "not there yet"]


def test_two_commands_do_not_write_the_same_store(tmp_path: Path) -> None:
    with FileLock(tmp_path / "s.partial.lock"), pytest.raises(ValueError, match="another process is writing"):
        make(tmp_path / "s", Toy(3))


@pytest.mark.parametrize("at", range(7))
def test_a_stop_at_any_moment_of_the_end_is_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Before and after each of the files is on the disk, is renamed, and what it was made from is removed."""
    whole = make(tmp_path / "whole", Toy(9, bad={3}), skip_bad=True)
    calls = 0

    def stop_at(step: Callable[..., None]) -> Callable[..., None]:
        def stepped(*given: Any) -> None:
            nonlocal calls
            calls += 1
            if calls > at:
                raise KeyboardInterrupt
            step(*given)

        return stepped

    monkeypatch.setattr(partial, "to_disk", stop_at(partial.to_disk))
    monkeypatch.setattr(partial.shutil, "rmtree", stop_at(partial.shutil.rmtree))
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "s", Toy(9, bad={3}), skip_bad=True)
    monkeypatch.undo()
    assert (tmp_path / "s").exists() == (at > 4)
    again = Toy(9, bad={3})
    assert content(make(tmp_path / "s", again, skip_bad=True).path) == content(whole.path)
    assert again.read_ids == ([] if at > 4 else ["T_0003"])
    assert not (tmp_path / "s.partial").exists()


def test_a_stop_while_cases_are_joined_is_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make(tmp_path / "whole", Toy(12, bad={0, 5}), skip_bad=True)
    read, calls = decoding.Decoder.written, 0

    def stop(self: decoding.Decoder, index: int) -> Any:
        nonlocal calls
        calls += 1
        if calls == 12 + 7:  # what is there is looked at first
            raise KeyboardInterrupt
        return read(self, index)

    monkeypatch.setattr(decoding.Decoder, "written", stop)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "s", Toy(12, bad={0, 5}), skip_bad=True)
    monkeypatch.undo()
    assert (tmp_path / "s.partial" / "whole" / "images.npy").exists()
    again = Toy(12, bad={0, 5})
    assert content(make(tmp_path / "s", again, skip_bad=True).path) == content(whole.path)
    assert again.read_ids == ["T_0000", "T_0005"]


def test_a_case_that_is_lost_before_it_is_joined_is_said(tmp_path: Path) -> None:
    toy = Toy(5)
    read = toy.read

    def losing(index: int, size: Size) -> Case:
        if index == 4:
            written(tmp_path / "s", Toy(5), 2)[0].unlink()
        return read(index, size)

    toy.read = losing  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="what was written of T_0002 is damaged or gone: run the same command again"):
        make(tmp_path / "s", toy)
    rest = Toy(5)
    assert content(make(tmp_path / "s", rest).path) == content(make(tmp_path / "whole", Toy(5)).path)
    assert rest.read_ids == ["T_0002"]


# ---- processes that are ended from outside

SLOW = """
import os, sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_store import SIZE, Toy
from tatl.data.store import prepare

class Slow(Toy):
    def read(self, index, size):
        Path({pids!r}, str(os.getpid())).touch()
        time.sleep(0.05)
        return super().read(index, size)

if __name__ == "__main__":
    prepare(Slow(40), sys.argv[1], SIZE, workers=2)
"""


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process, and its two workers, in the middle of preparing tmp_path/s."""
    (tmp_path / "pids").mkdir()
    (tmp_path / "slow.py").write_text(SLOW.format(tests=str(Path(__file__).parent), pids=str(tmp_path / "pids")))
    command = [sys.executable, str(tmp_path / "slow.py"), str(tmp_path / "s")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 30
    while len([*(tmp_path / "s.partial" / "cases").glob("*")]) < 6:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    yield process
    process.kill()
    process.communicate()


def continues(tmp_path: Path) -> None:
    """The stopped store is not whole, its workers are gone, and the next command makes what one run makes."""
    deadline = time.monotonic() + 10
    while any(alive(int(name)) for name in os.listdir(tmp_path / "pids")):
        assert time.monotonic() < deadline, "workers outlived their parent"
        time.sleep(0.05)
    with pytest.raises(FileNotFoundError, match="is not whole yet"):
        Store.open(tmp_path / "s")
    rest = Toy(40)
    store = make(tmp_path / "s", rest)
    assert 0 < len(rest.read_ids) < 40
    assert content(store.path) == content(make(tmp_path / "whole", Toy(40)).path)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text() if Path("/proc/self").exists() else True


def test_kill_9_in_the_middle_loses_nothing(tmp_path: Path, slow: subprocess.Popen[bytes]) -> None:
    slow.send_signal(signal.SIGKILL)
    assert slow.wait(10) == -signal.SIGKILL
    continues(tmp_path)


def test_ctrl_c_in_the_middle_loses_nothing(tmp_path: Path, slow: subprocess.Popen[bytes]) -> None:
    os.killpg(slow.pid, signal.SIGINT)
    _, errors = slow.communicate(timeout=10)
    assert slow.returncode != 0
    assert b"KeyboardInterrupt" in errors and b"the same command continues" in errors
    continues(tmp_path)


@pytest.mark.parametrize("files", [5, 10])
def test_a_full_disk_is_said_and_what_is_written_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    """While cases are decoded, or while they are joined."""
    calls = 0

    def full(path: Path, mode: str = "r", **options: Any) -> Any:
        nonlocal calls
        calls += mode != "rb"
        if calls > files:
            raise OSError(errno.ENOSPC, "No space left on device")
        return open(path, mode, **options)

    for module in (decoding, partial):
        monkeypatch.setattr(module, "open", full, raising=False)
    with pytest.raises(OSError, match=r"the disk is full while .*run the same command again"):
        make(tmp_path / "s", Toy(9))
    monkeypatch.undo()
    rest = Toy(9)
    assert content(make(tmp_path / "s", rest).path) == content(make(tmp_path / "whole", Toy(9)).path)
    assert len(rest.read_ids) == max(0, 9 - files)


def plainly(path: Path, array: np.ndarray) -> None:
    with open(path, "wb") as stream:
        stream.write(array.tobytes())


def by_numpy(path: Path, array: np.ndarray) -> None:
    with open(path, "wb") as stream:
        np.save(stream, array)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    "write",
    [plainly, by_numpy, lambda path, array: pd.DataFrame(array).to_csv(path)],
    ids=["plain", "numpy", "pandas"],
)
def test_what_a_library_raises_on_a_full_disk_is_understood(
    write: Callable[[Path, np.ndarray], None], tmp_path: Path
) -> None:
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"^the disk is full while here is written"), room_for(Path("here")):
        write(tmp_path / "full", np.zeros((300, 300)))


def test_too_small_a_disk_is_said_before_anything_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = partial.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(partial.shutil, "disk_usage", lambda _: usage)
    toy = Toy(9)
    with pytest.raises(OSError, match="the disk is full") as raised:
        make(tmp_path / "s", toy)
    assert "17280 bytes are needed and 1000 are free" in str(raised.value.__cause__)
    assert not toy.read_ids


# ---- bad cases


def test_bad_cases_are_all_listed_and_stop_by_default(tmp_path: Path) -> None:
    toy = Toy(40, bad=set(range(3, 33)), problems=("x.png: mask without image",))
    with pytest.raises(BadCases) as raised:
        make(tmp_path / "s", toy, workers=2)
    assert len(raised.value.problems) == 31
    assert "31 bad cases beside 10 good ones: repair them, or leave them out with --skip-bad" in str(raised.value)
    assert "x.png: mask without image" in str(raised.value) and "... and 11 more" in str(raised.value)
    told = (tmp_path / "s.partial" / "problems.txt").read_text().splitlines()
    assert told == raised.value.problems and told[1] == "T_0003: T_0003.jpg is truncated"
    assert not (tmp_path / "s").exists()


def test_skip_bad_leaves_them_out_and_lists_them(tmp_path: Path) -> None:
    store = make(tmp_path / "s", Toy(9, bad={0, 4, 8}, problems=("x.png: mask without image",)), skip_bad=True)
    assert store.cases["id"].tolist() == ["T_0001", "T_0002", "T_0003", "T_0005", "T_0006", "T_0007"]
    assert json.loads((store.path / "store.json").read_text())["skipped"] == [
        "x.png: mask without image",
        *(f"T_000{i}: T_000{i}.jpg is truncated" for i in (0, 4, 8)),
    ]
    good = Toy(9)
    for row, index in enumerate((1, 2, 3, 5, 6, 7)):
        assert np.array_equal(store.images[row], good.read(index, SIZE).image)
    with pytest.raises(BadCases, match="prepared with --skip-bad and lacks 4 bad cases"):
        make(tmp_path / "s", Toy(9, bad={0, 4, 8}))


def test_repaired_cases_alone_are_read_again(tmp_path: Path) -> None:
    with pytest.raises(BadCases):
        make(tmp_path / "s", Toy(9, bad={2, 5}, problems=("T_0099: image without masks",)))
    repaired = Toy(9)
    assert content(make(tmp_path / "s", repaired).path) == content(make(tmp_path / "whole", Toy(9)).path)
    assert repaired.read_ids == ["T_0002", "T_0005"]


def test_a_repair_that_brings_new_cases_keeps_what_is_decoded(tmp_path: Path) -> None:
    first = Toy(9, problems=("T_0003: image without masks",))
    first.ids.remove("T_0003")
    with pytest.raises(BadCases):
        make(tmp_path / "s", first)
    repaired = Toy(9)
    groups = dict(zip(repaired.ids, repaired.groups, strict=True))
    store = make(tmp_path / "s", repaired)
    assert repaired.read_ids == ["T_0003"]
    whole = make(tmp_path / "whole", Toy(9))
    assert content(store.path) == content(whole.path)
    assert store.cases["group"].tolist() == list(groups.values())


def test_rows_in_any_order_are_brought_into_that_of_the_cases(tmp_path: Path) -> None:
    shuffled = Toy(12)
    order = np.random.default_rng(0).permutation(12)
    shuffled.ids = [shuffled.ids[i] for i in order[:10]]
    shuffled.groups = [shuffled.groups[i] for i in order[:10]]
    interrupt(tmp_path / "s", shuffled, 9)
    rest = Toy(12)
    assert content(make(tmp_path / "s", rest).path) == content(make(tmp_path / "whole", Toy(12)).path)
    assert len(rest.read_ids) == 3


def test_bad_cases_are_the_same_after_a_stop(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole", Toy(9, bad={1, 7}), skip_bad=True)
    interrupt(tmp_path / "s", Toy(9, bad={1, 7}), 5)
    assert content(make(tmp_path / "s", Toy(9, bad={1, 7}), skip_bad=True).path) == content(whole.path)


def test_nothing_left_is_an_error_even_with_skip_bad(tmp_path: Path) -> None:
    with pytest.raises(BadCases, match="2 bad cases beside 0 good ones: none is left"):
        make(tmp_path / "s", Toy(2, bad={0, 1}), skip_bad=True)
    with pytest.raises(ValueError, match="has no cases"):
        make(tmp_path / "s", Toy(0))


def test_a_summary_counts_each_kind_and_names_five() -> None:
    problems = [f"{i}: without masks" for i in range(7)] + ["x: truncated", "y: twice", "z: twice"]
    assert by_kind(problems) == [
        "without masks: 7 cases (0, 1, 2, 3, 4, ...)",
        "x: truncated",
        "twice: 2 cases (y, z)",
    ]


def test_a_reader_with_repeated_ids_or_too_many_attributes_is_refused(tmp_path: Path) -> None:
    toy = Toy(3)
    toy.ids[2] = toy.ids[0]
    with pytest.raises(ValueError, match="1 case ids occur more than once, such as 'T_0000'"):
        make(tmp_path / "s", toy)
    toy = Toy(3)
    toy.attributes = tuple("abcdefghijklmnop")  # type: ignore[assignment]
    with pytest.raises(ValueError, match="16 attributes are given, and a store holds 15"):
        make(tmp_path / "s", toy)


# ---- damage


def edit(path: Path, **changes: Any) -> None:
    described = json.loads((path / "store.json").read_text())
    (path / "store.json").write_text(json.dumps(described | changes))


def test_a_store_of_another_version_says_what_to_do(tmp_path: Path) -> None:
    make(tmp_path / "s", Toy(3))
    edit(tmp_path / "s", version=0)
    with pytest.raises(ValueError, match=r"version 0 and this program reads version 1: delete it and prepare it"):
        Store.open(tmp_path / "s")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["cut", "empty", "gone"])
def test_damaged_files_are_found_on_opening(tmp_path: Path, name: str, damage: str) -> None:
    path = make(tmp_path / "s", Toy(3)).path / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 if damage == "cut" else 0])
    expected = FileNotFoundError if name == "store.json" and damage == "gone" else ValueError
    with pytest.raises(expected, match=r"is damaged \(.*delete it and prepare it again|not a store"):
        Store.open(tmp_path / "s")


def test_a_description_that_does_not_fit_is_found_on_opening(tmp_path: Path) -> None:
    make(tmp_path / "s", Toy(3))
    edit(tmp_path / "s", cases=4)
    with pytest.raises(ValueError, match=r"images.npy is uint8 \(3, 12, 16, 3\) and not uint8 \(4, 12, 16, 3\)"):
        Store.open(tmp_path / "s")
    edit(tmp_path / "s", cases=3, attributes=["dots"])
    with pytest.raises(ValueError, match=r"cases\.csv does not have the columns"):
        Store.open(tmp_path / "s")
    (tmp_path / "s" / "store.json").write_text('{"version": 1}')
    with pytest.raises(ValueError, match=r"store\.json lacks"):
        Store.open(tmp_path / "s")


@pytest.mark.parametrize("name", FILES[:3])
def test_verify_finds_a_single_changed_byte(tmp_path: Path, name: str) -> None:
    store = make(tmp_path / "s", Toy(3))
    path = store.path / name
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"{name} has changed since it was written"):
        store.verify()


def test_no_store_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no store at .*none: make it with `python -m tatl prepare"):
        Store.open(tmp_path / "none")
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileNotFoundError, match="there is no store at"):
        Store.open(tmp_path / "file")
