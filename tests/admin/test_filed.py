"""Rows of the configuration file beside providers and models: shown with a lock, and changed in the file alone."""

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Agent, Budget, Limit, Route, SystemConfig, Team
from services import configapply
from services.audit import Actor
from tests.admin.conftest import Browser

FILE = """
teams: [{name: research}]
budgets: [{team: research, unit: usd, limit: 5}]
limits: [{team: research, unit: requests, limit: 60}]
routes: [{path: /ask, name: Ask, steps: [{provider: echo, model: echo}]}]
agents: [{name: clerk}]
values: [{key: greeting, value: hello}]
"""
TABLES = {"teams": Team, "budgets": Budget, "limits": Limit, "routes": Route, "agents": Agent, "configs": SystemConfig}


@pytest.mark.parametrize("page", TABLES)
def test_rows_of_the_file_are_changed_there(panel_admin: Browser, tmp_path, page: str) -> None:
    here, path = panel_admin.app.extensions["gateway"], tmp_path / "house.yaml"
    path.write_text(FILE, encoding="utf-8")
    configapply.apply(here.engine, here.sealer, path, {}, Actor("tests"))
    with Session(here.engine) as session:
        number = session.scalars(select(TABLES[page].id).where(TABLES[page].managed_by == "file")).one()
    listed, shown = (panel_admin.get(f"/admin/{page}/{place}") for place in ("", f"details/?id={number}"))
    assert "This comes from the configuration file; change it there." in listed.text + shown.text
    assert f"/admin/{page}/edit/?id={number}" not in listed.text + shown.text
    assert panel_admin.get(f"/admin/{page}/edit/?id={number}").status_code == 403
    assert panel_admin.post(f"/admin/{page}/delete/", {"id": number}).status_code == 403
    with Session(here.engine) as session:
        assert session.scalars(select(TABLES[page].id).where(TABLES[page].managed_by == "file")).one() == number
