"""The pages of stored prompts: made, versioned, compared, labelled and deleted by forms; tried in the playground."""

from tests.admin.conftest import Browser
from tests.routes.test_dialogs import admin_of, ask
from tests.routes.test_prompts import PROMPTS

LIST = "/portal/prompts/"
FORM = {
    "name": "greeting",
    "owner": "everyone",
    "messages-0-role": "user",
    "messages-0-content": "Greet {{name}}.",
    "variables-0-name": "name",
    "variables-0-type": "string",
    "variables-0-needed": "yes",
    "temperature": "0.5",
}


def stored(app):
    (row,) = ask(app, "GET", PROMPTS, headers=admin_of(app)).json
    return row


def test_a_prompt_is_made_versioned_compared_and_labelled(panel_admin: Browser) -> None:
    app = panel_admin.app
    assert "No prompt yet" in panel_admin.get(LIST).text
    answer = panel_admin.post(f"{LIST}new/", FORM | {"messages-0-content": "{{7*7}}"})
    assert (answer.status_code, "at character 1" in answer.text) == (422, True)
    assert panel_admin.post(f"{LIST}new/", FORM).status_code in (302, 303)
    row = stored(app)
    assert (row["name"], row["owner"], row["newest_version"]) == ("greeting", "everyone", 1)
    own = f"id={row['id']}"
    assert "Greet {{name}}." in panel_admin.get(f"{LIST}version/?{own}").text
    newer = {name: value for name, value in FORM.items() if name not in ("name", "owner")}
    newer |= {"messages-0-content": "Say hello to {{name}}.", "note": "Friendlier"}
    assert panel_admin.post(f"{LIST}version/?{own}", newer).status_code in (302, 303)
    page = panel_admin.get(f"{LIST}details/?{own}&version=2&from=1").text
    for said in ("-Greet {{name}}.", "+Say hello to {{name}}.", "Friendlier"):
        assert said in page
    assert "Move a label" in panel_admin.get(f"{LIST}label/?{own}&version=1").text
    moved = panel_admin.post(f"{LIST}label/?{own}", {"label": "production", "version": "1"})
    assert (moved.status_code in (302, 303), stored(app)["labels"]) == (True, {"production": 1})
    told = panel_admin.get("/playground/prompt?reference=greeting").json
    assert (told["prompt"], [one["name"] for one in told["variables"]]) == ("greeting@1", ["name"])
    assert "greeting@production" in panel_admin.get("/playground/").text
    assert panel_admin.post(f"{LIST}unlabel/?{own}&label=production", {}).status_code in (302, 303)
    assert panel_admin.post(f"{LIST}delete/", {"id": row["id"]}).status_code in (302, 303)
    assert "No prompt yet" in panel_admin.get(LIST).text
