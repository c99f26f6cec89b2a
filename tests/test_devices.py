"""What comes of an image is the same on one device and on many that share a batch's images."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest


@pytest.fixture(scope="module")
def one(tmp_path_factory, pytestconfig):
    return found_on(1, tmp_path_factory.mktemp("one"), pytestconfig.rootpath)


@pytest.fixture(scope="module")
def eight(tmp_path_factory, pytestconfig):
    return found_on(8, tmp_path_factory.mktemp("eight"), pytestconfig.rootpath)


def found_on(devices, folder, root):
    """What `tests.sharing` finds on so many simulated devices."""
    on_devices(devices, root, "-m", "tests.sharing", str(folder / "found"), str(folder))
    return json.loads((folder / "found").read_text())


def on_devices(count, root, *program):
    """What a program of Python tells on so many simulated devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
    environment = os.environ | {"XLA_FLAGS": flags}
    done = subprocess.run([sys.executable, *program], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("devices", [1, 3])
def test_devices_share_images_and_none_waits_for_another(devices, pytestconfig):
    program = "import json; from tests.sharing import shares; print(json.dumps(shares()))"
    found = json.loads(on_devices(devices, pytestconfig.rootpath, "-c", program))
    each = 24 // devices
    assert found["rows"] == [each] * 24
    assert found["steps"] == [(row // each + 1) * each for row in range(24)]  # until a device's own last row is done
    assert found["rows of four"] == [4] * 4  # which three cannot share
    assert found["sum"] == 24


@pytest.mark.slow
@pytest.mark.parametrize("how", ["beam", "drawn", "consensus", "one", "some", "explained"])
def test_captions_are_those_of_one_device(one, eight, how):
    assert (one["devices"], eight["devices"]) == (1, 8)
    for of_one, of_eight in zip(one["written"][how], eight["written"][how], strict=True):
        assert [text for text, *_ in of_one] == [text for text, *_ in of_eight]
        np.testing.assert_allclose([told for _, *told in of_one], [told for _, *told in of_eight], rtol=1e-5)
    assert len({str(of_one) for of_one in one["written"][how]}) == len(one["written"][how])  # each image is seen


@pytest.mark.slow
def test_scores_and_features_are_those_of_one_device(one, eight):
    np.testing.assert_allclose(eight["seen"], one["seen"], rtol=1e-2)  # from features and from pixels, in 16 bits
    assert eight["scores"] == pytest.approx(one["scores"], rel=1e-5)
    assert eight["captions"] == one["captions"]
