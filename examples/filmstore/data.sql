-- The sample's rows: a few thousand, the same at every load.

BEGIN;

INSERT INTO language (iso_code, name)
VALUES ('en', 'English'), ('de', 'German'), ('fr', 'French'), ('it', 'Italian'), ('ja', 'Japanese'), ('es', 'Spanish');

INSERT INTO country (iso_code, name)
SELECT chr(65 + n / 26) || chr(65 + n % 26), 'Country ' || n FROM generate_series(0, 39) n;

INSERT INTO city (country_id, name)
SELECT 1 + n % 40, 'City ' || n FROM generate_series(0, 119) n;

INSERT INTO address (city_id, street, district, postal_code, phone, location)
SELECT 1 + n % 120, (1 + n % 97) || ' Main Street', CASE WHEN n % 3 > 0 THEN 'District ' || n % 11 END,
    lpad((n * 37 % 100000)::text, 5, '0'), '+1 555 ' || lpad(n::text, 4, '0'),
    CASE WHEN n % 4 > 0 THEN (n % 90, n % 180)::geo_point END
FROM generate_series(1, 620) n;

-- The reference from store to staff is looked at when the transaction commits.
INSERT INTO store (store_id, slug, address_id, manager_staff_id, opening_hours)
SELECT n, (ARRAY['harbour', 'old-town', 'station', 'university'])[n], n, 3 * n - 2,
    jsonb_build_object('mon-fri', '10-20', 'sat', CASE WHEN n % 2 = 0 THEN '10-18' END)
FROM generate_series(1, 4) n;

INSERT INTO staff (staff_id, store_id, username, email, full_name, password_hash, api_token, picture, active)
SELECT n, 1 + (n - 1) / 3, 'staff' || n, 'staff' || n || '@filmstore.example', 'Staff Member ' || n,
    'hash$' || md5('staff' || n), CASE WHEN n % 2 = 0 THEN md5('token' || n) END,
    CASE WHEN n % 3 = 0 THEN decode(md5('picture' || n), 'hex') END, n <> 12
FROM generate_series(1, 12) n;

SELECT setval(pg_get_serial_sequence('store', 'store_id'), 4), setval(pg_get_serial_sequence('staff', 'staff_id'), 12);

INSERT INTO category (slug, name)
SELECT lower(name), name FROM unnest(ARRAY['Action', 'Animation', 'Children', 'Classics', 'Comedy', 'Documentary', 'Drama', 'Family',
    'Foreign', 'Games', 'Horror', 'Music', 'New', 'Science', 'Sports', 'Travel']) name;

INSERT INTO actor (first_name, last_name, born)
SELECT (ARRAY['Ann', 'Ben', 'Cleo', 'Dan', 'Eva', 'Finn', 'Gwen', 'Hal', 'Ida', 'Jon'])[1 + n % 10], 'Player ' || n,
    CASE WHEN n % 7 > 0 THEN date '1930-01-01' + n * 137 END
FROM generate_series(1, 200) n;

INSERT INTO film (slug, title, description, release_year, language_id, original_language_id, rental_days, rental_rate, replacement_cost,
    length_minutes, rating, special_features, extras)
SELECT lower(first || '-' || second || '-' || n), first || ' ' || second || ' ' || n, CASE WHEN n % 9 > 0 THEN 'A story of a ' || lower(second) END,
    1950 + n % 75, 1 + n % 2, CASE WHEN n % 5 = 0 THEN 3 END, 3 + n % 5, 0.99 + n % 5, 9.99 + n % 20,
    CASE WHEN n % 50 > 0 THEN 46 + n % 140 END, (enum_range(NULL::film_rating))[1 + n % 5],
    (ARRAY['Trailers', 'Commentaries', 'Deleted Scenes', 'Behind the Scenes'])[1:n % 5],
    CASE WHEN n % 3 = 0 THEN jsonb_build_object('discs', 1 + n % 2, 'region', n % 6) ELSE '{}' END
FROM generate_series(1, 500) n
CROSS JOIN LATERAL (SELECT (ARRAY['Silent', 'Golden', 'Lost', 'Paper', 'Winter', 'Iron', 'Hidden'])[1 + n % 7]) f(first)
CROSS JOIN LATERAL (SELECT (ARRAY['River', 'Letter', 'Garden', 'Engine', 'Island', 'Mirror', 'Summer', 'Kingdom', 'Bridge', 'Harvest', 'Signal'])[1 + n % 11]) s(second);

INSERT INTO film_actor (film_id, actor_id, part, billing)
SELECT n, 1 + (n * 7 + k * 31) % 200, CASE WHEN k < 2 THEN 'Part ' || k END, k + 1
FROM generate_series(1, 500) n CROSS JOIN generate_series(0, 3) k;

INSERT INTO film_category (film_id, category_id)
SELECT n, 1 + n % 16 FROM generate_series(1, 500) n;

INSERT INTO film_translation (film_id, language_id, title, slug)
SELECT film_id, 2, 'Der Film ' || film_id, 'der-film-' || film_id FROM film WHERE film_id % 4 = 0;

INSERT INTO customer (public_id, store_id, address_id, email, first_name, last_name, password_hash, tags, preferences, status, created_at)
SELECT md5('customer' || n)::uuid, 1 + n % 4, 20 + n, 'customer' || n || '@mail.example',
    (ARRAY['Mia', 'Noah', 'Olga', 'Paul', 'Rosa', 'Sam', 'Tess', 'Umar'])[1 + n % 8], 'Customer ' || n, 'hash$' || md5('customer' || n),
    (ARRAY['newsletter', 'student', 'family'])[1:n % 4], CASE WHEN n % 6 = 0 THEN '{"theme": "dark"}'::jsonb ELSE '{}' END,
    (ARRAY['active', 'active', 'active', 'suspended', 'prospect']::customer_status[])[1 + n % 5], timestamptz '2024-01-01 00:00+00' + n * interval '11 hours'
FROM generate_series(1, 600) n;

INSERT INTO membership_card (card_code, customer_id, pin_hash, valid)
SELECT 'C' || lpad(n::text, 6, '0'), n, md5('pin' || n), daterange('2025-01-01', CASE WHEN n % 2 = 0 THEN date '2027-01-01' END)
FROM generate_series(1, 400) n;

INSERT INTO customer_note (customer_id, note_no, store_id, body)
SELECT n, k, 1 + n % 4, 'Note ' || k FROM generate_series(1, 100) n CROSS JOIN generate_series(1, 2) k;

INSERT INTO inventory (film_id, store_id, barcode)
SELECT 1 + n % 500, 1 + n / 500, 'FS' || lpad(n::text, 8, '0') FROM generate_series(0, 1499) n;

INSERT INTO rental (inventory_id, customer_id, staff_id, rented_at, due_at, returned_at)
SELECT 1 + n * 7 % 1500, 1 + n * 13 % 600, 1 + n % 12, at, at + interval '3 days', CASE WHEN n % 10 > 0 THEN at + n % 72 * interval '1 hour' END
FROM generate_series(1, 2000) n CROSS JOIN LATERAL (SELECT timestamptz '2025-02-01 09:00+00' + n * interval '4 hours') t(at);

INSERT INTO payment (customer_id, rental_id, staff_id, amount, card_number, paid_at)
SELECT customer_id, rental_id, staff_id, 0.99 + rental_id % 5, CASE WHEN rental_id % 2 = 0 THEN lpad((rental_id * 71 % 10000)::text, 4, '0') END, rented_at
FROM rental;

INSERT INTO window_display (store_id, place, film_id)
SELECT s, p, s * 10 + p FROM generate_series(1, 4) s CROSS JOIN generate_series(1, 6) p;

INSERT INTO setting (name, value, locked) VALUES ('currency', '"EUR"', true), ('late_fee', '{"per_day": 1.5}', false), ('max_rentals', '5', false);

INSERT INTO search_log (searched_at, customer_id, words)
SELECT timestamptz '2025-06-01 00:00+00' + n * interval '9 minutes', 1 + n % 600, 'river ' || n % 17 FROM generate_series(1, 300) n;

COMMIT;

REFRESH MATERIALIZED VIEW film_popularity;
ANALYZE;
