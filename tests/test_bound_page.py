"""The page of the bound: every sentence and figure from tables of any starts and attributes, however bad."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.pages import bound, bound_anatomy, bound_checks, bound_norms, spectra
from analysis.pages import html as show
from analysis.tables.bound import COLUMNS, DISTANCE, SEEDS, Measured, caption, images
from analysis.pages.theme import INK
from analysis.site import notebook as execute
from fake_bound import write

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "bound.ipynb"
MANY = tuple(f"attribute_number_{i}" for i in range(15))
FILES = ("runs/phantom/a_rather_long_name_of_weights.safetensors", "001")
FIGURES: dict[str, Callable[[Measured], Figure]] = {
    "figure7": bound.figure7,
    "certainty": bound.certainty,
    "anatomy": bound_anatomy.anatomy,
    "causes": bound_anatomy.causes,
    "curve": bound_anatomy.curve,
    "c": lambda measured: bound_checks.sensitivity(measured, "c"),
    "m": lambda measured: bound_checks.sensitivity(measured, "m"),
    "positives": bound_checks.positives,
    "norms": bound_norms.norms,
    "convergence": bound_norms.convergence,
}
SENTENCES: dict[str, Callable[[Measured], str]] = {
    "headline": bound.headline,
    "order": bound.order,
    "sureness": bound.sureness,
    "ingredients": bound_anatomy.ingredients,
    "reasons": bound_anatomy.reasons,
    "sides": bound_anatomy.sides,
    "assumptions": bound_checks.assumptions,
    "c": lambda measured: bound_checks.swings(measured, "c"),
    "m": lambda measured: bound_checks.swings(measured, "m"),
    "rarity": bound_checks.rarity,
    "tails": bound_norms.tails,
    "converged": bound_norms.converged,
    "distances": bound_norms.distances,
    "caption": caption,
}


@pytest.fixture(autouse=True)
def closed() -> None:
    plt.close("all")


def test_tables_that_say_init_for_start_are_read(tmp_path: Path) -> None:
    new, old = (write(tmp_path / name) for name in ("new", "old"))
    for path in old.glob("*.csv"):
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        frame.rename(columns={"start": "init"}).to_csv(path, index=False)
    assert "init" in pd.read_csv(old / "bound.csv")
    one, other = Measured.read(new), Measured.read(old)
    for name, frame in one.tables.items():
        pd.testing.assert_frame_equal(frame, other[name])


@pytest.fixture
def measured(tmp_path: Path) -> Measured:
    return Measured.read(write(tmp_path / "tables"))


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
    for name in COLUMNS:
        if name != DISTANCE:
            change(folder, name, lambda frame: frame.iloc[:0])


def unknown_numbers(folder: Path) -> None:
    write(folder)
    spreads = [name for name in COLUMNS["bound"] if name.endswith(("_low", "_high"))]
    blank(folder, "bound", "bound", "ratio", *spreads, "lowest", "curvature", "g", "m", "images", "seeds")
    blank(folder, SEEDS, "bound", "ratio")
    blank(folder, "bound_images", "norm", "residual")
    blank(folder, "bound_anatomy", "stability", "log_ratio", "turns_at")
    blank(folder, "bound_curve", "bound")
    blank(folder, "bound_sensitivity", "bound")
    blank(folder, "bound_audit", "holds")


def one_unknown(folder: Path) -> None:
    write(folder)
    columns = ["bound", "ratio", "bound_seeds_low", "bound_images_high", "stability", "log_ratio"]
    for name in ("bound", SEEDS, "bound_anatomy"):
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
def test_every_figure_and_sentence_comes_out(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path)
    measured = Measured.read(tmp_path)
    for name, words in SENTENCES.items():
        said = words(measured)
        assert said.endswith(".") and said.count("nan") == 0, (name, said)
    for draw in FIGURES.values():
        draw(measured).draw_without_rendering()  # a layout that does not fit, or a wrong glyph, warns: an error here
    for table in (bound.numbers(measured), bound_anatomy.numbers(measured), bound_checks.audit(measured)):
        assert "nan" not in table.to_string()
        show.table(table, "Caption.")


def test_the_order_is_that_of_the_table(measured: Measured) -> None:
    table = measured["bound"]
    lowest = table.loc[table.groupby("attribute")["bound"].idxmin(), "start"].value_counts()
    said = bound.order(measured)
    assert said.startswith(f"{lowest.index[0]} is lowest for {lowest.iloc[0]} of 2 attributes")


def test_ratios_to_the_reference_lead(measured: Measured) -> None:
    row = measured.average.set_index("start").loc["tatl"]
    said = bound.headline(measured)
    assert said.startswith("Bound on average over attributes as a multiple of source's (median and range over 3 seeds)")
    assert f"tatl {row['ratio']:.2f} ({row['ratio_seeds_low']:.2f} to {row['ratio_seeds_high']:.2f})" in said
    assert bound.numbers(measured).columns[0] == "times source's, over seeds"


def test_no_value_is_set_against_the_loss(tmp_path: Path) -> None:
    """Eq. 6 is an O(.): a bound above 1 is not "above any loss", and what lies over images is no interval."""
    measured = Measured.read(write(tmp_path, starts=["source", "tatl"], scale=0.05))
    assert (measured["bound"]["bound"] > 1).any()
    said = " ".join([*(words(measured) for words in SENTENCES.values()), NOTEBOOK.read_text()])
    drawn = bound.figure7(measured)
    said += " ".join(text.get_text() for text in drawn.legends[1].get_texts())
    for wrong in ("any loss", "possible loss", "interval"):
        assert wrong not in said
    vertical = [line for line in drawn.axes[0].lines if set(np.asarray(line.get_xdata())) == {100}]
    assert not vertical


def test_every_seed_is_drawn_and_the_row_is_the_median(measured: Measured) -> None:
    seeds = measured[SEEDS]
    assert len(seeds) == 3 * 3 * 3 and set(seeds["attribute"]) == {"globules", "streaks", "average"}
    for row in pd.concat([measured["bound"], measured.average]).to_dict("records"):
        part = seeds[(seeds["start"] == row["start"]) & (seeds["attribute"] == row["attribute"])]
        assert (
            row["bound"] == part["bound"].median() and row["seed"] == part["seed"][part["bound"] == row["bound"]].item()
        )
        assert (row["bound_seeds_low"], row["bound_seeds_high"]) == (part["bound"].min(), part["bound"].max())
        assert row["ratio_seeds_low"] == part["ratio"].min() <= row["ratio"] <= part["ratio"].max()
    dots = [line for line in bound.figure7(measured).axes[0].lines if line.get_marker() == "|"]
    assert len(dots) == 9 and all(len(line.get_xdata()) == 3 for line in dots)


def ends(folder: Path, ranges: dict[str, tuple[float, float, float]], seeds: int = 3) -> Measured:
    """One attribute with these bounds and ranges over seeds."""
    write(folder, starts=list(ranges), attributes=["streaks"], seeds=seeds)
    values = pd.DataFrame(ranges, index=["bound_seeds_low", "bound", "bound_seeds_high"]).T
    change(folder, "bound", lambda f: f.assign(**{name: f["start"].map(values[name]) for name in values}))
    return Measured.read(folder)


def test_overlapping_ranges_are_told_apart(tmp_path: Path) -> None:
    apart = ends(tmp_path / "a", {"source": (0.5, 0.6, 0.7), "tatl": (0.1, 0.2, 0.4)})
    assert "tatl is lowest for 1 of 1 attribute; tatl's range over seeds lies below that of the next start" in (
        bound.order(apart)
    )
    meet = ends(tmp_path / "b", {"source": (0.3, 0.6, 0.7), "tatl": (0.1, 0.2, 0.4)})
    assert "tatl's range over seeds overlaps that of the next start for streaks" in bound.order(meet)
    unknown = ends(tmp_path / "c", {"source": (np.nan, 0.6, np.nan), "tatl": (np.nan, 0.2, np.nan)})
    assert "there is no range to set tatl's beside" in bound.order(unknown)
    single = ends(tmp_path / "d", {"source": (0.6, 0.6, 0.6), "tatl": (0.2, 0.2, 0.2)}, seeds=1)
    assert "how far training moves them is not known" in bound.order(single) and "(one seed)" in bound.headline(single)


def test_vacuous_bounds_are_told_and_drawn(tmp_path: Path) -> None:
    vacuous(tmp_path)
    measured = Measured.read(tmp_path)
    assert bound.order(measured) == "Every bound is vacuous (6 rows): none can be called lower."
    assert "tatl vacuous" in bound.headline(measured) and set(bound.numbers(measured)["bound x 100, over seeds"]) == {
        "vacuous"
    }
    drawn = bound.figure7(measured)
    assert "vacuous: g⁻ ≤ 0" in [text.get_text() for text in drawn.legends[1].get_texts()]
    hollow = [line for line in drawn.axes[0].lines if line.get_markerfacecolor() == "none"]
    assert len(hollow) == 9  # three starts on two attributes and on average
    assert "6 are vacuous" in bound_anatomy.sides(measured)


def test_some_vacuous_bounds_do_not_hide_the_others(tmp_path: Path) -> None:
    partly_vacuous(tmp_path)
    measured = Measured.read(tmp_path)
    count = int(np.isinf(measured["bound"]["bound"]).sum())
    assert 0 < count < 6
    assert f"{count} of 6 bounds are vacuous" in bound.order(measured)


def test_a_start_has_one_colour_in_every_figure(tmp_path: Path) -> None:
    measured = Measured.read(write(tmp_path, starts=[*FILES, "tatl", "random"], spectrum=True))
    assert measured.starts == ["random", "tatl", *FILES]
    found = spectra.Spectra.read(measured)
    assert found and {n: found.look.colour[n] for n in measured.starts} == {
        n: measured.look.colour[n] for n in measured.starts
    }
    assert len({measured.look.colour[name] for name in measured.starts}) == 4


def test_c_and_m_move_the_order_as_the_table_says(measured: Measured) -> None:
    table = measured["bound_sensitivity"]
    part = table[table["varied"] == "c"]
    lowest = part.loc[part.groupby(["attribute", "setting"])["bound"].idxmin()]
    changing = int((lowest.groupby("attribute")["start"].nunique() > 1).sum())
    assert f"the lowest start changes for {changing} of 2 attributes" in bound_checks.swings(measured, "c")


def test_one_image_that_makes_the_mean_is_named(tmp_path: Path) -> None:
    write(tmp_path, attributes=["streaks"])
    change(tmp_path, "bound", lambda f: f.assign(curvature_largest=f["curvature"] * [0.1, 5.4, 0.1]))
    said = bound_norms.tails(Measured.read(tmp_path))
    assert "In 1 of 3 rows" in said and "90.0% for source on streaks, over 6 images" in said


def test_the_largest_norms_stand_beside_those_of_float64_and_the_bound_without_them(tmp_path: Path) -> None:
    write(tmp_path, attributes=["streaks"])
    change(tmp_path, "bound", lambda f: f.assign(curvature_largest_float64=f["curvature_largest"] / [1, 1.25, 1]))
    change(tmp_path, "bound", lambda f: f.assign(bound_without_largest=f["bound"] * [0.5, 1, 2]))
    said = bound_norms.tails(Measured.read(tmp_path))
    assert "Solved again in float64 the largest norms differ by 25.0% at most" in said
    assert "without the image of the largest a bound is 0.5 to 2 times what it is" in said


def test_unconverged_eigenvalues_are_counted(tmp_path: Path) -> None:
    write(tmp_path)
    assert bound_norms.converged(Measured.read(tmp_path)).startswith("All 108 eigenvalues")
    change(tmp_path, "bound_images", lambda f: f.assign(converged=f.index >= 2))
    said = bound_norms.converged(Measured.read(tmp_path))
    assert said.startswith("2 of 108 eigenvalues did not reach the relative residual 0.01")


def test_the_curve_passes_through_the_starts(tmp_path: Path) -> None:
    """Also beyond the largest g of bound_curve.csv, which is about 1e4."""
    measured = Measured.read(write(tmp_path, starts=["tatl"], attributes=["streaks"], scale=3e4))
    row = measured["bound"].iloc[0]
    assert row["g"] > measured["bound_curve"]["g"].max()
    line, *_ = (line for line in bound_anatomy.curve(measured).axes[0].lines if len(line.get_xdata()) > 100)
    found = np.interp(np.log(row["g"]), np.log(np.asarray(line.get_xdata())), np.asarray(line.get_ydata()))
    assert found == pytest.approx(100 * row["bound"], rel=1e-3)


def test_parts_of_the_differences_multiply_to_the_whole(measured: Measured) -> None:
    table = bound_anatomy.numbers(measured)
    by = table[["by risk", "by curvature"]].astype(float).prod(axis=1)
    assert np.allclose(by, table["times source's"].astype(float), rtol=0.02)


def test_attributes_can_be_chosen(tmp_path: Path) -> None:
    write(tmp_path, attributes=["globules", "streaks", "dots"])
    some = Measured.read(tmp_path, " streaks,globules")
    assert some.attributes == ["globules", "streaks"] and some.average.empty
    assert set(some["bound_images"]["attribute"]) == {"globules", "streaks"}
    assert "2 attributes" in bound.headline(some) and "average" not in bound.numbers(some).to_string()
    with pytest.raises(ValueError, match=r"attribute streak is not in .*: choose of globules, streaks, dots"):
        Measured.read(tmp_path, "streak")


def test_images_are_named_in_the_caption(measured: Measured, tmp_path: Path) -> None:
    assert images(measured) == "6 of m = 80 training images"
    assert "phantom is not skin" in caption(measured) and "K = 4, c = 0.01" in caption(measured)
    assert "seeds 0, 1 and 2" in caption(measured)


@pytest.mark.parametrize("name", [name for name in COLUMNS if name != DISTANCE])
def test_a_missing_column_is_named_with_the_command(name: str, tmp_path: Path) -> None:
    write(tmp_path)
    column = COLUMNS[name][-1]
    change(tmp_path, name, lambda frame: frame.drop(columns=column))
    with pytest.raises(ValueError, match=rf"{name}\.csv lacks the column {column} .*python -m analysis\.bound"):
        Measured.read(tmp_path)


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
        Measured.read(tmp_path)


@pytest.mark.parametrize(
    ("column", "cell", "told"), [("risk", "high", "high"), ("vacuous", "perhaps", "True, False or empty")]
)
def test_cells_that_cannot_be_are_named(column: str, cell: str, told: str, tmp_path: Path) -> None:
    write(tmp_path)
    change(tmp_path, "bound", lambda frame: frame.assign(**{column: cell}))
    with pytest.raises(ValueError, match=rf"bound\.csv has a cell that cannot be \(.*{told}"):
        Measured.read(tmp_path)


def test_rows_given_twice_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    change(tmp_path, "bound", lambda frame: pd.concat([frame, frame.head(1)]))
    with pytest.raises(ValueError, match="a start and attribute twice"):
        Measured.read(tmp_path)


def test_the_hessian_distance_is_read_where_it_was_measured(tmp_path: Path) -> None:
    without = Measured.read(write(tmp_path))
    assert "`python -m analysis.bound --init all --store stores/phantom --c 0.01 --finetune`" in bound_norms.distances(
        without
    )
    measured = Measured.read(write(tmp_path, distance=True))
    assert bound_norms.distances(measured).startswith("The Hessian distance is lowest for random on 2 of 2 attributes")
    assert len(bound_norms.distance(measured).axes[0].lines) >= 6


@pytest.mark.parametrize("starts", [("source",), ("source", "tatl", *FILES)])
def test_spectra_are_read_where_they_were_measured(starts: tuple[str, ...], tmp_path: Path) -> None:
    without = Measured.read(write(tmp_path, starts=starts))
    assert spectra.Spectra.read(without) is None
    assert "python -m analysis.spectrum --init source" in spectra.missing(without)
    assert "--store stores/phantom" in spectra.missing(without) and "--c" not in spectra.missing(without)
    found = spectra.Spectra.read(Measured.read(write(tmp_path, starts=starts, spectrum=True)))
    assert found and f"negative in {len(starts) // 2 * 2} of {2 * len(starts)} rows" in spectra.eigenvalues(found)
    assert spectra.shape(found).startswith("The density reaches from -5 to 20;")
    for drawn in (spectra.density(found), spectra.leading(found)):
        assert "<svg" in show.figure(drawn, "Alt.", "Reading.", spectra.caption(found)).text


def test_spectra_without_rows_or_columns(tmp_path: Path) -> None:
    write(tmp_path, spectrum=True)
    change(tmp_path, "spectrum", lambda frame: frame.iloc[:0])
    change(tmp_path, "spectrum_density", lambda frame: frame.iloc[:0])
    found = spectra.Spectra.read(Measured.read(tmp_path))
    assert found and "no rows" in spectra.eigenvalues(found) and "no rows" in spectra.shape(found)
    for drawn in (spectra.density(found), spectra.leading(found)):
        show.figure(drawn, "Alt.", "Reading.", spectra.caption(found))
    change(tmp_path, "spectrum", lambda frame: frame.drop(columns="trace"))
    with pytest.raises(ValueError, match=r"lacks the column trace .*python -m analysis\.spectrum"):
        spectra.Spectra.read(Measured.read(tmp_path))


def test_the_notebook_runs_with_everything_there(tmp_path: Path) -> None:
    write(tmp_path / "tables", distance=True, spectrum=True)
    executed = execute.run_notebook(
        NOTEBOOK, {"tables": str(tmp_path / "tables")}, tmp_path / "page.html", progress=False
    )
    assert execute.failure(executed) == ""
    assert "Bound on average over attributes as a multiple of source" in html(execute.tagged(executed, "headline"))
    assert html(execute.tagged(executed, "thumbnail")).count("<svg") == 1
    shown = html(executed.cells)
    assert INK not in shown and "currentColor" in shown
    assert shown.count("<figure") == 13 and shown.count('class="reading"') >= 14


def html(cells: list[nbformat.NotebookNode]) -> str:
    """What the cells showed."""
    outputs = [output for cell in cells for output in cell.get("outputs", []) if "data" in output]
    return "".join(output.data.get("text/html", "") for output in outputs)


def test_the_notebook_says_what_it_needs() -> None:
    assert set(execute.defaults(NOTEBOOK)) == {"tables", "attributes", "dataset"}
    described = nbformat.read(NOTEBOOK, as_version=4).metadata["tatl"]
    assert set(described["needs"]) == {"bound.json", *(f"{name}.csv" for name in COLUMNS if name != DISTANCE)}
