package cachesync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// errMoved says that a walk over the keys proves nothing.
var errMoved = errors.New("keys changed servers while they were walked")

// layout names every server that holds keys, as the process that it is now,
// and in a Cluster the slots that it serves. It fails where a slot is on its
// way from one server to another.
func (c *Client) layout(ctx context.Context) (string, error) {
	var mu sync.Mutex // guards servers
	var servers []string
	err := c.eachMaster(ctx, func(ctx context.Context, node redis.UniversalClient) error {
		text, err := c.identify(ctx, node)
		mu.Lock()
		defer mu.Unlock()
		servers = append(servers, text)
		return err
	})
	slices.Sort(servers)
	return strings.Join(servers, "\n"), err
}

// identify describes one server. One that does not let itself be asked, behind
// a proxy, is taken for the same always.
func (c *Client) identify(ctx context.Context, node redis.UniversalClient) (string, error) {
	info, err := c.text(ctx, node, "info", "server")
	if err != nil {
		return "", err
	}
	id := lineWith(info, "run_id:")
	if _, ok := c.rdb.(*redis.ClusterClient); !ok {
		return id, nil
	}
	nodes, err := c.text(ctx, node, "cluster", "nodes")
	if err != nil {
		return "", err
	}
	slots, err := slotsOf(lineWith(nodes, "myself"))
	return id + " " + slots, err
}

// text asks one server; a refusal is no text.
func (c *Client) text(ctx context.Context, node redis.UniversalClient, words ...any) (string, error) {
	r := c.do(ctx, node, []redis.Cmder{onceCmd{redis.NewCmd(ctx, words...)}})[0]
	if r.err != nil && !isReply(r.err) {
		return "", explain(ctx, r.err)
	}
	text, _ := r.val.(string)
	return text, nil
}

func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// slotsOf reads a node's own line of CLUSTER NODES: `id addr flags master
// ping pong epoch link slot…`, where a slot in brackets is on its way.
// Source: https://redis.io/docs/latest/commands/cluster-nodes/
func slotsOf(line string) (string, error) {
	fields := strings.Fields(line)
	if len(fields) < 8 {
		return "", nil
	}
	if !strings.Contains(fields[2], "master") {
		return "", fmt.Errorf("%w: %s is no master", errMoved, fields[1])
	}
	slots := fields[8:]
	if i := slices.IndexFunc(slots, func(s string) bool { return strings.HasPrefix(s, "[") }); i >= 0 {
		return "", fmt.Errorf("%w: the slot %s is on its way", errMoved, slots[i])
	}
	return strings.Join(append([]string{fields[6]}, slots...), " "), nil
}
