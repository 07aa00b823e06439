// Package linear checks whether what concurrent clients of a cache were told could have come from one row a key that changes at
// once: whether each operation seems to happen at one moment between its call and its return. For a cache beside a database that
// says more than "nothing older than what was acknowledged": once any reader has seen a new value, no later one sees an old value.
//
// A History takes down what the clients of a test did, Run has them do it, Delays holds their messages up at random, and Check
// has Porcupine (github.com/anishathalye/porcupine) look for an order that explains it.
package linear
