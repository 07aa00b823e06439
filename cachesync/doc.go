// Package cachesync keeps Redis entries true to a database: the Redis side of
// wtcache's protocol. It knows keys and bytes, and no SQL.
//
// A writer puts a fence on every key that its commit may change, waits for the
// acknowledgement, commits, and ends the fence by the commit's outcome:
//
//	fence, err := client.Fence(ctx, keys) // before anything that can commit is sent
//	…                                     // COMMIT
//	fence.Apply(ctx, entries)             // committed for certain
//	fence.Abort(ctx)                      // rolled back for certain
//	fence.Leave()                         // in doubt: the fence expires by itself
//
// A reader gets the value, or takes a lease, reads the database only after the
// lease was granted, and fills:
//
//	value, ok, err := client.Get(ctx, key, format, schema)
//	lease, err := client.Lease(ctx, key, format, schema)
//	…                                     // BarrierHeld, and only then the database snapshot
//	client.Fill(ctx, lease, entry)
//
// A value lives under its own key (in Versioned, behind a pointer beside it), the
// protocol's state in a short-lived sibling in the same slot, so that a hit is one
// round trip, in most formats a plain GET, and foreign readers see a value or
// nothing. Every step is one script (lua/*.lua) that touches this key and its
// siblings alone, and reads the server's clock. The protocol does not know how
// values are stored: envelope, store, remove and stored_version in lua/head.lua and
// lua/prelude.lua do, Get and lease.lua read, and every step takes an entry away in
// whatever format it is.
//
// Redis 6.2 or later is needed, a single server, Sentinel or Cluster.
package cachesync
