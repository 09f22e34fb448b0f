from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

from carp.core.errors import ConfigErrors
from carp.daemon import jsonschema
from carp.daemon.configfile import UnreadableErrors, files, load, parse
from carp.daemon.yamlfile import FileError, UnreadableError


def _vhost(**changes: Any) -> dict[str, Any]:
    return {
        "name": "a",
        "vhid": 1,
        "interface": "eth0",
        "addresses": ["10.1.1.252"],
        "password": "love",
        **changes,
    }


def _text(name: str, vhid: int, address: str, *lines: str) -> str:
    fields = [
        f"name: {name}",
        f"vhid: {vhid}",
        "interface: eth0",
        f"addresses: [{address}]",
        "password: love",
    ]
    return "vhosts:\n  - " + "\n    ".join([*fields, *lines]) + "\n"


def _write(file: Path, text: str) -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    file.chmod(0o600)
    return file


def _errors(data: object) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        parse(data)
    return [str(error) for error in caught.value.errors]


def _load_errors(folder: Path) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        load(str(folder / "carp.yaml"))
    assert all(isinstance(error, FileError) for error in caught.value.errors)
    return [str(error).replace(f"{folder}/", "") for error in caught.value.errors]


def test_vhosts_come_in_their_order() -> None:
    """The list `vhosts` becomes settings, in order, without notes."""
    configs, notes = parse({"vhosts": [_vhost(), _vhost(name="b", vhid=2, addresses=["10.1.1.253"])]})
    assert ["a", "b"] == [config.name for config in configs]
    assert [] == notes


@pytest.mark.parametrize(
    ("data", "errors"),
    [
        (None, ["vhosts: is required: a list of at least one vhost"]),
        ({"vhosts": []}, ["vhosts: is required: a list of at least one vhost"]),
        ([], ["settings: a list is not a mapping of fields"]),
        ({"vhosts": {"password": "s3cret"}}, ["vhosts: a mapping is not a list"]),
        ({"vhosts": [_vhost()], "vhost": []}, ["vhost: is not a known field; did you mean vhosts?"]),
        ({"vhosts": [_vhost(vhid=0)]}, ["vhosts[0].vhid: 0 is not between 1 and 255"]),
    ],
)
def test_what_is_wrong_with_the_file_as_a_whole(data: object, errors: list[str]) -> None:
    """A missing list, another type and an unknown field are told; a mapping's content is not."""
    assert errors == _errors(data)


def test_all_errors_of_all_vhosts_at_once() -> None:
    """Errors of one vhost do not hide those of another, nor what stands twice elsewhere."""
    wrong = [
        _vhost(vhid=0, advskew=300),
        _vhost(),
        _vhost(name="b", addresses=["10.1.1.1"]),
        _vhost(vhid=256),
    ]
    assert [
        "vhosts[0].advskew: 300 is not between 0 and 254",
        "vhosts[0].vhid: 0 is not between 1 and 255",
        "vhosts[3].vhid: 256 is not between 1 and 255",
        "vhosts[1].name: 'a' is already used by vhost a",
        "vhosts[1].addresses[0]: '10.1.1.252' is already used by vhost a",
        "vhosts[2].vhid: 1 is already used by vhost a",
        "vhosts[3].name: 'a' is already used by vhost a",
        "vhosts[3].addresses[0]: '10.1.1.252' is already used by vhost a",
    ] == _errors({"vhosts": wrong})


@pytest.mark.parametrize(
    ("wrong", "mistakes", "clashes"),
    [
        ({"advskew": 300}, ["advskew"], ["name", "vhid", "addresses[0]", "addresses[1]"]),
        ({"name": "-"}, ["name"], ["vhid", "addresses[0]", "addresses[1]"]),
        ({"vhid": "1"}, ["vhid"], ["name", "addresses[0]", "addresses[1]"]),
        ({"interface": {"name": "eth0", "nme": 1}}, ["interface.nme"], ["name", "addresses[0]"]),
        ({"interface": None}, ["interface"], ["name", "addresses[0]"]),
        ({"addresses": ["x", "10.1.1.252", "x"]}, ["addresses[0]", "addresses[2]"],
         ["name", "vhid", "addresses[1]"]),
        ({"addresses": "10.1.1.252"}, ["addresses", "addresses"], ["name", "vhid"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_compared_too(
    wrong: dict[str, Any], mistakes: list[str], clashes: list[str]
) -> None:
    """What could be read of a vhost with mistakes clashes at once, whichever of the two stands first."""
    sound = _vhost(addresses=["10.1.1.252", "fe80::1"])
    found = [error.split(":")[0] for error in _errors({"vhosts": [sound, sound | wrong]})]
    assert [f"vhosts[1].{field}" for field in mistakes] == found[: len(mistakes)]
    assert [f"vhosts[1].{field}" for field in clashes] == found[len(mistakes) :]
    assert len(mistakes) + len(clashes) == len(_errors({"vhosts": [sound | wrong, sound]}))


def test_a_wrong_vhost_without_a_name_is_told_by_its_place() -> None:
    """The clash names the other vhost as well as it can."""
    found = _errors({"vhosts": [_vhost(name=7), _vhost(name="b", vhid=2)]})
    assert "vhosts[1].addresses[0]: '10.1.1.252' is already used by vhost vhosts[0]" == found[-1]


@pytest.mark.parametrize("item", [None, 7, "web", [], {}, [7], {"addresses": None}, {"interface": [7]}])
def test_an_item_that_is_no_vhost(item: Any) -> None:
    """It clashes with nothing."""
    assert not [error for error in _errors({"vhosts": [item, item, _vhost()]}) if "already used" in error]


@pytest.mark.parametrize(
    ("other", "errors"),
    [
        ({"name": "a"}, ["vhosts[1].name: 'a' is already used by vhost a"]),
        ({"vhid": 1}, ["vhosts[1].vhid: 1 is already used by vhost a"]),
        ({"vhid": 1, "interface": {"name": "eth0"}}, ["vhosts[1].vhid: 1 is already used by vhost a"]),
        ({"vhid": 1, "interface": "eth1"}, []),
        (
            {"addresses": ["10.1.1.1", "10.1.1.252/24"]},
            ["vhosts[1].addresses[1]: '10.1.1.252' is already used by vhost a"],
        ),
        ({"addresses": ["fe80::1"]}, ["vhosts[1].addresses[0]: 'fe80::1' is already used by vhost a"]),
        ({"addresses": ["fe80::1"], "interface": "eth1"}, []),
        (
            {"addresses": ["10.1.1.252"], "interface": "eth1"},
            ["vhosts[1].addresses[0]: '10.1.1.252' is already used by vhost a"],
        ),
    ],
)
def test_what_only_one_vhost_may_have(other: dict[str, Any], errors: list[str]) -> None:
    """Names, vhids of an interface and addresses are unique; link-local addresses per interface."""
    first = _vhost(addresses=["10.1.1.252", "fe80::1"])
    second = {**_vhost(name="b", vhid=2, addresses=["10.1.1.253"]), **other}
    if errors:
        assert errors == _errors({"vhosts": [first, second]})
    else:
        assert 2 == len(parse({"vhosts": [first, second]})[0])


def test_a_link_local_address_is_one_of_each_interface() -> None:
    """IPv6's alone: the kernel answers for an IPv4 address on every interface."""
    pair = [_vhost(addresses=["fe80::1"]), _vhost(name="b", interface="eth1", addresses=["fe80::1"])]
    assert 2 == len(parse({"vhosts": pair})[0])
    pair = [{**vhost, "addresses": ["169.254.1.1"]} for vhost in pair]
    assert ["vhosts[1].addresses[0]: '169.254.1.1' is already used by vhost a"] == _errors({"vhosts": pair})


def test_errors_of_one_file_have_lines(tmp_path: Path) -> None:
    """With one file: path, line, value and problem, in the order of the lines."""
    text = _text("a", 300, "10.1.1.252", "advskew: 255", "advskew: 300") + "other: 1\n"
    _write(tmp_path / "carp.yaml", text)
    assert [
        "vhosts[0].vhid (line 3): 300 is not between 1 and 255",
        "vhosts[0].advskew (line 8): stands twice in this mapping, first in line 7",
        "vhosts[0].advskew (line 8): 300 is not between 0 and 254",
        "other (line 9): is not a known field",
    ] == _load_errors(tmp_path)


def test_the_file_is_named_on_demand(tmp_path: Path) -> None:
    """For a log, errors of one file name it, too."""
    main = str(_write(tmp_path / "carp.yaml", _text("a", 300, "10.1.1.252")))
    with pytest.raises(ConfigErrors) as caught:
        load(main, named=True)
    assert f"{main}: vhosts[0].vhid (line 3): 300 is not between 1 and 255" == str(caught.value)


def test_a_folder_beside_the_file_is_merged(tmp_path: Path) -> None:
    """conf.d/*.yaml and *.yml follow the file, by name; hidden and other files do not count."""
    main = _write(tmp_path / "carp.yaml", "vhosts: []  # none of its own\n")
    for name, vhid in (("20.yaml", 2), ("10.yml", 1), (".30.yaml", 3), ("40.yaml~", 4), ("50.conf", 5)):
        _write(tmp_path / "conf.d" / name, _text(f"v{vhid}", vhid, f"10.1.1.{vhid}"))
    configs, notes = load(str(main))
    assert ["v1", "v2"] == [config.name for config in configs]
    assert [] == notes
    assert ["carp.yaml", "conf.d/10.yml", "conf.d/20.yaml"] == [
        os.path.relpath(file, tmp_path) for file in files(str(main))
    ]


def test_errors_of_several_files_name_the_file(tmp_path: Path) -> None:
    """With a folder each line begins with its file, and all files' errors come at once."""
    _write(tmp_path / "carp.yaml", _text("a", 1, "10.1.1.1"))
    _write(tmp_path / "conf.d" / "a.yaml", "vhosts: [\n")
    _write(tmp_path / "conf.d" / "b.yaml", _text("b", 0, "10.1.1.2"))
    _write(tmp_path / "conf.d" / "c.yaml", "\n" + _text("a", 1, "10.1.1.1"))
    (tmp_path / "conf.d" / "d.yaml").symlink_to("nowhere")
    first, *others = _load_errors(tmp_path)
    assert first.startswith("conf.d/a.yaml (line 2): is no YAML: ")
    assert [
        "conf.d/d.yaml: cannot be read: No such file or directory",
        "conf.d/b.yaml: vhosts[0].vhid (line 3): 0 is not between 1 and 255",
        "conf.d/c.yaml: vhosts[0].name (line 3): 'a' is already used by vhost a",
        "conf.d/c.yaml: vhosts[0].vhid (line 4): 1 is already used by vhost a",
        "conf.d/c.yaml: vhosts[0].addresses[0] (line 6): '10.1.1.1' is already used by vhost a",
    ] == [line.removesuffix(" (carp.yaml, line 2)") for line in others]
    assert others[-1].endswith(" (carp.yaml, line 2)")


def test_a_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    """The folder alone is no configuration, and what is not there is not said to be empty."""
    _write(tmp_path / "conf.d" / "a.yaml", _text("a", 1, "10.1.1.1"))
    assert ["carp.yaml: cannot be read: No such file or directory"] == _load_errors(tmp_path)
    (tmp_path / "conf.d" / "a.yaml").unlink()
    assert ["carp.yaml: cannot be read: No such file or directory"] == _load_errors(tmp_path)


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """Unknown is not empty: the vhosts in there must not vanish."""
    _write(tmp_path / "carp.yaml", _text("a", 1, "10.1.1.1"))
    (tmp_path / "conf.d").symlink_to("conf.d")
    (error,) = _load_errors(tmp_path)
    assert error.startswith("conf.d: cannot be read: ")


def test_a_folder_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    """A link to a folder that is not there, say on a disk not mounted yet, is no folder that is missing."""
    _write(tmp_path / "carp.yaml", _text("a", 1, "10.1.1.1"))
    (tmp_path / "conf.d").symlink_to("nowhere")
    assert ["conf.d: cannot be read: No such file or directory"] == _load_errors(tmp_path)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
@pytest.mark.parametrize("broken", ["carp.yaml", "a.pass", "conf.d"])
def test_what_cannot_be_read_is_no_wrong_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, broken: str
) -> None:
    """A disk that fails, for a file, a password file or the folder, has an error of its own."""
    _write(tmp_path / "a.pass", "love\n")
    text = _text("a", 1, "10.1.1.1").replace("password: love", f"passwordFile: {tmp_path / 'a.pass'}")
    main = _write(tmp_path / "carp.yaml", text)
    (tmp_path / "conf.d").mkdir()

    def refusing(real: Any) -> Any:
        def work(path: Path, *args: Any) -> Any:
            if path.name == broken:
                raise OSError(number, os.strerror(number))
            return real(path, *args)

        return work

    monkeypatch.setattr(Path, "open", refusing(Path.open))
    monkeypatch.setattr(Path, "iterdir", refusing(Path.iterdir))
    with pytest.raises(UnreadableErrors) as caught:
        load(str(main))
    (error,) = caught.value.errors
    assert isinstance(error, UnreadableError)
    assert f"cannot be read: {os.strerror(number)}" in str(error)


def test_a_wrong_path_and_wrong_content_are_the_users(tmp_path: Path) -> None:
    """What another attempt would not mend is no error of reading, alone or beside one."""
    main = _write(tmp_path / "carp.yaml", _text("a", 300, "10.1.1.1"))
    text = _text("b", 2, "10.1.1.2").replace("password: love", f"passwordFile: {tmp_path / 'nowhere'}")
    _write(tmp_path / "conf.d" / "b.yaml", text)
    with pytest.raises(ConfigErrors) as caught:
        load(str(main))
    assert not isinstance(caught.value, UnreadableErrors)
    assert not [error for error in caught.value.errors if isinstance(error, UnreadableError)]


def test_no_vhost_at_all_is_an_error(tmp_path: Path) -> None:
    """An emptied file does not take the addresses away without a word."""
    _write(tmp_path / "carp.yaml", "# gone\n")
    assert ["vhosts (line 1): is required: a list of at least one vhost"] == _load_errors(tmp_path)
    _write(tmp_path / "carp.yaml", "vhosts: []\n")
    assert ["vhosts: is required: a list of at least one vhost"] == _load_errors(tmp_path)


@pytest.mark.parametrize("text", ["", "# gone\n", "~\n", "{}\n", "vhosts:\n", "vhosts: ~\n"])
@pytest.mark.parametrize("emptied", ["carp.yaml", "conf.d/b.yaml"])
def test_a_file_that_does_not_say_its_vhosts(tmp_path: Path, emptied: str, text: str) -> None:
    """Unknown is not empty: after a save on a full disk its vhosts must not vanish. An explicit [] is."""
    for number, name in enumerate(("carp.yaml", "conf.d/a.yaml", "conf.d/b.yaml")):
        _write(tmp_path / name, _text(f"v{number}", number + 1, f"10.1.1.{number}"))
    _write(tmp_path / emptied, text)
    assert [f"{emptied}: vhosts (line 1): is required: a list, [] for none"] == _load_errors(tmp_path)
    _write(tmp_path / emptied, "vhosts: []\n")
    assert 2 == len(load(str(tmp_path / "carp.yaml"))[0])
    assert ["vhosts"] == jsonschema.schema()["required"]


def test_more_than_a_node_can_hold_is_an_error(tmp_path: Path) -> None:
    """510 are taken; one more, in whichever file, is an error with the limit and a place."""
    texts = [_text(f"v{n}", n % 255 + 1, f"10.1.{n // 250}.{n % 250 + 1}") for n in range(510)]
    texts = [text.replace("eth0", f"eth{n // 255}") for n, text in enumerate(texts)]
    file = _write(tmp_path / "carp.yaml", "vhosts:\n" + "".join(t.removeprefix("vhosts:\n") for t in texts))
    assert 510 == len(load(str(file))[0])
    _write(tmp_path / "conf.d" / "more.yaml", _text("more", 1, "10.9.1.1").replace("eth0", "eth9"))
    expected = ["conf.d/more.yaml: vhosts (line 1): 511 are more than 510 of one source"]
    assert expected == _load_errors(tmp_path)


def test_exposed_passwords_are_noted_once(tmp_path: Path) -> None:
    """A file with passwords, and a password file, that others can read are noted, each once."""
    secret = _write(tmp_path / "pass", "love\n")
    one = _text("a", 1, "10.1.1.1").replace("password: love", f"passwordFile: {secret}")
    two = _text("b", 2, "10.1.1.2").replace("password: love", f"passwordFile: {secret}")
    main = _write(tmp_path / "carp.yaml", one + two.removeprefix("vhosts:\n"))
    extra = _write(tmp_path / "conf.d" / "c.yaml", _text("c", 3, "10.1.1.3"))
    for file in (secret, main, extra):
        file.chmod(0o644)
    assert [
        f"{secret} can be read by others (mode 0644): chmod 600 {secret}",
        f"{extra} holds a password and can be read by others (mode 0644): chmod 600 {extra}",
    ] == load(str(main))[1]


def test_two_hundred_vhosts_load_quickly(tmp_path: Path) -> None:
    """200 vhosts of a file are there within 150 ms of this process's time."""
    entries = [
        _text(
            f"v{i}",
            i + 1,
            f"10.1.{i}.252, '2001:db8:{i}::252/64'",
            f"advskew: {i}",
            "preempt: {mode: Always}",
        )
        for i in range(200)
    ]
    main = _write(tmp_path / "carp.yaml", "vhosts:\n" + "".join(e.removeprefix("vhosts:\n") for e in entries))
    took = []
    for _ in range(3):
        began = time.process_time()
        assert 200 == len(load(str(main))[0])
        took.append(time.process_time() - began)
    assert min(took) < 0.15
