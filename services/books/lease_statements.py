"""The statements of leases, which only Postgres has. `?` stands for a value.

Rows are locked in one order by all statements that book: leases, limits by name, budgets by number, users by number.
"""

from typing import Final

from services.books.statements import USAGE_COLUMNS

SMALLEST_SHARE: Final = 64  # holds that must be left of a window before any of it is leased
LARGEST_SHARE: Final = 32  # no worker takes more than one part in so many of what is left

_CHUNK: Final = f"""
    CASE WHEN ({{room}}) / {SMALLEST_SHARE} >= q.hold
      THEN greatest(q.hold, least(q.most, ({{room}}) / {LARGEST_SHARE})) ELSE 0 END"""
_NOW_MS: Final = (
    "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"  # hosts may differ, the database's is one
)
_LIMIT_ROOM: Final = "q.limit_amount - w.used_amount - (w.previous_amount * q.left_ppm + 999999) / 1000000"
_BUDGET_ROOM: Final = "b.limit_amount - w.spent_amount - w.held_amount"

# Every window that exists is returned; a chunk of 0 = too little is left of it.
LEASE: Final = f"""
WITH counters AS MATERIALIZED (
  SELECT w.subject, w.period_start, w.period_end, w.used_amount, w.previous_amount,
    {_CHUNK.format(room=_LIMIT_ROOM)} AS chunk
  FROM unnest(?::text[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[])
    AS q (subject, period_start, hold, most, left_ppm, limit_amount)
  JOIN limit_windows w ON w.subject = q.subject AND w.period_start = q.period_start
  ORDER BY w.subject FOR UPDATE OF w),
counted AS (
  UPDATE limit_windows w SET used_amount = w.used_amount + c.chunk FROM counters c
  WHERE w.subject = c.subject AND c.chunk > 0 RETURNING 1),
windows AS MATERIALIZED (
  SELECT w.budget_id, w.period_start, b.limit_amount, w.spent_amount + w.held_amount AS gone,
    {_CHUNK.format(room=_BUDGET_ROOM)} AS chunk
  FROM unnest(?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[]) AS q (budget_id, period_start, hold, most)
  JOIN budgets b ON b.id = q.budget_id
  JOIN budget_windows w ON w.budget_id = q.budget_id AND w.period_start = q.period_start
  WHERE (SELECT count(*) FROM counted) >= 0 ORDER BY w.budget_id, w.period_start FOR UPDATE OF w),
took AS (
  UPDATE budget_windows w SET held_amount = w.held_amount + c.chunk FROM windows c
  WHERE w.budget_id = c.budget_id AND w.period_start = c.period_start AND c.chunk > 0),
limits_leased AS (
  INSERT INTO limit_leases AS l (owner, subject, period_start, period_end, amount, expires_at)
  SELECT ?::text, subject, period_start, period_end, chunk, {_NOW_MS} + ?::bigint FROM counters WHERE chunk > 0
  ON CONFLICT (owner, subject, period_start) DO UPDATE
  SET amount = l.amount + excluded.amount, expires_at = excluded.expires_at),
budgets_leased AS (
  INSERT INTO leases AS l (owner, budget_id, period_start, amount, expires_at)
  SELECT ?::text, budget_id, period_start, chunk, {_NOW_MS} + ?::bigint FROM windows WHERE chunk > 0
  ON CONFLICT (owner, budget_id, period_start) DO UPDATE
  SET amount = l.amount + excluded.amount, expires_at = excluded.expires_at)
SELECT subject, period_start, period_end, chunk, used_amount + chunk, previous_amount FROM counters
UNION ALL SELECT 'b' || budget_id, period_start, 0, chunk, gone + chunk, limit_amount FROM windows"""  # noqa: S608 - made of constants

UNHOLD_ALL: Final = "DELETE FROM holds WHERE request_id = ANY(?::text[]) RETURNING takes, counts"
_HOLD: Final = "request_id, owner, created_at, deadline_at, budgets_wanted, budgets_taken, takes, counts, call"
HOLD_ALL: Final = f"INSERT INTO holds ({_HOLD}) SELECT {_HOLD} FROM json_populate_recordset(NULL::holds, ?::json)"  # noqa: S608 - made of constants
_USAGE: Final = ", ".join(USAGE_COLUMNS)
USAGE_ALL: Final = f"""
INSERT INTO usage ({_USAGE}) SELECT {_USAGE} FROM json_populate_recordset(NULL::usage, ?::json)
ON CONFLICT (request_id) DO NOTHING RETURNING request_id"""  # noqa: S608 - made of constants
_ENTRY: Final = "created_at, kind, account, account_id, period_start, amount_nanousd, amount_tokens, request_id, actor"
ENTRY_ALL: Final = f"""
INSERT INTO ledger_entries ({_ENTRY}) SELECT {_ENTRY} FROM json_populate_recordset(NULL::ledger_entries, ?::json)"""  # noqa: S608 - made of constants
COUNT_ALL: Final = """
WITH charged AS MATERIALIZED (
  SELECT u.id, q.tokens, q.nanousd FROM unnest(?::bigint[], ?::bigint[], ?::bigint[]) AS q (id, tokens, nanousd)
  JOIN users u ON u.id = q.id ORDER BY u.id FOR NO KEY UPDATE OF u)
UPDATE users u SET tokens_used = u.tokens_used + c.tokens, spent_nanousd = u.spent_nanousd + c.nanousd
FROM charged c WHERE u.id = c.id"""

# A lease is set to a target, not changed by an amount, so the statement may be repeated, and a lease that grew by a
# statement whose answer was lost is set right by the next. It never grows by more than holds of this very transaction
# gave back. Whatever it loses or gains, its window does too: so a window always has what leases and holds have of it.
MOVE_ALL: Final = """
WITH limits_changed AS (
  SELECT * FROM unnest(?::text[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[])
    AS q (subject, period_start, period_end, target, most_up, change)),
limits_before AS MATERIALIZED (
  SELECT l.subject, l.period_start, l.amount, least(q.target, l.amount + q.most_up) AS amount_after
  FROM limits_changed q JOIN limit_leases l ON l.subject = q.subject AND l.period_start = q.period_start
  WHERE l.owner = ? ORDER BY l.subject, l.period_start FOR UPDATE OF l),
limits_after AS (
  UPDATE limit_leases l SET amount = o.amount_after FROM limits_before o
  WHERE l.owner = ? AND l.subject = o.subject AND l.period_start = o.period_start RETURNING 1),
budgets_changed AS (
  SELECT * FROM unnest(?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[])
    AS q (budget_id, period_start, target, most_up, change, spent)),
budgets_before AS MATERIALIZED (
  SELECT l.budget_id, l.period_start, l.amount, least(q.target, l.amount + q.most_up) AS amount_after
  FROM budgets_changed q JOIN leases l ON l.budget_id = q.budget_id AND l.period_start = q.period_start
  WHERE l.owner = ? ORDER BY l.budget_id, l.period_start FOR UPDATE OF l),
budgets_after AS (
  UPDATE leases l SET amount = o.amount_after FROM budgets_before o
  WHERE l.owner = ? AND l.budget_id = o.budget_id AND l.period_start = o.period_start RETURNING 1),
counters AS MATERIALIZED (
  SELECT w.subject FROM limit_windows w WHERE w.subject IN (SELECT subject FROM limits_changed)
    AND (SELECT count(*) FROM limits_after) + (SELECT count(*) FROM budgets_after) >= 0
  ORDER BY w.subject FOR UPDATE OF w),
changes AS (
  SELECT q.subject, q.period_start, q.period_end, q.change + coalesce(o.amount_after - o.amount, 0) AS change
  FROM limits_changed q
  LEFT JOIN limits_before o ON o.subject = q.subject AND o.period_start = q.period_start),
counted AS (
  UPDATE limit_windows w SET
    used_amount = greatest(0, w.used_amount + (SELECT coalesce(sum(c.change), 0) FROM changes c
      WHERE c.subject = w.subject AND c.period_start = w.period_start)),
    previous_amount = greatest(0, w.previous_amount + (SELECT coalesce(sum(c.change), 0) FROM changes c
      WHERE c.subject = w.subject AND c.period_end = w.period_start AND c.period_end > 0))
  FROM counters k WHERE w.subject = k.subject
  RETURNING w.subject, w.period_start, w.used_amount, w.previous_amount),
windows AS MATERIALIZED (
  SELECT w.budget_id, w.period_start, q.spent, q.change + coalesce(o.amount_after - o.amount, 0) AS held
  FROM budgets_changed q JOIN budget_windows w ON w.budget_id = q.budget_id AND w.period_start = q.period_start
  LEFT JOIN budgets_before o ON o.budget_id = q.budget_id AND o.period_start = q.period_start
  WHERE (SELECT count(*) FROM counted) >= 0 ORDER BY w.budget_id, w.period_start FOR UPDATE OF w),
moved AS (
  UPDATE budget_windows w SET held_amount = w.held_amount + c.held, spent_amount = w.spent_amount + c.spent
  FROM windows c WHERE w.budget_id = c.budget_id AND w.period_start = c.period_start
  RETURNING w.budget_id, w.period_start, w.spent_amount + w.held_amount AS gone)
SELECT q.subject, q.period_start, q.period_end, coalesce(o.amount_after, 0),
  coalesce(c.used_amount, 0), coalesce(c.previous_amount, 0)
FROM limits_changed q LEFT JOIN counted c ON c.subject = q.subject AND c.period_start = q.period_start
LEFT JOIN limits_before o ON o.subject = q.subject AND o.period_start = q.period_start
UNION ALL
SELECT 'b' || q.budget_id, q.period_start, 0, coalesce(o.amount_after, 0),
  coalesce(m.gone, 0), coalesce(b.limit_amount, 0)
FROM budgets_changed q LEFT JOIN moved m ON m.budget_id = q.budget_id AND m.period_start = q.period_start
LEFT JOIN budgets b ON b.id = q.budget_id
LEFT JOIN budgets_before o ON o.budget_id = q.budget_id AND o.period_start = q.period_start"""

RENEW_LIMITS: Final = f"UPDATE limit_leases SET expires_at = {_NOW_MS} + ?::bigint WHERE owner = ?"  # noqa: S608 - made of constants
RENEW_BUDGETS: Final = f"UPDATE leases SET expires_at = {_NOW_MS} + ?::bigint WHERE owner = ?"  # noqa: S608 - made of constants
DROP_LIMITS: Final = "DELETE FROM limit_leases WHERE owner = ? AND amount = 0"
DROP_BUDGETS: Final = "DELETE FROM leases WHERE owner = ? AND amount = 0"
LEASES_OF: Final = """
SELECT subject, period_start, period_end FROM limit_leases WHERE owner = ?
UNION ALL SELECT 'b' || budget_id, period_start, 0 FROM leases WHERE owner = ?"""
OWNERS: Final = f"""
SELECT owner, max(expires_at) < {_NOW_MS} FROM (
  SELECT owner, expires_at FROM limit_leases UNION ALL SELECT owner, expires_at FROM leases) AS l
GROUP BY owner"""  # noqa: S608 - made of constants
