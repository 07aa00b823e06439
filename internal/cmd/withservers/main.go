// Command withservers runs a command with a Postgres and a Redis of its own:
//
//	withservers [--] COMMAND [ARGUMENT]...
//
// The command finds them in WTCACHE_TEST_DATABASE_URL and WTCACHE_TEST_REDIS_URL, and the binaries they were started from
// in WTCACHE_TEST_POSTGRES_BIN and WTCACHE_TEST_REDIS_BIN. A server that the environment already names is used as it is.
// Standard output is the command's alone. The exit code is the command's, or 128 and the number of the signal that ended it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/wtcache/wtcache/internal/testenv"
)

// Exit codes as a shell gives them.
const (
	exitUsage     = 2
	exitNoServers = 125
	exitNotFound  = 127
	exitSignal    = 128
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "usage: withservers [--] COMMAND [ARGUMENT]...")
		return exitUsage
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM)

	env, sig, err := start(signals)
	if err != nil {
		fmt.Fprintln(os.Stderr, "withservers:", err)
		return exitNoServers
	}
	code := exitSignal
	if sig != nil {
		code += int(sig.(syscall.Signal))
	} else {
		announce(env)
		code = supervise(env, args, signals)
	}
	if err := env.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "withservers:", err)
		if code == 0 {
			code = exitNoServers
		}
	}
	return code
}

// start starts the servers. A signal that arrives meanwhile is returned with what was started.
func start(signals <-chan os.Signal) (*testenv.Env, os.Signal, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	type result struct {
		env *testenv.Env
		err error
	}
	started := make(chan result, 1)
	go func() {
		env, err := testenv.Start(ctx, testenv.Options{})
		started <- result{env, err}
	}()
	select {
	case r := <-started:
		return r.env, nil, r.err
	case sig := <-signals:
		cancel()
		r := <-started
		return r.env, sig, r.err
	}
}

func announce(env *testenv.Env) {
	if env.Folder != "" {
		fmt.Fprintf(os.Stderr, "withservers: private servers in %s, removed at the end\n", env.Folder)
	}
	if !env.RealRedis {
		fmt.Fprintln(os.Stderr, "withservers: no redis-server found: miniredis stands in")
	}
}

// supervise runs the command to its end and passes signals on.
//
// Under a terminal the command stays in this process' group: it can read the terminal, and Ctrl-C reaches it from there, so
// that passing the signal on would deliver it twice. Without one it gets a group of its own, which every signal is sent to.
func supervise(env *testenv.Env, args []string, signals <-chan os.Signal) int {
	terminal := hasTerminal()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), variables(env)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: !terminal}
	waited, err := env.StartCommand(cmd)
	if err != nil {
		fmt.Fprintln(os.Stderr, "withservers:", err)
		return exitNotFound
	}
	done := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		waited()
		done <- err
	}()
	for {
		select {
		case err := <-done:
			return exitCode(err)
		case sig := <-signals:
			pass(sig.(syscall.Signal), cmd.Process.Pid, terminal)
		}
	}
}

func pass(sig syscall.Signal, pid int, terminal bool) {
	switch {
	case !terminal:
		_ = syscall.Kill(-pid, sig) // it may have ended just now
	case sig != syscall.SIGINT && sig != syscall.SIGQUIT:
		_ = syscall.Kill(pid, sig)
	}
}

// hasTerminal reports whether a terminal controls this process, wherever its standard streams lead.
func hasTerminal() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	tty.Close()
	return true
}

func variables(env *testenv.Env) []string {
	vars := []string{
		"WTCACHE_TEST_DATABASE_URL=" + env.DatabaseURL,
		"WTCACHE_TEST_REDIS_URL=" + env.RedisURL,
		"WTCACHE_TEST_POSTGRES_BIN=" + env.PostgresBin,
		"WTCACHE_TEST_REDIS_BIN=" + env.RedisBin,
	}
	if !env.RealRedis {
		vars = append(vars, "WTCACHE_TEST_REDIS_FAKE=1")
	}
	if env.ManyDatabases {
		vars = append(vars, "WTCACHE_TEST_REDIS_MANY="+env.RedisURL) // said of this one alone
	}
	return vars
}

func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &exit):
		fmt.Fprintln(os.Stderr, "withservers:", err)
		return exitNotFound
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exitSignal + int(status.Signal())
	}
	return exit.ExitCode()
}
