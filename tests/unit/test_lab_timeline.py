"""The drawings: text, table and picture."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from carp.lab.timeline import Event, Kind, Row, Span, columns, render, svg, table

SPANS = [
    Span("n1", 0, 5, Kind.OWNER),
    Span("n1", 5, 10, Kind.DOWN),
    Span("n2", 0, 10, Kind.READY),
    Span("n2", 8, 10, Kind.OWNER),
    Span("client", 0, 10, Kind.ANSWERED),
    Span("client", 6.0, 6.001, Kind.LOST),
]


def test_the_stronger_stretch_shows() -> None:
    """An owner's stretch shows over the ready one beneath it."""
    assert [Kind.READY] * 8 + [Kind.OWNER] * 2 == columns("n2", SPANS, 10, 10)


def test_a_short_outage_is_seen() -> None:
    """One lost millisecond still fills a column."""
    assert Kind.LOST == columns("client", SPANS, 10, 10)[6]


def test_columns_of_nothing() -> None:
    """Before any time has passed all columns are empty."""
    assert [None, None] == columns("n1", SPANS, 0, 2)


def test_text() -> None:
    """A ruler, a line per lane, and the number of the event under its column."""
    lines = render(["n1", "n2"], SPANS, [Event(5, "killed")], until=10, width=24)
    assert "0s" in lines[0]
    assert "n1  ██████████xxxxxxxxxx" == lines[1]
    assert "n2  ················████" == lines[2]
    assert " " * 14 + "1" == lines[3]


def test_colour_only_when_asked() -> None:
    """Escape sequences appear on a terminal alone."""
    plain = render(["n1"], SPANS, [], until=10)
    assert "\x1b" not in "".join(plain)
    assert "\x1b[32m█" in "".join(render(["n1"], SPANS, [], until=10, colour=True))


def test_row_judges_its_bounds() -> None:
    """A row names each bound it did not meet, with the figure and the bound."""
    assert () == Row("kill", 3000, 2999, 0, 3230, 0).problems
    (late,) = Row("kill", 3300, 3299, 0, 3230, 0).problems
    assert "kill: outage 3300 ms (3299 answers lost) is over 3230 ms" == late
    (both,) = Row("kill", 0, 0, 0.5, 0, 0.3).problems
    assert "kill: two owners for 0.500 s, over 0.30 s" == both
    assert Row("term", 0, 1, 0, 0, 0.3).problems


def test_table_lines_up() -> None:
    """Columns are as wide as their widest cell; a row over its bound says so."""
    lines = table([Row("kill", 3000, 2999, 0, 3230, 0), Row("stop", 7, 5, 0, 0, 0.3)])
    assert "fault   outage    bound  answers lost  two owners   bound" == lines[0]
    assert "kill   3000 ms  3230 ms          2999     0.000 s  0.00 s  ok" == lines[2]
    assert lines[3].endswith("OVER")


def test_picture_is_well_formed() -> None:
    """The SVG parses, has a rectangle per stretch, and quotes its texts."""
    text = svg(["n1", "n2", "client"], SPANS, [Event(5, "a < b")], until=10)
    root = ET.fromstring(text)
    assert len(SPANS) + len(Kind) + 1 == len([each for each in root if each.tag.endswith("rect")])
    assert any("a < b" in (each.text or "") for each in root)


def test_numbers_do_not_touch() -> None:
    """Two events of one column have their numbers side by side with a space between."""
    assert render([], [], [Event(1, "a"), Event(1.1, "b")], until=10, width=24)[-1].endswith("1 2")
