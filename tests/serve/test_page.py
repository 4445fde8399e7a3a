"""The page, its vendored files with their licences, and the sample."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.serve.conftest import predict

from unetpp.report.colors import THEME

ROOT = Path(__file__).parents[2]
WEB = ROOT / "src" / "unetpp" / "serve" / "web"
VENDOR = json.loads((WEB / "vendor" / "vendor.json").read_text(encoding="utf-8"))


def test_vendored_files_are_those_of_the_build() -> None:
    found = {path.name for path in (WEB / "vendor").iterdir()} - {"vendor.json"}
    assert found == set(VENDOR["files"])
    for name, digest in VENDOR["files"].items():
        assert hashlib.sha256((WEB / "vendor" / name).read_bytes()).hexdigest() == digest, "run make web"


@pytest.mark.parametrize("package", VENDOR["packages"], ids=lambda package: package["name"])
def test_every_vendored_package_has_its_licence(package: dict[str, str]) -> None:
    assert package["license"] in ("MIT", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0", "ISC")
    assert len((WEB / "vendor" / package["text"]).read_text(encoding="utf-8")) > 200


def test_the_versions_are_those_of_the_build() -> None:
    wanted = json.loads((ROOT / "web" / "package.json").read_text(encoding="utf-8"))["dependencies"]
    found = {package["name"]: package["version"] for package in VENDOR["packages"]}
    assert {name: found[name] for name in wanted} == wanted


def test_the_page_refers_to_what_is_there(client: TestClient) -> None:
    page = client.get("/").text
    paths = set(re.findall(r'(?:href|src)="(/web/[^"]+)"', page))
    for path in sorted(WEB.glob("*.js")):
        text = path.read_text(encoding="utf-8")
        paths |= {
            name if name.startswith("/") else f"/web/{name.removeprefix('./')}"
            for name in re.findall(r'from "([^"]+)"', text)
        }
        named = set(re.findall(r'\$\("([\w-]+)"\)', text))
        assert named <= set(re.findall(r'id="([\w-]+)"', page)), path.name
    for path in sorted(paths | {"/docs", "/favicon.ico"}):
        answer = client.get(path)
        assert answer.status_code == 200 and answer.content, path


def test_nothing_is_fetched_from_elsewhere() -> None:
    for path in [*WEB.glob("*.js"), *WEB.glob("*.html"), *WEB.glob("*.css")]:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|innerHTML|document\.write|eval\(", text), path.name


def test_the_colors_are_those_of_the_report(client: TestClient) -> None:
    style = client.get("/web/theme.css").text
    for name, (light, dark) in THEME.items():
        assert f"--{name}: {light};" in style and f"--{name}: {dark};" in style


def test_the_sample_is_predicted(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "sample.png").write_bytes(client.get("/v1/sample").content)
    assert predict(client, tmp_path / "sample.png")["state"] == "done"
    assert client.get("/v1/sample?dims=3").content[:2] == b"\x1f\x8b"
    assert client.get("/v1/sample?dims=4").status_code == 422
