import pytest

from assay.core.prompt_template import fill_places, place_passages_in, places_exactly


def test_braces_in_values_stay_as_they_are() -> None:
    assert fill_places("{a} and {b}", {"a": "{b}", "b": "{x}"}) == "{b} and {x}"


def test_passages_are_numbered_and_a_question_without_them_is_bare() -> None:
    template = "{passages}\n\nQ: {question}"
    assert place_passages_in(template, "Why?", []) == "Why?"
    shown = place_passages_in(template, "Why {passages}?", ["One.", "Two."])
    assert shown == "[1] One.\n\n[2] Two.\n\nQ: Why {passages}?"


@pytest.mark.parametrize(
    "template", ["{question}", "{question} {passages} {passages}", "{question} {passages} {x}", ""]
)
def test_a_template_has_each_place_once(template: str) -> None:
    with pytest.raises(ValueError, match=r"must have \{passages\}, \{question\} once each"):
        places_exactly("passages", "question")(template)


def test_a_good_template_is_itself() -> None:
    assert places_exactly("a")("see {a}, not {}") == "see {a}, not {}"
