"""The bad cable in user space: its decisions."""

from __future__ import annotations

from carp.lab.link import Cable, Quality


def send(cable: Cable, count: int, now: float = 0.0) -> None:
    """Put numbered frames in for side 1."""
    for number in range(count):
        cable.push(1, b"%d" % number, now)


def test_a_good_cable_passes_at_once() -> None:
    """Without faults frames come out in order, at once, on their side."""
    cable = Cable(0)
    send(cable, 3)
    assert [(1, b"0"), (1, b"1"), (1, b"2")] == cable.due(0.0)
    assert cable.deadline() is None


def test_delay() -> None:
    """A delayed frame comes out when it is due and not before."""
    cable = Cable(0)
    cable.quality = Quality(delay_ms=20)
    send(cable, 1, now=5.0)
    assert 5.02 == cable.deadline()
    assert [] == cable.due(5.019)
    assert [(1, b"0")] == cable.due(5.02)


def test_loss_is_seeded() -> None:
    """About the wanted share is lost, the same frames for the same seed."""
    results = []
    for _ in range(2):
        cable = Cable(7)
        cable.quality = Quality(loss=25)
        send(cable, 1000)
        results.append(cable.due(0.0))
    assert results[0] == results[1]
    assert 700 < len(results[0]) < 800


def test_duplicates() -> None:
    """Every frame twice at 100 percent."""
    cable = Cable(0)
    cable.quality = Quality(duplicate=100)
    send(cable, 2)
    assert [b"0", b"0", b"1", b"1"] == [frame for _, frame in cable.due(0.0)]


def test_jitter_reorders() -> None:
    """With jitter frames overtake each other and none is lost."""
    cable = Cable(1)
    cable.quality = Quality(delay_ms=1, jitter_ms=10)
    send(cable, 20)
    out = [int(frame) for _, frame in cable.due(1.0)]
    assert out != sorted(out)
    assert set(range(20)) == set(out)
