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
   <= (SELECT limit_amount FROM budgets WHERE id = excluded.budget_id)
RETURNING spent_amount + held_amount, (SELECT limit_amount FROM budgets WHERE id = budget_id)"""
MOVE: Final = """
UPDATE budget_windows SET held_amount = held_amount - ?, spent_amount = spent_amount + ?
WHERE budget_id = ? AND period_start = ?"""
SPEND: Final = """
INSERT INTO budget_windows (budget_id, period_start, spent_amount, held_amount) VALUES (?, ?, ?, 0)
ON CONFLICT (budget_id, period_start) DO UPDATE
SET spent_amount = budget_windows.spent_amount + excluded.spent_amount"""
# A limit's counter: one row that moves on with the clock. The statement that counts is the one that checks. A clock
# that is behind by a period leaves the row as it is; one that is further behind takes it back (REWIND does so for a
# full one), so that a clock that had run ahead locks nobody out for longer than a period.
_CURRENT: Final = "CASE WHEN w.period_start >= excluded.period_start THEN w.used_amount ELSE 0 END"
_PREVIOUS: Final = """CASE WHEN w.period_start >= excluded.period_start THEN w.previous_amount
  WHEN w.period_end = excluded.period_start THEN w.used_amount ELSE 0 END"""
_KEEPS: Final = "w.period_start >= excluded.period_start AND w.period_start <= excluded.period_end"
_COUNT_UP: Final = f"""
ON CONFLICT (subject) DO UPDATE SET
  used_amount = {_CURRENT} + excluded.used_amount, previous_amount = {_PREVIOUS},
  period_start = CASE WHEN {_KEEPS} THEN w.period_start ELSE excluded.period_start END,
  period_end = CASE WHEN {_KEEPS} THEN w.period_end ELSE excluded.period_end END"""
COUNT_CALL: Final = f"""
INSERT INTO limit_windows AS w (subject, period_start, period_end, used_amount, previous_amount)
SELECT ?, ?, ?, CAST(? AS BIGINT), 0 WHERE ? <= ? {_COUNT_UP}
WHERE {_CURRENT} + ({_PREVIOUS} * ? + 999999) / 1000000 + excluded.used_amount <= ?
RETURNING used_amount, previous_amount"""
RECOUNT: Final = """
UPDATE limit_windows SET
  used_amount = CASE WHEN period_start <> ? THEN used_amount WHEN used_amount + ? < 0 THEN 0 ELSE used_amount + ? END,
  previous_amount = CASE WHEN period_start <> ? THEN previous_amount
    WHEN previous_amount + ? < 0 THEN 0 ELSE previous_amount + ? END
WHERE subject = ?"""
REWIND: Final = """
UPDATE limit_windows SET period_start = ?, period_end = ? WHERE subject = ? AND period_start > ?"""
WINDOW: Final = """
SELECT period_start, period_end, used_amount, previous_amount FROM limit_windows WHERE subject = ?"""
FORGET_WINDOWS: Final = "DELETE FROM limit_windows WHERE period_end > 0 AND period_end < ?"

STANDING: Final = """
SELECT b.limit_amount, COALESCE(w.spent_amount, 0), COALESCE(w.held_amount, 0) FROM budgets b
LEFT JOIN budget_windows w ON w.budget_id = b.id AND w.period_start = ? WHERE b.id = ?"""

HOLD: Final = """
INSERT INTO holds (request_id, owner, created_at, deadline_at, budgets_wanted, budgets_taken, takes, counts, call)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
UNHOLD: Final = "DELETE FROM holds WHERE request_id = ? RETURNING takes, counts"
_HOLDS: Final = "SELECT request_id, owner, created_at, deadline_at, takes, counts, call FROM holds"
OWNED: Final = f"{_HOLDS} WHERE owner = ? LIMIT 500"
OVERDUE: Final = f"{_HOLDS} WHERE deadline_at < ? LIMIT 500"

USAGE_COLUMNS: Final = {  # name: type, which Postgres wants to know
    "request_id": "text",
    "created_at": "bigint",
    "user_id": "bigint",
    "key_id": "bigint",
    "team_id": "bigint",
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
    "cache_creation_1h_input_tokens": "bigint",
    "reasoning_output_tokens": "bigint",
    "input_audio_tokens": "bigint",
    "output_audio_tokens": "bigint",
    "images": "int",
    "cost_nanousd": "bigint",
    "input_rate": "bigint",
    "output_rate": "bigint",
    "cache_read_rate": "bigint",
    "cache_creation_rate": "bigint",
    "price_source": "text",
    "charge_lines": "text",
    "first_byte_ms": "int",
    "duration_ms": "int",
    "attempts": "text",
    "error": "text",
    "custom_id": "text",
    "client_metadata": "text",
    "path": "text",
    "route_id": "text",
    "action": "text",
    "policy_id": "bigint",
    "saved_nanousd": "bigint",
    "prompt_version_id": "bigint",
    "batch_id": "bigint",
    "trace": "text",
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

# Postgres: the same in one round trip. Limits before budgets, each in the order of their names, in both statements:
# so two calls never wait for each other in a circle. The check `all_or_nothing` of the hold fails, and undoes the
# rest, when one refused. Nobody waits until a hold is on the disk: where the database's machine stops, what was held in
# the last moments is lost, but each of these calls is booked at its end all the same. Booking waits for the disk.
_ROOM: Final = """
  (SELECT c.limit_amount FROM counts c WHERE c.subject = excluded.subject)"""
_SHARE: Final = "(SELECT c.left_ppm FROM counts c WHERE c.subject = excluded.subject)"
PG_RESERVE: Final = f"""
WITH counts AS (
  SELECT * FROM unnest(?::text[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[])
    AS c (subject, period_start, period_end, amount, left_ppm, limit_amount)),
counted AS (
  INSERT INTO limit_windows AS w (subject, period_start, period_end, used_amount, previous_amount)
  SELECT subject, period_start, period_end, amount, 0 FROM counts WHERE amount <= limit_amount ORDER BY subject
  {_COUNT_UP}
  WHERE {_CURRENT} + ({_PREVIOUS} * {_SHARE} + 999999) / 1000000 + excluded.used_amount <= {_ROOM}
  RETURNING subject, used_amount, previous_amount),
want AS (SELECT * FROM unnest(?::bigint[], ?::bigint[], ?::bigint[]) AS w (budget_id, period_start, amount)),
took AS (
  INSERT INTO budget_windows (budget_id, period_start, spent_amount, held_amount)
  SELECT b.id, w.period_start, 0, w.amount FROM want w JOIN budgets b ON b.id = w.budget_id
  WHERE w.amount <= b.limit_amount AND (SELECT count(*) FROM counted) >= 0 ORDER BY b.id
  ON CONFLICT (budget_id, period_start) DO UPDATE
  SET held_amount = budget_windows.held_amount + excluded.held_amount
  WHERE budget_windows.spent_amount + budget_windows.held_amount + excluded.held_amount
     <= (SELECT limit_amount FROM budgets WHERE id = excluded.budget_id)
  RETURNING budget_id, spent_amount + held_amount AS gone),
held AS (
  INSERT INTO holds (request_id, owner, created_at, deadline_at, budgets_wanted, budgets_taken, takes, counts, call)
  SELECT ?::text, ?::text, ?::bigint, ?::bigint, ?::int,
    (SELECT count(*) FROM counted) + (SELECT count(*) FROM took), ?::text, ?::text, ?::text
  WHERE set_config('synchronous_commit', 'off', true) = 'off')
SELECT subject, used_amount, previous_amount FROM counted
UNION ALL SELECT 'b' || budget_id, t.gone, b.limit_amount FROM took t JOIN budgets b ON b.id = t.budget_id"""  # noqa: S608 - made of constants
PG_SETTLE: Final = f"""
WITH gone AS (DELETE FROM holds WHERE request_id = ? RETURNING request_id),
counters AS MATERIALIZED (
  SELECT w.subject, c.period_start, c.period_end, c.change
  FROM unnest(?::text[], ?::bigint[], ?::bigint[], ?::bigint[]) AS c (subject, period_start, period_end, change)
  JOIN limit_windows w ON w.subject = c.subject
  WHERE EXISTS (SELECT 1 FROM gone) ORDER BY w.subject FOR UPDATE OF w),
recounted AS (
  UPDATE limit_windows w SET
    used_amount = CASE WHEN w.period_start = c.period_start THEN greatest(0, w.used_amount + c.change)
      ELSE w.used_amount END,
    previous_amount = CASE WHEN w.period_start = c.period_end AND c.period_end > 0
      THEN greatest(0, w.previous_amount + c.change) ELSE w.previous_amount END
  FROM counters c WHERE w.subject = c.subject RETURNING 1),
locked AS MATERIALIZED (
  SELECT w.budget_id, w.period_start, b.held, b.booked
  FROM unnest(?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[]) AS b (budget_id, period_start, held, booked)
  JOIN budget_windows w ON w.budget_id = b.budget_id AND w.period_start = b.period_start
  WHERE EXISTS (SELECT 1 FROM gone) AND (SELECT count(*) FROM recounted) >= 0 ORDER BY w.budget_id FOR UPDATE OF w),
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
