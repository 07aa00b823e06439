package wtcache

import "database/sql"

// CatalogueChanged makes the next reader and writer look at the catalogue again.
func CatalogueChanged(db *sql.DB) {
	if e, err := engineOf(db); err == nil {
		e.catalogueChanged()
	}
}

// NextEpoch begins the next epoch: what is known of the catalogue is due to be looked at.
func NextEpoch(db *sql.DB) {
	if e, err := engineOf(db); err == nil {
		e.epochStart.Store(0)
	}
}
