"""Pages behind the login: home, profile, change of password, logout."""

from __future__ import annotations

from starlette.responses import Response

from mailbot.credentials import describe, describe_login_id
from mailbot.registration import choices, consents, login, password, profile
from mailbot.registration.outcomes import MemberView, Refused
from mailbot.web.cookies import session_name
from mailbot.web.visit import Visit


def _member(visit: Visit) -> MemberView:
    assert visit.member is not None
    return visit.member


def _must_change(visit: Visit) -> bool:
    """Whether this session may do nothing but set a new password."""
    return _member(visit).scope != "member"


async def home(visit: Visit) -> Response:
    if _must_change(visit):
        return visit.go("password")
    name = ""
    if visit.society.pages.home_name:
        name = await profile.own_name(visit.ctx, visit.society, _member(visit).member_id)
    changed = visit.request.query_params.get("changed") == "1"
    return visit.page("home.html", place="home", own_name=name, changed=changed)


async def log_out(visit: Visit) -> Response:
    assert visit.session_token is not None
    await login.log_out(visit.ctx, visit.society, visit.session_token)
    visit.drop_cookie(session_name(visit.society.id))
    return visit.go("login?out=1")


# --- consents ---------------------------------------------------------------------------------------------------------


async def agreed(visit: Visit) -> Response:
    """What the member agreed to, and when."""
    if _must_change(visit):
        return visit.go("password")
    found = await consents.agreed(visit.ctx, visit.society, _member(visit).member_id)
    return visit.page("consents.html", agreed=found)


# --- password ---------------------------------------------------------------------------------------------------------

_PASSWORDS = ("old", "new", "again")


async def ask_password(visit: Visit) -> Response:
    return _password_page(visit)


async def change_password(visit: Visit) -> Response:
    if "show" in visit.form:
        return _password_page(visit, shown=True)
    old, new, again = (visit.form.get(name, "") for name in _PASSWORDS)
    assert visit.session_token is not None
    result = await password.change(
        visit.ctx, visit.society, _member(visit).member_id, old, new, again, visit.session_token, visit.now
    )
    if isinstance(result, Refused):
        return _password_page(visit, result)
    visit.set_cookie(session_name(visit.society.id), result.session_token)
    return visit.go("home?changed=1")


def _password_page(visit: Visit, refused: Refused | None = None, *, shown: bool = False) -> Response:
    return visit.page(
        "password.html",
        status=refused.status if refused else 200,
        complaints=refused.complaints if refused else (),
        values={name: visit.form.get(name, "") for name in _PASSWORDS} if shown else {},
        shown=shown,
        place="password",
        rules=describe(visit.society.password, visit.society.label("password.new")),
        expired=_must_change(visit),
    )


# --- profile ----------------------------------------------------------------------------------------------------------


async def ask_profile(visit: Visit) -> Response:
    if _must_change(visit):
        return visit.go("password")
    return await _profile_page(visit)


async def update_profile(visit: Visit) -> Response:
    if _must_change(visit):
        return visit.go("password")
    result = await profile.update(
        visit.ctx, visit.society, _member(visit).member_id, visit.form, visit.network, visit.now
    )
    if isinstance(result, Refused):
        return await _profile_page(visit, result)
    return visit.go("profile?saved=1")


async def _profile_page(visit: Visit, refused: Refused | None = None) -> Response:
    """After a refusal everything typed and ticked stays; the current password does not."""
    society, form = visit.society, visit.form
    view = await profile.view(visit.ctx, society, _member(visit).member_id, visit.now)
    slots = range(1, society.profile.addresses + 1)
    if refused is None:
        values = {"login_id": view.login_id, "nickname": view.nickname}
        values |= {f"address_{slot}": "" for slot in slots}
        values |= {f"address_{one.slot}": one.address for one in view.addresses}
        values |= {f"address_{one.slot}": one.address for one in view.pending}
        ticked = {f"wanted.{name}" for name, on in view.wanted.items() if on}
        ticked |= {f"disclosure.{name}" for name, on in view.disclosure.items() if on}
        ticked |= {f"pin_{one.slot}" for one in view.addresses if one.pin}
        empty = set(slots).difference(one.slot for one in view.addresses)
        ticked |= {f"pin_{slot}" for slot in view.pin_wishes & empty}
    else:
        values = {name: form.get(name, "") for name in ("login_id", "nickname", *(f"address_{s}" for s in slots))}
        ticked = {f"wanted.{choice.id}" for choice in society.profile.wanted if f"wanted.{choice.id}" in form}
        ticked |= {
            f"disclosure.{choice.id}"
            for choice in society.profile.disclosure
            if form.get(f"disclosure.{choice.id}") == "yes"
        }
        ticked |= {f"{name}_{slot}" for name in ("pin", "prove") for slot in slots if f"{name}_{slot}" in form}
    return visit.page(
        "profile.html",
        status=refused.status if refused else 200,
        complaints=refused.complaints if refused else (),
        values=values,
        place="profile",
        view=view,
        slots=slots,
        pending={one.slot: one for one in view.pending},
        unreachable={one.slot: one.address for one in view.addresses if one.unreachable},
        ticked=ticked,
        id_rules=describe_login_id(society.login_id, society.label("profile.login-id"), choices.reserved(society)),
        saved=visit.request.query_params.get("saved") == "1",
    )
