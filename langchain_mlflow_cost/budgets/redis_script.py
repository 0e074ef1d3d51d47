"""What runs on the Redis server: check, reserve, settle and start anew, in one step for all processes.

A sum is a hash: `spent`, `reserved`, `spent_tokens`, `reserved_tokens`, `added`, `added_tokens`, its `window`, and a
field for each call. A sorted set beside it says when a call's field lapses. Money is whole nano-USD, exact up to
9 million USD (Lua counts in doubles).

A call's field holds what is reserved for it and in which window (`500:20:0`), and `done` once it is settled: a request
that timed out may have been carried out all the same, so each of them can be sent twice. `done` stays until the process
says that it has heard of it, or `done_ttl_ms`. Amounts travel as text, for cjson prints large numbers with an exponent,
which HINCRBY does not read.
"""

from __future__ import annotations

import hashlib
from typing import Final

SCRIPT: Final = """
local ask = cjson.decode(ARGV[1])
local clock = redis.call('TIME')
local seconds = tonumber(clock[1])
local now = seconds * 1000 + math.floor(clock[2] / 1000)

local function window(per, at)
  if per == 'hour' then return math.floor(at / 3600) end
  if per == 'day' then return math.floor(at / 86400) end
  if per ~= 'month' then return 0 end
  -- The civil calendar from days since 1970, the year beginning in March (howardhinnant.github.io, civil_from_days).
  local days = math.floor(at / 86400) + 719468
  local era = math.floor(days / 146097)
  local day = days - era * 146097
  local year = math.floor((day - math.floor(day / 1460) + math.floor(day / 36524) - math.floor(day / 146096)) / 365)
  local of_year = day - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local month = math.floor((5 * of_year + 2) / 153)
  year = year + era * 400
  if month < 10 then month = month + 3 else month, year = month - 9, year + 1 end
  return year * 12 + month
end

local function add(sum, what, amount)
  if amount ~= 0 then redis.call('HINCRBY', sum, what, string.format('%.0f', amount)) end
end

local function figure(sum, what)
  return tonumber(redis.call('HGET', sum, what) or '0')
end

-- Take what a call holds out of the sum. Returns whether it is settled already, and the window that it is of.
local function free(sum, call, current)
  local held = redis.call('HGET', sum, call)
  if not held then return false, nil end
  if held == 'done' then return true, nil end
  local usd, tokens, own = string.match(held, '^(%d+):(%d+):(%d+)$')
  if not usd then usd, tokens, own = held, '0', '0' end
  if tonumber(own) == current then
    add(sum, 'reserved', -tonumber(usd))
    add(sum, 'reserved_tokens', -tonumber(tokens))
  end
  return false, tonumber(own)
end

local admitted, answer, done, windows = 1, {}, {}, {}
for i, asked in ipairs(ask.sums) do
  local sum, lapses = KEYS[2 * i - 1], KEYS[2 * i]
  local current = window(asked.per, seconds)
  if asked.per ~= '' then
    local known = figure(sum, 'window')
    if known < current then
      -- Calls in flight of the last window keep their field; they are settled in a sum that nobody asks for any more.
      redis.call('HDEL', sum, 'spent', 'reserved', 'spent_tokens', 'reserved_tokens', 'added', 'added_tokens')
      redis.call('HSET', sum, 'window', string.format('%.0f', current))
    else
      current = known
    end
  end
  windows[i] = current

  for _, call in ipairs(redis.call('ZRANGEBYSCORE', lapses, '-inf', now)) do
    free(sum, call, current)
    redis.call('HDEL', sum, call)
  end
  redis.call('ZREMRANGEBYSCORE', lapses, '-inf', now)

  for _, call in ipairs(asked.heard) do
    if redis.call('HGET', sum, call) == 'done' then
      redis.call('HDEL', sum, call)
      redis.call('ZREM', lapses, call)
    end
  end

  for _, settled in ipairs(asked.settle) do
    local call = settled[1]
    local is_done, own = free(sum, call, current)
    if not is_done then
      if (own or window(asked.per, tonumber(settled[4]))) == current then
        local what = settled[5] == 1 and 'added' or 'spent'
        add(sum, what, tonumber(settled[2]))
        add(sum, what .. '_tokens', tonumber(settled[3]))
      end
      redis.call('HSET', sum, call, 'done')
      redis.call('ZADD', lapses, now + ask.done_ttl_ms, call)
    end
  end

  -- Another handler may have reserved the same call, or, where it was made already, have settled it.
  done[i] = ask.call and free(sum, ask.call, current)
  if ask.call and not done[i] then redis.call('HDEL', sum, ask.call) end
  local usd, tokens = figure(sum, 'spent'), figure(sum, 'spent_tokens')
  local held_usd, held_tokens = figure(sum, 'reserved'), figure(sum, 'reserved_tokens')
  local added, added_tokens = figure(sum, 'added'), figure(sum, 'added_tokens')
  for _, each in ipairs({usd, held_usd, tokens, held_tokens, added, added_tokens}) do
    answer[#answer + 1] = string.format('%.0f', each)
  end
  usd, tokens = usd + held_usd, tokens + held_tokens
  for _, limit in ipairs(asked.limits) do
    local most, most_tokens = tonumber(limit[1]), tonumber(limit[2])
    if limit[5] == 1 then
      most, most_tokens = most and most + added, most_tokens and most_tokens + added_tokens
    end
    if most and (usd > most or (ask.paid and usd == most) or usd + tonumber(limit[3]) > most) then admitted = 0 end
    if most_tokens and (tokens >= most_tokens or tokens + tonumber(limit[4]) > most_tokens) then admitted = 0 end
  end
end

for i, asked in ipairs(ask.sums) do
  local sum, lapses = KEYS[2 * i - 1], KEYS[2 * i]
  if ask.call and admitted == 1 and not done[i] then
    local held = asked.hold .. ':' .. asked.hold_tokens .. ':' .. string.format('%.0f', windows[i])
    redis.call('HSET', sum, ask.call, held)
    add(sum, 'reserved', tonumber(asked.hold))
    add(sum, 'reserved_tokens', tonumber(asked.hold_tokens))
    redis.call('ZADD', lapses, now + ask.call_ttl_ms, ask.call)
  end
  redis.call('PEXPIRE', sum, ask.session_ttl_ms)
  redis.call('PEXPIRE', lapses, ask.session_ttl_ms)
end
return {admitted, clock[1], clock[2], unpack(answer)}
"""

SHA: Final = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
