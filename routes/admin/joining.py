"""The page where somebody with an invitation, or anybody where registration is open, makes an account of their own.

The link of an invitation carries its code behind `#`, which browsers send to nobody, so that no log has it.
"""

from http import HTTPStatus
from typing import Any, Final

from flask import redirect, render_template, request, url_for
from wtforms.validators import EqualTo, InputRequired, Length, Optional

from routes import auth, wording
from routes.admin.forms import PanelForm, SecretField, TextField
from routes.admin.guard import person
from routes.admin.signin import HOME, bp, enter
from routes.admin.texts import gettext, lazy_gettext
from services.errors import GatewayError, InvalidRequest, PermissionDenied, TooManyAttempts
from services.invitations import MAX_CODE
from services.passwords import MAX_CHARS, MIN_CHARS
from utils.extensions import gateway

_ = lazy_gettext

MAX_NAME: Final = 150


class Joining(PanelForm):
    """What a new account needs."""

    invitation = TextField(_("Invitation"), [Optional(), Length(1, MAX_CODE)])
    username = TextField(_("User name"), [InputRequired(), Length(1, MAX_NAME)])
    password = SecretField(
        _("Password"),
        [InputRequired(), Length(MIN_CHARS, MAX_CHARS)],
        description=_("At least %(count)s characters.", count=MIN_CHARS),
    )
    again = SecretField(
        _("Password again"), [InputRequired(), EqualTo("password", _("The two passwords are not the same."))]
    )


@bp.route("/join", methods=["GET", "POST"])
def join() -> Any:
    """The form, and the account that it makes; whoever has made one is signed in."""
    mode = gateway().config.registration_mode
    if request.method == "GET" and person() is not None:
        return redirect(url_for(HOME))
    if mode == "closed":
        return render_template("admin/join.html", form=None), HTTPStatus.FORBIDDEN
    form = Joining(request.form if request.method == "POST" else None)
    if request.method == "GET":
        return render_template("admin/join.html", form=form, mode=mode)
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    if form.validate():
        try:
            return _join(form, mode)
        except TooManyAttempts as exc:
            status = HTTPStatus.TOO_MANY_REQUESTS
            said = gettext("Too many tries. Please wait %(seconds)s s.", seconds=exc.retry_after_s or 1)
            form.form_errors.append(said)
        except (InvalidRequest, PermissionDenied) as exc:
            _refuse(form, exc)
    return render_template("admin/join.html", form=form, mode=mode), status


def _join(form: Joining, mode: str) -> Any:
    name, password, code = form.username.data, form.password.data, form.invitation.data or None
    if code is None and mode == "invite":
        raise PermissionDenied("Registration needs an `invitation`; ask an admin for one.", param="invitation")
    here = gateway()
    here.accounts.register(name, password, auth.address(), code)
    here.audit.note(auth.actor(name), "user_register", "user", name)
    return enter(here.accounts.sign_in(name, password, auth.address()), url_for(HOME))


def _refuse(form: Joining, exc: GatewayError) -> None:
    """Beside the field that the error is about."""
    errors = form[exc.param].errors if exc.param is not None and exc.param in form else form.form_errors
    errors.append(wording.say(str(exc)))
