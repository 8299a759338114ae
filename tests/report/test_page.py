"""The page as a file: whole, self-contained, and with everything in it that was there to tell."""

import re
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner

from smlmkit.cli.report import report
from smlmkit.errors import FileFormatError, OutputError
from smlmkit.report import page, write_report
from smlmkit.report.results import read_results
from smlmkit.report.table import COLUMNS, NOTHING, summarize

MINUS = "\N{MINUS SIGN}"
HOSTILE = "<script>alert('x')</script>\"' onload=\"x &amp; \u202egnp.µm 細胞"


class Elements(HTMLParser):
    """Every element that a browser would make, and all text."""

    def __init__(self, html):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def count(self, tag):
        return sum(name == tag for name, _ in self.found)


def written(results, **options):
    return write_report(results.path, **options).read_text("utf-8")


def test_everything_that_was_there_to_tell_is_told(results):
    results.add("cell_1", shape=(120, 120), warnings=["7 rows were left out"])
    results.add_failed("cell_2", "row 3: 'y [nm]' is no number")
    text = Elements(written(results)).text
    told = [
        *("cell_1", "cell_2", "1 of 2", "7 rows were left out", "row 3: 'y [nm]' is no number"),
        *(
            "80.0 nm",
            "60.0 nm",
            f"{MINUS}1.250",
            "Renderer → GaussianKDE",
            "sigma",
            "20.0",
            "2.4.0",
        ),
        *("Reconstructions of acquisitions", "In results"),
        "smlmkit reconstruct acquisitions results --pipeline kde.yaml",
    ]
    assert [words for words in told if words not in text] == []
    assert "/opt/venv" not in text


def test_nothing_is_loaded_from_elsewhere(results):
    results.add("cell", shape=(120, 120))
    for tag, attributes in Elements(written(results)).found:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert "style" not in attributes, "the security policy would ignore it"
        assert not any(name.startswith("on") for name in attributes)
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith(("#", "data:image/"))


def test_names_and_messages_are_text(make_results, tmp_path):
    pages = {}
    for kind, words in (("hostile", HOSTILE), ("harmless", "x")):
        results = make_results(tmp_path / kind)
        results.add(words, stem="a", shape=(120, 120), warnings=[words])
        results.add_failed(f"{words} too", f"error {words}", stem="b")
        results.write("run.json", {"parameters": {words: [words]}, "command": words})
        pages[kind] = Elements(written(results))
    hostile, harmless = ([tag for tag, _ in page.found] for page in pages.values())
    assert hostile == harmless
    assert pages["hostile"].text.count(HOSTILE) >= 6


def test_the_same_folder_gives_the_same_page(results):
    results.add("cell", shape=(120, 120))
    assert written(results) == written(results, overwrite=True)


def test_a_missing_image_is_a_problem_that_is_told(results):
    results.add("cell", shape=(120, 120), image="lost.ome.zarr")
    elements = Elements(written(results))
    assert "lost.ome.zarr" in elements.text
    assert "No picture" in elements.text
    assert not any("data-open" in attributes for _, attributes in elements.found)


def test_an_image_without_a_pyramid_is_shown(results):
    results.add("cell", shape=(1100, 600), pyramid=None)
    elements = Elements(written(results))
    assert elements.count("image") == 1
    assert "No picture" not in elements.text


def test_damaged_counts_leave_the_rest(results):
    results.add("cell", shape=(120, 120))
    (results.path / "records/cell.npz").write_bytes(b"no")
    elements = Elements(written(results))
    assert "cannot read the raw counts" in elements.text
    assert elements.count("image") == 1
    assert not any("data-open" in attributes for _, attributes in elements.found)
    assert any(attributes.get("id") == "curves-0" for _, attributes in elements.found)


def test_a_folder_in_which_all_failed_has_a_page(results):
    results.add_failed("cell", "torn")
    elements = Elements(written(results))
    assert "0 of 1" in elements.text
    assert not any(attributes.get("id") == "pictures" for _, attributes in elements.found)


def test_the_page_of_many_stays_within_its_budget(results, monkeypatch):
    for seed in range(3):
        results.add(f"cell_{seed}", shape=(300, 300), seed=seed)
    whole = len(written(results))
    monkeypatch.setattr(page, "_MOST_BYTES", 0.8 * whole)
    assert 0.6 * whole < len(written(results, overwrite=True)) < 0.8 * whole


def test_a_page_is_replaced_only_if_asked(results, tmp_path):
    results.add_failed("cell", "torn")
    path = write_report(results.path)
    assert path == results.path / "report.html"
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        write_report(results.path)
    assert path.read_text() == "mine"
    other = tmp_path / "other.html"
    assert write_report(results.path, other) == other
    assert write_report(results.path, overwrite=True).read_text() == other.read_text()


def test_a_folder_of_other_things_is_refused(tmp_path):
    with pytest.raises(FileFormatError, match="is it a folder of reconstructions"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_columns_say_what_records_say(results):
    results.add("cell", shape=(200, 300), density_per_um2=1234.5, median_uncertainty_nm=None)
    results.add_failed("torn", "torn")
    cell, torn = read_results(results.path).acquisitions
    texts = {column.name: column.text(cell) for column in COLUMNS}
    assert texts["Density"] == "1,234.5"
    assert texts["Median uncertainty in x"] == NOTHING
    assert texts["Area"] == "6.0"
    assert texts["Pixel size"] == "10"
    assert texts["FRC resolution, held out"] == "60.0"
    assert {column.text(torn) for column in COLUMNS} == {NOTHING}


def test_where_a_large_field_was_measured_is_told(results):
    results.add("whole", shape=(120, 130), measured_px=[0, 0, 120, 130])
    assert "Measured in" not in Elements(written(results)).text
    results.add("part", shape=(120, 130), measured_px=[0, 10, 120, 110])
    words = "Measured in the densest 120 \N{MULTIPLICATION SIGN} 100 pixels."
    assert words in Elements(written(results, overwrite=True)).text


def test_the_figures_are_over_all(results):
    for resolution, seed in ((30, 0), (50, 1), (90, 2)):
        curve = {"frequency_per_nm": [], "correlation": [], "resolution_nm": resolution}
        results.add(
            f"cell_{seed}",
            seed=seed,
            shape=(120, 120),
            localizations=1000,
            frc={"raw": curve, "held_out": curve},
            held_out_is_seen=seed == 0,
        )
    assert summarize(read_results(results.path).acquisitions) == [
        ("acquisitions reconstructed", "3 of 3"),
        ("localizations", "3,000"),
        ("median FRC resolution of 3 fields, raw", "50.0 nm"),
        ("median FRC resolution of 2 fields, held out", "70.0 nm"),
        ("median FRC resolution of 1 field, seen in training", "30.0 nm"),
    ]


def test_scores_that_were_seen_in_training_are_marked(results):
    results.add("unseen", shape=(120, 120), frc={"raw": None, "held_out": None})
    assert "seen in training" not in Elements(written(results)).text
    results.add("seen", shape=(120, 120), held_out_is_seen=True)
    text = Elements(written(results, overwrite=True)).text
    assert text.count("† 60.0") == text.count(f"† {MINUS}1.250") == 2, "in the table and the viewer"
    assert "† 80.0" not in text
    assert "FRC seen in training 60.0 nm" in text
    assert "60.0 nm seen in training" in text
    assert "which it never saw" not in text


def test_the_page_says_when_the_run_ended(results):
    results.add_failed("cell", "torn")
    assert "Run ended" not in Elements(written(results)).text
    event = '{"time": "2026-03-05T02:02:03.456+01:00", "event": "run ended"}'
    (results.path / "log.jsonl").write_text(event)
    assert "Run ended 2026-03-05 01:02 UTC" in Elements(written(results, overwrite=True)).text


def test_a_run_that_does_not_say_what_it_was_about_has_a_title(results):
    results.add_failed("cell", "torn")
    results.write("run.json", {"parameters": None})
    assert "Reconstructions in results" in Elements(written(results)).text


def test_the_command_writes_the_page(results):
    results.add_failed("cell", "torn")
    path = results.path / "report.html"
    run = CliRunner().invoke(report, [str(results.path)])
    assert (run.exit_code, run.output) == (0, f"{path}\n")
    assert path.exists()
    again = CliRunner().invoke(report, [str(results.path)])
    assert isinstance(again.exception, OutputError)
    assert CliRunner().invoke(report, [str(results.path), "--overwrite"]).exit_code == 0
    assert CliRunner().invoke(report, [str(results.path / "none")]).exit_code == 2


def test_the_policy_names_the_scripts_of_the_page_and_no_others(results):
    results.add_failed("cell", "torn")
    html = written(results)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    assert policy.count("sha256-") == 3
