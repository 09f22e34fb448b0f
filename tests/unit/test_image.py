from __future__ import annotations

import importlib.util
import io
import json
import re
import subprocess
import sys
import tarfile
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from tree import ROOT

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

WANTED = "carp-operator[operator]"
ARM64 = re.compile(r"-(py3-none-any|(cp313-cp313|cp3\d+-abi3)-manylinux\w*_aarch64(\.\w+)*)\.whl$")


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / "image.d" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


locked, image = _load("locked"), _load("image")


@pytest.fixture(scope="module")
def lock() -> dict[str, Any]:
    """Return the lock of the tree."""
    return tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))


def test_the_image_has_what_uv_would_install(lock: dict[str, Any]) -> None:
    """The requirements are those that uv itself exports, with the same versions and hashes."""
    uv = ROOT / ".venv" / "bin" / "uv"
    options = [
        "--frozen",
        "--extra",
        "operator",
        "--no-dev",
        "--no-emit-project",
        "--no-header",
        "--no-annotate",
    ]
    text = subprocess.run(
        [uv, "export", *options], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.replace("\\\n", " ")
    exported = {
        line.split("==")[0]: set(line.split()[0:1]) | _hashes(line) for line in text.splitlines() if line
    }
    ours = {
        line.split("==")[0]: set(line.split()[0:1]) | _hashes(line)
        for line in locked.requirements(lock, WANTED)
    }
    assert exported == ours


def _hashes(line: str) -> set[str]:
    return {word for word in line.split() if word.startswith("--hash=")}


def test_every_wheel_exists_for_arm64(lock: dict[str, Any]) -> None:
    """Each locked package has a wheel that a 64-bit ARM machine with the image's Python installs."""
    names = {line.split("==")[0] for line in locked.requirements(lock, WANTED)} - {"win-inet-pton"}
    lacking = [
        package["name"]
        for package in lock["package"]
        if package["name"] in names
        and not any(
            ARM64.search(wheel["url"]) or "-py2.py3-none-any" in wheel["url"] for wheel in package["wheels"]
        )
    ]
    assert [] == lacking


@pytest.mark.parametrize("copies", [0, 2])
def test_a_package_is_there_once(copies: int) -> None:
    """A lock that holds a package never or twice is refused by its name."""
    entry = {"name": "thing", "version": "1", "source": {"registry": "x"}, "wheels": [{"hash": "sha256:0"}]}
    with pytest.raises(ValueError, match=f"uv.lock holds thing {copies} times"):
        locked.requirements({"package": [entry] * copies}, "thing")


def test_markers_are_kept() -> None:
    """What is needed on some systems only is required there only; without a condition wins."""
    source = {"registry": "x"}
    files = {"version": "1", "source": source, "wheels": [{"hash": "sha256:0"}]}
    needs = [{"name": "win", "marker": "sys_platform == 'win32'"}, {"name": "all"}]
    packages = [
        {"name": "top", **files, "dependencies": needs},
        {"name": "win", **files},
        {"name": "all", **files, "dependencies": [{"name": "win"}]},
    ]
    lines = locked.requirements({"package": packages}, "top")
    assert "win==1 --hash=sha256:0" == lines[-1]
    lines = locked.requirements({"package": [packages[0], packages[1], {"name": "all", **files}]}, "top")
    assert "win==1 ; (sys_platform == 'win32') --hash=sha256:0" == lines[-1]


def test_the_dockerfile_agrees_with_the_tree() -> None:
    """Version and licence of the labels are the project's; what is copied is let through to the build."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"ARG VERSION={project['version']}\n" in text
    assert f'licenses="{project["license"]}"' in text
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        word for line in re.findall(r"^COPY (?!--)(.+) \S+$", text, re.MULTILINE) for word in line.split()
    }
    assert copied == allowed
    assert "USER 65532:65532" in text


def test_another_content_has_another_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The archives' folder is named by everything that the image is made of."""
    for name in image._CONTEXT:
        (tmp_path / name).write_text(name, encoding="ascii")
    for folder in image._FOLDERS:
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(image, "ROOT", tmp_path)
    names = [image.fingerprint()]
    (tmp_path / "carp" / "x.py").write_text("1", encoding="ascii")
    names.append(image.fingerprint())
    (tmp_path / "carp" / "__pycache__").mkdir()
    (tmp_path / "carp" / "__pycache__" / "x.pyc").write_text("1", encoding="ascii")
    assert names[1] == image.fingerprint() != names[0]


def test_sizes_are_those_of_the_layers(tmp_path: Path) -> None:
    """The first layer is the base's, the others are ours."""
    archive = tmp_path / "image.tar"
    files = {"a.tar": b"x" * 10, "b.tar": b"x" * 3, "c.tar": b"x" * 4}
    files["manifest.json"] = json.dumps([{"Layers": ["a.tar", "b.tar", "c.tar"]}]).encode()
    with tarfile.open(archive, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    assert image.Sizes(10, 7) == image.sizes(archive)
