package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/wtcache/wtcache/statuspage"
)

// listen serves the page until the command is interrupted.
func listen(cmd *cobra.Command, s *settings, address string) error {
	base, cfg, err := s.open()
	if err != nil {
		return err
	}
	cfg.Logger = slog.New(slog.DiscardHandler)
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", address, err)
	}
	ip := l.Addr().(*net.TCPAddr).IP
	if !ip.IsLoopback() {
		fmt.Fprintf(cmd.ErrOrStderr(), "wtcache: warning: the page has no log-in and %s is not this machine alone: whoever reaches it sees rules, findings and errors. Listen on 127.0.0.1 and use a tunnel, or put a proxy with a log-in before it.\n", l.Addr())
	}
	page := statuspage.NewOutside(base, cfg, statuspage.Options{Name: "wtcache status"})
	defer page.Close()
	server := &http.Server{Handler: ownHost(page, ip.IsLoopback()), ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return cmd.Context() }}
	fmt.Fprintf(cmd.OutOrStdout(), "http://%s/\n", l.Addr())
	stop := context.AfterFunc(cmd.Context(), func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	}
	return nil
}

// ownHost keeps web pages of others from reading a page on this machine by a name of theirs that leads here (DNS rebinding).
func ownHost(next http.Handler, loopback bool) http.Handler {
	if !loopback {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			http.Error(w, "this page is for localhost", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
