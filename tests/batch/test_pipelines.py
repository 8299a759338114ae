import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.pipeline import Pipeline, make_pipeline

from smlmkit import (
    GaussianKDE,
    LocalizationFilter,
    N2NReconstructor,
    Renderer,
)
from smlmkit.errors import FileFormatError, ModelFileError
from smlmkit.pipelines import read_pipeline
from smlmkit.testing import example_fovs

TINY = {"depth": 1, "width": 2, "patch_size": 16, "max_samples": 8, "batch_size": 4}


@pytest.fixture
def write(tmp_path):
    """Write a file and give its path."""

    def write_text(text):
        path = tmp_path / "p.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_text


@pytest.fixture(scope="module")
def fitted():
    return N2NReconstructor(**TINY, device="cpu", random_state=0).fit(example_fovs())


def test_a_pipeline_makes_the_image_that_the_same_steps_make(write):
    path = write(
        "# smooth\n"
        "- LocalizationFilter:\n"
        "    x: [null, 900]\n"
        "- Renderer: {pixel_size: 2.5e1, mode: histogram}\n"
        "- GaussianKDE: {sigma: 40}\n"
    )
    fov = example_fovs()[0]
    same = make_pipeline(LocalizationFilter(x=(None, 900)), Renderer(25), GaussianKDE(40))
    image = read_pipeline(path).fit(fov).transform(fov)
    np.testing.assert_array_equal(image, same.fit(fov).transform(fov))


@pytest.mark.parametrize("text", ["- Renderer", "- Renderer:", "- Renderer: {}", "- 'Renderer'"])
def test_a_step_without_parameters_has_its_defaults(write, text):
    (step,) = read_pipeline(write(text))
    assert repr(step) == repr(Renderer())


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *[("1e-3", 1e-3), ("1.5", 1.5), (".5", 0.5), ("-7", -7), ("010", 10), ("+1.", 1.0)],
        *[("null", None), ("~", None), ("9" * 400, float("inf"))],
    ],
)
def test_numbers_are_those_of_yaml_1_2(write, text, number):
    (step,) = read_pipeline(write(f"- LocalizationFilter: {{x: [{text}, null]}}"))
    assert step.ranges["x"] == [number, None]
    assert type(step.ranges["x"][0]) is type(number)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("no", "no"), ("1:30", "1:30"), ("2020-01-01", "2020-01-01"), ("'12'", "12")],
        *[("0x1F", "0x1F"), ("true", True), ("FALSE", False), ("{a: [1, b]}", {"a": [1, "b"]})],
    ],
)
def test_words_and_constants_are_those_of_yaml_1_2(write, text, value):
    path = write(f"- Renderer: {{pixel_size: {text}}}")
    with pytest.raises(FileFormatError, match=re.escape(f"got {value!r}")):
        read_pipeline(path)


def test_a_trained_model_is_found_beside_the_file(write, fitted, tmp_path):
    fitted.save(tmp_path / "m.smlmkit")
    path = write("- N2NReconstructor: {model: m.smlmkit, tta: true, device: cpu}")
    pipeline = read_pipeline(path)
    fov = example_fovs()[1]
    expected = fitted.predict(fov)
    assert pipeline[-1].tta
    pipeline[-1].set_params(tta=False)
    np.testing.assert_array_equal(pipeline.predict(fov), expected)


def test_a_network_without_a_model_is_yet_to_be_trained(write):
    (network,) = read_pipeline(write("- N2NReconstructor: {width: 4, learning_rate: 1e-3}"))
    assert not hasattr(network, "networks_")
    assert network.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- Renderer\n- GaussianKDE: {sgma: 3}\n", "line 2, step 2 (GaussianKDE): .*'sgma'.*sigma"),
        ("- Renderer: {pixel_size: big}", "step 1 (Renderer): pixel_size must be .* got 'big'"),
        ("- Renderer: {pixel_size: -1}", "step 1 (Renderer): pixel_size must be .* got -1"),
        ("- LocalizationFilter: {x: 3}", "step 1 (LocalizationFilter): .*x.*3"),
        ("- Renderer: [1]", "step 1: the parameters of Renderer must be a mapping, got [1]"),
        ("- Renderer: {pixel_size: 1, pixel_size: 2}", "given twice: pixel_size"),
        ("- Renderer: {[a]: 1}", "a name must be a word"),
        ("- {Renderer: {}, GaussianKDE: {}}", "expected one name of a class"),
        ("- 3", "step 1: expected one name"),
        ("- Rendrer", "step 1 (Rendrer): smlmkit has no transformer of this name.*Renderer"),
        ("- Localizations", "no transformer of this name"),
        ("- load_model: {path: /etc/passwd}", "no transformer of this name"),
        ("- os.system: {command: ls}", "no transformer of this name"),
        ("- __version__", "no transformer of this name"),
        ("- FRCScorer", "no transformer of this name"),
        ("- DynamicHalves", "no transformer of this name"),
        ("- N2NReconstructor\n- GaussianKDE", "must be the last step"),
        ("- N2NReconstructor: {model: 3}", "model must be the name of a file, got 3"),
        ("- N2NReconstructor: {model: a, width: 3}", "width: a trained model has its own"),
        ("- N2NReconstructor: {width: 0}", "step 1 (N2NReconstructor): .*width"),
        ("Renderer: {}", "expected a list of steps"),
        ("", "expected a list of steps"),
        ("[]", "expected a list of steps"),
        ("- Renderer\n---\n- Renderer", "not readable as a pipeline"),
        ("- !!python/object/apply:os.system ['ls']", "line 1: a tag"),
        ("- Renderer: {pixel_size: !!float 3}", "line 1: a tag"),
        ("- &a Renderer", "line 1: a tag, an anchor"),
        ("- Renderer\n- *a", "line 2: a tag, an anchor or an alias"),
        ("- [[[[[[[[[[]]]]]]]]]]", "nested more than 8 levels deep"),
        ("- Renderer: {", "not readable as a pipeline"),
        (b"- \xff\xfe", "not readable as a pipeline"),
        ("- " + "a" * 70_000, "larger than 65,536 bytes"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name_and_place(write, text, message):
    path = write(text)
    pattern = re.escape(message).replace(r"\.\*", ".*")
    with pytest.raises(FileFormatError, match=pattern) as caught:
        read_pipeline(path)
    assert str(caught.value).startswith(str(path))


def test_a_missing_model_is_named(write, tmp_path):
    path = write("- N2NReconstructor: {model: gone.smlmkit}")
    with pytest.raises(ModelFileError, match=r"p\.yaml, line 1.*gone\.smlmkit"):
        read_pipeline(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileFormatError, match=r"gone\.yaml: cannot be read: No such file"):
        read_pipeline(tmp_path / "gone.yaml")


@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(alphabet="-: {}[]&*!|>'\"\n#%@`,?abRenderer0.e", max_size=80).map(str.encode),
    )
)
def test_any_bytes_are_a_pipeline_or_an_error_that_names_the_file(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "p.yaml"
    path.write_bytes(content)
    with suppress(FileFormatError):
        assert isinstance(read_pipeline(path), Pipeline)


def test_reading_a_pipeline_of_renderers_loads_no_torch(write):
    path = write("- Renderer\n- GaussianKDE")
    program = (
        f"import sys; from smlmkit.pipelines import read_pipeline; read_pipeline({str(path)!r}); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    assert done.stdout.strip() == "False"
