"""The statements of the books, for both databases. `?` stands for a value."""

from typing import Final

# The guard: a row is written only where spent + held + amount stays within the limit. A period's first call
# makes its row. No row changed = the budget refuses.
TAKE: Final = """
INSERT INTO budget_windows (budget_id, period_start, spent_amount, held_amount)
SELECT id, CAST(? AS BIGINT), 0, CAST(? AS BIGINT) FROM budgets WHERE id = ? AND ? <= limit_amount
ON CONFLICT (budget_id, period_start) DO UPDATE
SET held_amount = budget_windows.held_amount + excluded.held_amount
WHERE budget_windows.spent_amount + budget_windows.held_amount + excluded.held_amount
   <= (SELECT limit_amount FROM budgets WHERE id = excluded.budget_id)"""
MOVE: Final = """
UPDATE budget_windows SET held_amount = held_amount - ?, spent_amount = spent_amount + ?
WHERE budget_id = ? AND period_start = ?"""
SPEND: Final = """
INSERT INTO budget_windows (budget_id, period_start, spent_amount, held_amount) VALUES (?, ?, ?, 0)
ON CONFLICT (budget_id, period_start) DO UPDATE
SET spent_amount = budget_windows.spent_amount + excluded.spent_amount"""
STANDING: Final = """
SELECT b.limit_amount, COALESCE(w.spent_amount, 0), COALESCE(w.held_amount, 0) FROM budgets b
LEFT JOIN budget_windows w ON w.budget_id = b.id AND w.period_start = ? WHERE b.id = ?"""

HOLD: Final = """
INSERT INTO holds (request_id, owner, created_at, deadline_at, budgets_wanted, budgets_taken, takes, call)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
UNHOLD: Final = "DELETE FROM holds WHERE request_id = ? RETURNING takes"
OWNED: Final = "SELECT request_id, owner, created_at, deadline_at, takes, call FROM holds WHERE owner = ? LIMIT 500"
OVERDUE: Final = (
    "SELECT request_id, owner, created_at, deadline_at, takes, call FROM holds WHERE deadline_at < ? LIMIT 500"
)

USAGE_COLUMNS: Final = {  # name: type, which Postgres wants to know
    "request_id": "text",
    "created_at": "bigint",
    "user_id": "bigint",
    "key_id": "bigint",
    "model": "text",
    "provider": "text",
    "upstream_model": "text",
    "operation": "text",
    "is_stream": "boolean",
    "status": "int",
    "outcome": "text",
    "state": "text",
    "is_overrun": "boolean",
    "input_tokens": "bigint",
    "output_tokens": "bigint",
    "cache_read_input_tokens": "bigint",
    "cache_creation_input_tokens": "bigint",
    "reasoning_output_tokens": "bigint",
    "cost_nanousd": "bigint",
    "input_rate": "bigint",
    "output_rate": "bigint",
    "cache_read_rate": "bigint",
    "cache_creation_rate": "bigint",
    "price_source": "text",
    "first_byte_ms": "int",
    "duration_ms": "int",
    "attempts": "text",
    "error": "text",
}
_COLUMNS: Final = ", ".join(USAGE_COLUMNS)
_MARKS: Final = ", ".join("?" * len(USAGE_COLUMNS))
_TYPED_MARKS: Final = ", ".join(f"?::{kind}" for kind in USAGE_COLUMNS.values())
_SETS: Final = ", ".join(f"{name} = ?" for name in list(USAGE_COLUMNS)[1:])
USAGE: Final = f"INSERT INTO usage ({_COLUMNS}) VALUES ({_MARKS})"  # noqa: S608 - made of constants
REWRITE: Final = f"UPDATE usage SET {_SETS} WHERE request_id = ?"  # noqa: S608 - made of constants
BOOKED: Final = """
SELECT outcome, cost_nanousd, COALESCE(input_tokens, 0) + COALESCE(output_tokens, 0) FROM usage WHERE request_id = ?"""

ENTRY: Final = """
INSERT INTO ledger_entries
  (created_at, kind, account, account_id, period_start, amount_nanousd, amount_tokens, request_id, actor)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'gateway')"""
ADD_TOKENS: Final = """
INSERT INTO ledger_entries
  (created_at, kind, account, account_id, period_start, amount_nanousd, amount_tokens, actor, reason)
VALUES (?, 'correction', 'user', ?, 0, 0, ?, ?, ?)"""
ENTRIES: Final = """
SELECT account_id, period_start, SUM(amount_nanousd), SUM(amount_tokens) FROM ledger_entries
WHERE request_id = ? AND account = 'budget' GROUP BY account_id, period_start"""
COUNT: Final = "UPDATE users SET tokens_used = tokens_used + ?, spent_nanousd = spent_nanousd + ? WHERE id = ?"

# Postgres: the same in one round trip. Rows are locked in id order in both, so two calls never wait for each
# other in a circle. The check `all_or_nothing` of the hold fails, and undoes the rest, when one budget refused.
PG_RESERVE: Final = """
WITH want AS (SELECT * FROM unnest(?::bigint[], ?::bigint[], ?::bigint[]) AS w (budget_id, period_start, amount)),
took AS (
  INSERT INTO budget_windows (budget_id, period_start, spent_amount, held_amount)
  SELECT b.id, w.period_start, 0, w.amount FROM want w JOIN budgets b ON b.id = w.budget_id
  WHERE w.amount <= b.limit_amount ORDER BY b.id
  ON CONFLICT (budget_id, period_start) DO UPDATE
  SET held_amount = budget_windows.held_amount + excluded.held_amount
  WHERE budget_windows.spent_amount + budget_windows.held_amount + excluded.held_amount
     <= (SELECT limit_amount FROM budgets WHERE id = excluded.budget_id)
  RETURNING 1)
INSERT INTO holds (request_id, owner, created_at, deadline_at, budgets_wanted, budgets_taken, takes, call)
SELECT ?::text, ?::text, ?::bigint, ?::bigint, ?::int, (SELECT count(*) FROM took), ?::text, ?::text"""
PG_SETTLE: Final = f"""
WITH gone AS (DELETE FROM holds WHERE request_id = ? RETURNING request_id),
locked AS MATERIALIZED (
  SELECT w.budget_id, w.period_start, b.held, b.booked
  FROM unnest(?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[]) AS b (budget_id, period_start, held, booked)
  JOIN budget_windows w ON w.budget_id = b.budget_id AND w.period_start = b.period_start
  WHERE EXISTS (SELECT 1 FROM gone) ORDER BY w.budget_id FOR UPDATE OF w),
moved AS (
  UPDATE budget_windows w SET held_amount = w.held_amount - l.held, spent_amount = w.spent_amount + l.booked
  FROM locked l WHERE w.budget_id = l.budget_id AND w.period_start = l.period_start RETURNING 1),
booked AS (INSERT INTO usage ({_COLUMNS}) SELECT {_TYPED_MARKS} FROM gone RETURNING 1),
entries AS (
  INSERT INTO ledger_entries
    (created_at, kind, account, account_id, period_start, amount_nanousd, amount_tokens, request_id, actor)
  SELECT ?::bigint, 'charge', e.account, e.account_id, e.period_start, e.nanousd, e.tokens, gone.request_id, 'gateway'
  FROM gone, unnest(?::text[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[])
    AS e (account, account_id, period_start, nanousd, tokens)),
counted AS (
  UPDATE users SET tokens_used = tokens_used + ?, spent_nanousd = spent_nanousd + ?
  WHERE id = ? AND (SELECT count(*) FROM moved) >= 0 AND EXISTS (SELECT 1 FROM gone))
SELECT count(*) FROM gone"""  # noqa: S608 - made of constants
