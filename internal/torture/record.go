package torture

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/wtcache/wtcache/internal/linear"
)

// now is the time in nanoseconds by the clock that all processes of a machine share and that nobody sets.
func now() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // every system that Go runs on has it
	}
	return t.Nano()
}

// outcome is what a client was told of its write.
type outcome string

const (
	done    outcome = "done"    // committed
	nothing outcome = "nothing" // committed, and no row was there to be written (or one was there already)
	refused outcome = "refused" // certain not to be committed
	unknown outcome = "unknown"
)

// record is a line of a process's history: an operation on one row. A write has two lines, one before anything is sent and one
// when it has returned, with the same Op; where the second is missing its process was killed. A read has one.
type record struct {
	Op     int64       `json:"op"`
	Client int         `json:"client"`
	Key    int         `json:"key"`
	Kind   linear.Kind `json:"kind"`
	Value  int         `json:"value"`
	// Call and Return are times of now; Return is 0 in the line before.
	Call    int64   `json:"call"`
	Return  int64   `json:"return,omitempty"`
	Outcome outcome `json:"outcome,omitempty"`
	Cached  bool    `json:"cached,omitempty"` // a read that Redis served
	Failed  bool    `json:"failed,omitempty"` // a read that ended in an error, and tells nothing
	Way     string  `json:"way"`
	Error   string  `json:"error,omitempty"`
}

// journal is the file of one process. Lines go to the system one by one: what was written is not lost with the process.
// It is safe for concurrent use.
type journal struct{ file *os.File }

func openJournal(path string) (*journal, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &journal{f}, nil
}

// add appends lines in one call. A process that cannot take down what it does must not do it.
func (j *journal) add(records ...record) {
	var lines bytes.Buffer
	enc := json.NewEncoder(&lines)
	for _, r := range records {
		if err := enc.Encode(r); err != nil {
			panic(err)
		}
	}
	if _, err := j.file.Write(lines.Bytes()); err != nil {
		panic(fmt.Errorf("write the history: %w", err))
	}
}

// readJournal reads the whole lines from an offset on, and gives the offset behind them. Of two lines of an operation the
// second counts.
func readJournal(path string, from int64) (all []record, next int64, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, from, nil
	}
	if err != nil {
		return nil, from, err
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return nil, from, err
	}
	place := map[int64]int{}
	in := bufio.NewReaderSize(f, 1<<20)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return all, from, nil // a line that a process was killed in the middle of tells nothing
		}
		if err != nil {
			return nil, from, err
		}
		from += int64(len(line))
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, from, fmt.Errorf("read the history %s: %w", path, err)
		}
		if at, seen := place[r.Op]; seen {
			all[at] = r
			continue
		}
		place[r.Op] = len(all)
		all = append(all, r)
	}
}
