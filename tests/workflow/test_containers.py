"""The promised command in a real container, and the images that it runs in."""

import pytest

pytestmark = pytest.mark.containers


def test_image(apptainer, image):
    assert image.is_file()
