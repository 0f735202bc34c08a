"""Steps as data: what a society's journeys may look like, and how letters pause."""

from pathlib import Path
from typing import Any

import pytest

from mailbot.config import Journey, Society
from mailbot.config.journey import Formula
from mailbot.registration import choices, consents, steps
from mailbot.registration.outcomes import Field
from mailbot.registration.steps.temporary_login import pause_ms

MINUTE = 60_000


def society(**journeys: dict[str, Any]) -> Society:
    return Society.model_validate(
        {
            "id": "sixth",
            "name": "第六健康保険組合",
            "addresses": {
                "robot": "info@sixth.example",
                "registration": "touroku@sixth.example",
                "bounce": "bounce@sixth.example",
            },
            "help": [{"kind": "phone", "name": "窓口", "value": "03-0000-0000"}],
            "journeys": journeys,
        }
    )


GOOD = {"starts": ["blank-mail"], "steps": ["temporary-login", "credentials"]}


def test_the_usual_journey_has_no_problem() -> None:
    assert (
        steps.problems(society(paper=GOOD, page={**GOOD, "starts": ["page"], "requires_address_on_file": True})) == []
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"steps": ["temporary-login", "credentails"]},
            "no step is called 'credentails'; there are: confirm-by-mail",
        ),
        ({"steps": []}, "a journey needs steps"),
        ({"starts": []}, "journeys.paper.starts: a journey needs a start"),
        ({"steps": ["credentials"]}, "the first step must prove who it is; 'credentials' proves nothing"),
        ({"steps": ["temporary-login"]}, "the last step must register the member; 'temporary-login' does not"),
        ({"steps": ["temporary-login", "credentials", "credentials"]}, "a step stands twice"),
        ({"steps": ["credentials", "temporary-login"]}, "'temporary-login' is a proof and can only come first"),
        ({"starts": ["page"]}, "requires_address_on_file must be true"),
    ],
)
def test_problems_name_key_and_reason(change: dict[str, Any], says: str) -> None:
    found = steps.problems(society(paper={**GOOD, **change}))
    assert any(says in text for text in found)
    assert all("journeys.paper" in text for text in found)


def test_all_problems_at_once() -> None:
    found = steps.problems(society(one={**GOOD, "steps": ["x", "y"]}, two={**GOOD, "steps": []}))
    assert len(found) == 3


WITHOUT_FIELDS = {"show-key", "mailed-link", "review"}
FORMULA = {"login_id": "7-{symbol:3}{number:6}"}


@pytest.mark.parametrize("name", sorted(steps.STEPS))
def test_every_step_offers_fields_with_labels(name: str) -> None:
    sixth = society(paper=GOOD).model_copy(update={"formula": Formula.model_validate(FORMULA)})
    fields = steps.STEPS[name].fields(sixth, sixth.journeys["paper"])
    assert bool(fields) == (name not in WITHOUT_FIELDS)
    assert len({one.name for one in fields}) == len(fields)
    assert all(sixth.label(one.label) for one in fields)
    assert steps.STEPS[name].name == name


def test_the_rules_stand_before_the_fields_they_are_checked_by() -> None:
    fields = {one.name: one for one in _credentials()}
    assert any("12文字以上" in hint for hint in fields["password"].hint)
    assert any("数字8文字" in hint for hint in fields["login_id"].hint)


def _credentials() -> tuple[Field, ...]:
    sixth = society(paper=GOOD)
    return steps.STEPS["credentials"].fields(sixth, sixth.journeys["paper"])


def test_a_step_is_of_one_kind() -> None:
    for name, step in steps.STEPS.items():
        kinds = (steps.ProofStep, steps.FormStep, steps.ShownStep, steps.WaitingStep)
        of = [kind for kind in kinds if isinstance(step, kind)]
        assert len(of) == 1 or (steps.WaitingStep in of and steps.LinkedStep in type(step).__mro__), name
        assert (steps.proof_step(name) is not None) == (of == [steps.ProofStep])
    assert steps.proof_step("no-such") is None
    assert steps.form_step("no-such") is None


@pytest.mark.parametrize(
    ("failures", "minutes"),
    [(1, 0), (9, 0), (10, 30), (11, 0), (20, 60), (30, 120), (60, 960), (70, 1440), (90, 1440), (99, 0), (100, None)],
)
def test_pauses(failures: int, minutes: int | None) -> None:
    assert pause_ms(failures, strict=False) == (None if minutes is None else minutes * MINUTE)


@pytest.mark.parametrize(("failures", "minutes"), [(4, 0), (5, 30), (10, 60), (49, 0), (50, None), (70, None)])
def test_pauses_where_no_mail_comes_first(failures: int, minutes: int | None) -> None:
    assert pause_ms(failures, strict=True) == (None if minutes is None else minutes * MINUTE)


def test_a_journey_is_plain_data() -> None:
    assert Journey.model_validate(GOOD).steps == ("temporary-login", "credentials")


FORMULA = {"login_id": "7-{symbol:3}{number:6}"}
TEXTS = [{"id": "privacy", "title": "個人情報", "version": "1", "read_to_end": True}]
TAIL = ["consent", "settings", "review", "confirm-by-mail"]
INSURED: dict[str, Any] = {"starts": ["page"], "steps": ["formula-login", *TAIL], "login_id": "formula"}
FAMILY: dict[str, Any] = {"starts": ["page"], "steps": ["insurance-details", *TAIL], "login_id": "address"}


def with_texts(journey: dict[str, Any], **more: Any) -> Society:
    made = society(one=journey).model_dump(exclude_unset=True)
    return Society.model_validate({**made, "formula": FORMULA, "consents": TEXTS, **more})


BRIEF = {**FAMILY, "steps": ["insurance-details", "settings", "confirm-by-mail"]}


@pytest.mark.parametrize("journey", [INSURED, FAMILY, BRIEF])
def test_journeys_that_end_behind_a_mail_have_no_problem(journey: dict[str, Any]) -> None:
    assert steps.problems(with_texts(journey)) == []


@pytest.mark.parametrize(
    ("journey", "more", "says"),
    [
        (INSURED, {"formula": None}, "needs the table [formula]"),
        ({**INSURED, "starts": ["web-form"]}, {}, "starts with a page"),
        ({**INSURED, "login_id": "chosen"}, {}, "'settings' asks for none"),
        ({**FAMILY, "login_id": "formula"}, {}, "begin with 'formula-login'"),
        ({**INSURED, "steps": ["formula-login", "consent", "credentials"]}, {}, "'settings' must ask for it"),
        ({**FAMILY, "steps": ["insurance-details", "settings", "credentials"]}, {}, "ends with 'confirm-by-mail'"),
        ({**FAMILY, "steps": ["insurance-details", "confirm-by-mail"]}, {}, "the password that 'settings' took"),
        ({**FAMILY, "steps": ["insurance-details", "review", "settings", "confirm-by-mail"]}, {}, "'review' stands"),
        (FAMILY, {"consents": []}, "needs texts: [[consents]]"),
        (FAMILY, {"consents": [*TEXTS, *TEXTS]}, "two texts are called 'privacy'"),
    ],
)
def test_journeys_that_cannot_end_say_why(journey: dict[str, Any], more: dict[str, Any], says: str) -> None:
    found = steps.problems(with_texts(journey, **more))
    assert any(says in text for text in found), found
    assert all("journeys.one" in text for text in found)


def test_texts_to_agree_to_must_be_there(tmp_path: Path) -> None:
    made = with_texts(FAMILY)
    folder = tmp_path / "societies" / made.id / "pages" / "consents"
    folder.mkdir(parents=True)
    (missing,) = consents.problems({made.id: made}, [tmp_path])
    assert "societies/sixth/pages/consents/privacy-1.html is missing" in missing
    bad = (("<p>{{ member }}</p>", "'member' is undefined"), ("{% if %}", "privacy-1.html"), ("", "is empty"))
    for text, says in bad:
        (folder / "privacy-1.html").write_text(text, "utf-8")
        (found,) = consents.problems({made.id: made}, [tmp_path])
        assert says in found
        (folder / "privacy-1.html").unlink()
    (folder / "privacy-1.html").write_text("<p>{{ society.name }}</p>", "utf-8")
    assert consents.problems({made.id: made}, [tmp_path]) == []


@pytest.mark.parametrize("typed", ["7-012000345", "７０１２０００３４５", "hanako@phone.example"])
def test_nobody_chooses_what_makes_somebody_else_s_login_id(typed: str) -> None:
    found = choices.login_id(with_texts(FAMILY), typed, "login_id", "ログインID")
    assert any("ほかの方のために空けて" in one.text for one in found)
    assert choices.login_id(with_texts(FAMILY), "hanako-k", "login_id", "ログインID") == []
