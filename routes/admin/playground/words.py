"""What static/playground.js says; `{name}` is put in by it."""

from typing import Any, Final

from routes.admin.texts import lazy_gettext

_ = lazy_gettext

WORDS: Final[dict[str, Any]] = {
    "again": _("Answer again"),
    "assistant": _("Assistant"),
    "bad_number": _("{name} is not a number that fits."),
    "bad_other": _("Other members must be a JSON object. {problem}"),
    "bad_picture": _("{name} is no picture that models read: PNG, JPEG, GIF or WebP."),
    "bad_tools": _("Tools must be a JSON list of functions, each with a name. {problem}"),
    "bad_variable": _("The value of {name} is not JSON. {problem}"),
    "cancel": _("Cancel"),
    "code": _("View code"),
    "copied": _("Copied"),
    "copy": _("Copy"),
    "cut": _("The answer broke off: the connection ended before it was whole."),
    "cut_by_limit": _("cut at max_tokens"),
    "dropped": _("The provider was not sent: {names}."),
    "edit": _("Edit"),
    "empty": _("Write a message first."),
    "failed": _("The gateway refused this."),
    "first": _("first token {time}"),
    "input": _("{count} in"),
    "kept": _("Kept as the dialog “{title}”. Programs go on with it through /api/v1/dialogs."),
    "large_picture": _("{name} has {size}; a picture may have {most}."),
    "loaded": _("Loaded from the call {id}. Nothing is sent before you send it."),
    "long_variable": _("{name} may have {count} characters."),
    "missing_variable": _("Fill in {name} first; the prompt requires it."),
    "most": _("answers up to {count} tokens"),
    "no_model": _("You may not use the model {model}, or it is gone; another one is chosen."),
    "no_models": _("There is no model that you may use. Ask an admin for one."),
    "no_prompt": _("There is no prompt {name} that you may use."),
    "not_kept": _("This conversation is too large to survive a reload of the page."),
    "open_call": _("Open the call"),
    "output": _("{count} out"),
    "picture": _("Picture of this message"),
    "prompt_is": _("{name} goes before the messages."),
    "remove": _("Delete"),
    "remove_picture": _("Remove this picture"),
    "resend": _("Send from here"),
    "result": _("Result of the tool"),
    "save": _("Save"),
    "save_and_send": _("Save and send"),
    "send_results": _("Send the results"),
    "sign_in": _("Sign in again in another tab, then send once more; nothing here is lost."),
    "signed_out": _("Your session has ended."),
    "speed": _("{count} tokens/s"),
    "stopped": _("stopped"),
    "thought": _("Thoughts of the model"),
    "told": _("{model} has answered: {text}"),
    "too_large": _("This request has {size}; the gateway takes {most}. Remove pictures or messages."),
    "tool": _("Tool call"),
    "total": _("{time} in all"),
    "unreachable": _("The gateway cannot be reached."),
    "window": _("window of {count} tokens"),
    "writing": _("Writing …"),
    "you": _("You"),
}


def words() -> dict[str, str]:
    """All of them in the language of the request."""
    return {name: str(text) for name, text in WORDS.items()}
