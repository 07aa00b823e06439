package cachesync

import (
	"embed"
	"strings"
	"sync"
)

//go:embed lua/*.lua
var luaFiles embed.FS

// scriptNames is the digest of each script to the name of its file.
var scriptNames = sync.OnceValue(func() map[string]string {
	names := map[string]string{}
	files, err := luaFiles.ReadDir("lua")
	if err != nil {
		panic(err) // it is embedded
	}
	for _, file := range files {
		body, err := luaFiles.ReadFile("lua/" + file.Name())
		if err != nil {
			panic(err)
		}
		names[newScript(string(body)).digest] = strings.TrimSuffix(file.Name(), ".lua")
	}
	return names
})

// ScriptName tells which script of the protocol ("fence", "apply", "fill", …) a command
// runs, for those who watch a client through a redis.Hook. args are the command's own:
// EVALSHA or EVAL, the digest or the source, 3, the key, its siblings, the script's
// arguments. ok is false for every other command.
func ScriptName(args []any) (name string, ok bool) {
	if len(args) < 4 {
		return "", false
	}
	verb, _ := args[0].(string)
	digest, _ := args[1].(string)
	if strings.EqualFold(verb, "eval") {
		digest = digestOf(digest)
	} else if !strings.EqualFold(verb, "evalsha") {
		return "", false
	}
	name, ok = scriptNames()[digest]
	return name, ok
}
