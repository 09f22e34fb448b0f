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


def test_copies_of_the_whole() -> None:
    """Annotations in which tools keep the object as it was applied go, whatever else is hidden in it."""
    notes = {"objectset.rio.cattle.io/applied": "H4sI", "kapp.k14s.io/original": "{}", "kept": "x"}
    assert {"kept": "x"} == cleaned(named("a", metadata={"annotations": notes}))["metadata"]["annotations"]


def test_keys_of_a_config_map() -> None:
    """Of a ConfigMap only the keys stay: a carp.yaml may have passwords in it."""
    shown = cleaned(
        {"kind": "ConfigMap", "data": {"carp.yaml": "password: x"}, "binaryData": {"blob": "eA=="}}
    )
    assert {"kind": "ConfigMap", "keys": ["blob", "carp.yaml"]} == shown


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"http": {"url": "https://10.1.1.9/x?key=abc"}}, {"http": {"url": f"https://10.1.1.9/x?{GONE}"}}),
        ({"http": {"url": "http://u:p@10.1.1.9/"}}, {"http": {"url": f"http://{GONE}@10.1.1.9/"}}),
        ({"http": {"url": "http://[::1]:80/healthz"}}, {"http": {"url": "http://[::1]:80/healthz"}}),
        ({"httpGet": {"path": "/x?key=abc"}}, {"httpGet": {"path": f"/x?{GONE}"}}),
        ({"exec": {"command": ["ask", "-p", "abc"]}}, {"exec": {"command": ["ask", GONE]}}),
        ({"exec": {"command": ["ask"]}}, {"exec": {"command": ["ask"]}}),
        ({"exec": {"properties": {"command": {"type": "array"}}}},) * 2,
        ({"db-password": "abc", "apiKey": ["a", "b"]}, {"db-password": GONE, "apiKey": [GONE, GONE]}),
        ({"secrets": [{"name": "a", "token": "abc"}]}, {"secrets": [{"name": "a", "token": GONE}]}),
        ({"passwordRef": "web.1", "secretName": "s", "secretRef": {"name": "s", "key": "k"}},) * 2,
        ({"automountServiceAccountToken": False, "secret": {"defaultMode": 420}},) * 2,
        (
            {"httpHeaders": [{"name": "Authorization", "value": "Basic abc"}]},
            {"httpHeaders": [{"name": "Authorization", "value": GONE}]},
        ),
        (
            {"httpHeaders": [{"name": "X-Auth", "value": "abc"}]},
            {"httpHeaders": [{"name": "X-Auth", "value": GONE}]},
        ),
        (
            {"env": [{"name": "HTTP_PROXY", "value": "http://u:p@10.1.1.9:3128"}]},
            {"env": [{"name": "HTTP_PROXY", "value": f"http://{GONE}@10.1.1.9:3128"}]},
        ),
        (
            {"message": "GET https://u:p@a/x?key=abc: 500, see http://b/c"},
            {"message": f"GET https://{GONE}@a/x?{GONE} 500, see http://b/c"},
        ),
    ],
)
def test_where_secrets_stand(data: dict[str, object], expected: dict[str, object]) -> None:
    """Queries of URLs, arguments of commands and values with a telling name go; references stay."""
    assert {"spec": [expected]} == cleaned({"spec": [data]})


@pytest.mark.parametrize("kind", ["containers", "initContainers", "ephemeralContainers"])
@pytest.mark.parametrize(
    ("container", "expected"),
    [
        (
            {"command": ["carp", "daemon", "--socket=/run/s", "--pass=abc", "--json"]},
            {"command": ["carp", "daemon", "--socket=/run/s", f"--pass={GONE}", "--json"]},
        ),
        (
            {"command": ["carp"], "args": ["-p", "abc", "-pabc", "-P"]},
            {"command": ["carp"], "args": ["-p", GONE, f"-p{GONE}", "-P"]},
        ),
        ({"command": ["carp", "--pass"], "args": ["abc"]}, {"command": ["carp", "--pass"], "args": [GONE]}),
        (
            {"command": ["sh", "-c", "mysql -pabc"], "args": ["x"]},
            {"command": ["sh", GONE], "args": [GONE]},
        ),
        ({"args": ["--password=abc"]}, {"args": [GONE]}),
        (
            {"command": ["carp-agent", "--api-server=https://u:p@10.1.1.9"]},
            {"command": ["carp-agent", f"--api-server=https://{GONE}@10.1.1.9"]},
        ),
        ({"image": "x"}, {"image": "x"}),
    ],
)
def test_command_lines(kind: str, container: dict[str, object], expected: dict[str, object]) -> None:
    """Our programs keep their options without passwords, of others only the name is told."""
    assert {kind: [expected]} == cleaned({kind: [container]})
