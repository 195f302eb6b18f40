"""The page of the bound: every sentence and figure from tables of any starts and attributes, however bad."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest

from analysis.pages import html as show
from analysis.pages.bound.curves import OverC, OverG
from analysis.pages.bound.figure7 import Causes, Factors, Figure7
from analysis.pages.bound.lanes import BoundFigure
from analysis.pages.bound.norms import DistanceTravelled, Residuals, SingleNorms
from analysis.pages.bound.page import FOLDED_PARTS, BoundPage
from analysis.pages.bound.spectra import LeadingEigenvalues, SpectralDensity
from analysis.pages.theme import INK
from analysis.site import notebook as execute
from analysis.tables.bound.frames import BoundFrames
from analysis.tables.bound.tables import BOUND_COLUMNS, BoundTables
from analysis.tables.bound.verdict import Verdict
from fake_bound import write

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "bound.ipynb"
MANY = tuple(f"attribute_number_{i}" for i in range(15))
DICE = {"random": 0.3, "source": 0.4, "tatl": 0.2, "attention": 0.9}
FILES = ("runs/phantom/a_rather_long_name_of_weights.safetensors", "001")
PARTS: list[type[BoundFigure]] = [
    Figure7,
    Factors,
    Causes,
    *(part for parts in FOLDED_PARTS.values() for part in parts),
]


@pytest.fixture(autouse=True)
def closed() -> None:
    plt.close("all")


def test_tables_that_say_init_for_start_are_read(tmp_path: Path) -> None:
    new, old = (write(tmp_path / name) for name in ("new", "old"))
    for path in old.glob("*.csv"):
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        frame.rename(columns={"start": "init"}).to_csv(path, index=False)
    assert "init" in pd.read_csv(old / "bound.csv")
    one, other = BoundTables.read(new), BoundTables.read(old)
    for name, frame in one.tables.items():
        pd.testing.assert_frame_equal(frame, other[name])


@pytest.fixture
def measured(tmp_path: Path) -> BoundTables:
    return BoundTables.read(write(tmp_path / "tables"))


def change(folder: Path, name: str, edit: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = folder / f"{name}.csv"
    edit(pd.read_csv(path)).to_csv(path, index=False)


def blank(folder: Path, name: str, *columns: str) -> None:
    change(folder, name, lambda frame: frame.assign(**dict.fromkeys(columns, np.nan)))


def one(folder: Path) -> None:
    write(folder, starts=["tatl"])


def one_attribute(folder: Path) -> None:
    write(folder, attributes=["streaks"])


def many(folder: Path) -> None:
    write(folder, starts=["random", "source", "tatl", *FILES], attributes=MANY)


def vacuous(folder: Path) -> None:
    """No curvature and hardly a risk: g is below m^(-1/4)."""
    write(folder, scale=1e-4, risk=1e-4)


def partly_vacuous(folder: Path) -> None:
    write(folder, scale=0.02, risk=0.002)


def without_rows(folder: Path) -> None:
    write(folder)
    for name in BOUND_COLUMNS:
        change(folder, name, lambda frame: frame.iloc[:0])


def unknown_numbers(folder: Path) -> None:
    write(folder)
    spreads = [name for name in BOUND_COLUMNS["bound"] if name.endswith(("_low", "_high"))]
    blank(folder, "bound", "bound", "ratio", *spreads, "lowest", "curvature", "g", "m", "images", "seeds")
    blank(folder, "bound_seeds", "bound", "ratio")
    blank(folder, "bound_images", "norm", "residual")
    blank(folder, "bound_anatomy", "stability", "log_ratio", "turns_at")
    blank(folder, "bound_sensitivity", "bound")
    blank(folder, "bound_audit", "holds")


def one_unknown(folder: Path) -> None:
    write(folder)
    columns = ["bound", "ratio", "bound_seeds_low", "bound_images_high", "stability", "log_ratio"]
    for name in ("bound", "bound_seeds", "bound_anatomy"):
        change(folder, name, lambda f: f.assign(**{c: f[c].mask(f.index == 1) for c in columns if c in f}))


def one_seed(folder: Path) -> None:
    write(folder, seeds=1)


def flat(folder: Path) -> None:
    """Norms of 0, which a logarithmic axis cannot show."""
    write(folder, scale=0.0)


def undescribed(folder: Path) -> None:
    write(folder)
    (folder / "bound.json").write_text("{}")


@pytest.mark.parametrize(
    "make",
    [
        one,
        one_attribute,
        one_seed,
        many,
        vacuous,
        partly_vacuous,
        without_rows,
        unknown_numbers,
        one_unknown,
        flat,
        undescribed,
    ],
)
def test_every_figure_sentence_and_table_comes_out(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path)
    tables = BoundTables.read(tmp_path)
    drawn = [part(tables) for part in PARTS if part.of in tables.tables]
    for said in [tables.origin(), str(Verdict(tables)), Verdict(tables).steps(), *(part.say() for part in drawn)]:
        assert said.endswith((".", "does it.")) and "nan" not in said, said
    for part in drawn:
        if part.table.empty:
            continue
        part.figure().draw_without_rendering()  # a layout that does not fit, or a wrong glyph, warns: an error here
    frames, dice = BoundFrames(tables), Verdict(tables).dice
    for frame in (frames.bounds(), frames.measured(), frames.factors(), frames.audit(), frames.summary(dice)):
        assert "nan" not in frame.to_string().lower()
        show.table(frame, "Caption.")


def test_the_order_is_that_of_the_table(measured: BoundTables) -> None:
    table = measured["bound"]
    lowest = table.loc[table.groupby("attribute")["bound"].idxmin(), "start"].value_counts()
    assert f"{lowest.index[0]} is lowest for {lowest.iloc[0]} of 2 attributes" in Figure7(measured).say()
    assert measured.average.set_index("start")["bound"].idxmin() == Verdict(measured).ranking.index[0]


def test_the_verdict_tells_a_start_that_is_lowest_for_being_sharper(tmp_path: Path) -> None:
    """Risks are alike: what makes the bounds differ is curvature, and the sharper start is lower."""
    tables = BoundTables.read(write(tmp_path, starts=["source", "tatl"]))
    norms = tables.wide("bound", "curvature")
    sharper = (norms["tatl"] > norms["source"]).sum()
    said = Verdict(tables).why()
    assert said.startswith("tatl has the lowest bound on average over attributes, in 100% of resamples")
    assert "curvature makes most of tatl's difference for 2 of 2 attributes" in said
    assert sharper == 2 and "for 2 its bound is lower because it is sharper" in said
    assert Verdict(tables).assumptions() == "1 of 9 assumptions of the theorem holds."


def test_measured_dice_of_the_same_starts_stands_beside_the_bound(tmp_path: Path) -> None:
    write(tmp_path, store_digest="abc")
    assert (
        "`python -m tatl study paradigms --store=stores/phantom-quick"
        not in Verdict(BoundTables.read(tmp_path)).scores()
    )
    rows = [(name, "link", mask, dice) for name, dice in DICE.items() for mask in ("globules", "streaks", "average")]
    table = pd.DataFrame(rows, columns=["variant", "shape", "attribute", "dice"])
    table.to_csv(tmp_path / "paradigms.csv", index=False)
    about = {"store_digest": "abc", "source": "textures", "backbone": "efficientnet-b0"}
    (tmp_path / "paradigms.json").write_text(json.dumps(about))
    verdict = Verdict(BoundTables.read(tmp_path))
    assert verdict.dice.to_dict() == {name: DICE[name] for name in ("random", "source", "tatl")}
    assert "tatl, whose bound is lowest, is number 3 of 3" in verdict.scores()
    assert list(BoundFrames(verdict.tables).summary(verdict.dice)["measured Dice"]) == ["0.300", "0.400", "0.200"]
    (tmp_path / "paradigms.json").write_text(json.dumps(about | {"store_digest": "another"}))
    other = Verdict(BoundTables.read(tmp_path))
    assert other.dice.empty and "was not measured on this store: `python -m tatl study paradigms" in other.scores()


def test_ratios_to_the_reference_lead(measured: BoundTables) -> None:
    frame = BoundFrames(measured).bounds()
    row = measured.average.set_index("start").loc["tatl"]
    assert list(frame.columns[:2]) == ["times source's", "ratio over seeds"]
    assert frame.loc[("average", "tatl"), "times source's"] == f"{row['ratio']:.3g}"


def test_one_seed_has_no_spread_over_seeds(tmp_path: Path) -> None:
    tables = BoundTables.read(write(tmp_path, seeds=1))
    assert not [name for name in BoundFrames(tables).bounds() if "seeds" in name]
    assert "range over seeds" not in [text.get_text() for text in Figure7(tables).figure().legends[1].get_texts()]


def test_no_value_is_set_against_the_loss(tmp_path: Path) -> None:
    """Eq. 6 is an O(.): a bound above 1 is not "above any loss"."""
    tables = BoundTables.read(write(tmp_path, starts=["source", "tatl"], scale=0.05))
    assert (tables["bound"]["bound"] > 1).any()
    drawn = Figure7(tables).figure()
    assert not [line for line in drawn.axes[0].lines if set(np.asarray(line.get_xdata())) == {100}]


def test_every_seed_is_drawn_and_the_row_is_the_median(measured: BoundTables) -> None:
    seeds = measured["bound_seeds"]
    assert len(seeds) == 3 * 3 * 3 and set(seeds["attribute"]) == {"globules", "streaks", "average"}
    for row in pd.concat([measured["bound"], measured.average]).to_dict("records"):
        part = seeds[(seeds["start"] == row["start"]) & (seeds["attribute"] == row["attribute"])]
        assert (
            row["bound"] == part["bound"].median() and row["seed"] == part["seed"][part["bound"] == row["bound"]].item()
        )
        assert (row["bound_seeds_low"], row["bound_seeds_high"]) == (part["bound"].min(), part["bound"].max())
        assert row["ratio_seeds_low"] == part["ratio"].min() <= row["ratio"] <= part["ratio"].max()
    dots = [line for line in Figure7(measured).figure().axes[0].lines if line.get_marker() == "|"]
    assert len(dots) == 9 and all(len(line.get_xdata()) == 3 for line in dots)


def ends(folder: Path, ranges: dict[str, tuple[float, float, float]], seeds: int = 3) -> BoundTables:
    """One attribute with these bounds and ranges over seeds."""
    write(folder, starts=list(ranges), attributes=["streaks"], seeds=seeds)
    values = pd.DataFrame(ranges, index=["bound_seeds_low", "bound", "bound_seeds_high"]).T
    change(folder, "bound", lambda f: f.assign(**{name: f["start"].map(values[name]) for name in values}))
    return BoundTables.read(folder)


def test_overlapping_ranges_are_told_apart(tmp_path: Path) -> None:
    apart = ends(tmp_path / "a", {"source": (0.5, 0.6, 0.7), "tatl": (0.1, 0.2, 0.4)})
    said = Figure7(apart).say()
    assert "tatl is lowest for 1 of 1 attribute" in said and "lowest two meet for 0 of 1" in said
    meet = ends(tmp_path / "b", {"source": (0.3, 0.6, 0.7), "tatl": (0.1, 0.2, 0.4)})
    assert "lowest two meet for 1 of 1" in Figure7(meet).say()
    single = ends(tmp_path / "d", {"source": (0.6, 0.6, 0.6), "tatl": (0.2, 0.2, 0.2)}, seeds=1)
    assert "how far training moves them is not known" in Figure7(single).say()


def test_vacuous_bounds_are_told_and_drawn(tmp_path: Path) -> None:
    vacuous(tmp_path)
    measured = BoundTables.read(tmp_path)
    assert "No start has a finite bound (6 rows)" in Verdict(measured).why()
    assert set(BoundFrames(measured).bounds()["bound x 100"]) == {"vacuous"}
    drawn = Figure7(measured).figure()
    assert "vacuous: g⁻ ≤ 0" in [text.get_text() for text in drawn.legends[1].get_texts()]
    hollow = [line for line in drawn.axes[0].lines if line.get_markerfacecolor() == "none"]
    assert len(hollow) == 9  # three starts on two attributes and on average
    assert "6 are vacuous" in OverG(measured).say()


def test_some_vacuous_bounds_do_not_hide_the_others(tmp_path: Path) -> None:
    partly_vacuous(tmp_path)
    measured = BoundTables.read(tmp_path)
    count = int(np.isinf(measured["bound"]["bound"]).sum())
    assert 0 < count < 6
    assert f"{count} of 6 bounds are vacuous" in Figure7(measured).say()


def test_a_start_has_one_colour_in_every_figure(tmp_path: Path) -> None:
    measured = BoundTables.read(write(tmp_path, starts=[*FILES, "tatl", "random"], spectrum=True))
    assert measured.starts == ["random", "tatl", *FILES]
    looks = [part(measured).look for part in (Figure7, SpectralDensity, OverC)]
    assert all(look.colour[name] == looks[0].colour[name] for look in looks for name in measured.starts)
    assert len({looks[0].colour[name] for name in measured.starts}) == 4


def test_c_and_m_move_the_order_as_the_table_says(measured: BoundTables) -> None:
    table = measured["bound_sensitivity"]
    part = table[table["varied"] == "c"]
    lowest = part.loc[part.groupby(["attribute", "setting"])["bound"].idxmin()]
    changing = int((lowest.groupby("attribute")["start"].nunique() > 1).sum())
    assert f"the lowest start changes for {changing} of 2 attributes" in OverC(measured).say()


def test_one_image_that_makes_the_mean_is_named(tmp_path: Path) -> None:
    write(tmp_path, attributes=["streaks"])
    change(tmp_path, "bound", lambda f: f.assign(curvature_largest=f["curvature"] * [0.1, 5.4, 0.1]))
    said = SingleNorms(BoundTables.read(tmp_path)).say()
    assert "in 1 of 3 rows" in said and "source on streaks (0.900)" in said


def test_the_largest_norms_stand_beside_those_of_float64_and_the_bound_without_them(tmp_path: Path) -> None:
    write(tmp_path, attributes=["streaks"])
    change(tmp_path, "bound", lambda f: f.assign(curvature_largest_float64=f["curvature_largest"] / [1, 1.25, 1]))
    change(tmp_path, "bound", lambda f: f.assign(bound_without_largest=f["bound"] * [0.5, 1, 2]))
    said = SingleNorms(BoundTables.read(tmp_path)).say()
    assert "differ by factors of 1 to 1.25" in said and "a bound is 0.5 to 2 times" in said


def test_unconverged_eigenvalues_are_counted(tmp_path: Path) -> None:
    write(tmp_path)
    assert Residuals(BoundTables.read(tmp_path)).say().startswith("108 of 108 eigenvalues")
    change(tmp_path, "bound_images", lambda f: f.assign(converged=f.index >= 2))
    assert Residuals(BoundTables.read(tmp_path)).say().startswith("106 of 108 eigenvalues reached")


def test_the_curve_passes_through_the_starts(tmp_path: Path) -> None:
    measured = BoundTables.read(write(tmp_path, starts=["tatl"], attributes=["streaks"], scale=3e4))
    row = measured["bound"].iloc[0]
    line, *_ = (line for line in OverG(measured).figure().axes[0].lines if len(line.get_xdata()) > 100)
    found = np.interp(np.log(row["g"]), np.log(np.asarray(line.get_xdata())), np.asarray(line.get_ydata()))
    assert found == pytest.approx(100 * row["bound"], rel=1e-3)


def test_parts_of_the_differences_multiply_to_the_whole(measured: BoundTables) -> None:
    table = BoundFrames(measured).factors()
    by = table[["by risk", "by curvature"]].astype(float).prod(axis=1)
    assert np.allclose(by, table["times source's"].astype(float), rtol=0.02)


def test_attributes_can_be_chosen(tmp_path: Path) -> None:
    write(tmp_path, attributes=["globules", "streaks", "dots"])
    some = BoundTables.read(tmp_path, " streaks,globules")
    assert some.attributes == ["globules", "streaks"] and some.average.empty
    assert set(some["bound_images"]["attribute"]) == {"globules", "streaks"}
    assert "of 2 attributes" in Verdict(some).why() and "average" not in BoundFrames(some).bounds().index
    with pytest.raises(ValueError, match=r"attribute streak is not in .*: choose of globules, streaks, dots"):
        BoundTables.read(tmp_path, "streak")


def test_the_origin_names_images_seeds_and_what_the_data_are_not(measured: BoundTables) -> None:
    said = measured.origin()
    assert "6 of m = 80 training images; K = 4, c = 0.01" in said and "seeds 0, 1 and 2, fold 0 of 5" in said
    assert "phantom is not skin" in said


@pytest.mark.parametrize("name", [name for name in BOUND_COLUMNS])
def test_a_missing_column_is_named_with_the_command(name: str, tmp_path: Path) -> None:
    write(tmp_path)
    column = BOUND_COLUMNS[name][-1]
    change(tmp_path, name, lambda frame: frame.drop(columns=column))
    with pytest.raises(ValueError, match=rf"{name}\.csv lacks the column {column} .*python -m analysis\.bound"):
        BoundTables.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("bound.csv", "", "is not a CSV table"),
        ("bound.json", "{", "is not JSON"),
        ("bound.json", "[]", "holds a list"),
        ("bound_images.csv", None, "is not there"),
        ("bound.json", None, r"holds no bound\.json"),
    ],
)
def test_broken_files_are_named_with_the_command(name: str, text: str | None, told: str, tmp_path: Path) -> None:
    path = write(tmp_path) / name
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=rf"(?s){told}.*python -m analysis\.bound"):
        BoundTables.read(tmp_path)


@pytest.mark.parametrize(("column", "cell", "told"), [("risk", "high", "high"), ("vacuous", "perhaps", "perhaps")])
def test_cells_that_cannot_be_are_named(column: str, cell: str, told: str, tmp_path: Path) -> None:
    write(tmp_path)
    change(tmp_path, "bound", lambda frame: frame.assign(**{column: cell}))
    with pytest.raises(ValueError, match=rf"bound\.csv has a cell that is no number \(.*{told}"):
        BoundTables.read(tmp_path)


def test_rows_given_twice_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    change(tmp_path, "bound", lambda frame: pd.concat([frame, frame.head(1)]))
    with pytest.raises(ValueError, match=r"has the row \w+, \w+ twice"):
        BoundTables.read(tmp_path)


def test_the_hessian_distance_is_read_where_it_was_measured(tmp_path: Path) -> None:
    page = BoundPage.read(write(tmp_path, store="stores/leaves")).folded().text
    assert "`python -m analysis.bound --finetune --init random source tatl --store=stores/leaves " in page
    measured = BoundTables.read(write(tmp_path, distance=True))
    assert DistanceTravelled(measured).say().startswith("By distance random is lowest for 2 of 2 attributes")
    assert len(DistanceTravelled(measured).figure().axes[0].lines) >= 6
    assert BoundFrames(measured).distances().shape == (6, 6)


@pytest.mark.parametrize("starts", [("source",), ("source", "tatl", *FILES)])
def test_spectra_are_read_where_they_were_measured(starts: tuple[str, ...], tmp_path: Path) -> None:
    page = BoundPage.read(write(tmp_path, starts=starts, store="stores/leaves")).folded().text
    assert "`python -m analysis.spectrum --init source" in page and "--store=stores/leaves" in page
    tables = BoundTables.read(write(tmp_path, starts=starts, spectrum=True))
    assert f"negative in {len(starts) // 2 * 2} of {2 * len(starts)} rows" in LeadingEigenvalues(tables).say()
    assert SpectralDensity(tables).say().startswith("The density reaches from -5 to 20;")
    for part in (SpectralDensity, LeadingEigenvalues):
        assert "<svg" in part(tables).html().text


def test_spectra_without_rows_or_columns(tmp_path: Path) -> None:
    write(tmp_path, spectrum=True)
    for name in ("spectrum", "spectrum_density"):
        change(tmp_path, name, lambda frame: frame.iloc[:0])
    tables = BoundTables.read(tmp_path)
    for part in (SpectralDensity, LeadingEigenvalues):
        assert "no rows" in part(tables).say() and part(tables).html()
    change(tmp_path, "spectrum", lambda frame: frame.drop(columns="trace"))
    with pytest.raises(ValueError, match=r"lacks the column trace .*python -m analysis\.spectrum"):
        BoundTables.read(tmp_path)


def test_the_notebook_runs_with_everything_there(tmp_path: Path) -> None:
    write(tmp_path / "tables", distance=True, spectrum=True)
    executed = execute.run_notebook(
        NOTEBOOK, {"tables": str(tmp_path / "tables")}, tmp_path / "page.html", progress=False
    )
    assert execute.failure(executed) == ""
    assert "tatl has the lowest bound on average over attributes" in html(execute.tagged(executed, "headline"))
    assert html(execute.tagged(executed, "thumbnail")).count("<svg") == 1
    shown = html(executed.cells)
    assert INK not in shown and "currentColor" in shown
    assert shown.count("<figure") == 12 and shown.count("<details>") == 8 and "<details open" not in shown


def html(cells: list[nbformat.NotebookNode]) -> str:
    """What the cells showed."""
    outputs = [output for cell in cells for output in cell.get("outputs", []) if "data" in output]
    return "".join(output.data.get("text/html", "") for output in outputs)


def test_the_notebook_says_what_it_needs() -> None:
    assert set(execute.defaults(NOTEBOOK)) == {"tables", "attributes", "dataset"}
    described = nbformat.read(NOTEBOOK, as_version=4).metadata["tatl"]
    assert set(described["needs"]) == {"bound.json", *(f"{name}.csv" for name in BOUND_COLUMNS)}
