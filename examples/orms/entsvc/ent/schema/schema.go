// Package schema is what ent's code is generated from.
package schema

import (
	"time"

	"entgo.io/ent"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
)

// User is the table users.
type User struct{ ent.Schema }

// Fields of users.
func (User) Fields() []ent.Field {
	return []ent.Field{
		field.Int64("id"),
		field.String("email").Unique(),
		field.String("name"),
		field.Int64("balance_cents").NonNegative(),
		field.Time("created_at").Default(time.Now).Immutable(),
		field.Time("deleted_at").Optional().Nillable(),
	}
}

// Edges of users.
func (User) Edges() []ent.Edge {
	return []ent.Edge{edge.To("orders", Order.Type).Annotations(entsql.OnDelete(entsql.Cascade))}
}

// Order is the table orders.
type Order struct{ ent.Schema }

// Fields of orders.
func (Order) Fields() []ent.Field {
	return []ent.Field{
		field.Int64("id"),
		field.Int64("user_id"),
		field.Int64("total_cents").NonNegative(),
		field.String("status").Default("placed"),
		field.Time("created_at").Default(time.Now).Immutable(),
	}
}

// Edges of orders.
func (Order) Edges() []ent.Edge {
	return []ent.Edge{edge.From("user", User.Type).Ref("orders").Field("user_id").Unique().Required()}
}
