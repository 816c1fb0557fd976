//! What Redis does in one step: each script is a compare-and-set, or a write together with its announcement.
//!
//! A record carries its format and its revision in front (see `store::record`); a script compares them as bytes, refuses
//! formats that it does not know, and takes a record that is already what was to be written for a success: a repeated
//! script changes nothing twice. All keys of a script share a slot. Must not decide anything.

/// A script and the name under which servers remember it.
pub(super) struct Script {
    pub(super) code: String,
    pub(super) sha: String,
}

/// What a script says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Done,
    Conflict,
    Missing,
    Newer(u32),
    Damaged,
}

impl Said {
    /// From the two numbers that a script returns.
    pub(super) fn read((code, format): (i64, i64)) -> Self {
        match code {
            0 => Said::Done,
            1 => Said::Conflict,
            2 => Said::Missing,
            3 => Said::Newer(u32::try_from(format).unwrap_or(u32::MAX)),
            _ => Said::Damaged,
        }
    }
}

/// All of them.
pub(super) struct Scripts {
    pub(super) create_session: Script,
    pub(super) replace_session: Script,
    pub(super) put_on_list: Script,
    pub(super) remove_ended: Script,
    pub(super) put_revocation: Script,
    pub(super) remove_revocations: Script,
    pub(super) replace_keys: Script,
    pub(super) create_account: Script,
    pub(super) replace_account: Script,
    pub(super) remove_account: Script,
}

/// In front of each: the newest known format is ARGV[1].
const HEAD: &str = r"
local DONE, CONFLICT, MISSING, NEWER, DAMAGED = 0, 1, 2, 3, 4
-- nil when the record can be read, else what to return.
local function unreadable(record)
  if #record < 12 then return {DAMAGED, 0} end
  local format = struct.unpack('>I4', record)
  if format > tonumber(ARGV[1]) then return {NEWER, format} end
  return nil
end
local function revision(record) return string.sub(record, 5, 12) end
local function announce(feed, count, ...)
  redis.call('XADD', feed, 'MAXLEN', '~', 16384, '*', 'n', redis.call('INCR', count), ...)
end
";

/// KEYS: session, ends. ARGV: format, record, milliseconds to keep it, end, id, what is over for long.
const CREATE_SESSION: &str = r"
local found = redis.call('GET', KEYS[1])
if found then
  if found == ARGV[2] then return {DONE, 0} end
  return {CONFLICT, 0}
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[5])
-- Records leave by themselves; what points at them leaves here, a few at a time.
local over = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[6], 'LIMIT', 0, 8)
for _, id in ipairs(over) do redis.call('ZREM', KEYS[2], id) end
return {DONE, 0}
";

/// KEYS: session, ends. ARGV: format, record, milliseconds to keep it, end, id, expected revision.
const REPLACE_SESSION: &str = r"
local found = redis.call('GET', KEYS[1])
if not found then return {MISSING, 0} end
local refusal = unreadable(found)
if refusal then return refusal end
if found == ARGV[2] then return {DONE, 0} end
if revision(found) ~= ARGV[6] then return {CONFLICT, 0} end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[5])
return {DONE, 0}
";

/// KEYS: the list, of a user or of a provider's name. ARGV: format, latest possible end, session, milliseconds to keep it, what is over for long.
const PUT_ON_LIST: &str = r"
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[5])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return {DONE, 0}
";

/// KEYS: ends. ARGV: format, now, prefix of session keys, how many at most. Returns how many sessions went, and how many
/// entries were looked at. The sessions' keys share the slot of their list, whose name is declared.
const REMOVE_ENDED: &str = r"
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[2], 'LIMIT', 0, ARGV[4])
local removed = 0
for _, id in ipairs(due) do
  local key = ARGV[3] .. id
  local front = redis.call('GETRANGE', key, 0, 11)
  -- A newer node's record is its own to remove; it leaves by itself in any case.
  if front ~= '' and not unreadable(front) then
    redis.call('DEL', key)
    removed = removed + 1
  end
  redis.call('ZREM', KEYS[1], id)
end
return {removed, #due}
";

/// KEYS: revocations, their ends, feed, count. ARGV: format, target, record, end, now, what is over, spare time.
/// A revocation's revision is its moment: an older one that comes late does not replace a newer one.
const PUT_REVOCATION: &str = r"
local found = redis.call('HGET', KEYS[1], ARGV[2])
if found then
  local refusal = unreadable(found)
  if refusal then return refusal end
  if struct.unpack('>I8', found, 5) > struct.unpack('>I8', ARGV[3], 5) then return {DONE, 0} end
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[2])
local over = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[6], 'LIMIT', 0, 16)
for _, target in ipairs(over) do
  redis.call('HDEL', KEYS[1], target)
  redis.call('ZREM', KEYS[2], target)
end
local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')
local left = math.max(tonumber(last[2]) - tonumber(ARGV[5]), 0) + tonumber(ARGV[7])
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', left))
redis.call('PEXPIRE', KEYS[2], string.format('%.0f', left))
announce(KEYS[3], KEYS[4], 'r', ARGV[3])
return {DONE, 0}
";

/// KEYS: revocations, their ends. ARGV: format, now. Returns how many went.
const REMOVE_REVOCATIONS: &str = r"
local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[2], 'LIMIT', 0, 1000)
for _, target in ipairs(due) do
  redis.call('HDEL', KEYS[1], target)
  redis.call('ZREM', KEYS[2], target)
end
return {#due, #due}
";

/// KEYS: keys, feed, count. ARGV: format, record, expected revision (zeroes: nothing was there).
const REPLACE_KEYS: &str = r"
local found = redis.call('GET', KEYS[1])
local current = string.rep('\0', 8)
if found then
  local refusal = unreadable(found)
  if refusal then return refusal end
  if found == ARGV[2] then return {DONE, 0} end
  current = revision(found)
end
if current ~= ARGV[3] then return {CONFLICT, 0} end
redis.call('SET', KEYS[1], ARGV[2])
announce(KEYS[2], KEYS[3], 'k', '')
return {DONE, 0}
";

/// KEYS: accounts. ARGV: format, name, record.
const CREATE_ACCOUNT: &str = r"
local found = redis.call('HGET', KEYS[1], ARGV[2])
if found and found ~= ARGV[3] then return {CONFLICT, 0} end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
return {DONE, 0}
";

/// KEYS: accounts. ARGV: format, name, record, expected revision.
const REPLACE_ACCOUNT: &str = r"
local found = redis.call('HGET', KEYS[1], ARGV[2])
if not found then return {MISSING, 0} end
local refusal = unreadable(found)
if refusal then return refusal end
if found == ARGV[3] then return {DONE, 0} end
if revision(found) ~= ARGV[4] then return {CONFLICT, 0} end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
return {DONE, 0}
";

/// KEYS: accounts. ARGV: format, name, expected revision: an order that comes late must not remove an account that was made
/// anew meanwhile.
const REMOVE_ACCOUNT: &str = r"
local found = redis.call('HGET', KEYS[1], ARGV[2])
if not found then return {MISSING, 0} end
local refusal = unreadable(found)
if refusal then return refusal end
if revision(found) ~= ARGV[3] then return {CONFLICT, 0} end
redis.call('HDEL', KEYS[1], ARGV[2])
return {DONE, 0}
";

impl Script {
    fn new(body: &str) -> Self {
        let code = format!("{HEAD}{body}");
        // Redis names scripts by SHA-1; nothing rests on its strength.
        let digest = aws_lc_rs::digest::digest(
            &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
            code.as_bytes(),
        );
        let sha = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        Script { code, sha }
    }
}

impl Scripts {
    pub(super) fn new() -> Self {
        Scripts {
            create_session: Script::new(CREATE_SESSION),
            replace_session: Script::new(REPLACE_SESSION),
            put_on_list: Script::new(PUT_ON_LIST),
            remove_ended: Script::new(REMOVE_ENDED),
            put_revocation: Script::new(PUT_REVOCATION),
            remove_revocations: Script::new(REMOVE_REVOCATIONS),
            replace_keys: Script::new(REPLACE_KEYS),
            create_account: Script::new(CREATE_ACCOUNT),
            replace_account: Script::new(REPLACE_ACCOUNT),
            remove_account: Script::new(REMOVE_ACCOUNT),
        }
    }
}
