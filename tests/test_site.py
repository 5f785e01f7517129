"""The site: boards against the ledger, and what a browser makes of the pages."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vaelib.companion import boards, check, claims, report, statements

ROOT = Path(__file__).parents[1]


@pytest.fixture
def committed(monkeypatch):
    monkeypatch.setenv("VAELIB_FIGURES", str(ROOT / "figures"))


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Two records of a value and one of a compound statement, and a figure's note without its picture."""
    ledger = claims.Ledger(tmp_path / "figures" / "quick" / "02_test")
    monkeypatch.setenv("VAELIB_FIGURES", str(tmp_path / "figures"))
    ledger.record("avae/t3/mnist/js", [0.3, 0.31, 0.32], setting=claims.Setting(data="mnist5k"), runs=["a" * 64])
    ledger.record("avae/t3/mnist/js", [0.1], setting=claims.Setting(data="mnist"))
    return ledger


def test_every_claim_has_one_board():
    assert {statements.get(name).paper for name in statements.ids()} == {*statements.PAPERS}


@pytest.mark.parametrize("paper", statements.PAPERS)
def test_a_board_says_what_the_ledger_says(paper, committed):
    rows = {row.claim.id: row for row in boards.rows(paper)}
    known = check.answer(check.matching(["*"], paper))
    assert rows.keys() == {one.claim.id for one in known}
    for one in known:
        row, nearest = (
            rows[one.claim.id],
            [f.verdict for f in one.found if f.verdict.scale == one.found[0].verdict.scale],
        )
        assert [m.found.verdict for m in row.measurements] == [f.verdict for f in one.found]
        nearest = {f.verdict.finding for f in one.found if f.verdict.scale == one.found[0].verdict.scale}
        assert row.finding in (nearest or {boards.NOT_MEASURED})
    urgency = [boards.ORDER.index(row.finding) for row in boards.rows(paper)]
    assert urgency == sorted(urgency)
    assert sum(boards.counts(paper).values()) == len(known)


@pytest.mark.parametrize("paper", statements.PAPERS)
def test_a_board_is_sound_markup_with_an_anchor_a_claim(paper, committed):
    html = boards.board(paper, "../..")
    tree = ElementTree.fromstring(f"<div>{_as_xml(html)}</div>")
    anchors = [item.get("id") for item in tree.iter("li")]
    assert sorted(anchors) == sorted(one.claim.id for one in check.answer(check.matching(["*"], paper)))
    for link in tree.iter("a"):
        target = link.get("href")
        file = target.partition("#")[0].removeprefix("../../").replace(".html", ".ipynb")
        assert not file or (ROOT / file).exists(), target
    assert all(image.get("alt") for image in tree.iter("img"))
    assert all(drawing.find("title").text for drawing in tree.iter("svg"))


@pytest.mark.parametrize("paper", statements.PAPERS)
def test_a_drawing_stays_within_its_axis(paper, committed):
    for drawing in ElementTree.fromstring(f"<div>{_as_xml(boards.board(paper, '.'))}</div>").iter("svg"):
        _, _, width, height = map(float, drawing.get("viewBox").split())
        for dot in drawing.iter("circle"):
            assert 0 < float(dot.get("cx")) < width
            assert 0 < float(dot.get("cy")) < height
        for rectangle in drawing.iter("rect"):
            assert 0 <= float(rectangle.get("x")) <= float(rectangle.get("x")) + float(rectangle.get("width")) <= width
        for path in drawing.iter("path"):
            for number in re.findall(r"[MH](-?[\d.]+)", path.get("d")):
                assert 0 <= float(number) <= width


def _as_xml(html):
    """A board is XML but for elements without content and attributes without a value."""
    html = re.sub(r"<(input|img)\b([^>]*)>", r"<\1\2/>", html)
    return re.sub(r" hidden>", ' hidden="">', html)


def test_the_nearest_scale_comes_first_and_a_drawing_shows_print_and_measurement(measured):
    (row,) = [row for row in boards.rows("avae") if row.claim.id == "avae/t3/mnist/js"]
    near, far = row.measurements
    assert (near.found.verdict.scale, far.found.verdict.scale) == ("reduced", "stand-in")
    assert row.finding == near.found.verdict.finding
    ((mean, ends, cut, _),) = far.bars
    assert ends[0] < mean < ends[1]
    assert cut == (False, False)
    assert row.axis.at(0.118) < mean
    assert near.bars[0].ends[0] == near.bars[0].ends[1]  # one seed has no interval
    assert far.title == "Measured: 0.31, interval 0.285 to 0.335"


def test_an_interval_that_leaves_the_drawing_is_cut(measured):
    measured.record("avae/t3/mnist/dual", [0.2, 0.5], setting=claims.Setting(data="mnist"))
    boards._answers.cache_clear()
    (row,) = [row for row in boards.rows("avae") if row.claim.id == "avae/t3/mnist/dual"]
    assert row.measurements[0].bars[0].cut == (True, True)
    assert "l-4 3l4 3" in boards.board("avae", ".")


def test_what_is_said_is_escaped(measured, monkeypatch):
    nasty = statements.get("avae/t3/mnist/js").model_copy(update={"says": "<script>&"})
    monkeypatch.setitem(statements._book(), nasty.id, nasty)
    boards._answers.cache_clear()
    assert "<script>" not in boards.board("avae", ".")
    assert "&lt;script&gt;&amp;" in boards.board("avae", ".")


def test_a_gallery_is_one_block_of_markdown(committed):
    folder = ROOT / "figures" / "paper" / "02_alpha_convergence"
    heading, block = boards.gallery(folder, "..").split("\n\n", 1)
    assert heading.startswith("## ")
    assert "\n\n" not in block.strip()
    assert block.count("<img") == len(report.shown(folder)) > 0


WINDOWS = [(width, scheme) for width in (1440, 390) for scheme in ("light", "dark")]
EVERY_WINDOW = pytest.mark.parametrize("page", WINDOWS, ids=lambda p: "-".join(map(str, p)), indirect=True)
"""For boards: either width, in either light; other pages are seen wide and light, and narrow and dark."""


def _shown(page):
    return page.locator("ol.board > li:visible")


BOARDS = [f"docs/boards/{paper}.html" for paper in statements.PAPERS]
PAGES = [
    "docs/index.html", "docs/rule.html", "docs/guide.html", "docs/tutorials/paper.html", "docs/api/divergences.html",
    "figures/paper/REPORT.html", "figures/paper/avae.html", "notebooks/01_theory_checks.html",
    "notebooks/02_alpha_convergence.html", "notebooks/11_the_family.html", "docs/explorers.html",
    "docs/tutorials/divergence.html", "search.html",
]  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_its_window(site, page, name):
    _fits(site, page, name)


@pytest.mark.parametrize("name", BOARDS)
@EVERY_WINDOW
def test_a_board_fits_its_window(site, page, name):
    _fits(site, page, name)


def _fits(site, page, name):
    page.goto((site / name).as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_every_page_has_an_icon(site):
    """Without one a browser asks the server for favicon.ico, and reports that it is not there."""
    for file in site.rglob("*.html"):
        if "_static" not in file.parts:
            (icon,) = re.findall(r'<link rel="(?:shortcut )?icon" href="([^"]+)"', file.read_text(encoding="utf-8"))
            assert (file.parent / icon).is_file(), file


def test_every_page_is_light(site):
    """With its scripts and styles, before pictures: those within the page count as pictures."""
    pages = [file for file in site.rglob("*.html") if "_static" not in file.parts]
    assert len(pages) > 30
    for file in pages:
        text = file.read_text(encoding="utf-8")
        parts = re.findall(r'(?:src|href)="([^"#?:]+\.(?:js|css))[?"]', text)
        assert parts or file == site / "index.html"
        weight = len(text.encode()) + sum((file.parent / part).stat().st_size for part in {*parts})
        assert weight < 1_500_000, file


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(site, page, name):
    _accessible(site, page, name)


@pytest.mark.parametrize("name", ["docs/boards/theory.html", "docs/boards/mivae.html"])  # all are of one template
@EVERY_WINDOW
def test_axe_finds_nothing_serious_on_a_board(site, page, name):
    _accessible(site, page, name)


def _accessible(site, page, name):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install 'vaelib[browser]'").Axe()
    page.goto((site / name).as_uri())
    found = axe.run(page, options={"preload": False}).response["violations"]  # which would fetch style sheets
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")] == []


@EVERY_WINDOW
def test_a_board_is_filtered_by_mouse(site, page):
    page.goto((site / "docs/boards/avae.html").as_uri())
    everything = _shown(page).count()
    assert everything == len(check.matching(["*"], "avae"))
    page.locator("select[name=data]").select_option("CelebA")
    assert {name.split("/")[2] for name in _ids(page)} == {"celeba"}
    page.locator("select[name=scale]").select_option("theory")
    assert _shown(page).count() == 0
    assert page.locator(".board-none").is_visible()
    page.get_by_role("button", name="clear").click()
    page.wait_for_function(f"document.querySelectorAll('ol.board > li:not([hidden])').length === {everything}")
    page.locator("input[name=words]").click()
    page.keyboard.type("learned skew")
    assert 0 < _shown(page).count() < everything
    assert re.fullmatch(r"\d+ of \d+ claims", page.locator("output").inner_text())


@EVERY_WINDOW
def test_a_board_is_filtered_searched_and_ordered_by_keyboard_alone(site, page):
    page.goto((site / "docs/boards/avae.html").as_uri())
    everything = _shown(page).count()
    _tab_to(page, "words")
    page.keyboard.type("learned skew")
    searched = _shown(page).count()
    assert 0 < searched < everything
    _choose(page, "finding", "disagrees")
    assert 0 < _shown(page).count() < searched
    assert all("disagrees" in text for text in _shown(page).all_inner_texts())
    assert "finding=disagrees" in page.url
    _choose(page, "order", "ledger")
    ledger = [claim.id for claim in check.matching(["*"], "avae")]
    assert _ids(page) == sorted(_ids(page), key=ledger.index)
    page.keyboard.press("Tab")  # to the button
    page.keyboard.press("Enter")
    page.wait_for_function(f"document.querySelectorAll('ol.board > li:not([hidden])').length === {everything}")
    _tab_to(page, lambda: page.evaluate("document.activeElement.className") == "claim-id")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    name = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**#{name}")  # a busy browser follows a link a moment later
    page.wait_for_function(f"Math.abs(document.getElementById('{name}').getBoundingClientRect().top) < 120")


def _tab_to(page, what):
    """Press Tab until the field with a name has the focus, or what is asked for does."""
    for _ in range(200):
        page.keyboard.press("Tab")
        if what() if callable(what) else page.evaluate("document.activeElement.name") == what:
            return
    raise AssertionError(f"{what} is not reached")


def _choose(page, name, value):
    """An entry of a menu by the arrow: typed letters count as a word only on a machine that is not busy."""
    _tab_to(page, name)
    for _ in range(20):
        if page.evaluate("document.activeElement.value") == value:
            return
        page.keyboard.press("ArrowDown")
    raise AssertionError(f"{name} has no {value}")


@EVERY_WINDOW
def test_a_board_leads_to_the_cell_that_records(site, page):
    page.goto((site / "docs/boards/avae.html").as_uri() + "#avae/t3/mnist/js")
    claim = page.locator("[id='avae/t3/mnist/js']")
    claim.get_by_role("link", name="notebook cell").first.press("Enter")
    page.wait_for_url("**/notebooks/02_alpha_convergence.html#cell-record-skews")
    page.wait_for_function("Math.abs(document.getElementById('cell-record-skews').getBoundingClientRect().top) < 160")
    assert "ledger.record(" in page.locator("#cell-record-skews pre").first.inner_text()  # unfolded, so it is seen


@pytest.mark.parametrize("paper", statements.PAPERS)
def test_every_link_of_a_board_leads_somewhere(site, paper):
    tree = ElementTree.fromstring(f"<div>{_as_xml(boards.board(paper, '../..'))}</div>")
    seen = dict[Path, str]()
    for link in (link.get("href") for link in tree.iter("a")):
        path, _, anchor = link.partition("#")
        target = (site / "docs" / "boards" / path).resolve() if path else site / "docs" / "boards" / f"{paper}.html"
        assert target.exists(), link
        if anchor:
            text = seen.setdefault(target, target.read_text(encoding="utf-8"))
            assert text.count(f'id="{anchor}"') == 1, link


@EVERY_WINDOW
def test_a_board_is_ordered(site, page):
    page.goto((site / "docs/boards/avae.html").as_uri())
    page.locator("select[name=order]").select_option("ledger")
    assert _ids(page) == [claim.id for claim in check.matching(["*"], "avae")]
    page.locator("select[name=order]").select_option("finding")
    assert "disagrees" in _shown(page).first.inner_text()


def _ids(page):
    return page.evaluate("[...document.querySelectorAll('ol.board > li:not([hidden])')].map((e) => e.id)")


@EVERY_WINDOW
def test_an_anchor_leads_to_its_claim_even_if_a_filter_hides_it(site, page):
    page.goto((site / "docs/boards/avae.html").as_uri() + "#avae/t3/mnist/js")
    claim = page.locator("[id='avae/t3/mnist/js']")
    page.wait_for_function("Math.abs(document.getElementById('avae/t3/mnist/js').getBoundingClientRect().top) < 120")
    page.locator("select[name=data]").select_option("CelebA")
    assert not claim.is_visible()
    page.evaluate("location.hash = ''")
    page.evaluate("location.hash = '#avae/t3/mnist/js'")
    claim.wait_for(state="visible")


def test_without_javascript_every_claim_is_there(site, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((site / "docs/boards/mivae.html").as_uri())
    assert _shown(page).count() == len(check.matching(["*"], "mivae"))
    assert not page.locator("form.board-filters").is_visible()
    context.close()


def test_formulas_are_drawn(site, page):
    page.goto((site / "docs/api/divergences.html").as_uri())
    assert page.locator("math").first.bounding_box()["height"] > 10


def test_the_search_finds_a_claim(site, page):
    page.goto((site / "search.html").as_uri() + "?q=elbo")
    page.locator("#search-results li a").first.wait_for()
