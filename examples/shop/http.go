package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// shop is what the handlers need: the store, or the store with a cache kept by hand.
type shop interface {
	Product(ctx context.Context, id int64) (product, error)
	AddProduct(ctx context.Context, n newProduct) (product, error)
	SetPrice(ctx context.Context, id, cents int64) (product, error)
	ArchiveProduct(ctx context.Context, id int64) (product, error)
	DeleteProduct(ctx context.Context, id int64) error

	User(ctx context.Context, id int64) (user, error)
	UserByEmail(ctx context.Context, email string) (user, error)
	AddUser(ctx context.Context, n newUser) (user, error)
	SetEmail(ctx context.Context, id int64, email string) (user, error)
	DeleteUser(ctx context.Context, id int64) error

	Order(ctx context.Context, id int64) (order, error)
	OrdersOf(ctx context.Context, userID int64) ([]order, error)
	PlaceOrder(ctx context.Context, n newOrder) (order, error)
	SetOrderStatus(ctx context.Context, id int64, status string) (order, error)
	CancelOrder(ctx context.Context, id int64) (cancelled, error)
}

var (
	_ shop = (*store)(nil)
	_ shop = (*dualStore)(nil)
)

type server struct {
	shop   shop
	reader *reader
}

// handler answers a request with something to be sent as JSON, or with an error.
type handler func(r *http.Request) (any, error)

// cacheHit is a document that came from Redis.
type cacheHit []byte

// handler gives the shop's HTTP interface.
func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]handler{
		"GET /products/{id}":          s.getProduct,
		"POST /products":              s.postProduct,
		"PUT /products/{id}/price":    s.putPrice,
		"POST /products/{id}/archive": s.archiveProduct,
		"DELETE /products/{id}":       s.deleteProduct,
		"GET /users":                  s.findUser,
		"GET /users/{id}":             s.getUser,
		"GET /users/{id}/orders":      s.getOrdersOf,
		"POST /users":                 s.postUser,
		"PUT /users/{id}/email":       s.putEmail,
		"DELETE /users/{id}":          s.deleteUser,
		"GET /orders/{id}":            s.getOrder,
		"POST /orders":                s.postOrder,
		"PUT /orders/{id}/status":     s.putStatus,
		"DELETE /orders/{id}":         s.cancelOrder,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { answer(w, r, h) })
	}
	return mux
}

func (s *server) getProduct(r *http.Request) (any, error) {
	return byID(r, func(id int64) (any, error) {
		return s.cached(r, productKey(id), func(ctx context.Context) (any, error) { return s.shop.Product(ctx, id) })
	})
}

func (s *server) postProduct(r *http.Request) (any, error) {
	n, err := body[newProduct](r)
	if err != nil {
		return nil, err
	}
	return s.shop.AddProduct(r.Context(), n)
}

func (s *server) putPrice(r *http.Request) (any, error) {
	return byID(r, func(id int64) (any, error) {
		n, err := body[struct {
			PriceCents int64 `json:"price_cents"`
		}](r)
		if err != nil {
			return nil, err
		}
		return s.shop.SetPrice(r.Context(), id, n.PriceCents)
	})
}

func (s *server) archiveProduct(r *http.Request) (any, error) {
	return byID(r, func(id int64) (any, error) { return s.shop.ArchiveProduct(r.Context(), id) })
}

func (s *server) deleteProduct(r *http.Request) (any, error) {
	return byID(r, func(id int64) (any, error) { return nil, s.shop.DeleteProduct(r.Context(), id) })
}

func (s *server) getUser(r *http.Request) (any, error) {
	return byID(r, func(id int64) (any, error) {
		return s.cached(r, userKey(id), func(ctx context.Context) (any, error) { return s.shop.User(ctx, id) })
	})
}

func (s *server) findUser(r *http.Request) (any, error) {
	email := r.URL.Query().Get("email")
	if err := checkEmail(email); err != nil {
		return nil, err
	}
	return s.cached(r, userEmailKey(email), func(ctx context.Context) (any, error) { return s.shop.UserByEmail(ctx, email) })
}

func (s *server) getOrdersOf(r *http.Request) (any, error) {
	return byID(r, func(id int64) (any, error) {
		return s.cached(r, userOrdersKey(id), func(ctx context.Context) (any, error) { return s.shop.OrdersOf(ctx, id) })
	})
}

func (s *server) postUser(r *http.Request) (any, error) {
	n, err := body[newUser](r)
	if err != nil {
		return nil, err
	}
	if err := checkEmail(n.Email); err != nil {
		return nil, err
	}
	return s.shop.AddUser(r.Context(), n)
}

func (s *server) putEmail(r *http.Request) (any, error) {
	return byID(r, func(id int64) (any, error) {
		n, err := body[struct {
			Email string `json:"email"`
		}](r)
		if err != nil {
			return nil, err
		}
		if err := checkEmail(n.Email); err != nil {
			return nil, err
		}
		return s.shop.SetEmail(r.Context(), id, n.Email)
	})
}

func (s *server) deleteUser(r *http.Request) (any, error) {
	return byID(r, func(id int64) (any, error) { return nil, s.shop.DeleteUser(r.Context(), id) })
}

func (s *server) getOrder(r *http.Request) (any, error) {
	return byID(r, func(id int64) (any, error) {
		return s.cached(r, orderKey(id), func(ctx context.Context) (any, error) { return s.shop.Order(ctx, id) })
	})
}

func (s *server) postOrder(r *http.Request) (any, error) {
	n, err := body[newOrder](r)
	if err != nil {
		return nil, err
	}
	if n.Quantity < 1 {
		return nil, badRequest("quantity is not a positive number")
	}
	return s.shop.PlaceOrder(r.Context(), n)
}

func (s *server) putStatus(r *http.Request) (any, error) {
	return byID(r, func(id int64) (any, error) {
		n, err := body[struct {
			Status string `json:"status"`
		}](r)
		if err != nil {
			return nil, err
		}
		return s.shop.SetOrderStatus(r.Context(), id, n.Status)
	})
}

func (s *server) cancelOrder(r *http.Request) (any, error) {
	return byID(r, func(id int64) (any, error) {
		_, err := s.shop.CancelOrder(r.Context(), id)
		return nil, err
	})
}

func (s *server) cached(r *http.Request, key string, load func(context.Context) (any, error)) (any, error) {
	doc, hit, err := s.reader.read(r.Context(), key, load)
	if hit {
		return cacheHit(doc), nil
	}
	return json.RawMessage(doc), err
}

// badRequest is a fault of the caller's.
type badRequest string

func (b badRequest) Error() string { return string(b) }

// validEmail is narrow on purpose: an address is part of a key, so what a key template would have to escape stays out.
var validEmail = regexp.MustCompile(`^[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+$`)

func checkEmail(email string) error {
	if !validEmail.MatchString(email) {
		return badRequest("email is not an address")
	}
	return nil
}

func byID(r *http.Request, do func(id int64) (any, error)) (any, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return nil, badRequest("id is not a number")
	}
	return do(id)
}

func body[T any](r *http.Request) (v T, err error) {
	const maxBytes = 64 << 10
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBytes)).Decode(&v); err != nil {
		return v, badRequest("body: " + err.Error())
	}
	return v, nil
}

// answer runs a handler. Pages that can come from Redis say so in X-Cache.
func answer(w http.ResponseWriter, r *http.Request, h handler) {
	reply, err := h(r)
	if err != nil {
		status := statusOf(err)
		if status == http.StatusInternalServerError {
			slog.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
		}
		http.Error(w, err.Error(), status)
		return
	}
	var doc []byte
	switch reply := reply.(type) {
	case nil:
		w.WriteHeader(http.StatusNoContent)
		return
	case cacheHit:
		w.Header().Set("X-Cache", "hit")
		doc = reply
	case json.RawMessage:
		w.Header().Set("X-Cache", "miss")
		doc = reply
	default:
		if doc, err = json.Marshal(reply); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(doc) // the client may have gone
}

// statusOf gives the HTTP status of an error. A broken constraint (class 23) is a conflict: no stock, no money, an email
// that somebody has.
func statusOf(err error) int {
	var state interface{ SQLState() string }
	switch {
	case errors.As(err, new(badRequest)):
		return http.StatusBadRequest
	case errors.Is(err, sql.ErrNoRows):
		return http.StatusNotFound
	case errors.As(err, &state) && strings.HasPrefix(state.SQLState(), "23"):
		return http.StatusConflict
	}
	return http.StatusInternalServerError
}
