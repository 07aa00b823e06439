package statuspage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/wtcache/wtcache"
)

const (
	maxExplained    = 64 << 10 // bytes of a text
	explainPatience = 10 * time.Second
	explainAtATime  = 2
)

// explainBox answers what statements would do. Few at a time: the page must not take the program's connections.
type explainBox struct {
	source source
	turns  chan struct{}
}

func newExplainBox(s source) *explainBox {
	return &explainBox{source: s, turns: make(chan struct{}, explainAtATime)}
}

// explained is an answer, for the template.
type explained struct {
	Text  string
	Error string
	All   []wtcache.Explanation
	Asked bool
}

var errTooLong = fmt.Errorf("the text is longer than %d KiB; explain its statements in parts, or use wtcache explain", maxExplained>>10)

func (b *explainBox) answer(ctx context.Context, text string) (explained, int) {
	e := explained{Text: text, Asked: true}
	if strings.TrimSpace(text) == "" {
		e.Error = "there is nothing to explain: write a statement, such as UPDATE users SET name = $1 WHERE id = $2"
		return e, http.StatusBadRequest
	}
	ctx, cancel := context.WithTimeout(ctx, explainPatience)
	defer cancel()
	select {
	case b.turns <- struct{}{}:
		defer func() { <-b.turns }()
	case <-ctx.Done():
		e.Error = "others are being answered; try again"
		return e, http.StatusServiceUnavailable
	}
	var err error
	if e.All, err = b.source.explain(ctx, text); err != nil {
		e.Error = err.Error()
		return e, http.StatusServiceUnavailable
	}
	return e, http.StatusOK
}

// textOf reads the form's field.
func textOf(w http.ResponseWriter, r *http.Request) (string, error) {
	r.Body = http.MaxBytesReader(w, r.Body, 4*maxExplained) // percent-encoded
	if err := r.ParseForm(); err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return "", errTooLong
		}
		return "", fmt.Errorf("read the form: %w", err)
	}
	text := r.PostForm.Get("sql")
	if len(text) > maxExplained {
		return text[:1000] + " …", errTooLong
	}
	return text, nil
}

func (i inside) explain(ctx context.Context, text string) ([]wtcache.Explanation, error) {
	x, err := wtcache.ExplainerOf(ctx, i.db)
	if err != nil {
		return nil, err
	}
	return x.Explain(text)
}
