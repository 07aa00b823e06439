package cachesync

import (
	"context"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// A user who may not ask for his own rights (ACL WHOAMI and ACL DRYRUN are administration) may still have a script ask:
// redis.acl_check_cmd says of any command whether the script's user may run it, and runs nothing. It is there since Redis
// 7.0. Before, each command is tried on a key that nobody has, where it does nothing or, for HSET, is
// undone within the script.
// Source: https://redis.io/docs/latest/develop/programmability/lua-api/#redis.acl_check_cmd
//
// ARGV -> for each question the number of its words, then the words
// Returns for each question 'yes', 'no', 'unknown' where the server has no such command, or 'untried'.
const rightsLua = `
local answers, at = {}, 1
while at <= #ARGV do
  local words = {}
  for i = 1, tonumber(ARGV[at]) do words[i] = ARGV[at + i] end
  at = at + #words + 1
  local answer = 'untried'
  if redis.acl_check_cmd then
    local asked, may = pcall(redis.acl_check_cmd, unpack(words))
    answer = asked and (may and 'yes' or 'no') or 'unknown'
  elseif string.find(words[2] or '', 'wtcache:', 1, true) == nil then
    local reply = redis.pcall(unpack(words))
    local text = type(reply) == 'table' and reply.err
    if not text then
      answer = 'yes'
    elseif string.find(text, 'NOPERM') or string.find(text, "can't run this command") or string.find(text, "can't access at least one") then
      answer = 'no'
    elseif string.find(string.lower(text), 'unknown redis command') then
      answer = 'unknown'
    end
    if words[1] == 'hset' then redis.pcall('del', words[2]) end
  end
  answers[#answers + 1] = answer
end
return answers`

// undeclaredLua looks at a key that was not declared, in the slot of one that was, as the scripts of Versioned do.
const undeclaredLua = `return redis.call('EXISTS', ARGV[1])`

// keyCommands are all commands that scripts run on a key, each with arguments under which it leaves an absent key
// absent; readers run some of them by themselves. HSET has none; the script undoes it.
var keyCommands = [][]string{
	{"del"}, {"exists"}, {"get"}, {"getrange", "0", "1"}, {"hdel", "f"}, {"hget", "f"}, {"hgetall"}, {"hkeys"}, {"hlen"}, {"hmget", "f"},
	{"hset", "f", "1"}, {"mget"}, {"pexpire", "1"}, {"pexpireat", "1"}, {"pttl"}, {"set", "1", "XX", "PX", "1"}, {"type"},
}

// bareCommands are those without a key. CONFIG, CLUSTER and INFO are asked for, and done without where they are not to be had.
var bareCommands = [][]string{{"evalsha", "0", "0"}, {"scan", "0"}, {"time"}, configAsk}

// waitAsk is asked for where a rule has its fences wait.
var waitAsk = []string{"wait", "0", "1"}

var configAsk = []string{"config", "get", "save"}

// ask is one command on one kind of names.
type ask struct {
	keys  string // pattern; "" for none
	words []string
}

// questions asks for every command on every name of one key for each glob.
func questions(needs Needs) []ask {
	all := make([]ask, 0, len(bareCommands)+len(keyCommands)*5*(len(needs.Globs)+len(needs.Keys)))
	for _, words := range bareCommands {
		all = append(all, ask{words: words})
	}
	if needs.WaitReplicas > 0 {
		all = append(all, ask{words: waitAsk})
	}
	add := func(pattern, name string) {
		for _, words := range keyCommands {
			all = append(all, ask{pattern, slices.Concat(words[:1], []string{name}, words[1:])})
		}
	}
	add(Registry+"*", Registry) // an old server is not to try it, nor the keys below: they are in use
	probe := "wtcache-probe-" + newToken()
	for _, glob := range needs.Globs {
		key, ok := siblingsOf(sample(glob, probe))
		pattern, ok2 := siblingsOf(glob)
		if !ok || !ok2 {
			continue // such keys are never cached
		}
		add(pattern.key, key.key)
		add(pattern.control, key.control)
		add(pattern.meta, key.meta)
		add(pattern.pointer, key.pointer)
		if needs.Versioned {
			add(pattern.version("*"), key.version(fillVersion))
		}
	}
	for _, name := range needs.Keys {
		if key, ok := siblingsOf(name); ok {
			add(key.key, key.key)
			add(key.control, key.control)
		}
	}
	return all
}

// sample gives a key that the glob of a template matches, with value in each place.
func sample(glob, value string) string {
	var b strings.Builder
	for i := 0; i < len(glob); i++ {
		switch {
		case glob[i] == '*':
			b.WriteString(value)
		case glob[i] == '\\' && i+1 < len(glob):
			i++
			b.WriteByte(glob[i])
		default:
			b.WriteByte(glob[i])
		}
	}
	return b.String()
}

// rightsChunk bounds the words of one call, so that no script runs for long.
const rightsChunk = 3000

// askRights finds out whether scripts run and what the user may do. It says whether CONFIG GET is worth a try.
func (s *Server) askRights(ctx context.Context, node redis.UniversalClient, needs Needs) (config bool, err error) {
	all := questions(needs)
	answers := make([]string, 0, len(all))
	for rest := all; len(rest) > 0; {
		n, args := chunkQuestions(rest)
		got, err := redis.NewCmdResult(node.Eval(ctx, rightsLua, nil, args...).Result()).StringSlice()
		switch {
		case err != nil && !isRefusal(err):
			return false, err
		case err != nil && len(answers) == 0 && !s.evalRuns(ctx, node):
			s.Lua.Error = err.Error()
			return true, nil
		case err != nil:
			s.RightsUnknown = err.Error()
			return true, nil
		}
		answers = append(answers, got...)
		rest = rest[n:]
	}
	config = s.readRights(all, answers)
	if needs.Versioned {
		return config, s.askUndeclared(ctx, node, needs)
	}
	return config, nil
}

// evalRuns tells a server that runs no scripts from one that does not run this one.
func (s *Server) evalRuns(ctx context.Context, node redis.UniversalClient) bool {
	return node.Eval(ctx, "return 1", nil).Err() == nil
}

func chunkQuestions(all []ask) (n int, args []any) {
	for n < len(all) && (n == 0 || len(args)+len(all[n].words) < rightsChunk) {
		args = append(args, len(all[n].words))
		for _, w := range all[n].words {
			args = append(args, w)
		}
		n++
	}
	return n, args
}

// readRights sorts the refusals by the kind of names, in the order in which these were asked for.
func (s *Server) readRights(all []ask, answers []string) (config bool) {
	config = true
	at := map[string]int{}
	for i, q := range all {
		if i >= len(answers) {
			break
		}
		switch refused := answers[i] == "no" || answers[i] == "unknown"; {
		case !refused:
			continue
		case slices.Equal(q.words, configAsk):
			config = false // the server would put one more refusal into its log of them
			continue
		}
		n, known := at[q.keys]
		if !known {
			n = len(s.Denied)
			at[q.keys] = n
			s.Denied = append(s.Denied, Denied{Keys: q.keys})
		}
		s.Denied[n].Commands = append(s.Denied[n].Commands, q.words[0])
	}
	for i := range s.Denied {
		d := &s.Denied[i]
		slices.Sort(d.Commands)
		d.Commands = slices.Compact(d.Commands)
		d.All = d.Keys != "" && len(d.Commands) == len(keyCommands)
	}
	return config
}

// askUndeclared looks, in format versioned's manner, at a name that was not declared.
func (s *Server) askUndeclared(ctx context.Context, node redis.UniversalClient, needs Needs) error {
	if s.Denied != nil || len(needs.Globs) == 0 {
		return nil // it could be refused for want of a right
	}
	names, ok := siblingsOf(sample(needs.Globs[0], "wtcache-probe"))
	if !ok {
		return nil
	}
	err := node.Eval(ctx, undeclaredLua, []string{names.key}, names.control).Err()
	switch {
	case err == nil, redis.HasErrorPrefix(err, "MOVED"), redis.HasErrorPrefix(err, "ASK"), redis.HasErrorPrefix(err, "TRYAGAIN"):
		return nil // the slot is another server's, which is asked too
	case isRefusal(err):
		s.Lua.Undeclared = err.Error()
		return nil
	}
	return err
}
