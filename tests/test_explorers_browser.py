"""Explorers in a browser: that they move by keyboard, mouse and touch, say what they show, and fit its window."""

import pytest

from vaelib.companion import explorers

WINDOWS = [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")]
everywhere = pytest.mark.parametrize("page", WINDOWS, indirect=True, ids=lambda p: f"{p[0]}-{p[1]}")
PAGES = ["docs/explorers.html", "notebooks/01_theory_checks.html", "notebooks/03_landscapes.html"]
PAGES += ["notebooks/04_reconstruction.html"]
SET = "(e, at) => { e.value = at; e.dispatchEvent(new Event('input', { bubbles: true })) }"
DRAWN = "(e, markup) => { const c = e.cloneNode(); c.innerHTML = markup; return c.innerHTML === e.innerHTML }"


@pytest.fixture
def found(site, page):
    """The explorers of the page that has all of them, in its order: skew, equal rate, landscape."""
    page.goto((site / "docs/explorers.html").as_uri())
    return [page.locator(".vl-explorer").nth(k) for k in range(3)]


def _words(explorer):
    return explorer.locator("output").inner_text()


def _picture(explorer):
    return explorer.locator(".vl-panels").inner_html()


def _state(explorer):
    slider = explorer.locator("input[type=range]")
    return _words(explorer), _picture(explorer), slider.get_attribute("aria-valuetext")


@everywhere
def test_a_slider_is_moved_by_arrow_keys(found, page):
    for explorer, key in zip(found, ("ArrowRight", "ArrowUp", "ArrowLeft")):
        slider, before = explorer.locator("input[type=range]"), _state(explorer)
        slider.focus()
        page.keyboard.press(key)
        after = _state(explorer)
        assert all(old != new for old, new in zip(before, after))
        assert explorer.locator("label b").inner_text() == after[2]
        page.keyboard.press({"ArrowRight": "ArrowLeft", "ArrowUp": "ArrowDown", "ArrowLeft": "ArrowRight"}[key])
        assert _state(explorer) == before
        page.keyboard.press("End")
        assert slider.input_value() == slider.get_attribute("max")


@everywhere
def test_a_slider_is_moved_by_the_mouse(found, page):
    for explorer in found:
        slider, before = explorer.locator("input[type=range]"), _state(explorer)
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        assert box["height"] >= 44, "a finger's width"
        page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + box["height"] / 2, steps=4)
        page.mouse.up()
        assert all(old != new for old, new in zip(before, _state(explorer)))


def test_a_slider_is_moved_by_touch(site, browser):
    context = browser.new_context(viewport={"width": 390, "height": 900}, has_touch=True)
    page = context.new_page()
    page.goto((site / "docs/explorers.html").as_uri())
    explorer = page.locator(".vl-explorer").first
    before, box = _state(explorer), explorer.locator("input[type=range]").bounding_box()
    page.touchscreen.tap(box["x"] + 0.8 * box["width"], box["y"] + box["height"] / 2)
    assert all(old != new for old, new in zip(before, _state(explorer)))
    context.close()


@everywhere
def test_a_choice_is_made_by_the_keyboard(found, page):
    for explorer in found:
        before, choice = _state(explorer)[:2], explorer.locator("select").last
        choice.focus()
        page.keyboard.press("ArrowUp" if choice.input_value() != "0" else "ArrowDown")
        assert all(old != new for old, new in zip(before, _state(explorer)[:2]))


def test_the_script_says_what_python_would(found, page, monkeypatch, request):
    """Of a dozen rows: the words, the drawings, and the text in their place."""
    monkeypatch.setenv("VAELIB_FIGURES", str(request.config.rootpath / "figures"))
    for shown, name in zip(found, ("skew", "equal_rate", "landscape")):
        explorer = explorers.committed(name)
        for row in explorer.table.sample(12, random_state=0).to_dict("records"):
            values = {name: f"{v:g}" if isinstance(v, float) else str(v) for name, v in row.items()}
            for control, column in zip(shown.locator("select, input").all(), explorer.controls):
                if control.get_attribute("type") == "range":
                    control.evaluate(SET, control.get_attribute("data-values").split("|").index(values[column]))
                else:
                    control.select_option(label=values[column])
            assert _words(shown) == explorers.base.fill(explorer.words, values).strip()
            for drawing, panel in zip(shown.locator("svg[role=img]").all(), explorer.panels, strict=True):
                assert drawing.get_attribute("aria-label") == explorers.base.fill(panel.alt, values)
                assert drawing.evaluate(DRAWN, explorers.base.fill(panel.markup, values))


@everywhere
@pytest.mark.parametrize("name", PAGES)
def test_nothing_sticks_out(site, page, name):
    page.goto((site / name).as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator(".vl-explorer").count() >= 1
    sticking = """(root) => [...root.querySelectorAll("label, select, input, b, svg, output")]
        .filter((e) => e.checkVisibility() && !e.parentElement.closest("svg"))
        .filter((e) => e.getBoundingClientRect().right > root.getBoundingClientRect().right + 1)
        .map((e) => e.outerHTML.slice(0, 80))"""
    for explorer in page.locator(".vl-explorer").all():
        assert explorer.locator(".vl-controls").is_visible()
        assert not explorer.locator(".vl-still").is_visible()
        assert explorer.evaluate(sticking) == []


@everywhere
def test_axe_finds_nothing_serious_in_explorers(site, page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install 'vaelib[browser]'").Axe()
    page.goto((site / "docs/explorers.html").as_uri())
    found = axe.run(page, options={"preload": False}).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")] == []


def test_drawings_are_described_and_words_are_read_out(found):
    for explorer in found:
        for drawing in explorer.locator("svg[role=img]").all():
            assert len(drawing.get_attribute("aria-label")) > 20
        assert explorer.locator("output").get_attribute("aria-live") == "polite"


def test_two_of_a_kind_on_one_page_do_not_move_each_other(page, tmp_path):
    fragment = explorers.skew(steps=10).html()
    file = tmp_path / "two.html"
    file.write_text(f"<!doctype html><meta charset=utf-8><title>two</title>{fragment}{fragment}", encoding="utf-8")
    page.goto(file.as_uri())
    one, other = page.locator(".vl-explorer").all()
    before = _state(other)
    one.locator("input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    assert _state(one) != before
    assert _state(other) == before


def test_data_without_reconstructions_have_no_place_for_them(found):
    explorer = found[1]
    assert explorer.locator("svg[role=img]").nth(1).is_visible()
    explorer.locator("select").first.select_option(index=1)
    assert not explorer.locator("svg[role=img]").nth(1).is_visible()
    assert "No reconstructions of these data are kept." in _words(explorer)


def test_without_a_script_the_first_picture_is_seen_and_dead_controls_are_not(site, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((site / "docs/explorers.html").as_uri())
    for explorer in page.locator(".vl-explorer").all():
        assert not explorer.locator(".vl-controls").is_visible()
        assert explorer.locator("svg").first.is_visible()
        assert len(_words(explorer)) > 40
    context.close()


def test_the_page_of_explorers_is_light(site):
    assert (site / "docs/explorers.html").stat().st_size < 600_000
