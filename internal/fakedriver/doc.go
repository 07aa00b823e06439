// Package fakedriver is a base database/sql driver for tests. It shows any subset of the optional interfaces of
// database/sql/driver, answers what a test scripts, and keeps a log of what it was asked.
//
// Nothing in it waits by the clock: a reply may wait for a channel, or for the call's context.
package fakedriver

//go:generate go run ./gen
