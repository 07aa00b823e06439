package wtcache

import "database/sql"

// CatalogueChanged makes the next reader and writer look at the catalogue again.
func CatalogueChanged(db *sql.DB) {
	if e, err := engineOf(db); err == nil {
		e.catalogueChanged()
	}
}
