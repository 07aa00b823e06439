package cachesync

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// identity is who answers on a connection. Two servers never have the same, nor has
// one that lost or exchanged its data.
type identity struct {
	run         string // of the process
	replication string // of the data set's history
	// virgin: the history has begun here, and continues no other. It begins anew where a
	// first replica comes, which changes no data.
	virgin bool
	master bool
	// born is when it began, by steady and to the second above; 0 where that is not known. It
	// is no part of who it is.
	born int64
}

// is says whether both are the same.
func (i identity) is(other identity) bool {
	i.born, other.born = 0, 0
	return i == other
}

// aloneMillis is for how long it has certainly been what it is, 0 where it may have been
// another one's replica.
func (i identity) aloneMillis() int64 {
	if i.born == 0 || !i.virgin || !i.master {
		return 0
	}
	return max(steady()-i.born, 0) / int64(time.Millisecond)
}

func (i identity) String() string { return i.run + ":" + i.replication }

// continues says whether the data are those that i had, under another name: the process is
// the same, and it has not taken over the data of a master meanwhile.
func (i identity) continues(before identity) bool {
	return i.run == before.run && i.master && before.master && i.virgin
}

// identityOf reads the sections "server" and "replication" of INFO. It is false where they
// do not say who answers.
func identityOf(info string) (i identity, ok bool) {
	virgin := true
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "run_id":
			i.run = value
		case "master_replid":
			i.replication = value
		case "master_replid2":
			virgin = strings.Trim(value, "0") == ""
		case "uptime_in_seconds":
			if seconds, err := strconv.ParseInt(value, 10, 64); err == nil {
				i.born = steady() - seconds*int64(time.Second)
			}
		case "role":
			i.master = value == "master"
		}
	}
	i.virgin = virgin
	return i, i.run != "" && i.replication != ""
}

// asking sends one command to where an answer is wanted from.
type asking func(ctx context.Context, cmd redis.Cmder) error

// errNameless is the error of a server that does not say who it is.
var errNameless = errors.New("INFO names no run_id and no master_replid")

// whoAnswers asks who it is. The error is a reply of the server, or errNameless, where it
// cannot be learned at all.
func whoAnswers(ctx context.Context, ask asking) (identity, error) {
	info, err := infoText(ctx, ask, "server", "replication")
	if err != nil && isReply(err) { // before version 7 INFO takes one section
		if info, err = infoText(ctx, ask, "server"); err == nil {
			var more string
			more, err = infoText(ctx, ask, "replication")
			info += "\n" + more
		}
	}
	if err != nil {
		return identity{}, err
	}
	who, ok := identityOf(info)
	if !ok {
		return identity{}, errNameless
	}
	return who, nil
}

func infoText(ctx context.Context, ask asking, sections ...any) (string, error) {
	cmd := redis.NewCmd(ctx, append([]any{"info"}, sections...)...)
	err := ask(ctx, onceCmd{cmd})
	if err == nil {
		err = cmd.Err()
	}
	if err != nil {
		return "", err
	}
	return cmd.Text()
}

// isSilence says that a server answered, and that it will never tell who it is.
func isSilence(err error) bool {
	return errors.Is(err, errNameless) || isReply(err) && !isOutage(err) && !isElsewhere(err)
}

// isElsewhere says that a server refuses because another one is to be asked, or because it
// cannot just now.
func isElsewhere(err error) bool {
	for _, prefix := range []string{"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "READONLY", "OOM", "BUSY", "NOREPLICAS", "MISCONF"} {
		if redis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	return false
}

// doorkeeper asks every new connection of a client who answers on it, before the connection
// carries anything: a hook sees the HELLO by which the client opens it, and what the hook
// sends behind that goes to the same connection.
type doorkeeper struct {
	peers     *peers
	peer      *peer
	inCluster bool
}

func (d doorkeeper) DialHook(next redis.DialHook) redis.DialHook { return next }

func (d doorkeeper) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if d.inCluster {
			sees(ctx, d.peer, cmd)
		}
		err := next(ctx, cmd)
		if !opens(cmd) || d.peers.closed.Load() {
			return err
		}
		return d.greet(ctx, asking(next), err)
	}
}

func (d doorkeeper) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	if !d.inCluster {
		return next
	}
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			sees(ctx, d.peer, cmd)
		}
		return next(ctx, cmds)
	}
}

// opens says whether a command is one that a client opens a connection with. A server
// that does not know HELLO may be told the password by AUTH.
func opens(cmd redis.Cmder) bool {
	switch cmd.(type) {
	case *redis.MapStringInterfaceCmd:
		return cmd.Name() == "hello"
	case *redis.StatusCmd:
		return cmd.Name() == "auth"
	}
	return false
}

// greet asks who is there. err is what came of the opening: where it was refused, the
// client may go on with AUTH, which is seen as well.
func (d doorkeeper) greet(ctx context.Context, ask asking, err error) error {
	if err != nil && !isReply(err) {
		return err
	}
	who, wrong := whoAnswers(ctx, ask)
	switch {
	case wrong == nil:
		d.peer.notice(who)
	case redis.HasErrorPrefix(wrong, "NOAUTH"): // AUTH comes
	case isSilence(wrong):
		d.peer.deafen(wrong)
	case err == nil && !isReply(wrong):
		return wrong // the connection is of no use
	default:
		d.peer.forget()
	}
	return err
}
