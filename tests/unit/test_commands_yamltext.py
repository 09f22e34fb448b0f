from __future__ import annotations

from typing import Any

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from carp.commands.yamltext import dump
from fakecarpd import answer, backup, vhost

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9, width=32) | st.text()
_DATA = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


@given(_DATA)
@example([{"": {"x" * 1025: [{"y" * 1024: {"z": 1}}], "é" * 200: {}}}])
def test_a_yaml_reader_gets_the_same_data(data: Any) -> None:
    """Whatever JSON can hold comes back from an independent reader."""
    assert data == yaml.safe_load(dump(data))


def test_a_status_reads_well() -> None:
    """Mappings and lists are in block style, with plain keys."""
    text = dump(answer(vhost(), backup("dns")))
    assert '\n  - name: "web"\n    source: "file"\n' in text
    assert text.endswith("interfaces: []\nlinks: []\n")
    assert answer(vhost(), backup("dns")) == yaml.safe_load(text)
