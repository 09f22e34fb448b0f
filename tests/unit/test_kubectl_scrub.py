from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from carp_operator.kubectl.scrub import GONE, Scrubber, cleaned, values
from kubectlfix import named, secret

PLAIN = 'tr0ub4dor&3"ä'
MANY = "-----BEGIN KEY-----\nMIIEowIBAAKCAQEA\n-----END KEY-----\n"


@pytest.mark.parametrize(
    "written",
    [
        PLAIN,
        base64.b64encode(PLAIN.encode()).decode(),
        json.dumps({"a": PLAIN}),
        json.dumps({"a": PLAIN}, ensure_ascii=False),
        json.dumps(json.dumps({"a": PLAIN})),
        quote(PLAIN, safe=""),
        PLAIN.encode().hex(),
        f"before{PLAIN}after",
    ],
)
def test_forms(written: str) -> None:
    """A value is found as it is and as programs repeat it."""
    found = Scrubber(values([secret("s", password=PLAIN)])).text(f"log: {written}!")
    assert GONE in found
    for form in (PLAIN, "tr0ub4dor", base64.b64encode(PLAIN.encode()).decode(), PLAIN.encode().hex()):
        assert form not in found


def test_lines_of_a_longer_value() -> None:
    """A log shows a key line by line; each line is found, whole or escaped."""
    scrubber = Scrubber(values([secret("s", key=MANY)]))
    for text in (MANY, json.dumps(MANY), "x MIIEowIBAAKCAQEA y"):
        assert "MIIEowIBAAKCAQEA" not in scrubber.text(text)


def test_closing_line_end() -> None:
    """What `--from-file` keeps of an editor's line end is no reason to miss the value."""
    assert f"p={GONE}" == Scrubber(values([secret("s", a="hunter22\n")])).text("p=hunter22")


def test_short_values_are_words() -> None:
    """A value of few characters is replaced where it stands alone: the rest stays readable."""
    scrubber = Scrubber(values([secret("s", a="love")]))
    assert f"pass {GONE}, glove" == scrubber.text("pass love, glove")


def test_bytes_that_are_no_text() -> None:
    """Values and contents may be any bytes."""
    scrubber = Scrubber(values([secret("s", a=b"\xff\x00\xfe\x01secret")]))
    assert b"\xf0 (removed)\xf1" == scrubber.data(b"\xf0 \xff\x00\xfe\x01secret\xf1")
    assert b"(removed)" == scrubber.data(base64.b64encode(b"\xff\x00\xfe\x01secret"))


def test_what_is_no_secret() -> None:
    """Broken data is passed over; a service account's namespace and authority stay readable."""
    account = {
        **secret("t", namespace="carp-system", token="e.y.J"),
        "type": "kubernetes.io/service-account-token",
    }
    broken = named("b", data={"a": "!", "b": 7}, stringData={"c": "plain-one"})
    assert {"e.y.J", "plain-one"} == values([account, broken, named("empty", data={"a": ""})])


def test_nothing_to_hide() -> None:
    """Without values nothing changes."""
    assert "as it was" == Scrubber().text("as it was")


def test_cleaned() -> None:
    """Of a Secret only its keys stay; variables with a telling name lose their values; noise goes."""
    note = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "kept": "x"}
    meta = {"annotations": note, "managedFields": [1]}
    shown = cleaned({**secret("s", b="1", a="2"), "kind": "Secret", "metadata": {"name": "s", **meta}})
    assert {"metadata": {"name": "s", "annotations": {"kept": "x"}}, "kind": "Secret", "type": "Opaque"} == {
        key: value for key, value in shown.items() if key != "keys"
    }
    assert ["a", "b"] == shown["keys"]
    env = [{"name": "DB_PASSWORD", "value": "x"}, {"name": "HOME", "value": "/"}, {"name": "TOKEN"}]
    found = cleaned({"spec": {"containers": [{"name": "main", "env": env}]}})["spec"]["containers"][0]["env"]
    assert [
        {"name": "DB_PASSWORD", "value": GONE},
        {"name": "HOME", "value": "/"},
        {"name": "TOKEN"},
    ] == found
