"""The page in a real browser, opened from the disk."""

import re

import pytest

from smlmkit.report import write_report

SMALL = {"viewport": {"width": 900, "height": 600}}  # wide enough for all columns of the viewer


@pytest.fixture(scope="module")
def url(make_results, tmp_path_factory):
    results = make_results(tmp_path_factory.mktemp("browser") / "results")
    results.add("cell_2", shape=(200, 300), crop=(0, 0, 200, 300), localizations=900)
    results.add("cell_10", shape=(150, 150), seed=1, localizations=10_000)
    results.add("µ <b>'\"&</b> " + "long " * 40, stem="odd", seed=2, localizations=2_000)
    results.add_failed("broken", "torn in the middle")
    return write_report(results.path).as_uri()


class Tabs:
    """Tabs with the page; whatever it asks for or complains of is a complaint."""

    def __init__(self, browser, url):
        self.browser, self.url = browser, url
        self.complaints = []

    def open(self, **options):
        page = self.browser.new_page(**{**SMALL, **options})
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("request", lambda request: self.note(request.url))
        page.goto(self.url)
        return page

    def note(self, asked):
        if asked != self.url and not asked.startswith("data:image/"):
            self.complaints.append(f"asked for {asked}")


@pytest.fixture(scope="module")
def tabs(browser, url):
    return Tabs(browser, url)


@pytest.fixture(autouse=True)
def nothing_to_complain_of(tabs):
    yield
    complaints, tabs.complaints = tabs.complaints, []
    assert complaints == []


@pytest.fixture(scope="module")
def tab(tabs):
    """Open the tab that all tests use which need none of their own."""
    page = tabs.open()
    yield page
    page.close()


@pytest.fixture
def page(tab):
    """Give the page as if it was just opened."""
    tab.reload()
    return tab


@pytest.fixture
def open_page(tabs):
    """Open the page in a tab with options of its own."""
    pages = []

    def open_in(**options):
        pages.append(tabs.open(**options))
        return pages[-1]

    yield open_in
    for page in pages:
        page.close()


@pytest.fixture
def viewer(page):
    """Open the viewer on cell_2."""
    page.get_by_role("button", name="reconstruction of cell_2").click()
    page.wait_for_function("document.querySelector('.white').textContent !== ''")
    return page


def names(page):
    cells = page.locator("tbody th").all_inner_texts()
    return [cell.split()[0] for cell in cells]


def picture(page):
    """Give the canvas as a text, once it is drawn."""
    return page.evaluate(
        """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(
          () => done(document.querySelector("canvas").toDataURL()))))"""
    )


def scale_bar_nm_per_px(page):
    text = page.locator(".scale span").inner_text()
    number, unit = text.split()
    width = page.locator(".scale i").evaluate("(bar) => bar.getBoundingClientRect().width")
    return float(number) * {"nm": 1, "µm": 1000}[unit] / width


def test_a_click_on_a_heading_sorts_by_number_and_back(page):
    heading = page.get_by_role("columnheader", name="Localizations", exact=True).last
    heading.get_by_role("button").click()
    assert names(page) == ["cell_2", "µ", "cell_10", "broken"]
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.get_by_role("button").click()
    assert names(page) == ["cell_10", "µ", "cell_2", "broken"], "what is missing stays last"
    assert heading.get_attribute("aria-sort") == "descending"


def test_the_keyboard_sorts_by_name_as_people_do(page):
    page.get_by_role("button", name="acquisition", exact=True).focus()
    page.keyboard.press("Enter")
    assert names(page) == ["broken", "cell_2", "cell_10", "µ"]
    assert page.locator("[aria-sort]").count() == 1
    page.keyboard.press("Space")
    assert names(page) == ["µ", "cell_10", "cell_2", "broken"]


def test_a_picture_opens_the_viewer_and_escape_closes_it(page):
    opener = page.get_by_role("button", name="reconstruction of cell_10")
    opener.focus()
    page.keyboard.press("Enter")
    assert page.get_by_role("dialog", name="cell_10").is_visible()
    assert "10,000" in page.locator("dialog .facts").inner_text()
    assert page.locator("dialog .chart").count() == 1
    page.keyboard.press("Escape")
    assert page.get_by_role("dialog").count() == 0
    assert opener.evaluate("(button) => button === document.activeElement")


def test_raw_counts_and_reconstruction_swap_by_key_button_and_slider(viewer):
    both = picture(viewer)
    viewer.keyboard.press("x")
    after = picture(viewer)
    assert viewer.get_by_role("status").inner_text() == "Reconstruction"
    viewer.keyboard.press("x")
    before = picture(viewer)
    assert viewer.get_by_role("status").inner_text() == "Raw counts"
    assert len({both, after, before}) == 3
    viewer.get_by_role("button", name="Reconstruction", exact=True).click()
    assert picture(viewer) == after
    viewer.locator("#divider").focus()
    viewer.keyboard.press("ArrowRight")
    assert viewer.locator("#divider").input_value() == "0.5"
    viewer.keyboard.press("End")
    assert picture(viewer) == before
    viewer.get_by_role("button", name="Both").click()
    assert picture(viewer) == both


def test_the_divider_is_dragged_in_the_picture(viewer):
    box = viewer.locator("canvas").bounding_box()
    middle = box["y"] + box["height"] / 2
    viewer.mouse.move(box["x"] + box["width"] / 2, middle)
    viewer.mouse.down()
    viewer.mouse.move(box["x"] + box["width"] / 4, middle)
    viewer.mouse.up()
    assert viewer.locator("#divider").input_value() == "25"


def test_keys_zoom_and_the_scale_bar_follows(viewer):
    box = viewer.locator("canvas").bounding_box()
    whole = picture(viewer)
    fitted = max(200 / box["height"], 300 / box["width"]) * 10
    assert scale_bar_nm_per_px(viewer) == pytest.approx(fitted, rel=0.02)
    viewer.keyboard.press("-")
    assert picture(viewer) == whole, "there is nothing beyond the whole picture"
    viewer.keyboard.press("+")
    assert picture(viewer) != whole
    assert scale_bar_nm_per_px(viewer) == pytest.approx(fitted / 1.4, rel=0.02)
    viewer.keyboard.press("0")
    assert picture(viewer) == whole


def test_the_wheel_zooms_about_the_pointer_and_a_drag_moves(viewer):
    box = viewer.locator("canvas").bounding_box()
    x, y = round(box["x"] + 0.7 * box["width"]), round(box["y"] + 0.4 * box["height"])

    def place():
        viewer.mouse.move(x + 1, y)
        viewer.mouse.move(x, y)
        words = viewer.locator(".readout").inner_text()
        return [float(number) for number in re.findall(r"([\d.]+) µm", words)]

    before = place()
    viewer.mouse.wheel(0, -900)
    assert place() == pytest.approx(before, abs=0.002)
    perpixel = scale_bar_nm_per_px(viewer) / 1000
    viewer.mouse.down()
    viewer.mouse.move(x - 50, y - 30)
    viewer.mouse.up()
    assert place() == pytest.approx(
        [before[0] + 50 * perpixel, before[1] + 30 * perpixel], abs=0.003
    )
    viewer.locator("canvas").focus()
    viewer.keyboard.press("ArrowLeft")
    assert place()[0] == pytest.approx(before[0] - 10 * perpixel, abs=0.003)


def test_two_fingers_zoom(open_page):
    page = open_page(has_touch=True)
    page.get_by_role("button", name="reconstruction of cell_2").click()
    page.wait_for_function("document.querySelector('.white').textContent !== ''")
    picture(page)
    box = page.locator("canvas").bounding_box()
    x, y = box["x"] + box["width"] / 3, box["y"] + box["height"] / 2
    before = scale_bar_nm_per_px(page)
    session = page.context.new_cdp_session(page)
    for kind, apart in (("touchStart", 40), ("touchMove", 60), ("touchMove", 80)):
        fingers = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    picture(page)
    assert scale_bar_nm_per_px(page) == pytest.approx(before / 2, rel=0.02)


def test_contrast_brightens_and_one_scale_darkens_what_is_dimmer(viewer):
    viewer.keyboard.press("x")
    dim = picture(viewer)
    viewer.locator("#contrast").fill("2")
    bright = picture(viewer)
    viewer.locator("#contrast").fill("0")
    assert picture(viewer) == dim
    own = viewer.locator(".white").inner_text()
    viewer.get_by_label("Same scale for both").check()
    raw, dense = re.findall(r"[\d.]+", viewer.locator(".white").inner_text())
    assert raw == dense == re.findall(r"[\d.]+", own)[0]
    viewer.get_by_label("Same scale for both").uncheck()
    viewer.get_by_label("Lift dim structures").check()
    assert len({dim, bright, picture(viewer)}) == 3


def test_the_next_acquisition_is_a_key_away_and_round_it_goes(viewer):
    title = viewer.locator("#viewer-title")
    viewer.keyboard.press("PageDown")
    assert title.inner_text().startswith("µ <b>'\"&</b> long")
    viewer.keyboard.press("PageDown")
    assert title.inner_text() == "cell_10"
    viewer.keyboard.press("PageUp")
    viewer.keyboard.press("PageUp")
    assert title.inner_text() == "cell_2"


def test_the_readout_says_what_the_pixels_hold(viewer):
    viewer.locator("canvas").hover(position={"x": 30, "y": 200})
    assert re.fullmatch(
        r"x 2\.\d{3} µm, y 1\.\d{3} µm: \d+ raw, [\d.]+ reconstructed",
        viewer.locator(".readout").inner_text(),
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_the_ground_in_both_schemes(page, scheme):
    page.emulate_media(color_scheme=scheme)
    ground = brightness(page.locator("body").evaluate("(e) => getComputedStyle(e).backgroundColor"))
    assert (ground > 0.5) == (scheme == "light")
    for chosen in (
        "h1",
        ".lead",
        ".failed",
        "nav a",
        ".about",
        "thead button",
        ".legend .held-out",
    ):
        colour = page.locator(chosen).first.evaluate("(e) => getComputedStyle(e).color")
        low, high = sorted((ground, brightness(colour)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, chosen


def brightness(colour):
    """Give the relative luminance of WCAG."""
    levels = [int(level) / 255 for level in re.findall(r"\d+", colour)[:3]]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in levels]
    return sum(share * v for share, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_sticks_out_sideways(open_page, width):
    page = open_page(viewport={"width": width, "height": 400})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.locator("[data-open]").first.click()
    assert page.locator("dialog").evaluate("(dialog) => dialog.scrollWidth") <= width


def test_print_leaves_out_what_paper_cannot_do(open_page):
    page = open_page()
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.locator("nav").is_visible()
    assert page.locator("table").is_visible()
    ground = page.locator("body").evaluate("(e) => getComputedStyle(e).backgroundColor")
    assert brightness(ground) == 1


def test_the_raw_curve_shows_where_the_other_one_lies_on_it(page):
    def width(kind):
        curve = page.locator(f".charts .curve.{kind}").first
        return float(curve.evaluate("(e) => getComputedStyle(e).strokeWidth").removesuffix("px"))

    assert width("raw") > 2 * width("held-out")


def test_the_page_tells_without_scripts(open_page):
    page = open_page(java_script_enabled=False)
    assert names(page) == ["cell_10", "cell_2", "µ", "broken"], "what failed comes last"
    assert page.locator(".card").count() == 3
    assert page.locator(".card image").count() == page.locator(".charts .curve.raw").count() == 3


def test_every_control_has_a_name(viewer):
    unnamed = viewer.evaluate(
        """() => [...document.querySelectorAll("button, input, canvas, [role=img], [tabindex]")]
          .filter((e) => !(e.textContent.trim() || e.labels?.length || e.hasAttribute("aria-label")
            || e.hasAttribute("aria-labelledby"))).map((e) => e.outerHTML)"""
    )
    assert unnamed == []


def test_a_foreign_script_would_not_run(browser, url):
    context = browser.new_context()
    page = context.new_page()
    page.goto(url)
    with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
        page.evaluate(
            """() => {
              const script = document.createElement("script");
              script.textContent = "document.title = 'run'";
              document.body.append(script);
            }"""
        )
    assert page.title() != "run"
    context.close()
