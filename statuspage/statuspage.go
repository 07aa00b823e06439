// Package statuspage serves a page that shows how wtcache does in a program: whether all is well, the rules, counters, plots
// over the last minutes, the last errors and the last audit, and what a statement would do.
//
//	page, err := statuspage.New(db, statuspage.Options{})
//	…
//	defer page.Close()
//	mux.Handle("/debug/wtcache/", protect(page))
//
// The page changes nothing and shows no payloads and no arguments of statements. Texts of errors, and the examples of an audit, name keys. It
// has no log-in of its own: mount it where only those get who may see that, behind the program's own middleware.
//
// It may be mounted at any path that ends in a slash, with http.StripPrefix or without. Everything that it loads is its own and
// relative to that path; its Content-Security-Policy forbids the rest, scripts in the page included.
// Without JavaScript it is the same page, loaded again every ten seconds.
package statuspage

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/wtcache/wtcache"
)

// Defaults of Options.
const (
	DefaultEvery = 5 * time.Second
	// Window is how far back the plots go.
	Window = 15 * time.Minute
)

// Options make a Page. The zero value of each field means its default.
type Options struct {
	// Name says on the page which program this is; "" is the program's file name and the host's name.
	Name string
	// Every is the time between two samples of the plots, at least a second; 0 means DefaultEvery.
	Every time.Duration
	// Context ends the sampling, as Close does; nil means that only Close does.
	Context context.Context
	// NoExplain leaves the box out in which a statement is explained. To explain sends nothing but questions about the
	// catalogue to Postgres, on a connection of the pool.
	NoExplain bool
}

// Page is the handler. It is safe for concurrent use.
type Page struct {
	opts    Options
	source  source
	since   time.Time
	explain *explainBox // nil where it is left out
	handler http.Handler

	stop context.CancelFunc
	done chan struct{} // closed when the sampling has ended

	mu   sync.Mutex // guards ring; nobody is asked under it
	ring ring
}

// source is what a page shows.
type source interface {
	// look gives what is so now. It is asked once a sample and once a request.
	look(ctx context.Context) (view, error)
	// explain says what the statements of a text would do. It runs none.
	explain(ctx context.Context, text string) ([]wtcache.Explanation, error)
}

// view is one look.
type view struct {
	rules   []wtcache.RuleInfo
	stats   *wtcache.Stats        // of this process; nil where there are none
	outside *wtcache.StatusReport // of the servers; nil where they are not asked
}

// New makes the page of a *sql.DB that was opened through wtcache, and begins to sample its counters: the page itself asks
// neither Postgres nor Redis, but to explain. Close ends the sampling; closing the *sql.DB does not. The error wraps wtcache.ErrConfig where the
// *sql.DB was opened otherwise.
func New(db *sql.DB, opts Options) (*Page, error) {
	if _, err := wtcache.StatsOf(db); err != nil {
		return nil, err
	}
	return newPage(inside{db}, opts), nil
}

func newPage(s source, opts Options) *Page {
	if opts.Name == "" {
		opts.Name = programName()
	}
	if opts.Every == 0 {
		opts.Every = DefaultEvery
	}
	opts.Every = max(opts.Every, time.Second)
	ctx := opts.Context
	if ctx == nil {
		ctx = context.Background()
	}
	p := &Page{opts: opts, source: s, since: time.Now(), done: make(chan struct{}), ring: newRing(opts.Every)}
	if !opts.NoExplain {
		p.explain = newExplainBox(s)
	}
	p.handler = p.routes()
	ctx, p.stop = context.WithCancel(ctx)
	go p.sample(ctx)
	return p
}

// programName gives "shop on host".
func programName() string {
	name := "wtcache"
	if len(os.Args) > 0 && os.Args[0] != "" {
		name = filepath.Base(os.Args[0])
	}
	if host, err := os.Hostname(); err == nil {
		name = fmt.Sprintf("%s on %s", name, host)
	}
	return name
}

// Close ends the sampling and waits for its end. The page can still be served; its plots stand still. It returns nil; a
// second call does nothing.
func (p *Page) Close() error {
	p.stop()
	<-p.done
	return nil
}

// ServeHTTP serves the page and what belongs to it by the last element of the path: "" (the page), stats.json, explain, and the
// assets.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.handler.ServeHTTP(w, r) }

// inside shows the counters of this process.
type inside struct{ db *sql.DB }

func (i inside) look(context.Context) (view, error) {
	stats, err := wtcache.StatsOf(i.db)
	if err != nil {
		return view{}, err
	}
	rules, err := wtcache.RulesOf(i.db)
	return view{rules: rules, stats: &stats}, err
}
