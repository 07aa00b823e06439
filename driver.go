package wtcache

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
)

// DriverName is the name under which the driver over pgx is registered.
const DriverName = "wtcache"

func init() {
	sql.Register(DriverName, &Driver{base: stdlib.GetDefaultDriver(), fromDSN: true})
}

var (
	_ driver.Driver        = (*Driver)(nil)
	_ driver.DriverContext = (*Driver)(nil)
	_ driver.Connector     = (*connector)(nil)
	_ io.Closer            = (*connector)(nil)
)

// Driver is wtcache over a base driver. sql.Open("wtcache", dsn) uses the one
// over pgx; Register makes others. It is safe for concurrent use.
type Driver struct {
	base    driver.Driver
	cfg     Config
	fromDSN bool    // settings come from the DSN and the environment
	engine  *engine // set on the copy that sql.DB.Driver returns
}

// Register makes wtcache over base available to sql.Open under name, with cfg for
// every *sql.DB opened so; the DSN goes to base as it is. Like sql.Register it
// panics when the name is taken. Faults of cfg are returned by sql.Open.
func Register(name string, base driver.Driver, cfg Config) {
	sql.Register(name, &Driver{base: base, cfg: cfg})
}

// Open opens one connection, which has its own settings, rules and Redis client and
// closes them with itself. database/sql uses OpenConnector instead.
func (d *Driver) Open(dsn string) (driver.Conn, error) {
	dsn, cfg, err := d.settings(dsn)
	if err != nil {
		return nil, err
	}
	e, err := newEngine(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := newConnector(dsnConnector{driver: d.base, dsn: dsn}, e, d).Connect(ctx)
	if err != nil {
		_ = e.close() // the connection's own error says more
		return nil, err
	}
	if owner, ok := c.(interface{ ownEngine() }); ok { // with ModeOff there is nothing to own
		owner.ownEngine()
	}
	return c, nil
}

// settings gives the base's own DSN and what is in force.
func (d *Driver) settings(dsn string) (string, Config, error) {
	if d.fromDSN {
		return configFromDSN(dsn)
	}
	return dsn, d.cfg, nil
}

// OpenConnector reads the settings and the rule files and makes a connector
// without dialling Postgres or Redis. Errors wrap ErrConfig or ErrRules.
func (d *Driver) OpenConnector(dsn string) (driver.Connector, error) {
	dsn, cfg, err := d.settings(dsn)
	if err != nil {
		return nil, err
	}
	base, err := baseConnector(d.base, dsn)
	if err != nil {
		return nil, err
	}
	e, err := newEngine(cfg)
	if err != nil {
		_ = closeBase(base) // the fault of the settings says more
		return nil, err
	}
	return newConnector(base, e, d), nil
}

func newConnector(base driver.Connector, e *engine, d *Driver) *connector {
	e.doubts.connect = base.Connect
	e.openOutbox(base)
	return &connector{base: base, engine: e, driver: d}
}

func baseConnector(base driver.Driver, dsn string) (driver.Connector, error) {
	if dc, ok := base.(driver.DriverContext); ok {
		return dc.OpenConnector(dsn)
	}
	return dsnConnector{driver: base, dsn: dsn}, nil
}

// dsnConnector stands in for a base driver without DriverContext, as
// database/sql's own does.
type dsnConnector struct {
	driver driver.Driver
	dsn    string
}

func (c dsnConnector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }
func (c dsnConnector) Driver() driver.Driver                        { return c.driver }

// NewConnector wraps a base connector, such as stdlib.GetConnector's. The rule
// files are read now; the catalogue is looked at by the first connection. The
// connector has to be closed (sql.DB.Close does it) to stop its background work.
func NewConnector(base driver.Connector, cfg Config) (driver.Connector, error) {
	e, err := newEngine(cfg)
	if err != nil {
		return nil, err
	}
	return newConnector(base, e, &Driver{base: base.Driver(), cfg: cfg}), nil
}

// OpenDB is sql.OpenDB over NewConnector.
func OpenDB(base driver.Connector, cfg Config) (*sql.DB, error) {
	c, err := NewConnector(base, cfg)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(c), nil
}

type connector struct {
	base   driver.Connector
	engine *engine
	driver *Driver // through which the connector was made
}

// Connect opens a base connection, and on the first one holds the rules against
// the live catalogue.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	base, err := c.base.Connect(ctx)
	if err != nil || c.engine.cfg.Mode == ModeOff {
		return base, err
	}
	wrapped, err := newConn(ctx, c.engine, base)
	if err != nil {
		_ = base.Close() // the connection's own error says more
		return nil, err
	}
	return wrapped, nil
}

// Driver gives a Driver that knows this connector, so that CacheOf and StatsOf
// find the way from a *sql.DB.
func (c *connector) Driver() driver.Driver {
	d := *c.driver
	d.engine = c.engine
	return &d
}

// Close stops the background work and closes the Redis client that was made from
// a URL. It is called by sql.DB.Close.
func (c *connector) Close() error {
	err := c.engine.close()
	if cerr := closeBase(c.base); err == nil {
		err = cerr
	}
	return err
}

func closeBase(base driver.Connector) error {
	if closer, ok := base.(io.Closer); ok {
		return closer.Close()
	}
	return nil
}

// engineOf finds the engine behind a *sql.DB.
func engineOf(db *sql.DB) (*engine, error) {
	d, ok := db.Driver().(*Driver)
	if !ok || d.engine == nil {
		return nil, fmt.Errorf("%w: the *sql.DB was not opened through wtcache but through %T", ErrConfig, db.Driver())
	}
	return d.engine, nil
}
