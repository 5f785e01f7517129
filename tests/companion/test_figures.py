import functools
import io
import json
import re
import warnings

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import torch
from click.testing import CliRunner
from IPython import display

from vaelib import Experiment, Store, Study, paths
from vaelib.cli import main
from vaelib.companion import figures, plots
from vaelib.divergences import Divergence
from vaelib.errors import Invalid, UserError
from vaelib.runs.experiment import COMPARED

TABLE = pd.DataFrame({"x": [0, 1, 0, 1], "y": [0, 1 / 3, 0.5, 1], "seed": [0, 0, 1, 1]})
RUNS = [Experiment(data="mnist", epochs=100, seed=seed) for seed in (0, 1, 2)]


@pytest.fixture
def shown(monkeypatch):
    """What was displayed, in turn; no figure was shown before."""
    monkeypatch.setattr(figures, "_SHOWN", {})
    found = []
    monkeypatch.setattr(display, "display", found.append)
    return found


@pytest.fixture
def folder():
    return figures.folder("03_test", "quick")


@pytest.fixture
def show(folder, shown):
    def show(name="line", table=TABLE, plot=plots.curves.means, of=RUNS, **options):
        options = options or {"x": "x", "y": "y"}
        figures.show(plot, table, name, folder=folder, caption="A line.", of=of, claims=["thesis/c1"], **options)

    return show


def test_every_method_of_the_papers_has_a_look():
    looks = [plots.style.LOOKS[name] for name in COMPARED]
    assert len({look.label for look in looks}) == len(looks)
    assert len({(look.colour, look.linestyle) for look in looks}) == len(looks)


def test_every_divergence_has_a_look():
    ours = [kind for kind, part in Divergence.kinds.items() if part.__module__.startswith("vaelib.")]
    assert set(ours) <= set(plots.style.LOOKS)
    looks = {(plots.style.LOOKS[name].colour, plots.style.LOOKS[name].linestyle) for name in ours}
    assert len(looks) == len(ours)


# What is kept


def test_a_figure_has_its_table_and_where_it_comes_from(show, folder):
    assert folder.parts[-2:] == ("quick", "03_test")
    show()
    assert sorted(p.name for p in folder.iterdir()) == ["line.csv", "line.json", "line.png"]
    note = json.loads((folder / "line.json").read_text())
    assert note["claims"] == ["thesis/c1"]
    assert note["plot"] == "curves.means"
    assert note["options"] == {"x": "x", "y": "y"}
    assert note["runs"] == sorted(e.key for e in RUNS)
    assert note["setting"] == "MNIST, Burgess network, 100 epochs, seeds 0 to 2"
    assert note["parameters"]["epochs"] == 100
    assert "seed" not in note["parameters"], "what they have in common"
    assert note["torch"] == torch.__version__
    assert pd.read_csv(folder / "line.csv")["y"].tolist() == [0, 0.333333, 0.5, 1]


def test_the_name_of_a_figure_is_kept_whole(show, folder):
    show("rate_0")
    before = (folder / "rate_0.png").read_bytes()
    show("rate_0.5", TABLE.assign(y=1))
    assert (folder / "rate_0.png").read_bytes() == before
    names = [f"{name}.{ending}" for name in ("rate_0", "rate_0.5") for ending in ("csv", "json", "png")]
    assert sorted(p.name for p in folder.iterdir()) == sorted(names)


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a b", "α", "claims", "a\n"])
def test_what_is_not_a_file_name_for_a_figure_is_refused(show, folder, name):
    with pytest.raises(Invalid, match=r"name: .* has to be of letters"):
        show(name)
    assert list(folder.iterdir()) == []


def test_a_plot_of_somebody_else_cannot_be_drawn_again(show):
    with pytest.raises(Invalid, match=r"a function of a module of vaelib\.companion\.plots"):
        show(plot=lambda table: None)


def test_options_are_what_json_can_hold(show):
    with pytest.raises(Invalid, match=r"options: .* what JSON can hold"):
        show(x="x", y="y", log={"x"})


def test_the_same_figure_gives_the_same_bytes(show, folder):
    show()
    first = {p.name: p.read_bytes() for p in folder.iterdir()}
    np.random.default_rng(0).random()
    show()
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == first


def test_dots_are_put_aside_in_the_same_way_and_nobody_elses_numbers_change(show, folder):
    state = np.random.get_state()[1].tolist()  # noqa: NPY002
    show("dots", TABLE.assign(method="kl"), plots.points.by_method, y="y")
    first = (folder / "dots.png").read_bytes()
    show("dots", TABLE.assign(method="kl"), plots.points.by_method, y="y")
    assert (folder / "dots.png").read_bytes() == first
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002


def test_a_figure_that_says_the_same_stays_as_it_is(show, folder, monkeypatch):
    """A new commit alone rewrote every note, and left the tree dirty after each run."""
    told = []
    for commit in ("one", "another"):
        monkeypatch.setattr(figures, "commit", lambda commit=commit: commit)
        show()
        told.append(json.loads((folder / "line.json").read_text()))
    assert told[0] == told[1]
    assert told[1]["commit"] == "one"


@pytest.fixture
def drawn(monkeypatch):
    """The tables that were drawn, and not found as a picture, by the name of what drew them."""
    names, draw = [], plots.curves.means

    @functools.wraps(draw)
    def means(table, **options):
        names.append(sorted(options))
        return draw(table, **options)

    monkeypatch.setattr(plots.curves, "means", means)
    return names


def test_a_table_is_drawn_once(show, drawn, folder, monkeypatch):
    for name in ("line", "same"):
        show(name, plot=plots.curves.means)
    assert len(drawn) == 1
    assert (folder / "line.png").read_bytes() == (folder / "same.png").read_bytes()
    show("line", TABLE.assign(y=1), plot=plots.curves.means)
    show("line", plot=plots.curves.means, x="x", y="y", log=["x"])
    assert len(drawn) == 3
    monkeypatch.setattr(figures, "_code", lambda: "other")
    show(plot=plots.curves.means)
    assert len(drawn) == 4, "other code may draw otherwise"


def test_a_broken_picture_in_the_cache_is_drawn_again(show, drawn, folder):
    show(plot=plots.curves.means)
    picture = (folder / "line.png").read_bytes()
    (kept,) = paths.pictures().rglob("output.pkl")
    for content in (b"", kept.read_bytes()[:-100], b"no pickle"):
        kept.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            show(plot=plots.curves.means)
        assert (folder / "line.png").read_bytes() == picture
    assert len(drawn) == 4


def test_figures_are_drawn_where_none_can_be_kept(show, drawn, folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VAELIB_CACHE", str(tmp_path / "file"))
    for _ in range(2):
        show(plot=plots.curves.means)
    assert (len(drawn), (folder / "line.png").exists()) == (2, True)


def test_a_pdf_comes_on_demand(show, folder, monkeypatch):
    monkeypatch.setenv("VAELIB_PDF", "1")
    show()
    assert (folder / "line.pdf").read_bytes().startswith(b"%PDF")


def test_pictures_of_greys_are_kept_in_sixteen_of_them(show, folder):
    """Three of the committed pictures were half of the bytes of all: noise in 256 greys."""
    noise = torch.rand(12, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    show("noise", plots.pictures.table({"noise": noise}), plots.pictures.rows, across=1)
    with PIL.Image.open(folder / "noise.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("L")))) == 16
        seen = np.asarray(picture.convert("L"), dtype=int)
    with plots.style.plt.style.context(["default", figures._STYLE]):
        drawn = plots.pictures.rows(plots.pictures.table({"noise": noise}), across=1)
        drawn.savefig(whole := io.BytesIO(), format="png")
    with PIL.Image.open(whole) as picture:
        assert np.abs(np.asarray(picture.convert("L"), dtype=int) - seen).max() <= figures._UNSEEN


# What is shown


def test_a_figure_is_shown_with_its_caption_and_as_text(show, shown):
    show()
    picture, caption = shown
    assert picture.alt == "A line."
    assert picture._repr_mimebundle_()[1]["image/png"]["alt"] == "A line."
    assert caption.data == "**Figure 1.** A line (MNIST, Burgess network, 100 epochs, seeds 0 to 2)."


def test_theory_has_no_setting(show, shown):
    show(of=())
    assert shown[1].data == "**Figure 1.** A line."


def test_a_number_is_the_place_at_which_a_figure_came_first(show, shown):
    for name in ("a", "b", "a", "c"):
        show(name)
    numbers = [re.search(r"\d", caption.data).group() for caption in shown[1::2]]
    assert numbers == ["1", "2", "1", "3"]


def test_a_setting_says_what_differs():
    said = figures.said(
        [
            Experiment(data="mnist5k", network="mlp", epochs=5, seed=0),
            Experiment(data="fashion_mnist:28", network="burgess", epochs=20, seed=7),
        ]
    )
    assert said == "5,000 MNIST digits and FashionMNIST, MLP and Burgess network, 5 and 20 epochs, seeds 0 and 7"
    assert figures.said([Experiment(data="sprites:5000", epochs=1)]).startswith("5,000 re-rendered sprites, ")
    assert figures.said([Experiment(data="sprites:5000", epochs=1)]).endswith(", 1 epoch, seed 0")


def test_a_figure_can_be_of_results_studies_and_experiments(show, folder, tiny, store):
    study = Study({s: Experiment(data=tiny, network="mlp", epochs=1, seed=s) for s in (0, 1)}, names=["seed"])
    results = study.run(store=store)
    show("results", of=[results])
    show("study", of=[study.select(seed=0), study[1]])
    notes = [json.loads((folder / f"{name}.json").read_text()) for name in ("results", "study")]
    assert notes[0]["runs"] == notes[1]["runs"] == sorted(results.run_keys)
    assert notes[0]["setting"] == notes[1]["setting"] == "images of squares, MLP, 1 epoch, seeds 0 and 1"
    assert notes[0]["parameters"] == notes[1]["parameters"]
    assert len(Store(store.folder).entries()) == 2


# Drawing again


def test_a_figure_is_drawn_again_from_its_table(show, folder):
    show()
    show("dots", TABLE.assign(method="kl"), plots.points.by_method, y="y")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    changed, same = figures.redraw("quick")
    assert (changed, len(same)) == ([], 2)
    (folder / "line.png").unlink()
    changed, same = figures.redraw("quick", ["03"])
    assert (changed, same) == ([folder / "line.png"], [folder / "dots.png"])
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_another_table_gives_another_picture(show, folder):
    show()
    before = (folder / "line.png").read_bytes()
    TABLE.assign(y=2 - TABLE["y"]).to_csv(folder / "line.csv", index=False)
    assert figures.redraw("quick")[0] == [folder / "line.png"]
    assert (folder / "line.png").read_bytes() != before


def test_what_cannot_be_drawn_again_is_one_sentence(show, folder):
    with pytest.raises(UserError, match="redraw: there are no figures of quick in "):
        figures.redraw("quick")
    show()
    with pytest.raises(UserError, match="redraw: there are no figures of 04, 05 in "):
        figures.redraw("quick", ["04", "05"])
    note = (folder / "line.json").read_text()
    for name in ("curves.pies", "pies.means", "means"):
        (folder / "line.json").write_text(note.replace("curves.means", name))
        with pytest.raises(UserError, match=f"line.json names the plot '{name}', and there is none in"):
            figures.redraw("quick")
    (folder / "line.json").write_text('{"caption": "Of a version that did not say how."}')
    with pytest.raises(UserError, match=r"line.json names the plot '', and there is none in"):
        figures.redraw("quick")
    (folder / "line.json").write_text(note)
    (folder / "line.csv").unlink()
    with pytest.raises(UserError, match=r"redraw: .*line\.csv is not there, and line is drawn from it"):
        figures.redraw("quick")


def test_the_command_says_how_many_it_drew_and_what_it_cannot_draw(show, folder):
    show()
    (folder / "line.png").write_bytes(b"another")
    (folder / "claims.json").write_text("[]")
    result = CliRunner().invoke(main, ["figures", "--redraw", "--only", "03"])
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        "  quick/03_test/line.png",
        "1 figures drawn; 1 of them are new or look otherwise than before",
    ]
    (folder / "line.csv").unlink()
    result = CliRunner().invoke(main, ["figures", "--redraw"])
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "line.csv is not there" in result.output
    result = CliRunner().invoke(main, ["figures", "--redraw", "--refresh"])
    assert result.output.startswith("Error: redraw: figures are drawn from their own tables; leave out -p")
