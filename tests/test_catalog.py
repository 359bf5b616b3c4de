"""What a selector means. Ids below are times of day on 20 November 2026."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mirror import Mirror

from snapmirror import clock
from snapmirror.errors import Forgotten, SelectorError
from snapmirror.store.catalog import Catalog
from snapmirror.store.records import DirectoryState, Entry, Pin, Record, RepoState, Tombstone, encode

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def at(hour: int, day: int = 20) -> str:
    return f"202611{day:02}T{hour:02}0000Z"


def sealed(id_: str, *repos: str, number: int = 1, partial: bool = False) -> Record:
    state = DirectoryState(digest="0" * 64, since=id_, read=id_)
    return Record(
        id=id_,
        number=number,
        partial=partial,
        repos={path: RepoState(kind="conda", directories={"noarch": state}) for path in repos},
    )


def forgotten(id_: str, *repos: str, number: int = 1, partial: bool = False) -> Tombstone:
    return Tombstone(id=id_, number=number, partial=partial, forgotten=at(11), repos=list(repos))


def catalog(*entries: Entry, **pins: str) -> Catalog:
    named = {name: Pin(name=name, snapshot=id_, set=at(1)) for name, id_ in pins.items()}
    return Catalog(tuple(sorted(entries, key=lambda entry: entry.id)), named)


def test_current_dates_and_times_mean_the_newest_snapshot_at_or_before_them() -> None:
    found = catalog(sealed(at(1, 18), "a"), sealed(at(1), "a"), sealed(at(5), "a"))
    for selector, id_ in {
        "current": at(5),
        "2026-11-20": at(5),
        "2026-11-19": at(1, 18),
        "2026-11-18": at(1, 18),
        at(3): at(1),
        at(5): at(5),
        "20261120T045959Z": at(1),
    }.items():
        assert found.resolve(selector, "a", NOW).id == id_, selector


@pytest.mark.parametrize(
    ("selector", "why"),
    [
        ("2026-11-17", "no snapshot of a at or before"),
        ("20261120T130000Z", "not come yet"),
        ("2026-11-22", "not begun anywhere"),
        ("2026-13-01", "neither"),
        ("yesterday", "neither"),
        ("20261131T000000Z", "neither"),
    ],
)
def test_a_selector_that_names_nothing_says_why(selector: str, why: str) -> None:
    with pytest.raises(SelectorError, match=why):
        catalog(sealed(at(1), "a")).resolve(selector, "a", NOW)


def test_tomorrow_has_begun_somewhere_once_it_is_ten_in_the_morning() -> None:
    found = catalog(sealed(at(1), "a"))
    assert found.resolve("2026-11-21", "a", NOW).id == at(1)
    with pytest.raises(SelectorError, match="not begun"):
        found.resolve("2026-11-21", "a", datetime(2026, 11, 20, 9, 59, 59, tzinfo=UTC))


def test_an_exact_id_and_a_pin_answer_only_for_the_repos_of_their_own_record() -> None:
    found = catalog(sealed(at(1), "a", "b"), sealed(at(2), "a", partial=True), paper=at(2))
    assert found.resolve("paper", "a", NOW).id == at(2)
    for selector in (at(2), "paper"):
        with pytest.raises(SelectorError, match="does not hold b"):
            found.resolve(selector, "b", NOW)
    assert found.resolve("20261120T030000Z", "b", NOW).id == at(1)  # a time passes over the partial one


def test_a_complete_record_without_the_repo_is_the_answer_that_it_is_gone() -> None:
    found = catalog(sealed(at(1), "a", "b"), sealed(at(2), "a"))
    with pytest.raises(SelectorError, match="does not hold b"):
        found.resolve("current", "b", NOW)


def test_a_forgotten_snapshot_never_comes_to_mean_an_older_one() -> None:
    found = catalog(sealed(at(1), "a"), forgotten(at(2), "a"), sealed(at(4), "a"))
    for selector in (at(2), at(3)):
        with pytest.raises(Forgotten, match=f"{at(1)} and {at(4)}") as raised:
            found.resolve(selector, "a", NOW)
        assert (raised.value.before, raised.value.after) == (at(1), at(4))
    assert found.resolve("current", "a", NOW).id == at(4)


def test_what_current_or_a_pin_means_for_any_repo_is_protected() -> None:
    found = catalog(sealed(at(1), "a", "b"), sealed(at(2), "a", partial=True), sealed(at(3), "a", partial=True), paper=at(2))
    assert set(found.protected()) == {at(1), at(2), at(3)}


def test_a_snapshot_that_is_a_second_ahead_of_the_clock_is_current() -> None:
    """Two syncs in one second: the second one's id is one second ahead."""
    assert catalog(sealed("20261120T120001Z", "a")).resolve("current", "a", NOW).id == "20261120T120001Z"


def test_a_selector_may_take_its_repos_from_several_snapshots() -> None:
    """What came in late under an old date, say; `show` and `diff` see all of it, and `pin` asks which one."""
    found = catalog(
        sealed(at(1, 18), "a", "b"), sealed(at(5, 18), "c", partial=True), sealed(at(1), "a", "b", "c"), paper=at(1)
    )
    seen = found.view("2026-11-18", NOW)
    assert (seen.id, sorted(seen.repos)) == (at(5, 18), ["a", "b", "c"])
    assert {path: repo.directories["noarch"].read for path, repo in seen.repos.items()} == {
        "a": at(1, 18),
        "b": at(1, 18),
        "c": at(5, 18),
    }
    with pytest.raises(SelectorError, match=f"several snapshots.*{at(1, 18)}, {at(5, 18)}"):
        found.single("2026-11-18", NOW)
    for selector in ("current", "paper", "2026-11-20", at(1)):
        assert found.view(selector, NOW) == found.single(selector, NOW) == found.by_id[at(1)], selector
    assert sorted(found.view(at(5, 18), NOW).repos) == ["c"]
    with pytest.raises(SelectorError, match="at or before"):
        found.view("2026-11-17", NOW)


def test_what_is_compared_says_that_a_repo_was_forgotten() -> None:
    """Else it would look like one that was not there yet."""
    found = catalog(sealed(at(1), "a"), forgotten(at(2), "b/c", partial=True), sealed(at(3), "a", "b/c"))
    assert list(found.forgotten(at(2), NOW)) == ["b/c"]
    assert sorted(found.view("20261120T023000Z", NOW).repos) == ["a"]
    for only in ("", "b", "b/c"):
        with pytest.raises(Forgotten):
            found.pair("20261120T023000Z", "current", only, NOW)
    for old, only in (("20261120T023000Z", "a"), (at(1), ""), ("20261120T013000Z", "")):
        assert [record.id for record in found.pair(old, "current", only, NOW)] == [at(1), at(3)], old
    with pytest.raises(Forgotten):  # and not that it does not hold the first of all repos
        found.view(at(2), NOW)


@pytest.mark.parametrize("year", [1, 33, 999])
def test_ids_of_years_before_1000_sort_as_their_times_do(year: int) -> None:
    instant = datetime(year, 3, 1, 2, 4, 5, tzinfo=UTC)
    id_ = clock.to_id(instant)
    assert (len(id_), clock.from_id(id_)) == (16, instant)
    assert id_ < at(1)


@pytest.mark.parametrize("selector", ["\u0662\u0660\u0660\u06600101T000000Z", "2026112\u0660T010000Z"])
def test_digits_of_other_scripts_are_no_date(selector: str) -> None:
    """Compared as texts they would come after every id, and mean `current`."""
    found = catalog(sealed(at(1), "a"))
    assert not found.is_selector(selector)
    with pytest.raises(SelectorError, match="neither"):
        found.resolve(selector, "a", NOW)


def test_a_record_is_written_so_that_people_and_diff_can_read_it() -> None:
    written = encode(sealed(at(1), "a", "b")).decode()
    assert written == json.dumps(json.loads(written), indent=1, sort_keys=True) + "\n"


def test_a_pin_that_has_the_name_of_a_new_repo_can_be_removed(mirror: Mirror) -> None:
    """As the message says that stops everything else."""
    mirror.sync()
    mirror.run("pin", "extra", "current")
    mirror.add("extra", mirror.repos[0]["upstream"])
    assert "snapmirror unpin extra" in mirror.sync(status=2).err
    mirror.run("unpin", "extra")
    mirror.sync()
    assert set(mirror.record().repos) == {"chan", "extra"}


entries = st.lists(
    st.tuples(st.integers(0, 23), st.sets(st.sampled_from("abc"), min_size=1), st.booleans(), st.booleans()), max_size=12
)


@settings(deadline=None)
@given(entries, st.sampled_from("abc"), st.integers(0, 23), st.integers(0, 23), st.booleans())
def test_a_later_snapshot_changes_no_answer_that_was_given(
    drawn: list[tuple[int, set[str], bool, bool]], repo: str, hour: int, later: int, partial: bool
) -> None:
    """Promise 1: what a time up to the repo's newest record answers stays, whatever is sealed after it."""
    made: dict[str, Entry] = {}
    for moment, repos, is_partial, gone in drawn:
        make = forgotten if gone else sealed
        made[at(moment)] = make(at(moment), *sorted(repos), partial=is_partial)
    before = catalog(*made.values())
    newest = max((entry.id for entry in before.entries if repo in entry.repos), default="")
    if not newest or at(hour) > newest or at(later) <= max(made):
        return
    after = catalog(*made.values(), sealed(at(later), "a", "b", "c", partial=partial))
    present = clock.from_id("20261120T235959Z")
    assert present

    def answer(found: Catalog) -> str:
        try:
            return found.resolve(at(hour), repo, present).id
        except Forgotten as error:
            return f"forgotten {error.snapshot}"
        except SelectorError:
            return "nothing"

    assert answer(after) == answer(before)
