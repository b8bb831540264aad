/*
 * redis_script.c
 *	  The scripts that run inside Redis.
 *
 * A script runs as a whole, and nobody writes in between.  So a batch is added
 * message by message and in order, and ends at the first that cannot be; what is
 * there already is looked at where it is, and there is nothing between looking
 * and adding.
 */
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "redis_sink.h"

/*
 * KEYS[1]: the stream.  ARGV: the relay's id; the last id that the stream must
 * have, or ''; how many of the last entries are looked through; MAXLEN, MINID or
 * '', and their operator and threshold; whether the stream must be there ('1');
 * whether replicas are waited for ('1'); whether messages may be there under
 * another id than their own ('1').
 *
 * Then runs of messages with the same fields, since each argument costs more than
 * anything that is done with it here: their number, the number of fields, the
 * fields; and for each message its id, <position>-0, the event's id, and the values.
 *
 * A message whose id is not above the last one is looked for.  If it is not there
 * it is added behind the last one, with its position as a field.
 *
 * Returns how many are in the stream, or -1 if its last id is another; the last
 * id; a letter for each of them: s stored, l stored with a later id, d was there
 * before, or '' if all are s; the error of the one behind them, or ''; the error of
 * trimming, or ''.
 *
 * When replicas are waited for, and nothing had to be written, the last id is set to
 * what it is: a write to wait for, behind those that came from a lost connection.
 */
const char *const evs_redis_script =
	"local key, args, call, unpack = KEYS[1], ARGV, redis.pcall, unpack\n"
	"local relay, expected, depth = args[1], args[2], args[3] + 0\n"
	"local last, recent\n"
	"local function last_id()\n"
	"  local info = call('XINFO', 'STREAM', key)\n"
	"  if info.err then\n"
	"    if string.find(info.err, 'no such key', 1, true) then return '0-0' end\n"
	"    return nil, info.err\n"
	"  end\n"
	"  for i = 1, #info, 2 do\n"
	"    if info[i] == 'last-generated-id' then return info[i + 1] end\n"
	"  end\n"
	"end\n"
	"local function event_of(entry)\n"
	"  local fields, ours, event = entry[2], false, nil\n"
	"  for i = 1, #fields, 2 do\n"
	"    if fields[i] == 'relay' and fields[i + 1] == relay then ours = true\n"
	"    elseif fields[i] == 'id' and not event then event = fields[i + 1] end\n"
	"  end\n"
	"  return ours and event\n"
	"end\n"
	"local function is_recent(event)\n"
	"  local from = '+'\n"
	"  if not recent then\n"
	"    recent = {}\n"
	"    for i = 1, depth do\n"
	"      local found = call('XREVRANGE', key, from, '-', 'COUNT', 1)\n"
	"      if found.err then recent = nil return nil, found.err end\n"
	"      if not found[1] then break end\n"
	"      recent[event_of(found[1]) or 0] = true\n"
	"      from = '(' .. found[1][1]\n"
	"    end\n"
	"  end\n"
	"  return recent[event]\n"
	"end\n"
	"local function is_there(id, event, suspect)\n"
	"  local found = call('XRANGE', key, id, id)\n"
	"  if found.err then return nil, found.err end\n"
	"  if found[1] and event_of(found[1]) == event then return true end\n"
	"  if suspect then return is_recent(event) end\n"
	"end\n"
	"local function add_late(entry, size)\n"
	"  local top, err = last_id()\n"
	"  if not top then return nil, err end\n"
	"  local ms, seq = string.match(top, '^(%d+)-(%d+)$')\n"
	"  local later = {}\n"
	"  for i = 1, size do later[i] = entry[i] end\n"
	"  later[3] = ms .. '-' .. string.format('%.0f', seq + 1)\n"
	"  if entry[3] ~= '0-0' then\n"
	"    later[size + 1], later[size + 2] = 'position', string.match(entry[3], '^%d+')\n"
	"  end\n"
	"  local added = call(unpack(later))\n"
	"  if type(added) == 'table' then return nil, added.err end\n"
	"  last = added\n"
	"  return 'l'\n"
	"end\n"
	"local function look(entry, size, suspect)\n"
	"  if entry[3] ~= '0-0' then\n"
	"    local there, err = is_there(entry[3], entry[7], suspect)\n"
	"    if err then return nil, err end\n"
	"    if there then return 'd' end\n"
	"  end\n"
	"  return add_late(entry, size)\n"
	"end\n"
	"if expected ~= '' then\n"
	"  local top = last_id()\n"
	"  if top ~= expected then return {-1, top or '0-0', '', '', ''} end\n"
	"end\n"
	"if args[7] == '1' and call('EXISTS', key) == 0 then\n"
	"  return {0, '0-0', '', 'NOSTREAM there is no stream of this key', ''}\n"
	"end\n"
	"local i, n, done, odd, err = 10, #args, 0, nil, ''\n"
	"local suspect, entry = args[9] == '1', {'XADD', key, '', 'relay', relay, 'id', ''}\n"
	"while i < n and err == '' do\n"
	"  local left, fields = args[i] + 0, args[i + 1] + 0\n"
	"  local size = 7 + 2 * fields\n"
	"  for j = 1, fields do entry[6 + 2 * j] = args[i + 1 + j] end\n"
	"  i = i + 2 + fields\n"
	"  while left > 0 and err == '' do\n"
	"    entry[3], entry[7] = args[i], args[i + 1]\n"
	"    for j = 1, fields do entry[7 + 2 * j] = args[i + 1 + j] end\n"
	"    local mark\n"
	"    local added = call(unpack(entry, 1, size))\n"
	"    if type(added) == 'string' then\n"
	"      last, mark = added, 's'\n"
	"    elseif string.find(added.err, 'equal or smaller', 1, true) or\n"
	"        string.find(added.err, 'greater than 0-0', 1, true) then\n"
	"      mark, err = look(entry, size, suspect)\n"
	"      odd = odd or {}\n"
	"      odd[done + 1] = mark\n"
	"    else\n"
	"      err = added.err\n"
	"    end\n"
	"    if mark then\n"
	"      err, done, left, i = '', done + 1, left - 1, i + 2 + fields\n"
	"    end\n"
	"  end\n"
	"end\n"
	"local trim = ''\n"
	"if args[4] ~= '' and last then\n"
	"  local trimmed = call('XTRIM', key, args[4], args[5], args[6])\n"
	"  if type(trimmed) == 'table' then trim = trimmed.err end\n"
	"end\n"
	"if args[8] == '1' and done > 0 and not last then\n"
	"  last = last_id()\n"
	"  local set = call('XSETID', key, last)\n"
	"  if set.err then return {0, last, '', set.err, trim} end\n"
	"end\n"
	"local marks = {}\n"
	"if odd then\n"
	"  for j = 1, done do marks[j] = odd[j] or 's' end\n"
	"end\n"
	"return {done, last or last_id() or '0-0', table.concat(marks), err, trim}\n";

/*
 * KEYS[1]: the stream.  ARGV: the relay's id; how many of the last entries are
 * looked through.  Returns the field "settled" of the last of our entries that has it,
 * or nothing.
 */
const char *const evs_redis_resume_script =
	"local from = '+'\n"
	"for i = 1, ARGV[2] + 0 do\n"
	"  local found = redis.call('XREVRANGE', KEYS[1], from, '-', 'COUNT', 1)\n"
	"  if not found[1] then return false end\n"
	"  local fields, ours, settled = found[1][2], false, false\n"
	"  for j = 1, #fields, 2 do\n"
	"    if fields[j] == 'relay' and fields[j + 1] == ARGV[1] then ours = true\n"
	"    elseif fields[j] == 'settled' and not settled then settled = fields[j + 1] end\n"
	"  end\n"
	"  if ours and settled then return settled end\n"
	"  from = '(' .. found[1][1]\n"
	"end\n"
	"return false\n";

bool
evs_redis_script_sha(char sha[41])
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int length;

	if (EVP_Digest(evs_redis_script, strlen(evs_redis_script), digest, &length, EVP_sha1(),
				   NULL) != 1 || length != 20)
		return false;
	for (int i = 0; i < 20; i++)
		sprintf(sha + 2 * i, "%02x", digest[i]);
	return true;
}
