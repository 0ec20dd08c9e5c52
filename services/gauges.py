"""What Prometheus is told of the database: how things stand now, asked at most every few seconds."""

import threading
from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from sqlalchemy import Engine, func, select, union
from sqlalchemy.exc import SQLAlchemyError

from models import ApiKey, Budget, BudgetWindow, WebSession
from utils import clock

ACTIVE_FOR: Final = timedelta(minutes=5)
MOST_BALANCES: Final = 1_000  # those with least left, which are the ones to watch
KEEP_S: Final = 10.0


class Gauges:
    """Read from the database, and kept for KEEP_S: scrapes of many servers ask one database."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._guard = engine, threading.Lock()
        self._kept: list[GaugeMetricFamily] = []
        self._until_s = 0.0  # monotonic

    def read(self) -> Iterable[GaugeMetricFamily]:
        """How things stand; nothing while the database is away."""
        with self._guard:
            if clock.monotonic_s() >= self._until_s:
                try:
                    self._kept = [self._active_users(), self._balances()]
                except SQLAlchemyError:
                    self._kept = []
                self._until_s = clock.monotonic_s() + KEEP_S
            return self._kept

    def _active_users(self) -> GaugeMetricFamily:
        since = clock.now() - ACTIVE_FOR
        called = select(ApiKey.user_id).where(ApiKey.last_used_at >= since)
        looked = select(WebSession.user_id).where(WebSession.seen_at >= since)
        with self._engine.connect() as connection:
            count = connection.scalar(select(func.count()).select_from(union(called, looked).subquery()))
        return GaugeMetricFamily("active_users", "Users with a call or a page in the last five minutes.", count or 0)

    def _balances(self) -> GaugeMetricFamily:
        found = GaugeMetricFamily("token_balance", "Prepaid tokens that a user has left.", labels=["user_id"])
        spent = func.coalesce(BudgetWindow.spent_amount + BudgetWindow.held_amount, 0)
        left = (Budget.limit_amount - spent).label("left")
        is_window = (BudgetWindow.budget_id == Budget.id) & (BudgetWindow.period_start == 0)
        query = (
            select(Budget.scope_id, left)
            .outerjoin(BudgetWindow, is_window)
            .where(Budget.scope == "user", Budget.unit == "tokens", Budget.is_prepaid)
            .order_by(left)
            .limit(MOST_BALANCES)
        )
        with self._engine.connect() as connection:
            for user_id, tokens in connection.execute(query):
                found.add_metric([str(user_id)], int(tokens))
        return found
