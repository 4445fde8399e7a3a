from __future__ import annotations

from pathlib import Path

from PIL import Image

from tests.data.images import RGB
from unetpp.formats.readers import open_image


def test_a_photograph_is_read_as_its_camera_held_it(tmp_path: Path) -> None:
    photograph = Image.fromarray(RGB)
    exif = photograph.getexif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    photograph.save(tmp_path / "a.jpg", exif=exif)
    assert open_image(tmp_path / "a.jpg").shape == (3, 9, 6)
