"""What Valkey or Redis does for a limit, as scripts: each runs as one step that nothing else comes between.

The arithmetic is that of services/books/statements.py (COUNT_CALL, RECOUNT). Numbers in Lua are doubles, which are
exact to 2**53; so a share is computed in two parts, and no number that is stored passes MOST.

A window is the text `start end used previous`, moments in unix seconds. Calls under way are a sorted set of request
ids by the moment at which they are given up, in milliseconds of the server's own clock.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Final

MOST: Final = 10**15  # a counter stops here; no limit is as large, and three of them are below 2**53


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the name under which a server knows it once it has seen it."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())


_WINDOWS: Final = f"""
local function window(key)
  local start, ends, used, previous = string.match(redis.call('GET', key) or '', '^(%d+) (%d+) (%d+) (%d+)$')
  return tonumber(start), tonumber(ends), tonumber(used), tonumber(previous)
end
local function text(...)
  return string.format('%.0f %.0f %.0f %.0f', ...)
end
local function within(amount)
  return math.max(0, math.min(amount, {MOST}))
end
"""
# KEYS: since when the memory is whole, the mark of the call, then one counter a limit. ARGV: request id, how long the
# call may last in ms, whether it is marked; then start, end, amount, left_ppm and limit of each counter.
# Answers {0}, or {1, since when, then used and previous of each}.
TAKE: Final = Script(
    _WINDOWS
    + """
local function share(amount, ppm)
  local rest = amount % 1000000
  return (amount - rest) / 1000000 * ppm + math.ceil(rest * ppm / 1000000)
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local since = redis.call('GET', KEYS[1])
local answer, texts, keep = {1, tonumber(since or time[1])}, {}, {}
for i = 3, #KEYS do
  local at = 5 * i - 12
  local start, ends, amount = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local current, previous = 0, 0
  if ends == 0 then
    redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
    current = redis.call('ZCARD', KEYS[i])
  else
    local from, to, used, before = window(KEYS[i])
    keep[i] = string.format('%.0f', 2 * (ends - start) + 60)
    if from and from >= start then
      current, previous = used, before
    elseif from and to == start then
      previous = used
    end
    if from and from >= start and from <= ends then
      start, ends = from, to
    end
    texts[i] = text(start, ends, current + amount, previous)
  end
  if current + share(previous, tonumber(ARGV[at + 4])) + amount > tonumber(ARGV[at + 5]) then
    return {0}
  end
  answer[#answer + 1] = current + amount
  answer[#answer + 1] = previous
end
if not since then
  redis.call('SET', KEYS[1], time[1])
end
if ARGV[3] == '1' then
  redis.call('SET', KEYS[2], '1', 'PX', ARGV[2])
end
for i = 3, #KEYS do
  if texts[i] then
    redis.call('SET', KEYS[i], texts[i], 'EX', keep[i])
  else
    redis.call('ZADD', KEYS[i], string.format('%.0f', now + ARGV[2]), ARGV[1])
    redis.call('PEXPIRE', KEYS[i], ARGV[2])
  end
end
return answer
"""
)
# KEYS: the mark of the call, then one counter a change. ARGV: request id, whether the call was marked; then start, end
# and change of each counter. A marked call is given back once, however often this is asked.
GIVE_BACK: Final = Script(
    _WINDOWS
    + """
if ARGV[2] == '1' and redis.call('DEL', KEYS[1]) == 0 then
  return 0
end
for i = 2, #KEYS do
  local at = 3 * i - 4
  local start, ends, change = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  if ends == 0 then
    redis.call('ZREM', KEYS[i], ARGV[1])
  else
    local from, to, used, previous = window(KEYS[i])
    if from == start then
      redis.call('SET', KEYS[i], text(from, to, within(used + change), previous), 'KEEPTTL')
    elseif from == ends then
      redis.call('SET', KEYS[i], text(from, to, used, within(previous + change)), 'KEEPTTL')
    end
  end
end
return 1
"""
)
# KEYS: since when the memory is whole, then one counter a limit. ARGV: the end of each counter.
# Answers {since when, then start, end, used and previous of each}.
LOOK: Final = Script(
    _WINDOWS
    + """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answer = {tonumber(redis.call('GET', KEYS[1]) or time[1])}
for i = 2, #KEYS do
  local start, ends, used, previous
  if tonumber(ARGV[i - 1]) == 0 then
    used = redis.call('ZCOUNT', KEYS[i], string.format('(%.0f', now), '+inf')
  else
    start, ends, used, previous = window(KEYS[i])
  end
  for _, number in ipairs({start or 0, ends or 0, used or 0, previous or 0}) do
    answer[#answer + 1] = number
  end
end
return answer
"""
)
