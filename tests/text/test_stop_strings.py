"""Is a growing text cut where the whole is, and is no more of it held back than may matter?"""

from dialocpp.text.stop_strings import StopStrings, cut
from hypothesis import given
from hypothesis import strategies as st


@given(st.text("abc", max_size=30), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.data())
def test_pieces_are_cut_where_the_whole_is(text: str, strings: list[str], data: st.DataObject) -> None:
    def before_the_first(come: str) -> str:
        return come[: min((come.find(s) for s in strings if s in come), default=len(come))]

    assert cut(text, strings) == before_the_first(text)
    stops, shown, come = StopStrings(strings), "", ""
    while come != text and not stops.found:  # the text ends with the piece that completes a stop string
        size = data.draw(st.integers(1, len(text) - len(come)))
        shown += stops.push(text[len(come) : len(come) + size])
        come = text[: len(come) + size]
        assert before_the_first(come).startswith(shown), "nothing is shown that would have to be taken back"
        assert stops.found == any(s in come for s in strings)
        held = len(come) - len(shown)
        assert stops.found or held < max(map(len, strings), default=1), "no more is held back than can matter"
    assert stops.push(text[len(come) :]) == "" if stops.found else come == text
    assert shown + stops.flush() == before_the_first(come)
