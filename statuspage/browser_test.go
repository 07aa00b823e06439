package statuspage_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
	"github.com/wtcache/wtcache/statuspage"
)

var update = flag.Bool("update", false, "write the screenshots of the documentation again")

// browser is a headless Chromium that notes what it should not have to.
type browser struct {
	ctx context.Context

	mu       sync.Mutex // guards both below
	problems []string   // of the console
	asked    []string   // addresses
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	flags := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(testenv.Chromium(t)), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.WSURLReadTimeout(time.Minute))
	// Not the test's context, whose end would leave a process that still writes into its folder.
	ctx, stop := chromedp.NewExecAllocator(context.Background(), flags...)
	t.Cleanup(stop)
	tab, _ := chromedp.NewContext(ctx)
	t.Cleanup(func() { _ = chromedp.Cancel(tab) }) // waits for the browser's end; its folder goes with it
	ctx, cancel := context.WithTimeout(tab, 2*time.Minute)
	t.Cleanup(cancel)
	if err := chromedp.Run(tab); err != nil { // the browser's life is the tab's, not that of the first call
		t.Fatal(err)
	}
	b := &browser{ctx: ctx}
	chromedp.ListenTarget(ctx, b.note)
	b.do(t, network.Enable(), cdplog.Enable(), runtime.Enable())
	return b
}

func (b *browser) note(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		b.asked = append(b.asked, e.Request.URL)
	case *cdplog.EventEntryAdded: // among them what the Content-Security-Policy has stopped
		b.problems = append(b.problems, e.Entry.Text)
	case *runtime.EventExceptionThrown:
		b.problems = append(b.problems, e.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		b.problems = append(b.problems, fmt.Sprintf("console.%s", e.Type))
	}
}

func (b *browser) do(t *testing.T, actions ...chromedp.Action) {
	t.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		t.Fatal(errors.Join(err, context.Cause(b.ctx)))
	}
}

// clean fails where the page complained, or asked anybody but its own program.
func (b *browser) clean(t *testing.T, at string) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.problems) > 0 {
		t.Errorf("the console shows %q", b.problems)
	}
	for _, url := range b.asked {
		if !strings.HasPrefix(url, at) {
			t.Errorf("the page asked %s, which is not its own: behind a firewall it would not load, and it would tell others who looks", url)
		}
	}
	if len(b.asked) < 4 {
		t.Errorf("only %q were asked: this test saw nothing", b.asked)
	}
}

func (b *browser) value(t *testing.T, script string) (v string) {
	t.Helper()
	b.do(t, chromedp.Evaluate("String("+script+")", &v))
	return v
}

func (b *browser) eventually(t *testing.T, script string) {
	t.Helper()
	eventually(t, script, func() bool { return b.value(t, script) == "true" })
}

func (b *browser) size(t *testing.T, width, height int64, dark bool) {
	t.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	b.do(t, emulation.SetDeviceMetricsOverride(width, height, 1, width < 600),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}))
}

// Whoever looks at the page in a browser sees numbers that move while the program works, and can ask what a statement does.
func TestInBrowser(t *testing.T) {
	t.Parallel()
	s := newShop(t, testenv.Redis(t))
	at := s.serve(t, statuspage.Options{Name: "shop", Every: time.Second})
	b := newBrowser(t)
	b.size(t, 1200, 900, false)
	b.do(t, chromedp.Navigate(at), chromedp.WaitVisible("#headline"))
	const committed = `document.querySelector('[data-counter="committed"]').textContent`
	if got := b.value(t, committed); got != "0" {
		t.Fatalf("%s committed before the first write", got)
	}
	s.exec(t, "INSERT INTO users VALUES (1, 'a', 'b')")
	b.eventually(t, committed+` === "1"`)
	b.eventually(t, `document.querySelectorAll("#f-rate path.line").length > 0`)

	b.do(t, chromedp.SetValue("#sql", "UPDATE users SET name = '<img src=x onerror=alert(1)>' WHERE id = 1"), chromedp.Submit("#sql"))
	b.eventually(t, `document.querySelectorAll("#answer .explained").length === 1`)
	if got := b.value(t, `document.querySelector("#answer").textContent`); !strings.Contains(got, "precise") || !strings.Contains(got, "<img src=x") {
		t.Errorf("the answer is %q", got)
	}
	if got := b.value(t, `document.querySelectorAll("img[onerror]").length`); got != "0" {
		t.Error("the statement's text became markup")
	}
	b.do(t, chromedp.Evaluate(`document.getElementById("d-samples").open = true`, nil))
	s.exec(t, "UPDATE users SET name = 'c' WHERE id = 1")
	b.eventually(t, committed+` === "2"`)
	if b.value(t, `document.getElementById("d-samples").open`) != "true" {
		t.Error("what was opened is closed by the next refresh")
	}
	b.clean(t, at)
}

// On a phone nothing may stick out to the side, and in the dark the page is dark.
func TestPhoneAndDark(t *testing.T) {
	t.Parallel()
	s := newShop(t, testenv.Redis(t))
	at := s.serve(t, statuspage.Options{Name: "a-program-with-a-rather-long-name on a-host-with-a-rather-long-name.example.internal", Every: time.Second})
	s.exec(t, "INSERT INTO users VALUES (1, 'a', 'b')")
	b := newBrowser(t)
	b.size(t, 360, 740, true)
	b.do(t, chromedp.Navigate(at), chromedp.WaitVisible("#headline"))
	b.do(t, chromedp.SetValue("#sql", "WITH a AS (SELECT 1) UPDATE users SET name = 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' WHERE id = 1"), chromedp.Submit("#sql"))
	b.eventually(t, `document.querySelectorAll("#answer .explained").length === 1`)
	b.do(t, chromedp.Evaluate(`document.querySelectorAll("details").forEach((d) => { d.open = true; })`, nil))
	if got := b.value(t, `document.documentElement.scrollWidth`); got != "360" {
		t.Errorf("the page is %s wide on a screen of 360: it scrolls to the side", got)
	}
	if got := b.value(t, `getComputedStyle(document.body).backgroundColor`); got != "rgb(20, 20, 19)" {
		t.Errorf("the background is %s in dark mode", got)
	}
	if got := b.value(t, `[...document.querySelectorAll("button, textarea")].filter((e) => !(e.labels && e.labels.length) && !e.textContent.trim()).length`); got != "0" {
		t.Errorf("%s controls have no label", got)
	}
	b.clean(t, at)
}

// The screenshots of docs/STATUS.md are of the page as it is. Without -update this test is skipped: it takes half a minute.
func TestScreenshots(t *testing.T) {
	if !*update {
		t.Skip("-update writes docs/images/status*.png")
	}
	s := shopIn(t, testenv.NewPostgres(t, testenv.PostgresOptions{}).URL, "public", "", "mail IS NOT NULL", testenv.NewRedis(t).URL)
	at := s.serve(t, statuspage.Options{Name: "shop on web-1", Every: time.Second})
	ctx, stop := context.WithCancel(t.Context())
	var worker sync.WaitGroup
	worker.Go(func() { work(ctx, t, s) })
	defer worker.Wait()
	defer stop()
	time.Sleep(workFor) // so that the plots show something
	b := newBrowser(t)
	shoot := func(name string, width, height int64, dark bool) {
		b.size(t, width, height, dark)
		b.do(t, chromedp.Navigate(at), chromedp.WaitVisible("#headline"))
		var picture []byte
		b.do(t, chromedp.ActionFunc(func(ctx context.Context) (err error) {
			picture, err = page.CaptureScreenshot().Do(ctx)
			return err
		}))
		if len(picture) > 200_000 {
			t.Errorf("%s is of %d bytes", name, len(picture))
		}
		if err := os.WriteFile("../docs/images/"+name, picture, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll("../docs/images", 0o755); err != nil {
		t.Fatal(err)
	}
	shoot("status.png", 1180, 1340, false)
	shoot("status-phone.png", 390, 844, true)
}

// work is what a shop does, until the context ends.
func work(ctx context.Context, t *testing.T, s *shop) {
	users, err := wtcache.ReaderOf[map[string]any](s.db, "users.by_id")
	if err != nil {
		t.Error(err)
		return
	}
	exec := func(text string, args ...any) {
		if _, err := s.db.ExecContext(ctx, text, args...); err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	}
	for i := range 200 {
		exec("INSERT INTO users VALUES ($1, 'm' || $1::int, 'name')", i)
	}
	for i := 0; ctx.Err() == nil; i++ {
		id := (i*i + i/7) % 230 % 200
		if _, err := users.Get(ctx, id); err != nil && ctx.Err() == nil {
			t.Error(err)
		}
		switch {
		case i%9 == 0:
			exec("UPDATE users SET name = $1 WHERE id = $2", fmt.Sprint(i), i%190)
		case i%25 == 0:
			_, _ = s.db.ExecContext(ctx, "WITH a AS (SELECT 1) INSERT INTO orders VALUES ($1, $2, 'open')", i, id)
		case i == 1500:
			exec("TRUNCATE orders")
		}
		if i%4 == 0 { // a row that nobody has written through: a miss
			_, _ = users.Get(ctx, 100_000+i)
		}
		time.Sleep(time.Duration(2+(i/400)%5) * time.Millisecond) // a shop, not a benchmark
	}
}

const workFor = 55 * time.Second
