"""The statements of kept answers, for both databases. `?` stands for a value, moments are milliseconds since 1970."""

from typing import Final

LOOK: Final = """
SELECT request_id, state, lease_until, asked, status, content_type, headers, is_stream, cost_nanousd, created_at,
  expires_at, body
FROM kept_answers WHERE digest = ?"""
# Whether the answer is still there that was read before.
SAME: Final = """
SELECT 1 FROM kept_answers
WHERE digest = ? AND request_id = ? AND created_at = ? AND state = 'done' AND expires_at > ?"""
_INSERT: Final = """
INSERT INTO kept_answers (digest, kind, user_id, request_id, state, lease_until, asked, size, cost_nanousd, created_at,
  expires_at, status, content_type, headers, is_stream, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (digest) DO UPDATE SET user_id = excluded.user_id, request_id = excluded.request_id,
  state = excluded.state, lease_until = excluded.lease_until, asked = excluded.asked, size = excluded.size,
  cost_nanousd = excluded.cost_nanousd, created_at = excluded.created_at, expires_at = excluded.expires_at,
  status = excluded.status, content_type = excluded.content_type, headers = excluded.headers,
  is_stream = excluded.is_stream, body = excluded.body"""
# Nobody has it, or nobody who lives: the dead call must be the one that was looked at.
CLAIM: Final = f"""{_INSERT}
WHERE kept_answers.expires_at <= ?
   OR (kept_answers.state = 'open' AND kept_answers.lease_until <= ? AND kept_answers.request_id = ?)
RETURNING digest"""
# What is cached last counts; what answers repeats is filled by the call that has the claim.
FILL: Final = f"""{_INSERT}
WHERE kept_answers.kind = 'cache' OR (kept_answers.request_id = excluded.request_id AND kept_answers.state = 'open')
RETURNING digest"""
LOSE: Final = "UPDATE kept_answers SET state = 'lost' WHERE digest = ? AND request_id = ? AND state = 'open'"
RELEASE: Final = "DELETE FROM kept_answers WHERE digest = ? AND request_id = ? AND state = 'open'"
RENEW: Final = "UPDATE kept_answers SET lease_until = ? WHERE digest = ? AND request_id = ? AND state = 'open'"
SIZE: Final = "SELECT COALESCE(SUM(size), 0) FROM kept_answers"
OLDEST: Final = """
SELECT digest, size FROM kept_answers WHERE state = 'done' ORDER BY kind, expires_at LIMIT 200"""
REMOVE: Final = "DELETE FROM kept_answers WHERE digest = ? AND state = 'done'"
HELD: Final = "SELECT COUNT(*) FROM holds WHERE request_id = ?"
OUTCOME: Final = "SELECT outcome FROM usage WHERE request_id = ?"
