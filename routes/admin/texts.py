"""Texts for people: the translating functions with types, and messages translated far from where they stand."""

from typing import Any, Final

import flask_babel


def gettext(message: str, **values: object) -> str:
    """The message in the language of the request."""
    return str(flask_babel.gettext(message, **values))


def ngettext(one: str, many: str, number: int, **values: object) -> str:
    """The message for that number of things in the language of the request."""
    return str(flask_babel.ngettext(one, many, number, **values))


def lazy_gettext(message: str, **values: object) -> Any:
    """The message in the language of whoever will read it."""
    return flask_babel.lazy_gettext(message, **values)


def N_(message: str) -> str:  # noqa: N802 - the name by which message extractors know it
    """The message as it is; marks it for translation."""
    return message


# Services know no language. What they say is translated where it is answered, by the same words.
OF_SERVICES: Final = (
    N_("Answers of every kind."),
    N_("Code: precise, with room for long answers."),
    N_("Stories and ideas, with more variety."),
    N_("There is a configuration value with this key already."),
    N_("Give a new value too: a secret does not become readable."),
    N_("User registered successfully"),
    N_("Username already exists."),
    N_("Invalid registration data"),
    N_("Invalid login data"),
    N_("Invalid login data."),
    N_("Login successful"),
    N_("Incorrect username or password"),
    N_("Invalid or missing API key"),
    N_("Could not validate credentials"),
    N_("Your account may not sign in here: the login service does not call you staff."),
    N_("The login service knows you, but no account here is linked with yours; ask an admin."),
    N_("The login service does not answer as it should; please try again later."),
    N_("This account is disabled here; ask an admin."),
    N_("A user name has 1 to 150 characters, without spaces, quotes, slashes or angle brackets."),
    N_("A password needs 8 to 1024 characters."),
    N_("Too many people are signing in; please try again in a few seconds."),
    N_("The key was rotated at the same moment. Please look again."),
    N_("the provider's kind cannot list models"),
    N_("The database does not take this at the moment; please try again."),
    N_(
        "The time zone stays as it is while something is spent in this period: another one would begin a new period, "
        "from zero."
    ),
)

# The same of /api/v1.
OF_API_V1: Final = (
    N_("The request is malformed."),
    N_("There is nothing at this path."),
    N_("This path does not answer to this method."),
    N_("The request body is too large."),
    N_("The request body is too large: it may have %(count)s bytes."),
    N_("fields [%(names)s] are invalid"),
    N_("The API key is not valid."),
    N_("No API key was given: send it as `Authorization: Bearer YOUR_API_KEY`."),
    N_("The Authorization header must read `Bearer YOUR_API_KEY`."),
    N_("Only admins may do this."),
    N_("An API key may not do this: send the token that /login gives an admin."),
    N_("The gateway failed on this request; its id helps an admin to find out why."),
    N_("There is no such user."),
    N_("An amount is a whole number of tokens, at most 1000000000000 and not zero; a negative one is deducted."),
    N_("A reason is a text of at most 255 characters."),
    N_("A balance cannot hold so many tokens."),
    N_("This user has no balance that could be made smaller."),
    N_("The balance, less what calls under way hold of it, is smaller than that."),
    N_("A limit is a whole number of tokens from 0 to 1000000000000, or null for none."),
    N_("The body must have a `limit`: a number of tokens, or null for none."),
    N_("The body must be a JSON object."),
    N_("`skip` is a whole number up to 1000000, `limit` one up to 1000."),
)

# The same of /users, /usage, /models and of registering.
OF_PEOPLE: Final = (
    N_("Not authenticated"),
    N_("Not enough permissions"),
    N_("Only admins see what others use, with the token of /login."),
    N_("An API key may not do this: send the token that /login gives."),
    N_("The body must be a JSON object or a form."),
    N_("The body must have `current_password` and `new_password`."),
    N_("Invalid current password"),
    N_("Password updated successfully"),
    N_("Passwords are taken from the body only, as JSON or a form: a query ends up in logs."),
    N_("User not found"),
    N_("User already exists."),
    N_("This is the last admin; make another one first."),
    N_("You cannot do this to your own account; another admin can."),
    N_("`start_date` and `end_date` are days such as 2026-01-31."),
    N_("`end_date` is before `start_date`."),
    N_("Model not found"),
    N_("`model_endpoint` is required for this `model_type`."),
    N_("Registration is closed; ask an admin for an account."),
    N_("Registration needs an `invitation`; ask an admin for one."),
    N_("cannot be changed here"),
    N_("is not known here"),
    N_("The invitation is not valid: it is unknown, was used or has expired, or its maker may invite nobody any more."),
    N_("There is no such invitation."),
    N_("Nothing is stored of a call of this id."),
    N_("This account was erased; it stays for the books only."),
    N_("To erase an account, repeat its name in `username`. This cannot be undone."),
    N_("Registration is closed, so nobody could use it: set REGISTRATION=invite."),
)

# The same of signing in.
OF_SIGN_ON: Final = (
    N_("The sign-in service cannot be reached at the moment. Please try again in a while."),
    N_("The sign-in service did not let you in."),
    N_("The answer of the sign-in service cannot be trusted; the log says why. Please begin again."),
    N_("This sign-in was begun in another browser, took too long, or was used already. Please begin again."),
    N_(
        "Nobody here is linked with your identity, and this gateway makes no accounts by itself. If you have an "
        "account, sign in with its password and link it under “Your sign-in”; otherwise ask an admin for one."
    ),
    N_(
        "There is an account of your name here that is not linked with your identity. If it is yours, sign in with its "
        "password and link it under “Your sign-in”; otherwise ask an admin."
    ),
    N_("Your account here is disabled; ask an admin."),
    N_("This identity is linked with another account here."),
    N_("Your account is linked already; take that link away first."),
    N_("Your account has no password, so without the link you could not sign in any more."),
    N_("This code is wrong, or was used already."),
    N_("This account has a second factor: send a code of the authenticator app, or a recovery code, as `otp`."),
    N_("A second factor is required: sign in to the panel with a browser and set one up."),
    N_("Your second factor cannot be read any more; use a recovery code, or ask an admin to reset it."),
    N_("There is a second factor already; switch it off first."),
    N_("Nothing waits to be confirmed; please begin again."),
)

# WTForms' own messages, as far as our forms can cause them.
OF_FORMS: Final = (
    N_("This field is required."),
    N_("Not a valid choice."),
    N_("Invalid Choice: could not coerce."),
    N_("Not a valid integer value."),
    N_("Not a valid datetime value."),
    N_("Field must be between %(min)d and %(max)d characters long."),
    N_("Number must be at least %(min)s."),
    N_("Number must be at most %(max)s."),
    N_("Number must be between %(min)s and %(max)s."),
    N_("Invalid input."),
    N_("Answers of every kind."),
    N_("Code: precise, with room for long answers."),
    N_("Stories and ideas, with more variety."),
    N_("A preset cannot be changed; make an agent of your own."),
    N_("The answer could not be stored; it is not in the dialog."),
    N_("The body must have a `title`."),
    N_("The file cannot be imported; nothing of it was stored."),
    N_("There is an agent of this name already."),
    N_("There is no agent of this id."),
    N_("There is no dialog of this id."),
    N_("This dialog is being answered; send the next message when that has ended."),
    N_("You have as many agents as a user may have; delete one first."),
    N_("`content` must not have NUL characters."),
    N_("`model_name` is required: LLM_DEFAULT_MODEL is not set."),
)
