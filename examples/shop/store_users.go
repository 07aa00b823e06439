package main

import (
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"time"
)

// user is a row of users, and its JSON. The hash of the password is never read here.
type user struct {
	ID           int64     `json:"id"`
	Email        string    `json:"email"`
	Name         string    `json:"name"`
	BalanceCents int64     `json:"balance_cents"`
	CreatedAt    time.Time `json:"created_at"`
}

const userColumns = "id, email, name, balance_cents, created_at"

func scanUser(row *sql.Row) (u user, err error) {
	err = row.Scan(&u.ID, &u.Email, &u.Name, &u.BalanceCents, &u.CreatedAt)
	u.CreatedAt = u.CreatedAt.UTC()
	return u, err
}

func (s *store) User(ctx context.Context, id int64) (user, error) {
	return scanUser(s.db.QueryRowContext(ctx, "SELECT "+userColumns+" FROM users WHERE id = $1", id))
}

func (s *store) UserByEmail(ctx context.Context, email string) (user, error) {
	return scanUser(s.db.QueryRowContext(ctx, "SELECT "+userColumns+" FROM users WHERE email = $1", email))
}

// newUser is what AddUser needs to know.
type newUser struct {
	Email        string `json:"email"`
	Name         string `json:"name"`
	Password     string `json:"password"`
	BalanceCents int64  `json:"balance_cents"`
}

func (s *store) AddUser(ctx context.Context, n newUser) (user, error) {
	hash, err := hashPassword(n.Password)
	if err != nil {
		return user{}, err
	}
	return scanUser(s.db.QueryRowContext(ctx,
		"INSERT INTO users (email, name, balance_cents, password_hash) VALUES ($1, $2, $3, $4) RETURNING "+userColumns,
		n.Email, n.Name, n.BalanceCents, hash))
}

func hashPassword(password string) (string, error) {
	const rounds, bytes = 210_000, 32
	salt := make([]byte, 16)
	rand.Read(salt)
	hash, err := pbkdf2.Key(sha256.New, password, salt, rounds, bytes)
	if err != nil {
		return "", fmt.Errorf("hash the password: %w", err)
	}
	return hex.EncodeToString(salt) + ":" + hex.EncodeToString(hash), nil
}

func (s *store) SetEmail(ctx context.Context, id int64, email string) (user, error) {
	return scanUser(s.db.QueryRowContext(ctx,
		"UPDATE users SET email = $2 WHERE id = $1 RETURNING "+userColumns, id, email))
}

// DeleteUser refuses where the user has orders: the foreign key says so.
func (s *store) DeleteUser(ctx context.Context, id int64) error {
	return deleted(s.db.ExecContext(ctx, "DELETE FROM users WHERE id = $1", id))
}

// moveBalance adds to a user's balance; the table's own check keeps it from going below zero.
func moveBalance(ctx context.Context, q querier, id, byCents int64) (user, error) {
	return scanUser(q.QueryRowContext(ctx,
		"UPDATE users SET balance_cents = balance_cents + $2 WHERE id = $1 RETURNING "+userColumns, id, byCents))
}
