package statuspage

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"html/template"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
)

//go:embed assets
var assets embed.FS

var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"duration": shortDuration, "ago": ago, "grouped": grouped, "bytes": bytesText, "clock": clock,
	"dash": func(f *float64, as string) string {
		return orDash(f, map[string]func(float64) string{"time": shortDuration, "percent": percent, "rate": rate, "count": count}[as])
	},
	"mark": func(l Level) string { return map[Level]string{Healthy: "✓", Warning: "!", Unhealthy: "✕"}[l] },
}).ParseFS(assets, "assets/*.html"))

func clock(t time.Time) string { return t.Format("15:04:05") }

// policy lets the page load what is its own and nothing else; no script and no style may stand in the page itself.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// routes serves by the last element of the path, so that the page works under any prefix, cut off or not.
func (p *Page) routes() http.Handler {
	forms := http.NewCrossOriginProtection().Handler(http.HandlerFunc(p.serveExplain))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		name := path.Base(r.URL.Path)
		if r.URL.Path == "" || strings.HasSuffix(r.URL.Path, "/") {
			name = ""
		}
		if name == "explain" && p.explain != nil && r.Method == http.MethodPost {
			forms.ServeHTTP(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "the page is read-only: GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		p.serveGet(w, r, name)
	})
}

func (p *Page) serveGet(w http.ResponseWriter, r *http.Request, name string) {
	switch name {
	case "":
		if needsSlash(r) {
			w.Header().Set("Location", "./"+url.PathEscape(path.Base(originalPath(r)))+"/")
			w.WriteHeader(http.StatusMovedPermanently)
			return
		}
		p.servePage(w, r, "page.html", explained{}, http.StatusOK)
	case "live":
		p.servePage(w, r, "live.html", explained{}, http.StatusOK)
	case "explain":
		p.servePage(w, r, "page.html", explained{}, http.StatusOK)
	case "stats.json":
		p.serveStats(w, r)
	case "style.css", "live.js", "icon.svg":
		serveAsset(w, r, name)
	default:
		http.NotFound(w, r)
	}
}

// originalPath is the path that the client asked for, before a prefix was cut off.
func originalPath(r *http.Request) string {
	u, err := url.ParseRequestURI(r.RequestURI)
	if err != nil {
		return "/"
	}
	return u.Path
}

// needsSlash says whether relative addresses would lead beside the page: it was asked for as /status, not as /status/.
func needsSlash(r *http.Request) bool {
	return r.URL.Path == "" && r.RequestURI != "" && !strings.HasSuffix(originalPath(r), "/")
}

func serveAsset(w http.ResponseWriter, r *http.Request, name string) {
	content, err := assets.ReadFile("assets/" + name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	sum := sha256.Sum256(content)
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:8])+`"`)
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
}

func (p *Page) serveStats(w http.ResponseWriter, r *http.Request) {
	report, err := p.Report(r.Context())
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	_ = out.Encode(report) // the client has gone
}

func (p *Page) serveExplain(w http.ResponseWriter, r *http.Request) {
	answer, status := explained{Asked: true}, http.StatusBadRequest
	text, err := textOf(w, r)
	switch {
	case err != nil:
		answer.Text, answer.Error = text, err.Error()
		if err == errTooLong {
			status = http.StatusRequestEntityTooLarge
		}
	default:
		answer, status = p.explain.answer(r.Context(), text)
	}
	name := "page.html"
	if r.Form.Get("part") != "" { // the script asks for the answer alone; in the address, which is read where the form is too long
		name = "answer.html"
	}
	p.servePage(w, r, name, answer, status)
}

// shown is what the templates get.
type shown struct {
	*Report
	Figures  []figure
	Minutes  []Sample // a sample a minute, the newest first
	Groups   []group
	Reasons  map[string]uint64
	Breaker  bool
	HasStats bool
	Latest   Sample
	Box      bool
	Answer   explained
	Checked  *auditView // the last audit
	Ends     string     // why the plots stand still
}

func (p *Page) servePage(w http.ResponseWriter, r *http.Request, name string, answer explained, status int) {
	s := shown{Box: p.explain != nil, Answer: answer}
	if name != "answer.html" {
		s.Report, _ = p.Report(r.Context()) // what went wrong is a sign of its health
		s.fill(p)
	}
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, s); err != nil {
		http.Error(w, "wtcache: the page cannot be made: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = b.WriteTo(w) // the client has gone
	}
}

func (s *shown) fill(p *Page) {
	for _, one := range plots(s.Servers != nil) {
		s.Figures = append(s.Figures, one.draw(s.Samples, s.Time))
	}
	if n := len(s.Samples); n > 0 {
		s.Latest = s.Samples[n-1]
	}
	for i := len(s.Samples) - 1; i >= 0; i-- {
		if n := len(s.Minutes); n == 0 || s.Minutes[n-1].Time.Sub(s.Samples[i].Time) >= time.Minute-p.opts.Every/2 {
			s.Minutes = append(s.Minutes, s.Samples[i])
		}
	}
	select {
	case <-p.done:
		s.Ends = "The sampling has ended: the plots stand still."
	default:
	}
	if s.stats == nil {
		return
	}
	s.HasStats, s.Groups, s.Reasons, s.Breaker = true, groupsOf(s.minuteBefore, s.stats), s.stats.CoarseReasons, s.stats.BreakerOpen
	s.Checked = auditOf(s.stats)
}
