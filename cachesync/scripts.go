package cachesync

import (
	"crypto/rand"
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

var (
	//go:embed lua/head.lua
	headLua string
	//go:embed lua/prelude.lua
	preludeLua string

	//go:embed lua/fence.lua
	fenceLua string
	//go:embed lua/renew.lua
	renewLua string
	//go:embed lua/apply.lua
	applyLua string
	//go:embed lua/abort.lua
	abortLua string
	//go:embed lua/lease.lua
	leaseLua string
	//go:embed lua/fill.lua
	fillLua string
	//go:embed lua/release.lua
	releaseLua string
	//go:embed lua/invalidate.lua
	invalidateLua string
	//go:embed lua/barrier.lua
	barrierLua string
	//go:embed lua/follow.lua
	followLua string
)

// script is a Lua source and the digest that Redis knows it by.
type script struct {
	source, digest string
	byDigest       any // digest, as an argument: it goes out with every call
}

func newScript(body string) *script { return newBareScript(compose(headLua, preludeLua, body)) }

// preludeMark is the line of a script that prelude.lua is put in place of.
const preludeMark = "\n-- prelude\n"

// compose puts the head before a script, and the prelude between its first part, for what is met nearly
// always, and the rest.
func compose(head, prelude, body string) string {
	return head + "\n" + strings.Replace(body, preludeMark, "\n"+prelude+"\n", 1)
}

func newBareScript(source string) *script {
	digest := digestOf(source)
	return &script{source, digest, digest}
}

// digestOf is the name that EVALSHA has for a source.
func digestOf(source string) string {
	sum := sha1.Sum([]byte(source))
	return hex.EncodeToString(sum[:])
}

var (
	fenceScript      = newScript(fenceLua)
	renewScript      = newScript(renewLua)
	applyScript      = newScript(applyLua)
	abortScript      = newScript(abortLua)
	leaseScript      = newScript(leaseLua)
	fillScript       = newScript(fillLua)
	releaseScript    = newScript(releaseLua)
	invalidateScript = newScript(invalidateLua)
	barrierScript    = newScript(barrierLua)
	followScript     = newBareScript(followLua)
)

// call is one script to run on one key, and what came of it.
type call struct {
	script *script
	names  siblings
	// versionKey, where set, is one more key: that of a payload in Versioned.
	versionKey string
	args       []any
	size       int // rough bytes of the arguments, for chunking
	// fresh, where set, mints the call a new token before it is issued again:
	// a token goes out once.
	fresh func()

	// replicas must have what it did, or it has failed.
	replicas int

	val any
	err error
	answerer
}

func (s *script) on(names siblings, args ...any) *call {
	return &call{script: s, names: names, args: args, size: 4 * len(names.pointer)}
}

// command spells the call as EVALSHA, or as EVAL for a server that does not
// know the script yet.
func (k *call) command(full bool) []any {
	args := make([]any, 0, 8+len(k.args))
	if full {
		args = append(args, "eval", k.script.source)
	} else {
		args = append(args, "evalsha", k.script.byDigest)
	}
	args = append(args, 4, k.names.key, k.names.control, k.names.meta, k.names.pointer)
	if k.versionKey != "" {
		args[2] = 5
		args = append(args, k.versionKey)
	}
	return append(args, k.args...)
}

// answer is the script's text answer, or the call's error.
func (k *call) answer() (string, error) {
	if k.err != nil {
		return "", k.err
	}
	text, ok := k.val.(string)
	if !ok {
		return "", fmt.Errorf("decode script answer: got %T, want text", k.val)
	}
	return text, nil
}

// number is the script's integer answer, or the call's error.
func (k *call) number() (int64, error) {
	if k.err != nil {
		return 0, k.err
	}
	n, ok := k.val.(int64)
	if !ok {
		return 0, fmt.Errorf("decode script answer: got %T, want an integer", k.val)
	}
	return n, nil
}

// holds adds a payload that may be stored to the call, with the name that it
// gets in Versioned.
func (k *call) holds(e encoded, versionKey func() string) *call {
	k.size += len(e.payload)
	if e.format == Versioned && len(e.payload) > 0 {
		k.versionKey = versionKey()
	}
	return k
}

// texts is the script's answer as a list of texts, or the call's error.
func (k *call) texts() ([]string, error) {
	if k.err != nil {
		return nil, k.err
	}
	list, ok := k.val.([]any)
	if !ok {
		return nil, fmt.Errorf("decode script answer: got %T, want a list", k.val)
	}
	texts := make([]string, len(list))
	for i, item := range list {
		if texts[i], ok = item.(string); !ok {
			return nil, fmt.Errorf("decode script answer: got %T in a list, want text", item)
		}
	}
	return texts, nil
}

// newToken gives a token or nonce that no other request has or will have.
func newToken() string { return rand.Text() }

func millis(d time.Duration) string {
	return strconv.FormatInt(max(d.Milliseconds(), 1), 10)
}

// One constructor a script; the answers are documented in lua/*.lua.

// fenceCall puts tokens.own on the key, minted here and again for every issue.
func fenceCall(names siblings, tokens *tokens, life time.Duration) *call {
	k := fenceScript.on(names, "", millis(life))
	mint := func() { k.args[0] = tokens.mint() }
	k.fresh = mint
	mint()
	return k
}

func renewCall(names siblings, token string, life time.Duration) *call {
	return renewScript.on(names, token, millis(life))
}

func applyCall(names siblings, tokens *tokens, e encoded) *call {
	k := applyScript.on(names, make([]any, 0, 7+len(tokens.earlier))...)
	k.args = append(k.args, e.format.String(), e.ttlMillis, e.version, e.head, e.tail, e.payload, tokens.own)
	for _, token := range tokens.earlier {
		k.args = append(k.args, token)
	}
	return k.holds(e, func() string { return names.version(e.version) })
}

func abortCall(names siblings, tokens *tokens) *call {
	k := abortScript.on(names, tokens.own)
	for _, token := range tokens.earlier {
		k.args = append(k.args, token)
	}
	return k
}

// leaseCall asks for the value or a lease; nonce holds the one last issued. A value that was
// written before the floor, in ms by the server's clock, counts as absent.
func leaseCall(names siblings, nonce *string, life time.Duration, w Wanted, floor int64) *call {
	oldest := "0"
	if w.oldest() > 0 {
		oldest = millis(w.oldest())
	}
	k := leaseScript.on(names, "", millis(life), w.Format.String(), w.Schema, oldest, floor)
	mint := func() { *nonce = newToken(); k.args[0] = *nonce }
	k.fresh = mint
	mint()
	return k
}

func fillCall(names siblings, nonce string, e encoded) *call {
	k := fillScript.on(names, nonce, e.format.String(), e.ttlMillis, e.head, e.tail, e.payload)
	return k.holds(e, func() string { return names.fill(nonce) })
}

func releaseCall(names siblings, nonce string) *call {
	return releaseScript.on(names, nonce)
}

// invalidateCall spares nothing where the version is empty.
func invalidateCall(names siblings, version string) *call {
	return invalidateScript.on(names, version)
}

func barrierCall(names siblings) *call {
	return barrierScript.on(names)
}

// followCall reads an entry in Versioned.
func followCall(names siblings) *call {
	return followScript.on(names)
}
