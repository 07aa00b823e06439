-- name: CreateUser :one
INSERT INTO users (email, name, balance_cents) VALUES ($1, $2, $3) RETURNING *;

-- name: UpsertUser :one
INSERT INTO users (email, name, balance_cents) VALUES ($1, $2, 0)
ON CONFLICT (email) DO UPDATE SET name = excluded.name, deleted_at = NULL
RETURNING *;

-- name: Rename :execrows
UPDATE users SET name = $2 WHERE id = $1 AND deleted_at IS NULL;

-- name: ChangeEmail :execrows
UPDATE users SET email = $2 WHERE id = $1 AND deleted_at IS NULL;

-- name: AddToBalance :execrows
UPDATE users SET balance_cents = balance_cents + sqlc.arg(cents)
WHERE id = $1 AND balance_cents + sqlc.arg(cents) >= 0 AND deleted_at IS NULL;

-- name: CloseUser :execrows
UPDATE users SET deleted_at = now() WHERE id = $1 AND deleted_at IS NULL;

-- name: EraseUser :execrows
DELETE FROM users WHERE id = $1;

-- name: CreateOrders :many
INSERT INTO orders (user_id, total_cents)
SELECT sqlc.arg(user_id)::bigint, unnest(sqlc.arg(totals)::bigint[])
RETURNING *;

-- name: SetStatus :execrows
UPDATE orders SET status = sqlc.arg(new_status) WHERE user_id = sqlc.arg(user_id) AND status = sqlc.arg(old_status);

-- name: DeleteOrder :execrows
DELETE FROM orders WHERE id = $1;

-- name: Orders :many
SELECT * FROM orders WHERE user_id = $1 ORDER BY id;

-- name: User :one
SELECT * FROM users WHERE id = $1 AND deleted_at IS NULL;

-- name: UserByEmail :one
SELECT * FROM users WHERE email = $1 AND deleted_at IS NULL;

-- name: Order :one
SELECT * FROM orders WHERE id = $1;
