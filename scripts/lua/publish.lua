#!lua
-- Publish messages: all of them to all queues that they are routed to, or none.
--
-- KEYS  root of the namespace, such as {streamq}
-- ARGV  channel, number            the publisher channel, and the number of this call, which
--                                  grows from call to call; a call that is sent again with its
--                                  number, and the same first id, gets the same answer ('' ''
--                                  for no channel)
--       then for each message:
--       exchange, routing key      the exchange '' leads to the queue named by the key
--       id                         at most 200 bytes, no @ : { } and no control characters; or
--                                  '' for QUEUE-ENTRYID
--       window                     dedup window: milliseconds in which the same id is accepted
--                                  once; 'none' for a chosen id without a window; 0 for a
--                                  generated id, which is not looked up
--       keep                       1: write a record of the task; 0: do not
--       priority                   0–9, or ''
--       due                        when it is to run: '' now, +MS after so many milliseconds,
--                                  MS at a moment, in milliseconds since 1970
--       expires                    from when on it is not to start: '' never, +MS or MS
--       count, then as many header names and values; values are canonical text
--                                  (i:1  f:1.0  s:text  b:true  v:)
--       count, then as many names and values for the stream; the first name is `task`
--
-- A chosen id (one with a window, or 'none') is also accepted only once while its record says
-- that its task has not ended.  Later it begins a new generation of the record, and the message
-- carries its number.
--
-- Answers one text for each message: the queues it went to, joined by ':'.
-- Refuses, having written nothing, with (messages are counted from 0; words are
-- percent-escaped, and separated by one space)
--   UNROUTABLE message exchange key   no binding leads to a queue
--   NOEXCHANGE message exchange       no such exchange
--   QUEUEFULL message queue limit     the queue would hold more than its max_length
--   OUTOFIDS message queue            a stream of the queue has an entry with the last id
--   BADSETTINGS message queue         the settings of the queue are not valid JSON
--   STALE number newer                the channel has published another call under this number,
--                                     or a newer one
--   BADMESSAGE message reason         ARGV is not as described above
--
-- @include keys
-- @include streams
-- @include clock
-- @include route
-- @include scheduled
-- @include generations
-- @include ids
-- @include early_waiters

local CHANNEL_MEMORY_MS = 600000 -- a lost answer is asked for within seconds, or never
local LONGEST_ID = 200
local MOST_PAIRS = 3900 -- two values each, and `unpack` ends near 8000

-- What identifies a call: its number and first id.  The number alone may have been used by
-- another process too, where a whole machine was copied.
local function mark_of(number)
  return number .. ' ' .. (ARGV[5] or '')
end

-- The answers that this call got before; a refusal if it is stale; nil if it is new.
local function answered_before(channel, number)
  local memory = redis.call('GET', key_of('publisher', channel))
  if not memory then
    return nil
  end
  local last = string.match(memory, '^[^\n]*')
  if last == mark_of(number) then
    -- a write, so that a WAIT that follows is about this call
    redis.call('PEXPIRE', key_of('publisher', channel), CHANNEL_MEMORY_MS)
    local answers = {}
    for answer in string.gmatch(string.sub(memory, #last + 2), '[^\n]+') do
      answers[#answers + 1] = answer
    end
    return answers
  end
  local newest = string.match(last, '^%d+')
  if tonumber(newest) >= tonumber(number) then
    return refusal('STALE', number, newest)
  end
end

local made

local function generations_here()
  made = made or generations()
  return made
end

-- A count of headers or fields, and the position of the last value in ARGV.
local function block(at)
  local count = tonumber(ARGV[at])
  local whole = count and count % 1 == 0 and count >= 0 and count <= MOST_PAIRS
  if whole and at + 2 * count <= #ARGV then
    return count, at + 2 * count
  end
end

local now_ms = clock()
local now = string.format('%.0f', now_ms) -- as text: formatted once, not by every HSET

-- A moment out of ARGV, in milliseconds; false for '', nil for a text that is not a moment.
local function moment_of(text)
  if text == '' then
    return false
  end
  local from_now, digits = string.match(text or '', '^(%+?)(%d+)$')
  if digits and #digits < 16 then
    return tonumber(digits) + (from_now == '+' and now_ms or 0)
  end
end

-- The message that begins at a position of ARGV, and the position after it.
-- Its fields stay in ARGV: XADD takes them from there.
local function message_at(at)
  local headers, headers_end = block(at + 8)
  if not headers then
    return nil, 'bad-header-count'
  end
  local fields, last = block(headers_end + 1)
  local id, window, priority = ARGV[at + 2], tonumber(ARGV[at + 3]), ARGV[at + 5]
  local chosen = ARGV[at + 3] == 'none' or (window or 0) > 0
  window = ARGV[at + 3] == 'none' and 0 or window
  local due, expires = moment_of(ARGV[at + 6]), moment_of(ARGV[at + 7])
  if not fields then
    return nil, 'bad-field-count'
  elseif fields < 1 or ARGV[headers_end + 2] ~= 'task' then
    return nil, 'first-field-is-not-task'
  elseif #id > LONGEST_ID or string.find(id, '[@:{}%c]') then
    return nil, 'bad-id'
  elseif not window or window < 0 or window % 1 ~= 0 then
    return nil, 'bad-window'
  elseif chosen and id == '' then
    return nil, 'window-without-id'
  elseif priority ~= '' and not string.find(priority, '^[0-9]$') then
    return nil, 'bad-priority'
  elseif due == nil or expires == nil then
    return nil, 'bad-moment'
  elseif due and id == '' then
    return nil, 'due-without-id'
  end
  return {
    at = at,
    id = id,
    window = window,
    chosen = chosen,
    generation = false,
    keep = ARGV[at + 4] == '1',
    priority = tonumber(priority) or 0,
    due = due,
    expires = expires,
    headers_to = headers_end,
    to = last,
    later = nil,
    in_use = false,
    answer = false,
    same_as = false,
    destination = false,
  },
    last + 1
end

local function read_messages()
  local messages, at = {}, 3
  while at <= #ARGV do
    local message, after = message_at(at)
    if not message then
      return nil, refusal('BADMESSAGE', #messages, after)
    end
    messages[#messages + 1] = message
    at = after
  end
  return messages
end

-- Answer the messages whose id was accepted before, or is twice in this call.  The record of a
-- message that was added by hand has no queue: then the answer is where this one would go.
local function answer_repeated(messages)
  local first = {}
  for _, message in ipairs(messages) do
    if message.chosen then
      if message.window > 0 then
        message.answer = redis.call('GET', key_of('dedup', message.id)) or nil
      end
      if not message.answer then
        local state, queues = generations_here().unended(message.id)
        message.in_use = state ~= nil
        message.answer = queues ~= '' and queues
      end
      message.same_as = first[message.id]
      first[message.id] = first[message.id] or message
    end
  end
end

-- Queues and destinations are looked up once a call, however many messages go there.
local known_queues = {}
local known_destinations = {}

local function queue_named(name)
  local queue = known_queues[name]
  if not queue then
    local settings = redis.call('HGET', key_of('queues'), name)
    queue = {
      name = name,
      key = key_of('queue', name),
      declared = settings ~= false,
      readable = true,
      max_priority = nil,
      max_length = nil,
      message_ttl = nil,
      length = 0,
    }
    if settings and settings ~= '{}' then
      local is_json, decoded = pcall(cjson.decode, settings)
      queue.readable = is_json and type(decoded) == 'table'
      settings = queue.readable and decoded or {}
      queue.max_priority = tonumber(settings.max_priority)
      queue.max_length = tonumber(settings.max_length)
      queue.message_ttl = tonumber(settings.message_ttl)
    end
    if queue.max_length then
      for _, stream in ipairs(streams_of(name)) do
        queue.length = queue.length + redis.call('XLEN', stream)
      end
    end
    known_queues[name] = queue
  end
  return queue
end

-- Exchange, key and headers as one text, different for each combination.
local function destination_text(message)
  local at = message.at
  local place = ARGV[at] .. '\n' .. #ARGV[at + 1] .. '\n' .. ARGV[at + 1]
  for i = at + 9, message.headers_to do
    place = place .. '\n' .. #ARGV[i] .. '\n' .. ARGV[i]
  end
  return place
end

-- The queues of a message and their names joined: {queues, answer}.  Nil for no exchange.
local function look_up(message)
  local at = message.at
  local exchange, key = ARGV[at], ARGV[at + 1]
  if exchange == '' then
    local queue = queue_named(key)
    return { queues = queue.declared and { queue } or {}, answer = queue.name }
  end
  local names = route(exchange, key, { unpack(ARGV, at + 9, message.headers_to) })
  local queues = {}
  for i, name in ipairs(names or {}) do
    queues[i] = queue_named(name)
  end
  return names and { queues = queues, answer = table.concat(names, ':') }
end

-- Most messages of a call go where the one before went.
local last_exchange, last_key, last_destination

-- As look_up, which is called once for each combination of exchange, key and headers.
local function destination_of(message)
  local at = message.at
  local bare = message.headers_to < at + 9
  if bare and ARGV[at] == last_exchange and ARGV[at + 1] == last_key then
    return last_destination
  end
  local place = destination_text(message)
  local destination = known_destinations[place]
  if not destination then
    destination = look_up(message)
    known_destinations[place] = destination
  end
  if bare and destination then
    last_exchange, last_key, last_destination = ARGV[at], ARGV[at + 1], destination
  end
  return destination
end

-- How many entries and scheduled messages this call writes, and the message of the last one.
local writes, writer = 0, 0

-- Find the queues of every other message; returns the first refusal, if there is one.
local function assign_queues(messages)
  for i, message in ipairs(messages) do
    if not message.answer and not message.same_as then
      local destination = destination_of(message)
      if not destination then
        return refusal('NOEXCHANGE', i - 1, ARGV[message.at])
      elseif not destination.queues[1] then
        return refusal('UNROUTABLE', i - 1, ARGV[message.at], ARGV[message.at + 1])
      end
      for _, queue in ipairs(message.in_use and {} or destination.queues) do
        if not queue.readable then
          return refusal('BADSETTINGS', i - 1, queue.name)
        elseif queue.max_length then
          queue.length = queue.length + 1
          if queue.length > queue.max_length then
            return refusal('QUEUEFULL', i - 1, queue.name, queue.max_length)
          end
        end
      end
      message.destination = destination
      message.answer = message.in_use and destination.answer
      if not message.in_use then
        writes, writer = writes + #destination.queues, i - 1
      end
    end
  end
end

-- The short name of the stream that a message goes to.
local function stream_for(message, queue)
  if queue.max_priority and message.priority > 0 then
    return queue.name .. ':p' .. math.min(message.priority, queue.max_priority)
  end
  return queue.name
end

-- Write the record of a task.  A chosen id may have a record of the generation before, and
-- early waiters.
local function record(message, id, name, value)
  local key = key_of('task', id)
  local task = ARGV[message.headers_to + 3]
  if message.generation then
    generations_here().begin(id, message.generation, message.keep)
  end
  if not message.keep then
    return
  end
  if message.later then
    redis.call(
      'HSET', key, 'state', 'SCHEDULED', 'task', task, name, value, 'enqueued', now,
      'eta', message.later
    )
  else
    redis.call('HSET', key, 'state', 'QUEUED', 'task', task, name, value, 'enqueued', now)
  end
  if message.chosen then
    redis.call('PERSIST', key)
    note_early_waiters(id)
  end
end

-- The fields that this script adds to a message: its generation, when it expires, and when the
-- time to live of its queue ends.  Nil for none, as for most messages.
local function added_fields(message, queue)
  if not (message.generation or message.expires or queue.message_ttl) then
    return nil
  end
  local added = {}
  if message.generation then
    added[1], added[2] = 'generation', message.generation
  end
  if message.expires then
    added[#added + 1] = 'expires'
    added[#added + 1] = string.format('%.0f', message.expires)
  end
  if queue.message_ttl then
    local since = message.later and message.due or now_ms
    added[#added + 1] = 'stale'
    added[#added + 1] = string.format('%.0f', since + queue.message_ttl)
  end
  return added
end

-- Refuse a call if one of its streams is out of ids.  A single write needs no check: its XADD
-- is refused.  Most messages of a call go where the one before went.
local function find_out_of_ids(messages)
  local asked, destination_before, priority_before = {}, nil, nil
  for i, message in ipairs(writes > 1 and messages or {}) do
    local destination, priority = message.destination, message.priority
    local same = destination == destination_before and priority == priority_before
    local later = message.due and message.due > now_ms
    if destination and not (same or later or message.in_use) then
      for _, queue in ipairs(destination.queues) do
        local place = stream_for(message, queue)
        if not asked[place] and stream_is_out_of_ids(key_of('queue', place)) then
          return refusal('OUTOFIDS', i - 1, queue.name)
        end
        asked[place] = true
      end
      destination_before, priority_before = destination, priority
    end
  end
end

local out_of_ids = nil -- the refusal of the only write of a call

-- Add an entry that a stream of a queue has refused, and return its entry id; '' if there is none.
-- A call that has used up the ids of a stream adds the rest to `:returned`; if that is out of ids
-- too, the rest is scheduled under its id until the queue is repaired: all or none.
local function add_refused(refused, message, place, queue, id, ...)
  local spent = is_out_of_ids(refused)
  if spent and writes == 1 then
    out_of_ids = refusal('OUTOFIDS', writer, queue.name)
    return ''
  end
  local front = spent and queue.name .. ':returned' or place
  local entry = redis.pcall('XADD', key_of('queue', front), '*', ...)
  if type(entry) ~= 'table' then
    return entry
  elseif not spent or id == '' then
    error(entry)
  end
  schedule(place, id, message.generation or '1', { ... }, now)
  return ''
end

local function append(message, queue, id)
  local place, added = stream_for(message, queue), added_fields(message, queue)
  local from, to = message.headers_to + 2, message.to
  local key = place == queue.name and queue.key or key_of('queue', place)
  if message.later then
    local fields = { unpack(ARGV, from, to) }
    fields[#fields + 1], fields[#fields + 2] = 'eta', message.later
    for _, text in ipairs(added or {}) do
      fields[#fields + 1] = text
    end
    schedule(place, id, message.generation or '1', fields, message.later)
  elseif added then
    if id ~= '' then
      added[#added + 1], added[#added + 2] = 'id', id
    end
    for i = from, to do
      added[#added + 1] = ARGV[i]
    end
    local entry = redis.pcall('XADD', key, '*', unpack(added))
    if type(entry) == 'table' then
      entry = add_refused(entry, message, place, queue, id, unpack(added))
    end
    id = id ~= '' and id or queue.name .. '-' .. entry
  elseif id == '' then
    local entry = redis.pcall('XADD', key, '*', unpack(ARGV, from, to))
    if type(entry) == 'table' then
      entry = add_refused(entry, message, place, queue, id, unpack(ARGV, from, to))
    end
    id = queue.name .. '-' .. entry
  else
    local entry = redis.pcall('XADD', key, '*', 'id', id, unpack(ARGV, from, to))
    if type(entry) == 'table' then
      add_refused(entry, message, place, queue, id, 'id', id, unpack(ARGV, from, to))
    end
  end
  if (message.keep or message.generation) and not out_of_ids then
    record(message, id, 'queue', queue.name)
  end
end

-- The generation that a message begins, the same for all its copies; false for the first.
local function generation_for(message, queues)
  local ids = { message.id }
  for i, queue in ipairs(#queues > 1 and queues or {}) do
    ids[i + 1] = message.id .. '@' .. queue.name
  end
  local generation = generations_here().next(ids)
  return generation > 1 and string.format('%.0f', generation)
end

-- Write a message; returns the answer: the queues that have it.
local function write(message)
  local queues, answer = message.destination.queues, message.destination.answer
  if message.due and message.due > now_ms then
    message.later = string.format('%.0f', message.due)
  end
  if message.chosen then
    message.generation = generation_for(message, queues)
  end
  if #queues == 1 then
    append(message, queues[1], message.id)
  else
    for _, queue in ipairs(queues) do
      append(message, queue, message.id == '' and '' or message.id .. '@' .. queue.name)
    end
    if message.id ~= '' and (message.keep or message.generation) then
      record(message, message.id, 'copies', answer)
    end
  end
  if message.window > 0 and not out_of_ids then
    redis.call('SET', key_of('dedup', message.id), answer, 'PX', message.window)
  end
  return answer
end

local channel, number = ARGV[1], ARGV[2]

if channel ~= '' then
  if not tonumber(number) then
    return refusal('BADMESSAGE', 0, 'bad-number')
  end
  local answers = answered_before(channel, number)
  if answers then
    return answers
  end
end

local messages, malformed = read_messages()
if malformed then
  return malformed
end
answer_repeated(messages)
local refused = assign_queues(messages) or find_out_of_ids(messages)
if refused then
  return refused
end

local answers = {}
for i, message in ipairs(messages) do
  if message.same_as then
    message.answer = message.same_as.answer
  elseif not message.answer then
    message.answer = write(message)
    if out_of_ids then
      return out_of_ids
    end
  end
  answers[i] = message.answer
end

if channel ~= '' then
  local memory = mark_of(number) .. '\n' .. table.concat(answers, '\n')
  redis.call('SET', key_of('publisher', channel), memory, 'PX', CHANNEL_MEMORY_MS)
end
return answers
