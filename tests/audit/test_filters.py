"""Every filter of the audit log has an index, in the order in which entries are shown."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import event

from services import auditlog
from services.auditlog import Wanted
from tests.audit.conftest import engine

DAY = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (Wanted(), None),  # its number is the order
        (Wanted(user_id=7), "ix_audit_log_user"),
        (Wanted(action="user_delete"), "ix_audit_log_action"),
        (Wanted(resource_type="team"), "ix_audit_log_resource"),
        (Wanted(until=DAY), "ix_audit_log_created"),
        (Wanted(since=DAY, until=DAY), "ix_audit_log_created"),
    ],
)
def test_a_filter_reads_no_more_than_it_shows(lite, wanted, index):
    asked = []
    event.listen(engine(lite), "before_cursor_execute", lambda *given: asked.append(given[2:4]))
    auditlog.find(engine(lite), wanted, skip=0, limit=100)
    statement, values = asked[-1]
    with engine(lite).connect() as connection:
        (plan,) = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
    if index is None:
        assert plan.detail == "SCAN audit_log"
    else:
        assert f"USING INDEX {index}" in plan.detail
