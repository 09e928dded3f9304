"""Names of dots never cover each other, a dot or a bar, and never leave the frame."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from reports import placing
from reports.placing import Box, Spot

SHARE = st.floats(0, 1)
SPOTS = st.lists(
    st.builds(
        Spot, SHARE, SHARE, st.just(("#1: a long name of a trial", "#1")),
        st.none() | st.tuples(SHARE, SHARE).map(lambda ends: (min(ends), max(ends))),
    ),
    max_size=12,
)  # fmt: skip
FRAME = Box(0, 0, 300, 250)


@given(SPOTS)
def test_nothing_overlaps_and_nothing_leaves_the_frame(spots: list[Spot]) -> None:
    placed = placing.place(spots, FRAME.right, FRAME.top)
    drawn = [placing.box(s, p, FRAME) for s, p in zip(spots, placed, strict=True) if p.text]
    for box in drawn:
        assert box.left >= 0
        assert box.bottom >= 0
        assert box.right <= FRAME.right
        assert box.top <= FRAME.top
    assert not any(a.meets(b) for a, b in itertools.combinations(drawn, 2))
    for spot in spots:
        middle = Box(spot.x * 300 - 1, spot.y * 250 - 1, spot.x * 300 + 1, spot.y * 250 + 1)
        assert not any(box.meets(middle) for box in drawn)


def test_a_dot_with_room_has_its_whole_name() -> None:
    (placed,) = placing.place([Spot(0.5, 0.5, ("#1: wide", "#1"))], 300, 250)
    assert placed == ("#1: wide", "top center")


def test_a_name_without_room_becomes_its_number_and_then_nothing() -> None:
    spot = Spot(0.5, 0.5, ("x" * 90, "#1"))
    assert placing.place([spot], 300, 250)[0].text == "#1"
    crowd = [spot._replace(names=("#1",))] * 30
    placed = placing.place(crowd, 60, 60)
    assert placed[0].text == "#1"
    assert placed[-1].text == ""


def test_no_name_is_struck_through() -> None:
    spot = Spot(0.5, 0.5, ("#1: wide",))
    lines = [(0.2, 0.57, 1.0, 0.57), (0.9, 0.1, 0.9, 0.9)]
    (placed,) = placing.place([spot], 300, 250, lines)
    assert placed.position == "bottom center"
    box = placing.box(spot, placed, FRAME)
    assert not box.meets(Box(60, 142, 300, 143))
